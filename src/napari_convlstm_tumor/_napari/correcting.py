"""The panel "Correct": paint, segment from a click or a box, relink; the numbers follow. No arithmetic here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Shapes
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QListWidget, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import layers, looks, viewer
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.parts import button, named, row, sentence

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor._napari.worker import Failure
    from napari_convlstm_tumor.analysis import Analysis
    from napari_convlstm_tumor.edit.editor import Editor
    from napari_convlstm_tumor.edit.session import Autosave
    from napari_convlstm_tumor.io.links import Link
    from napari_convlstm_tumor.series import Prompt

# A stroke is over when the brush has rested so long; strokes meanwhile are taken together.
STROKE_RESTS_MS = 250
# The forecast takes seconds: it waits until the person does.
FORECAST_WAITS_MS = 2500
AUTOSAVE_LOOKS_MS = 2000
BOXES = "boxes around lesions"
HOW_TO = (
    "Paint or erase on the layer 'tumor', at any visit, in 2-D or 3-D. Volumes, maps, lesions and response follow "
    "each stroke; the forecast follows when you pause."
)


class CorrectPanel(QWidget):
    """Follows the tumor layer, and asks ``edit`` for everything else.

    editor: the corrections of the result on show, None before the first. autosave_home: where they are kept meanwhile
    (None = nowhere). ``edited`` is sent after each edit, ``idle`` is True when nothing is left to be done.
    """

    edited = Signal()

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self.editor: Editor | None = None
        self.autosave: Autosave | None = None
        self.autosave_home: Path | None = None
        self._analysis: Analysis | None = None
        self._base: Analysis | None = None  # the result as it came: corrections never change its arrays
        self._layer: Labels | None = None
        self._seen: npt.NDArray[np.bool_] | None = None
        self._waiting: list[Callable[[Editor], Analysis]] = []
        self._job: Job | None = None
        self._ours = False
        self._build()
        self._stroke = self._timer(STROKE_RESTS_MS, self._look)
        self._forecast = self._timer(FORECAST_WAITS_MS, self._look_ahead)
        self._keeper = self._timer(AUTOSAVE_LOOKS_MS, self._keep, single=False)
        widget.analysis_changed.connect(self._take)
        self._enable()

    @property
    def idle(self) -> bool:
        """True when every stroke is in the numbers."""
        return self._job is None and not self._waiting and not self._stroke.isActive()

    # ---- what it looks like ----

    def _build(self) -> None:
        self.paint_button = button("Paint", lambda: self._mode("paint"), "Paint tumor at the visit on show")
        self.erase_button = button("Erase", lambda: self._mode("erase"), "Erase tumor at the visit on show")
        self.undo_button = button("Undo", self.undo, "Take the last correction back")
        self.redo_button = button("Redo", self.redo, "Do again what was taken back")
        self.click_button = button("Click a lesion", self._click, "Add a point inside a lesion, at one visit")
        self.box_button = button("Box a lesion", self._box, "Draw a box around a lesion, in one slice of one visit")
        self.segment_button = button(
            "Segment it at all visits", self.segment, "The network outlines what you pointed at; corrected visits stay"
        )
        self.from_lesion = named(QComboBox(), "Lesion here", "A lesion of the visit on show")
        self.to_lesion = named(QComboBox(), "Lesion to link to", "Which lesion it is, or is not")
        self.link_button = button("is", lambda: self._relink(True), "The lesion on the left is the one on the right")
        self.part_button = button("is not", lambda: self._relink(False), "The lesion on the left is not the one there")
        self.said = sentence("")
        self.log = named(QListWidget(), "Corrections", "Every correction: what, at which visit, voxels, when")
        links = QGridLayout()
        for place, part in enumerate((self.from_lesion, self.link_button, self.part_button, self.to_lesion)):
            links.addWidget(part, 0, place)
        layout = QVBoxLayout(self)
        layout.addWidget(sentence(HOW_TO))
        layout.addLayout(row(self.paint_button, self.erase_button, self.undo_button, self.redo_button))
        layout.addWidget(QLabel("Segment from a hint"))
        layout.addLayout(row(self.click_button, self.box_button))
        layout.addWidget(self.segment_button)
        layout.addWidget(QLabel("Which lesion is which, at this visit"))
        layout.addLayout(links)
        layout.addWidget(self.said)
        layout.addWidget(QLabel("Corrections so far"))
        layout.addWidget(self.log, stretch=1)

    def _timer(self, ms: int, action: Callable[[], None], single: bool = True) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(single)
        timer.setInterval(ms)
        timer.timeout.connect(action)
        return timer

    def _enable(self) -> None:
        ready = self._analysis is not None and self._layer is not None
        tools = (self.paint_button, self.erase_button, self.click_button, self.box_button, self.segment_button)
        for part in (*tools, self.from_lesion, self.to_lesion, self.link_button, self.part_button):
            part.setEnabled(ready)
        self.undo_button.setEnabled(self.editor is not None and self.editor.can_undo)
        self.redo_button.setEnabled(self.editor is not None and self.editor.can_redo)

    # ---- whose corrections ----

    def _take(self, analysis: Analysis | None) -> None:
        """A result is on show: another one begins without corrections."""
        if self._ours:
            return
        if analysis is not None and self.editor is not None and self.editor.analysis is analysis:
            return
        if analysis is not None and self._analysis is not None and analysis.masks is self._analysis.masks:
            self._analysis = analysis  # the same masks under another criterion
            if self.editor is not None and self._job is None:
                self.editor.numbers.analysis = analysis
            return
        self._drop()
        self._analysis = self._base = analysis
        if analysis is not None:
            self._follow_layer()
            self._list_lesions()
        self._enable()

    def _drop(self) -> None:
        if self._job is not None:
            self._job.cancel()
        for timer in (self._stroke, self._forecast, self._keeper):
            timer.stop()
        if self._layer is not None:
            for event in (self._layer.events.paint, self._layer.events.labels_update, self._layer.events.set_data):
                event.disconnect(self._touched)
        self.editor = self.autosave = self._base = self._layer = self._seen = self._job = None
        self._waiting.clear()
        self.log.clear()
        self.said.setText("")

    def _follow_layer(self) -> None:
        shown = [x for x in self._widget.viewer.layers if isinstance(x, Labels) and viewer.kind_of(x) == "tumor"]
        if not shown:
            return
        self._layer = shown[-1]
        self._seen = np.asarray(self._layer.data) != 0
        for event in (self._layer.events.paint, self._layer.events.labels_update, self._layer.events.set_data):
            event.connect(self._touched)

    def adopt(self, editor: Editor) -> None:
        """Corrections that were made before (a session): their result is put on show."""
        self._drop()
        self._analysis, self.editor = editor.analysis, editor
        self._widget.show_analysis(editor.analysis)
        self._follow_layer()
        self._list_log()
        self._list_lesions()
        self._enable()

    # ---- strokes ----

    def _touched(self, event: Any = None) -> None:
        self._stroke.start()

    def _look(self) -> None:
        """Find what was painted since the last look, and hand it on."""
        if self._layer is None or self._seen is None or self._analysis is None:
            return
        grid = self._analysis.grid
        for visit, painted in enumerate(self._layer.data):
            now = np.asarray(painted) != 0
            if not np.array_equal(now, self._seen[visit]):
                self._seen[visit] = now
                mask = np.ascontiguousarray(layers.from_display(now.astype(np.uint8), grid))
                self._ask(lambda editor, visit=visit, mask=mask: editor.paint(visit, mask))

    def _mode(self, mode: str) -> None:
        if self._layer is not None:
            self._widget.viewer.layers.selection.active = self._layer
            self._layer.mode = mode
            self.prepare()

    def prepare(self) -> None:
        """Measure what the first stroke will need, while the person chooses a brush."""
        if self.editor is None and self._job is None:
            self._ask(lambda editor: editor.numbers.update({}))

    # ---- work, one piece after the other ----

    def _ask(self, work: Callable[[Editor], Analysis]) -> None:
        self._waiting.append(work)
        self._next()

    def _next(self) -> None:
        if self._job is not None or not self._waiting or self._analysis is None:
            return
        if self._widget.job is not None:  # it reads the arrays that a correction changes
            QTimer.singleShot(STROKE_RESTS_MS, self._next)
            return
        works, self._waiting = self._waiting, []
        self.said.setText("Measuring..." if self.editor is not None else "Getting ready to measure...")
        self._job = Job(self._steps(works), self._show, self._end)
        self._widget.watch(self._job)
        self._job.start()

    def _steps(self, works: list[Callable[[Editor], Any]]) -> Iterator[Any]:
        """In the thread: the layers are not touched here."""
        if self.editor is None:
            from napari_convlstm_tumor.edit.editor import Editor

            assert self._analysis is not None
            self.editor = Editor(self._analysis)
        result = None
        for work in works:
            result = work(self.editor)
            if isinstance(result, Iterator):
                result = yield from result
        yield result

    def _show(self, step: Any) -> None:
        if isinstance(step, (int, float)):
            self.said.setText(f"Segmenting... {100 * step:.0f} %")
            return
        self._analysis = step
        self._ours = True
        try:
            self._widget.update_analysis(step)
        finally:
            self._ours = False
        self._colour(step)
        self._list_log()
        self._list_lesions()

    def _end(self, failure: Failure | None) -> None:
        self._job = None
        self.said.setText("" if failure is None else failure.sentence)
        if failure is not None and self.editor is not None:
            self._colour(self.editor.analysis, always=True)
        if self._analysis is not None and self._analysis.prediction.forecast is None:
            self._forecast.start()
        if self.autosave_home is not None and self.editor is not None and self.editor.log:
            self._keeper.start()
        self._enable()
        self.edited.emit()
        self._next()

    def _look_ahead(self) -> None:
        from napari_convlstm_tumor.edit.recompute import PENDING

        if self._analysis is not None and self._analysis.prediction.forecast_note == PENDING:
            self._ask(lambda editor: editor.ahead())

    def _colour(self, analysis: Analysis, always: bool = False) -> None:
        """Lesion numbers into the tumor layer; a visit that was painted on meanwhile waits for its own measuring."""
        if self._layer is None or self._seen is None or (self._waiting and not always):
            return  # a newer stroke is not in these numbers yet
        ids = layers.to_display(layers.lesion_ids(analysis), analysis.grid)
        for visit, now in enumerate(ids):
            drawn = self._layer.data[visit]
            as_measured = np.array_equal(drawn != 0, self._seen[visit])
            if (always or as_measured) and not np.array_equal(drawn, now):
                drawn[...] = now
                self._seen[visit] = now != 0
        self._layer.metadata[layers.CHECKSUM_KEY] = layers.checksum(self._layer.data)
        self._layer.refresh()

    # ---- autosave ----

    def _keep(self) -> None:
        """Corrections first (small), then once the result they belong to."""
        if self.autosave_home is None or self.editor is None or not self.idle:
            return
        from napari_convlstm_tumor.edit.session import Autosave

        if self.autosave is None:
            self.autosave = Autosave(self.autosave_home, self.editor)
        self.autosave.alive()
        if self.autosave.due:
            self._job = Job(self._keeping(self.autosave), lambda step: None, self._kept)
            self._widget.watch(self._job)
            self._job.start()

    def _keeping(self, autosave: Autosave) -> Iterator[Any]:
        """In the thread. A result that came from a session is changed in place: it is kept before the next stroke."""
        autosave.keep()
        if self._base is None:
            autosave.keep_result(autosave.editor.analysis)
        yield None

    def _kept(self, failure: Failure | None) -> None:
        self._job = None
        if failure is not None:
            self.said.setText(f"Not autosaved: {failure.sentence}")
        elif self._base is not None and self.autosave is not None and not self.autosave.has_result:
            beside = Job(self._keeping_result(self.autosave, self._base), lambda step: None, lambda failure: None)
            self._widget.watch(beside)
            beside.start()
        self._next()

    def _keeping_result(self, autosave: Autosave, base: Analysis) -> Iterator[Any]:
        """In a thread beside the measuring: the result as it came, which no correction changes."""
        autosave.keep_result(base)
        yield None

    def saved(self) -> None:
        """The work is saved elsewhere: what was kept of it may go."""
        if self.autosave is not None:
            self.autosave.clear()
        self.autosave = None

    # ---- buttons ----

    def undo(self) -> None:
        """Take the last edit back."""
        self._ask(lambda editor: editor.undo())

    def redo(self) -> None:
        """Do the last one again."""
        self._ask(lambda editor: editor.redo())

    def _click(self) -> None:
        points = self._widget.running.points() or self._widget.running.add_clicks(())
        if points is not None:
            self._widget.viewer.layers.selection.active = points
            points.mode = "add"
            self.said.setText("Click inside the lesion, at one visit; then 'Segment it at all visits'.")

    def _box(self) -> None:
        boxes = self._boxes() or self._add_boxes()
        self._widget.viewer.layers.selection.active = boxes
        boxes.mode = "add_rectangle"
        self.said.setText("Draw a rectangle around the lesion, in one slice; then 'Segment it at all visits'.")

    def _boxes(self) -> Shapes | None:
        shown = self._widget.viewer.layers
        return next((x for x in shown if isinstance(x, Shapes) and x.name == BOXES), None)

    def _add_boxes(self) -> Shapes:
        assert self._analysis is not None
        place = layers.placement(self._analysis.grid)
        look = {"edge_color": looks.HINT_COLOUR, "face_color": "transparent", "edge_width": 0.5}
        return self._widget.viewer.add_layer(Shapes(ndim=4, name=BOXES, **place, **look))

    def segment(self) -> None:
        """Hand the points and boxes to the network."""
        prompts = self._prompts()
        if not prompts:
            return self.said.setText("Click a lesion or draw a box around it first.")
        segmenter = self._widget.segmenter
        self._clear_hints()
        self._ask(lambda editor: editor.prompted(prompts, segmenter))

    def _prompts(self) -> tuple[Prompt, ...]:
        clicks, boxes = self._widget.running.clicks(), self._boxes()
        known = self._analysis.prompts if self._analysis is not None else ()
        old = {tuple(np.round(p.ras_mm, 3)) for p in known if p.type == "point" and p.ras_mm is not None}
        found = [p for p in (clicks.prompts if clicks else ()) if tuple(np.round(p.ras_mm, 3)) not in old]
        for corners in boxes.data if boxes is not None else ():
            found.append(self._box_prompt(np.array([boxes.data_to_world(c) for c in corners])))
        return tuple(found)

    def _box_prompt(self, world: npt.NDArray[Any]) -> Prompt:
        from napari_convlstm_tumor.edit.prompts import box_of

        assert self._analysis is not None
        visit = int(np.clip(np.rint(world[0, 0]), 0, len(self._analysis.days) - 1))
        return box_of(self._analysis, visit, layers.to_ras_mm(world))

    def _clear_hints(self) -> None:
        boxes = self._boxes()
        if boxes is not None:
            self._widget.viewer.layers.remove(boxes)

    def _relink(self, same: bool) -> None:
        from napari_convlstm_tumor.edit.prompts import link_of

        if self._analysis is None or self.from_lesion.currentData() is None or self.to_lesion.currentData() is None:
            return self.said.setText("There is no lesion at this visit.")
        link: Link | None = link_of(
            self._analysis, self._widget.visit, self.from_lesion.currentData(), self.to_lesion.currentData(), same
        )
        if link is None:
            return self.said.setText("That lesion is not at this visit.")
        self._ask(lambda editor: editor.relink(link))

    # ---- lists ----

    def _list_log(self) -> None:
        self.log.clear()
        for entry in self.editor.log if self.editor is not None else ():
            where = "" if entry.visit is None else f" at visit {entry.visit}"
            voxels = f": +{entry.added} -{entry.removed} voxels" if entry.added or entry.removed else ""
            self.log.addItem(f"{entry.what}{where}{voxels} ({entry.seconds:.0f} s)")
        self.log.scrollToBottom()

    def _list_lesions(self) -> None:
        numbers = sorted({r["lesion"] for r in self._analysis.report.lesions}) if self._analysis is not None else []
        for box, more in ((self.from_lesion, ()), (self.to_lesion, (max(numbers, default=0) + 1,))):
            chosen = box.currentData()
            box.clear()
            for number in (*numbers, *more):
                box.addItem(f"lesion {number}" if number not in more else f"new lesion {number}", number)
            if chosen in numbers:
                box.setCurrentIndex(box.findData(chosen))
