"""A form made from Settings: every setting is named, explained and checked in settings.py, and nowhere else."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPushButton,
    QSpinBox,
    QWidget,
)

from napari_convlstm_tumor.settings import Settings

LARGEST_WHOLE_NUMBER = 100_000
ANY = "any"


class SettingsForm(QWidget):
    """One row per field of Settings. ``settings()`` reads it, ``set(settings)`` fills it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        types = typing.get_type_hints(Settings)
        self.editors = {field.name: _editor(field, types[field.name]) for field in dataclasses.fields(Settings)}
        for field in dataclasses.fields(Settings):
            editor = self.editors[field.name]
            editor.setToolTip(field.metadata["help"])
            editor.setAccessibleName(field.name.replace("_", " "))
            layout.addRow(field.name.replace("_", " "), editor)
        self.set(Settings())

    def settings(self) -> Settings:
        """What the form says. Raises SettingsError for a value that cannot be."""
        return Settings.from_dict({name: editor.value() for name, editor in self.editors.items()})

    def set(self, settings: Settings) -> None:
        """Show these settings."""
        for name, value in settings.to_dict().items():
            self.editors[name].set_value(value)


def _editor(field: dataclasses.Field[Any], annotation: Any) -> Any:
    """The editor that fits a field's type and choices."""
    choices = field.metadata.get("choices")
    possible = typing.get_args(annotation) or (annotation,)
    if isinstance(field.default, bool):
        return _Tick()
    if choices and isinstance(field.default, tuple):
        return _Ticks(choices)
    if choices:
        return _Choice(choices)
    if int in possible:
        return _WholeNumber(field.metadata["minimum"], optional=type(None) in possible)
    if Path in possible:
        return _File()
    return _Text(several=isinstance(field.default, tuple))


class _Tick(QCheckBox):
    def value(self) -> bool:
        return self.isChecked()

    def set_value(self, ticked: bool) -> None:
        self.setChecked(ticked)


class _Choice(QComboBox):
    def __init__(self, choices: tuple[str, ...]) -> None:
        super().__init__()
        self.addItems(choices)

    def value(self) -> str:
        return self.currentText()

    def set_value(self, choice: str) -> None:
        self.setCurrentText(choice)


class _Ticks(QPushButton):
    """A button that opens a list to tick; none ticked means any."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        super().__init__()
        menu = QMenu(self)
        self._actions = {name: menu.addAction(name) for name in choices}
        for action in self._actions.values():
            action.setCheckable(True)
            action.toggled.connect(self._say)
        self.setMenu(menu)
        self._say()

    def _say(self) -> None:
        self.setText(", ".join(self.value()) or ANY)

    def value(self) -> list[str]:
        return [name for name, action in self._actions.items() if action.isChecked()]

    def set_value(self, names: list[str]) -> None:
        for name, action in self._actions.items():
            action.setChecked(name in names)


class _WholeNumber(QSpinBox):
    """A whole number; when it may be left open, the step below the smallest says "default"."""

    def __init__(self, minimum: int, optional: bool) -> None:
        super().__init__()
        self._open = minimum - 1 if optional else None
        self.setRange(minimum - 1 if optional else minimum, LARGEST_WHOLE_NUMBER)
        if optional:
            self.setSpecialValueText("default")

    def value(self) -> int | None:
        number = super().value()
        return None if number == self._open else number

    def set_value(self, number: int | None) -> None:
        self.setValue(self._open if number is None else number)


class _Text(QLineEdit):
    """Text, or several values between commas."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self._several = several
        if several:
            self.setPlaceholderText("default")

    def value(self) -> str | list[str]:
        text = self.text().strip()
        if not self._several:
            return text
        return [part.strip() for part in text.split(",") if part.strip()]

    def set_value(self, value: Any) -> None:
        self.setText(", ".join(f"{part:g}" for part in value) if self._several else value)


class _File(QWidget):
    """The path of a file, typed or picked; empty means none."""

    def __init__(self) -> None:
        super().__init__()
        self._path = QLineEdit()
        self._path.setPlaceholderText("none")
        self._button = QPushButton("...")
        self._button.setMaximumWidth(32)
        self._button.clicked.connect(self._pick)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._path)
        layout.addWidget(self._button)

    def setAccessibleName(self, name: str) -> None:
        """A screen reader comes to the parts, not to the whole."""
        super().setAccessibleName(name)
        self._path.setAccessibleName(name)
        self._button.setAccessibleName(f"Choose {name}")

    def _pick(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a file")
        if path:
            self._path.setText(path)

    def value(self) -> str | None:
        return self._path.text().strip() or None

    def set_value(self, path: str | None) -> None:
        self._path.setText(path or "")
