"""The panel "Read": windows, planes, two visits compared, the growth map and the forecast of a chosen day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QDockWidget, QFormLayout, QSpinBox, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import layers, looks, viewer
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.measuring import place_of
from napari_convlstm_tumor._napari.parts import button, named, row, sentence
from napari_convlstm_tumor._napari.turns import Turns
from napari_convlstm_tumor._napari.worker import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_convlstm_tumor._napari.linked import LinkedView, OtherPlanes
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor.analysis import Analysis

# Slow enough to see both pictures, fast enough for the eye to take change for motion.
FLICKER_MS = 600
LONGEST_HORIZON_DAYS = 3650
COMPARE_NAME, PLANES_NAME = "Compared visit", "Coronal and sagittal"
NO_RESULT = "Run or open a result first."
SEEN_IN_ALL_VIEWS = ("image", "tumor")


class ReadPanel(QWidget):
    """How the images are seen; changes nothing but the view."""

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget, self._viewer = widget, widget.viewer
        self._flickering = QTimer(self)
        self._flickering.setInterval(FLICKER_MS)
        self._flickering.timeout.connect(self._flick)
        self._ending = QTimer(self)
        self._ending.setSingleShot(True)
        self._ending.timeout.connect(self.stop)
        self._turns = Turns(self)
        self._beside: LinkedView | None = None
        self._planes: OtherPlanes | None = None
        self._job: Job | None = None
        self._home = 0
        self._build()
        widget.analysis_changed.connect(self._take)
        self._viewer.layers.selection.events.active.connect(self._offer_windows)
        self._viewer.layers.events.inserted.connect(self._offer_windows)
        self._viewer.layers.events.removed.connect(self._layer_gone)
        self._take(None)

    def _build(self) -> None:
        self.window = named(QComboBox(), "Window", "Contrast of the image by a radiologist's presets")
        self.window.activated.connect(lambda index: self._set_window())
        self.other = named(QComboBox(), "Other visit", "The visit to compare with the one under the slider")
        self.other.activated.connect(lambda index: self._set_other())
        self.beside = button("Beside", self._compare, "Both visits side by side, slice and camera linked", True)
        self.flicker = button("Flicker", self._flick_or_stop, "Both visits in turn: change looks like motion", True)
        self.planes = button("Three planes", self._show_planes, "Coronal and sagittal beside; one crosshair", True)
        self.growth = named(QCheckBox("Growth map"), "Growth map", "Front speed since the visit before")
        self.grey = named(QCheckBox("grey where within error"), "Within error", "Grey what may be measurement error")
        self.ahead = named(QCheckBox("Forecast"), "Forecast", "Outline at a later day, with its band")
        for box, kinds in ((self.growth, ("growth",)), (self.grey, ("within error",)), (self.ahead, ("forecast",))):
            box.toggled.connect(lambda shown, kinds=kinds: self._show_kinds(kinds, shown))
        self.days = named(QSpinBox(), "Days ahead", "Days after the last visit that the forecast is for")
        self.days.setRange(1, LONGEST_HORIZON_DAYS)
        self.days.setPrefix("day +")
        self.days.setKeyboardTracking(False)
        self.days.valueChanged.connect(self._look_ahead)
        self.note = sentence()
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.addRow("Window", self.window)
        form.addRow(
            "Visit",
            row(
                button("[  earlier", lambda: viewer.step_visit(self._viewer, -1), "The visit before; key ["),
                button("later  ]", lambda: viewer.step_visit(self._viewer, 1), "The next visit; key ]"),
            ),
        )
        form.addRow("Compare with", self.other)
        form.addRow("", row(self.beside, self.flicker))
        form.addRow("Planes", self.planes)
        form.addRow("Maps", row(self.growth, self.grey))
        form.addRow("", row(self.ahead, self.days))
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addStretch()

    # ---- what a result brings ----

    def _take(self, analysis: Analysis | None) -> None:
        several = analysis is not None and len(analysis.days) > 1
        for part in (self.other, self.beside, self.flicker):
            part.setEnabled(several)
        for part in (self.growth, self.grey, self.ahead, self.days, self.planes):
            part.setEnabled(analysis is not None)
        self._offer_windows()
        if analysis is None:
            self.note.setText(NO_RESULT)
            self.stop()
            return
        self._offer_visits(analysis)
        self._set_checks()
        self.note.setText(_forecast_words(analysis.prediction.forecast_note))
        if analysis.prediction.forecast_day is not None:
            self._set_days(analysis.prediction.forecast_day - analysis.days[-1])
        elif analysis.dated and several:
            self._set_days(analysis.days[-1] - analysis.days[-2])

    def _offer_visits(self, analysis: Analysis) -> None:
        before = self.other.currentIndex()
        self.other.clear()
        names = [f"visit {n + 1}" + (f", day {d}" if analysis.dated else "") for n, d in enumerate(analysis.days)]
        self.other.addItems(names)
        self.other.setCurrentIndex(before if 0 <= before < len(names) else 0)

    def _set_days(self, days: int) -> None:
        self.days.blockSignals(True)
        self.days.setValue(days)
        self.days.blockSignals(False)

    def _set_checks(self) -> None:
        for box, kind in ((self.growth, "growth"), (self.grey, "within error"), (self.ahead, "forecast")):
            found = [layer for layer in self._viewer.layers if viewer.kind_of(layer) == kind]
            box.setEnabled(bool(found) or kind == "forecast")
            box.blockSignals(True)
            box.setChecked(any(layer.visible for layer in found))
            box.blockSignals(False)

    # ---- windows and maps ----

    def _image(self) -> Image | None:
        """The image that a window is set for: the selected one, or else the first visible."""
        active = self._viewer.layers.selection.active
        images = [layer for layer in (active, *self._viewer.layers) if viewer.kind_of(layer) == "image"]
        return next((layer for layer in images if layer.visible), None)

    def _presets(self, image: Image) -> dict[str, tuple[float, float]]:
        return looks.CT_PRESETS if image.name.startswith("ct") else looks.MR_PRESETS

    def _offer_windows(self, event: Any = None) -> None:
        image = self._image()
        names = [] if image is None else list(self._presets(image))
        if names != [self.window.itemText(n) for n in range(self.window.count())]:
            self.window.clear()
            self.window.addItems(names)
        self.window.setEnabled(bool(names))

    def _set_window(self) -> None:
        image = self._image()
        if image is not None:
            image.contrast_limits = self._presets(image)[self.window.currentText()]

    def _show_kinds(self, kinds: tuple[str, ...], shown: bool) -> None:
        for layer in self._viewer.layers:
            if viewer.kind_of(layer) in kinds:
                layer.visible = shown
        if shown and kinds == ("forecast",) and self._widget.analysis is not None:
            self._widget.go_to(visit=len(self._widget.analysis.days) - 1)  # it is drawn over the last visit

    # ---- the forecast of another day ----

    def _look_ahead(self, days: int) -> None:
        analysis = self._widget.analysis
        if analysis is None:
            return
        if self._job is not None:
            self._job.cancel()
        self.note.setText(f"Looking {days} days ahead...")
        self._job = Job(_ahead_steps(analysis, days), self._show_ahead, self._looked)
        self._widget.watch(self._job)
        self._job.start()

    def _show_ahead(self, made: tuple[list[layers.LayerData], str]) -> None:
        found, words = made
        layers.put_made(self._viewer.layers, found, ("forecast",))
        for layer in self._viewer.layers:
            if viewer.kind_of(layer) == "forecast":
                layer.visible = True
        self._set_checks()
        self.note.setText(words)

    def _looked(self, failure: Failure | None) -> None:
        self._job = None
        if failure is not None:
            self.note.setText(failure.sentence)

    # ---- two visits, three planes ----

    def _set_other(self) -> None:
        if self._beside is not None:
            self._beside.visit = self.other.currentIndex()
            self._beside.follow()

    def _compare(self) -> None:
        if self._beside is not None:
            self._beside = self._taken_out(self._beside)
            return
        from napari_convlstm_tumor._napari.linked import LinkedView

        self._beside = LinkedView(self._viewer, visit=self.other.currentIndex())
        self._dock(self._beside, COMPARE_NAME)

    def _show_planes(self) -> None:
        if self._planes is not None:
            self._planes = self._taken_out(self._planes)
            return
        from napari_convlstm_tumor._napari.linked import OtherPlanes

        self._go_to_largest()
        self._planes = OtherPlanes(self._viewer)
        self._dock(self._planes, PLANES_NAME)
        self._turns.add(self._fit_planes)

    def _fit_planes(self) -> None:
        """After they have been given their size."""
        if self._planes is not None:
            self._planes.fit()

    def _go_to_largest(self) -> None:
        """Begin where the tumor is, or all planes would show the middle of the image."""
        analysis, visit = self._widget.analysis, self._widget.visit
        if analysis is None or analysis.lesions is None:
            return
        ids, sizes = np.unique(analysis.lesions[visit][analysis.lesions[visit] > 0], return_counts=True)
        if len(ids):
            self._widget.go_to(point_mm=place_of(analysis, visit, int(ids[np.argmax(sizes)])))

    def _dock(self, view: QWidget, name: str) -> None:
        """Beside the canvas, as high and as wide; under the list of layers a picture would be a strip."""
        self._viewer.window.add_dock_widget(view, name=name, area="left")
        dock = _dock_of(view)
        dock.window().addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock, Qt.Orientation.Horizontal)
        self._turns.add(self._share_room)

    def _share_room(self) -> None:
        """As wide as the canvas, each of them. In a later turn: before Qt has laid a new dock out no width is true."""
        docks = [_dock_of(view) for view in (self._beside, self._planes) if view is not None]
        docks = [dock for dock in docks if dock is not None]
        if not docks:  # closed meanwhile
            return
        window = docks[0].parentWidget()
        window.layout().activate()
        widths = _left_widths(window)
        docks = [dock for dock in docks if dock in widths]
        room = window.centralWidget().width() + sum(widths[dock] for dock in docks)
        _resize(window, {**widths, **dict.fromkeys(docks, room // (1 + len(docks)))})

    def _taken_out(self, view: LinkedView | OtherPlanes) -> None:
        """The canvas gets the room back, not the list of layers."""
        view.close_view()
        dock = _dock_of(view)
        if dock is None:  # its x took it out already
            return
        window = dock.parentWidget()
        widths = _left_widths(window)
        widths.pop(dock, None)
        self._viewer.window.remove_dock_widget(view)
        _resize(window, widths)

    def _flick_or_stop(self) -> None:
        if self._flickering.isActive():
            self._flickering.stop()
            self._widget.go_to(visit=self._home)
            return
        self._home = self._widget.visit
        self._flickering.start()

    def _flick(self) -> None:
        here = self._widget.visit
        self._widget.go_to(visit=self.other.currentIndex() if here == self._home else self._home)

    def _layer_gone(self, event: Any) -> None:
        """Other views must not go on showing a patient who is gone. Later: napari is still emptying its list."""
        if viewer.kind_of(event.value) in SEEN_IN_ALL_VIEWS:
            self._ending.start(0)

    def stop(self) -> None:
        """End flicker and comparison: their patient is gone."""
        self._flickering.stop()
        for toggle in (self.flicker, self.beside, self.planes):
            toggle.setChecked(False)
        if self._beside is not None:
            self._beside = self._taken_out(self._beside)
        if self._planes is not None:
            self._planes = self._taken_out(self._planes)


def _dock_of(view: QWidget) -> Any:
    """The dock it stands in, if any; what napari hands to a plugin is no real dock."""
    dock: Any = view
    while dock is not None and not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    return dock


def _left_widths(window: Any) -> dict[Any, int]:
    """Docks to the left of the canvas and how wide they are."""
    left = Qt.DockWidgetArea.LeftDockWidgetArea
    docks = [dock for dock in window.findChildren(QDockWidget) if window.dockWidgetArea(dock) == left]
    return {dock: dock.width() for dock in docks if dock.isVisible() and not dock.isFloating()}


def _resize(window: Any, widths: dict[Any, int]) -> None:
    """At once: Qt only notes new widths, and a layout that waits already would put them aside."""
    window.resizeDocks(list(widths), list(widths.values()), Qt.Orientation.Horizontal)
    window.layout().activate()


def _ahead_steps(analysis: Analysis, days: int) -> Iterator[tuple[list[layers.LayerData], str]]:
    """Layers of the forecast of a day and what is said of it; no layers where there is no honest forecast."""
    from napari_convlstm_tumor.edit.again import forecast_at

    outlook = forecast_at(analysis, days)
    prediction = outlook.prediction
    words = _forecast_words(prediction.forecast_note)
    if prediction.forecast is None or prediction.forecast_day is None:
        yield [], words
        return
    row = outlook.rows[0]
    sizes = [row["volume_mm3"], row["volume_low_mm3"], row["volume_high_mm3"]]
    volume = " to ".join(f"{v / 1000:.2f}" for v in sizes[1:]) if None not in sizes else ""
    volume = f" Day {prediction.forecast_day}: {sizes[0] / 1000:.2f} mL" + (f" ({volume} mL)." if volume else ".")
    yield layers.forecast_layers(analysis, prediction.forecast, outlook.band, prediction.forecast_day), words + volume


def _forecast_words(note: str) -> str:
    return note if not note or note.startswith("No forecast") else f"Forecast: {note}"
