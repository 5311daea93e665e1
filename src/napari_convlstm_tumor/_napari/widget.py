"""The widget "Tumor growth": six steps from a patient's folder to a report, beside the viewer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from platformdirs import user_state_path
from qtpy.QtCore import QEvent, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFileDialog, QMessageBox, QProgressBar, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import layers, preferences, viewer
from napari_convlstm_tumor._napari.correcting import CorrectPanel
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.keeping import KeepPanel
from napari_convlstm_tumor._napari.measuring import MASKS_GIVEN, MeasurePanel
from napari_convlstm_tumor._napari.opening import OpenPanel
from napari_convlstm_tumor._napari.parts import CAUTION_COLOUR, button, named, row, sentence
from napari_convlstm_tumor._napari.reading import ReadPanel
from napari_convlstm_tumor._napari.running import RunPanel
from napari_convlstm_tumor._napari.strip import VisitStrip
from napari_convlstm_tumor._napari.table import cautions
from napari_convlstm_tumor._napari.turns import Turns
from napari_convlstm_tumor._napari.worker import Drawn, Failure, drawn, run_steps, save_steps
from napari_convlstm_tumor.errors import TumorError

if TYPE_CHECKING:
    import napari

    from napari_convlstm_tumor.pipeline import Analysis, Segmenter
    from napari_convlstm_tumor.series import Report

RESEARCH_ONLY = "Research use only - not for diagnosis"
SIX_STEPS = (
    "<b>Six steps:</b> 1 open a patient; 2 run; 3 read images and maps; 4 measure growth and response; 5 correct; "
    "6 keep. The tabs below follow them. To look around first: File &gt; Open Sample."
)
STRIP_NAME = "Visits"
PROGRESS_STEPS = 1000
WIDTH_PIXELS, LEAST_WIDTH_PIXELS = 460, 340  # the table of visits fits; all is still there
CAUTIONS_HEIGHT = 96  # four lines, the rest scrolls
CLICKS_UNUSED = "Done. The clicks changed nothing: every visit has a mask. Set masks to 'ignore' to use the network."
PAINT_NOT_SAVED = "What was painted in the viewer is not in it: save that layer with File > Save Selected Layers."


class TumorGrowthWidget(QWidget):
    """Docked beside the viewer; holds no arithmetic.

    segmenter: what segments instead of the shipped network; None = the network (tests set it).
    analysis: the result on show, or None; ``analysis_changed`` carries the new one (or None).
    ``visit_changed`` carries the 0-based visit under the slider.
    """

    analysis_changed = Signal(object)
    visit_changed = Signal(int)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._strip_docked = False
        self.segmenter: Segmenter | None = None
        self.analysis: Analysis | None = None
        self.job: Job | None = None
        self._details = ""
        self._numbers_of: str | None = None
        self._jobs: list[Job] = []
        self._turns = Turns(self)
        self.destroyed.connect(partial(_let_go, self._jobs))
        self._build()
        viewer.attach(napari_viewer)
        napari_viewer.layers.events.inserted.connect(self._take_opened)
        napari_viewer.dims.events.current_step.connect(self._tell_visit)
        for layer in napari_viewer.layers:
            self._take_opened(layer=layer)
        self.keeping.watch(user_state_path("napari-convlstm-tumor") / "autosave")
        self._set_running(False)

    # ---- what it looks like ----

    def _build(self) -> None:
        self.opening, self.running, self.reading = OpenPanel(self), RunPanel(self), ReadPanel(self)
        self.measuring, self.correcting, self.keeping = MeasurePanel(self), CorrectPanel(self), KeepPanel(self)
        self.form, self.folder = self.running.form, self.opening.folder
        self.form.set(preferences.settings())
        self.strip = VisitStrip(lambda visit: self.go_to(visit=visit))
        self.visit_changed.connect(self.strip.mark)
        self.analysis_changed.connect(self.strip.show_analysis)
        self.tabs = named(QTabWidget(), "Steps", "The six steps from images to a report")
        steps = (self.opening, self.running, self.reading, self.measuring, self.correcting, self.keeping)
        for number, (name, panel) in enumerate(
            zip(("Open", "Run", "Read", "Measure", "Correct", "Keep"), steps, strict=True), start=1
        ):
            self.tabs.addTab(_scrolled(panel), f"{number} {name}")
        self.save_button = button("Save result...", self._ask_and_save, "Write masks, maps and tables to a folder")
        self.progress = named(QProgressBar(), "Progress", "How far the work is")
        self.progress.setRange(0, PROGRESS_STEPS)
        self.status = sentence("Choose a patient's folder.")
        self.hint = self._hint()
        self.details_button = button("Details...", self._show_details, "What went wrong, for a bug report")
        self.details_button.hide()
        self.warnings = sentence()
        self.warnings.setStyleSheet(f"color: {CAUTION_COLOUR};")
        self._cautions = _scrolled(self.warnings)
        self._cautions.setMaximumHeight(CAUTIONS_HEIGHT)
        self._cautions.hide()
        research = sentence(RESEARCH_ONLY)
        research.setStyleSheet("font-weight: bold;")
        layout = QVBoxLayout(self)
        layout.addLayout(row(research, self.save_button))
        layout.addWidget(self.hint)
        layout.addWidget(self.tabs, stretch=1)
        layout.addWidget(self._cautions)
        layout.addWidget(self.progress)
        layout.addLayout(row(self.status, self.details_button))
        self.setMinimumWidth(LEAST_WIDTH_PIXELS)
        for key, step in ((viewer.PREVIOUS_VISIT, -1), (viewer.NEXT_VISIT, 1)):
            shortcut = QShortcut(QKeySequence(key), self, partial(viewer.step_visit, self.viewer, step))
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)

    def sizeHint(self) -> QSize:
        """As wide as is good to read, unless the person makes it narrower."""
        return QSize(WIDTH_PIXELS, super().sizeHint().height())

    def _hint(self) -> QWidget:
        """The six steps, until the person has read them once."""
        box = QWidget()
        box.setLayout(row(sentence(SIX_STEPS), button("Got it", self._hint_read, "Do not show this again")))
        box.setVisible(preferences.show_hint())
        return box

    def _hint_read(self) -> None:
        self.hint.hide()
        preferences.hint_was_seen()

    def showEvent(self, event: Any) -> None:
        """The strip comes under the canvas with the widget."""
        super().showEvent(event)
        if not self._strip_docked:
            self._strip_docked = True
            self.window().installEventFilter(self)
            self.viewer.window.add_dock_widget(self.strip, name=STRIP_NAME, area="bottom")
            self.destroyed.connect(partial(_take_out, self.viewer, self.strip))

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """napari's window closes, unless it asks and the person says no: the last strokes are kept first."""
        if event.type() == QEvent.Type.Close:
            self.correcting.leave()
            QTimer.singleShot(0, self._stay)
        return False

    def _stay(self) -> None:
        if self.window().isVisible():
            self.correcting.come_back()

    def changeEvent(self, event: Any) -> None:
        """The x of the dock takes the widget out of it, and nothing brings it back: it ends."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self._strip_docked:
            QTimer.singleShot(0, self._end_if_undocked)  # napari is still taking it out

    def _end_if_undocked(self) -> None:
        if self.parent() is None:
            self.reading.stop()
            self.correcting.leave()
            self.deleteLater()

    def _take_opened(self, event: Any = None, layer: Layer | None = None) -> None:
        """What was opened last with File > Open is the patient to run; a result brings its numbers."""
        layer = event.value if layer is None else layer
        shown = viewer.shown_by(layer)
        if shown is None or not shown.place or self.job is not None:
            return
        self.say(f"Opened {shown.patient}.")
        if self._numbers_of not in (None, shown.patient):
            self._forget()
        if self.folder.text() != shown.place:
            self.opening.open(Path(shown.place))
        if shown.analysis is not None and shown.kind == "tumor":
            self.analysis = shown.analysis
            self._tell(shown.analysis)

    def _forget(self) -> None:
        """Numbers of one patient must not stand beside the images of another."""
        had = self.analysis is not None
        self.analysis = self._numbers_of = None
        self.measuring.hide_numbers()
        self._cautions.hide()
        self._set_running(False)
        if had:
            self.analysis_changed.emit(None)

    # ---- running ----

    @property
    def worker(self) -> Any:
        """The thread worker of the work on hand, or None."""
        return None if self.job is None else self.job.worker

    def run_or_cancel(self) -> None:
        """What the button does: start, or stop what runs."""
        if self.job is None:
            self.run()
        else:
            self.cancel()

    def run(self) -> None:
        """Start the pipeline on the chosen folder; a wrong setting is said at once."""
        place = self.folder.text().strip()
        if not place:
            return self.say("Choose a patient's folder first.")
        path = Path(place).expanduser()
        try:
            settings = self.form.settings()
            files = self.opening.corrected(path, settings)
        except TumorError as error:
            return self._fail(Failure(str(error), str(error)))
        self.start(drawn(run_steps(path, settings, self.running.clicks(), self.segmenter, files)))

    def cancel(self) -> None:
        """Let go of the work; the layers stay as they are."""
        if self._turns.busy:  # half a result must not stay on show
            self._turns.add(self.cancel)
        elif self.job is not None:
            self.job.cancel()
            self.job = None
            self.progress.setValue(0)
            self.say("Cancelled.")
            self._set_running(False)

    def save(self, folder: Path) -> None:
        """Write the result on show into ``folder``."""
        if self.analysis is not None:
            painted = any(layers.is_painted(layer.data, layer.metadata) for layer in self.viewer.layers)
            self.start(save_steps(self.analysis, folder, PAINT_NOT_SAVED if painted else ""))

    def start(self, steps: Any) -> None:
        """Run steps (``pipeline.Step``) in a thread, with progress and Cancel; the last may carry a result."""
        self.details_button.hide()
        self.job = Job(steps, self._on_step, self._on_end)
        self.watch(self.job)
        self._set_running(True)
        self.job.start()

    def watch(self, job: Job) -> None:
        """Stop this work when the widget goes."""
        self._jobs[:] = [known for known in self._jobs if known.is_running] + [job]

    def _on_step(self, step: Any) -> None:
        made = step if isinstance(step, Drawn) else None
        step = step if made is None else made.step
        self.progress.setValue(round(step.fraction * PROGRESS_STEPS))
        self.say(step.name)
        if made is None:
            return
        if step.analysis is None:
            self._turns.add(*self._showing(made.layers))
            return
        to_measure = partial(self.tabs.setCurrentWidget, self._tab_of(self.measuring))
        self._turns.add(*self._showing(made.layers, step.analysis), to_measure)

    def _on_end(self, failure: Failure | None) -> None:
        self._turns.add(partial(self._end, failure))  # after the last layer

    def _end(self, failure: Failure | None) -> None:
        self.job = None
        self._set_running(False)
        if failure is not None:
            self._fail(failure)

    def _set_running(self, running: bool) -> None:
        self.running.set_running(running)
        self.save_button.setEnabled(not running and self.analysis is not None)

    # ---- result ----

    @property
    def visit(self) -> int:
        """0-based visit under the slider."""
        return viewer.visit_number(self.viewer)

    def go_to(self, visit: int | None = None, point_mm: Any = None) -> None:
        """Move the slider to a 0-based visit, the slices and the camera to a point in RAS mm of the common grid."""
        viewer.go_to(self.viewer, visit, point_mm)

    def show_analysis(self, analysis: Analysis, made: list[layers.LayerData] | None = None) -> None:
        """Put the layers of a result in place of those on show, and its numbers in the panels."""
        for work in self._showing(layers.to_layers(analysis) if made is None else made, analysis):
            work()

    def show_in_turns(self, analysis: Analysis, made: list[layers.LayerData], then: Callable[[], Any]) -> None:
        """As ``show_analysis``, one layer a turn of the event loop; then ``then``."""
        self._turns.add(*self._showing(made, analysis), then)

    def in_turn(self, work: Callable[[], Any]) -> None:
        """Do this after the layers that are still to be shown."""
        self._turns.add(work)

    def _showing(self, made: list[layers.LayerData], analysis: Analysis | None = None) -> list[Callable[[], Any]]:
        """What there is to do to show layers in place of those on show, in pieces: all at once would hold up the window
        for seconds. analysis: the result they are of; None = a patient's own images, or the first of a result."""
        clicks, shown = self.running.clicks(), made[0][1]["metadata"][layers.METADATA_KEY]
        same = clicks is not None and (clicks.patient, clicks.days) == (shown.patient, shown.days)
        works = [partial(self._clear, made, None if analysis is None else shown.patient)]
        works += [partial(viewer.put_in, self.viewer, *layer) for layer in made]
        works += [partial(self.running.add_clicks, clicks.prompts)] if same else []
        return works if analysis is None else [*works, partial(self._take, analysis, same)]

    def _clear(self, made: list[layers.LayerData], patient: str | None) -> None:
        viewer.take_out(self.viewer, made)
        if patient is None or patient != self._numbers_of:
            self._forget()

    def _take(self, analysis: Analysis, with_clicks: bool) -> None:
        self.analysis = analysis
        if with_clicks and analysis.prediction.model == MASKS_GIVEN:
            self.say(CLICKS_UNUSED)
        self._tell(analysis)

    def update_analysis(self, analysis: Analysis) -> None:
        """The same patient measured anew: the numbers follow."""
        self.analysis = analysis
        self._tell(analysis)

    def take_report(self, report: Report, criterion: str) -> None:
        """The same result with its response classified again."""
        assert self.analysis is not None
        settings = replace(self.analysis.settings, criterion=criterion)
        self.analysis = replace(self.analysis, report=report, settings=settings)
        self._tell(self.analysis)

    def _tell(self, analysis: Analysis) -> None:
        self._show_numbers(analysis.report)
        self._set_running(self.job is not None)
        self.analysis_changed.emit(analysis)
        self.visit_changed.emit(self.visit)

    def _show_numbers(self, report: Report) -> None:
        self._numbers_of = report.patient
        warnings = cautions(report)
        self.warnings.setText(warnings)
        self._cautions.setVisible(bool(warnings))
        self.measuring.show_report(report)

    def _tell_visit(self, event: Any = None) -> None:
        self.visit_changed.emit(self.visit)

    # ---- saving and saying ----

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose where the result's folder goes")
        if folder:
            self.save(Path(folder))

    def say(self, text: str) -> None:
        """One sentence to the person."""
        self.status.setText(text)

    def _fail(self, failure: Failure) -> None:
        self.progress.setValue(0)
        self.say(failure.sentence)
        self._details = failure.details
        self.details_button.show()

    def _show_details(self) -> None:
        box = QMessageBox(QMessageBox.Icon.Warning, "Tumor growth", self.status.text(), parent=self)
        box.setDetailedText(self._details)
        box.open()

    def _tab_of(self, panel: QWidget) -> QWidget:
        return next(self.tabs.widget(n) for n in range(self.tabs.count()) if self.tabs.widget(n).widget() is panel)


def _let_go(jobs: list[Job], *_: Any) -> None:
    """The widget is gone: what it started stops at its next step."""
    for job in jobs:
        job.cancel()


def _take_out(napari_viewer: napari.Viewer, strip: QWidget, *_: Any) -> None:
    """The strip goes with the widget; where the whole window goes there is nothing left to do."""
    with contextlib.suppress(RuntimeError, LookupError, AttributeError):
        napari_viewer.window.remove_dock_widget(strip)


def _scrolled(panel: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(panel)
    return area
