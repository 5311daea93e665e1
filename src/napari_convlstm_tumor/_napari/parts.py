"""Small pieces that every panel is made of. Every control has a name for a screen reader and a tooltip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

CAUTION_COLOUR = "#ffb454"


def button(text: str, action: Callable[[], Any], tip: str, checkable: bool = False) -> QPushButton:
    """A push button that calls ``action`` without arguments."""
    made = QPushButton(text)
    made.setCheckable(checkable)
    made.clicked.connect(lambda: action())
    return named(made, text, tip)


def sentence(text: str = "") -> QLabel:
    """Text that wraps and can be copied."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def named(widget: Any, name: str, tip: str) -> Any:
    """The widget with a name for a screen reader and a tooltip."""
    widget.setAccessibleName(name)
    widget.setToolTip(tip)
    return widget


def row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets beside each other; words take the room that controls leave."""
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget, stretch=int(isinstance(widget, QLabel)))
    return layout
