"""The widget "Tumor growth": choose a patient, run the pipeline in a thread, see the layers and the numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer, Points
from napari.qt.threading import create_worker
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_convlstm_tumor._napari import layers, viewer
from napari_convlstm_tumor._napari.form import SettingsForm
from napari_convlstm_tumor._napari.table import CAUTION_COLOUR, VisitTable, cautions
from napari_convlstm_tumor._napari.worker import Clicks, Failure, guarded, run_steps, save_steps
from napari_convlstm_tumor.errors import TumorError

if TYPE_CHECKING:
    import napari

    from napari_convlstm_tumor.pipeline import Analysis, Segmenter, Step
    from napari_convlstm_tumor.series import Prompt, Report

RESEARCH_ONLY = "Research use only - not for diagnosis"
CLICKS = "clicks on the tumor"
CLICK_SIZE_MM = 5.0
PROGRESS_STEPS = 1000
WIDTH_PIXELS = 400  # the table of visits fits
MASKS_GIVEN = "masks given"  # what a Prediction says that was not made by a model
CLICKS_UNUSED = "Done. The clicks changed nothing: every visit has a mask. Set masks to 'ignore' to use the network."
PAINT_NOT_SAVED = "What was painted in the viewer is not in it: save that layer with File > Save Selected Layers."


class TumorGrowthWidget(QWidget):
    """Docked beside the viewer; holds no arithmetic.

    segmenter: what segments instead of the shipped network; None = the network (tests set it).
    analysis: the result on show, or None.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.segmenter: Segmenter | None = None
        self.analysis: Analysis | None = None
        self.worker: Any = None
        self._numbers_of: str | None = None
        self._to_stop: list[Any] = []
        self.destroyed.connect(partial(_stop, self._to_stop))
        self._build()
        viewer.attach(napari_viewer)
        napari_viewer.layers.events.inserted.connect(self._take_folder)
        for layer in napari_viewer.layers:
            self._take_folder(layer=layer)
        self._set_running(False)

    # ---- what it looks like ----

    def _build(self) -> None:
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("patient folder, manifest CSV or result folder")
        self.form = SettingsForm()
        settings = QCollapsible("Settings")
        settings.addWidget(self.form)
        self.run_button = _button("Run", self._run_or_cancel, "Segment the tumor at every visit and measure growth")
        self.click_button = _button("Click the tumor", self._click, "Point at the tumor to guide the next run")
        self.save_button = _button("Save result...", self._ask_and_save, "Write masks, maps and tables to a folder")
        self.progress = QProgressBar()
        self.progress.setRange(0, PROGRESS_STEPS)
        self.status = _sentence("Choose a patient's folder.")
        self.details_button = _button("Details...", self._show_details, "What went wrong, for a bug report")
        self.details_button.hide()
        self.warnings = _sentence("")
        self.warnings.setStyleSheet(f"color: {CAUTION_COLOUR};")
        self.warnings.hide()
        self.table = VisitTable()
        self.table.hide()
        self.patient, self.forecast = _sentence(""), _sentence("")
        research = _sentence(RESEARCH_ONLY)
        research.setStyleSheet("font-weight: bold;")
        layout = QVBoxLayout(self)
        layout.addWidget(research)
        layout.addLayout(_row(self.folder, _button("Choose...", self._choose, "Choose a folder")))
        layout.addWidget(settings)
        layout.addLayout(_row(self.run_button, self.click_button, self.save_button))
        layout.addWidget(self.progress)
        layout.addLayout(_row(self.status, self.details_button))
        layout.addWidget(self.warnings)
        layout.addWidget(self.patient)
        layout.addWidget(self.table, stretch=1)
        layout.addWidget(self.forecast)
        layout.addStretch()
        self.setMinimumWidth(WIDTH_PIXELS)

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a patient's folder or a result folder")
        if folder:
            self.folder.setText(folder)

    def _take_folder(self, event: Any = None, layer: Layer | None = None) -> None:
        """What was opened last with File > Open is the patient to run; a result brings its numbers."""
        layer = event.value if layer is None else layer
        shown = viewer.shown_by(layer)
        if shown is None or not shown.place or self.worker is not None:
            return
        self.folder.setText(shown.place)
        self._say(f"Opened {shown.patient}.")
        if self._numbers_of not in (None, shown.patient):
            self._forget()
        if shown.report is not None and shown.kind == "tumor":
            self._show_numbers(shown.report)

    def _forget(self) -> None:
        """Numbers of one patient must not stand beside the images of another."""
        self.analysis = self._numbers_of = None
        for part in (self.table, self.warnings, self.patient, self.forecast):
            part.hide()
        self._set_running(False)

    # ---- running ----

    def _run_or_cancel(self) -> None:
        if self.worker is None:
            self.run()
        else:
            self.cancel()

    def run(self) -> None:
        """Start the pipeline on the chosen folder; a wrong setting is said at once."""
        place = self.folder.text().strip()
        if not place:
            return self._say("Choose a patient's folder first.")
        try:
            steps = run_steps(Path(place).expanduser(), self.form.settings(), self._clicks(), self.segmenter)
        except TumorError as error:
            return self._fail(Failure(str(error), str(error)))
        self._start(steps)

    def cancel(self) -> None:
        """Stop before the next step; the layers stay as they are."""
        if self.worker is not None:
            self.worker.quit()
            self.run_button.setEnabled(False)
            self._say("Stopping after this step...")

    def save(self, folder: Path) -> None:
        """Write the result on show into ``folder``."""
        if self.analysis is not None:
            painted = any(layers.is_painted(layer.data, layer.metadata) for layer in self.viewer.layers)
            self._start(save_steps(self.analysis, folder, PAINT_NOT_SAVED if painted else ""))

    def _start(self, steps: Any) -> None:
        self.details_button.hide()
        self.worker = create_worker(guarded, steps, _start_thread=False)
        self.worker.yielded.connect(self._on_step)
        self.worker.returned.connect(self._on_end)
        self.worker.aborted.connect(self._on_cancelled)
        self.worker.finished.connect(self._on_finished)
        self._to_stop[:] = [self.worker]
        self._set_running(True)
        self.worker.start()

    def _on_step(self, step: Step) -> None:
        if self.worker is None or self.worker.abort_requested:
            return
        self.progress.setValue(round(step.fraction * PROGRESS_STEPS))
        self._say(step.name)
        if step.analysis is not None:
            self.show_analysis(step.analysis)

    def _on_end(self, failure: Failure | None) -> None:
        if failure is not None:
            self._fail(failure)

    def _on_cancelled(self) -> None:
        self.progress.setValue(0)
        self._say("Cancelled.")

    def _on_finished(self) -> None:
        self.worker = None
        self._to_stop.clear()
        self._set_running(False)

    def _set_running(self, running: bool) -> None:
        self.run_button.setText("Cancel" if running else "Run")
        self.run_button.setEnabled(True)
        self.click_button.setEnabled(not running)
        self.save_button.setEnabled(not running and self.analysis is not None)

    # ---- result ----

    def show_analysis(self, analysis: Analysis) -> None:
        """Put the layers of a result in place of those on show, and its numbers in the table."""
        clicks = self._clicks()
        self._remove_layers()
        self.analysis = analysis
        for data, options, kind in layers.to_layers(analysis):
            self.viewer.add_layer(Layer.create(data, options, kind))
        if clicks is not None and clicks.patient == analysis.patient:
            self._add_clicks(clicks.prompts)
            if analysis.prediction.model == MASKS_GIVEN:
                self._say(CLICKS_UNUSED)
        self._show_numbers(analysis.report)
        self._set_running(self.worker is not None)

    def _show_numbers(self, report: Report) -> None:
        self.table.show_report(report)
        warnings = cautions(report)
        self.warnings.setText(warnings)
        self.warnings.setVisible(bool(warnings))
        note = report.provenance.get("forecast") or ""
        self.forecast.setText(note if note.startswith("No forecast") or not note else f"Forecast: {note}")
        self._numbers_of = report.patient
        self.patient.setText(f"Patient: {report.patient}")
        for part in (self.table, self.patient, self.forecast):
            part.show()

    def _remove_layers(self) -> None:
        """Take our layers out; a mask that was painted on stays, under another name."""
        for layer in [layer for layer in self.viewer.layers if viewer.shown_by(layer) is not None]:
            if layers.is_painted(layer.data, layer.metadata):
                layer.name = f"{layer.name} (painted)"
                del layer.metadata[layers.METADATA_KEY]
            else:
                self.viewer.layers.remove(layer)

    # ---- clicks ----

    def _click(self) -> None:
        """Add (or select) the points layer and let the person click."""
        points = self._points()
        if points is None:
            points = self._add_clicks(())
        if points is not None:
            self.viewer.layers.selection.active = points
            points.mode = "add"
            self._say("Click inside the tumor, at any visit; then Run.")

    def _points(self) -> Points | None:
        ours = [layer for layer in self.viewer.layers if isinstance(layer, Points) and viewer.shown_by(layer)]
        return ours[0] if ours else None

    def _add_clicks(self, prompts: tuple[Prompt, ...]) -> Points | None:
        shown = viewer.current(self.viewer)
        if shown is None:
            self._say("Open the patient first (File > Open Folder), so that there is something to click on.")
            return None
        data, options = layers.clicks_layer(CLICKS, prompts, shown, CLICK_SIZE_MM)
        return self.viewer.add_layer(Points(data, **options))

    def _clicks(self) -> Clicks | None:
        points = self._points()
        if points is None or not len(points.data):
            return None
        shown = viewer.shown_by(points)
        world = [points.data_to_world(point) for point in points.data]
        return Clicks(shown.patient, shown.days, layers.to_prompts(world, shown))

    # ---- saving and saying ----

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose where the result's folder goes")
        if folder:
            self.save(Path(folder))

    def _say(self, sentence: str) -> None:
        self.status.setText(sentence)

    def _fail(self, failure: Failure) -> None:
        self.progress.setValue(0)
        self._say(failure.sentence)
        self._details = failure.details
        self.details_button.show()

    def _show_details(self) -> None:
        box = QMessageBox(QMessageBox.Icon.Warning, "Tumor growth", self.status.text(), parent=self)
        box.setDetailedText(self._details)
        box.open()


def _stop(workers: list[Any], *_: Any) -> None:
    """The widget is gone: what it started stops at its next step."""
    for worker in workers:
        worker.quit()


def _button(text: str, action: Any, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda: action())
    return button


def _sentence(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
