"""The panel "Correct": strokes on the tumor layer, hints and links go to ``edit``; the numbers follow."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QListWidget, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import layers, viewer
from napari_convlstm_tumor._napari.autosaving import Autosaver
from napari_convlstm_tumor._napari.hinting import HintPart
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.parts import button, named, row, sentence
from napari_convlstm_tumor._napari.relinking import RelinkPart
from napari_convlstm_tumor._napari.turns import Turns

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor._napari.worker import Failure
    from napari_convlstm_tumor.analysis import Analysis
    from napari_convlstm_tumor.edit.editor import Editor
    from napari_convlstm_tumor.series import Prompt

# A stroke is over when the brush has rested so long; strokes meanwhile are taken together.
STROKE_RESTS_MS = 150
# The forecast takes seconds: it waits until the person does.
FORECAST_WAITS_MS = 2500
# So long the window waits for a measurement under way when the corrections go from the screen.
LONGEST_WAIT_S = 10.0
HOW_TO = (
    "Paint or erase on the layer 'tumor', at any visit, in 2-D or 3-D. Volumes, maps, lesions and response follow "
    "each stroke; the forecast follows when you pause."
)


@dataclass(frozen=True, eq=False)
class Stroke:
    """The mask (I, J, K) of a 0-based visit as a person left it."""

    visit: int
    mask: npt.NDArray[np.uint8]

    def __call__(self, editor: Editor) -> Analysis:
        """Into the numbers."""
        return editor.paint(self.visit, self.mask)


class CorrectPanel(QWidget):
    """Follows the tumor layer, and asks ``edit`` for everything else; no arithmetic here.

    editor: the corrections of the result on show, None before the first. base: the result as it came, which no
    correction changes; None where it came from a session.
    """

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self.editor: Editor | None = None
        self.base: Analysis | None = None
        self._analysis: Analysis | None = None
        self._layer: Labels | None = None
        self._seen: npt.NDArray[np.bool_] | None = None
        self._waiting: list[Callable[[Editor], Analysis]] = []
        self._taken: list[Callable[[Editor], Analysis]] = []  # by a thread, and not yet done
        self._job: Job | None = None
        self._ours = False
        self._turns = Turns(self)
        self._build()
        self._stroke = self._timer(STROKE_RESTS_MS, self._look)
        self._forecast = self._timer(FORECAST_WAITS_MS, self._look_ahead)
        self.autosaver = Autosaver(self)
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
        self.hints, self.relinks = HintPart(self._widget), RelinkPart(self._widget)
        self.hints.asked.connect(self._segment)
        self.relinks.asked.connect(lambda link: self._ask(lambda editor: editor.relink(link)))
        self.said = sentence("")
        for part in (self.hints, self.relinks):
            part.said.connect(self.said.setText)
        self.log = named(QListWidget(), "Corrections", "Every correction: what, at which visit, voxels, when")
        layout = QVBoxLayout(self)
        layout.addWidget(sentence(HOW_TO))
        layout.addLayout(row(self.paint_button, self.erase_button, self.undo_button, self.redo_button))
        layout.addWidget(self.hints)
        layout.addWidget(self.relinks)
        layout.addWidget(self.said)
        layout.addWidget(QLabel("Corrections so far"))
        layout.addWidget(self.log, stretch=1)

    def _timer(self, ms: int, action: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(ms)
        timer.timeout.connect(action)
        return timer

    def _enable(self) -> None:
        ready = self._analysis is not None and self._layer is not None
        for part in (self.paint_button, self.erase_button, self.hints, self.relinks):
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
        same_masks = analysis is not None and self._analysis is not None and analysis.masks is self._analysis.masks
        if same_masks and self._layer is self._tumor_layer():
            self._set(analysis)  # the same masks under another criterion
            if self.editor is not None and self._job is None:
                self.editor.numbers.analysis = analysis
            return
        self._drop()
        self._set(analysis)
        self.base = analysis
        if analysis is not None:
            self._follow_layer()
        self._enable()

    def _set(self, analysis: Analysis | None) -> None:
        self._analysis = self.hints.analysis = analysis
        self.relinks.show_analysis(analysis)

    def leave(self) -> None:
        """The corrections go from the screen, perhaps with their panel: the last strokes are kept first."""
        if self._stroke.isActive():
            self._stroke.stop()
            self._collect()
        self._turns.clear()
        measuring, self._job = self._job, None
        if measuring is not None:
            measuring.cancel()
        if measuring is None or measuring.wait(LONGEST_WAIT_S):
            self._finish_strokes()
            self.autosaver.leave()
        self._taken, self._waiting = [], []

    def come_back(self) -> None:
        """They stay on the screen after all: the numbers take in the strokes that ``leave`` finished."""
        if self.editor is not None:
            self._ask(lambda editor: editor.analysis)

    def _finish_strokes(self) -> None:
        """Those that no thread has measured; a hint to the network is dropped, it would take minutes."""
        strokes = [work for work in (*self._taken, *self._waiting) if isinstance(work, Stroke)]
        if not strokes or self._analysis is None:
            return
        from napari_convlstm_tumor.edit.editor import Editor

        self.editor = self.editor or Editor(self._analysis)
        for stroke in strokes:
            stroke(self.editor)

    def _drop(self) -> None:
        self.leave()
        self.autosaver.forget()
        self._forecast.stop()
        if self._layer is not None:
            for event in (self._layer.events.paint, self._layer.events.labels_update, self._layer.events.set_data):
                event.disconnect(self._touched)
        self.editor = self.base = self._layer = self._seen = None
        self.log.clear()
        self.said.setText("")

    def _tumor_layer(self) -> Labels | None:
        """The topmost one; what was painted on a result that is gone stays, and is none."""
        shown = [x for x in self._widget.viewer.layers if isinstance(x, Labels) and viewer.kind_of(x) == "tumor"]
        return shown[-1] if shown else None

    def _follow_layer(self) -> None:
        self._layer = self._tumor_layer()
        if self._layer is None:
            return
        self._seen = np.asarray(self._layer.data) != 0
        for event in (self._layer.events.paint, self._layer.events.labels_update, self._layer.events.set_data):
            event.connect(self._touched)

    def adopt(self, editor: Editor, made: list[layers.LayerData]) -> None:
        """Corrections that were made before (a session): their result, with its layers, is put on show."""
        self._drop()
        self._widget.show_in_turns(editor.analysis, made, partial(self._adopted, editor))

    def _adopted(self, editor: Editor) -> None:
        self.editor, self.base = editor, None
        self._list_log()
        self._enable()

    # ---- strokes ----

    def _touched(self, event: Any = None) -> None:
        self._stroke.start()

    def _look(self) -> None:
        self._collect()
        self._next()

    def _collect(self) -> None:
        """Find what was painted since the last look."""
        if self._layer is None or self._seen is None or self._analysis is None:
            return
        grid = self._analysis.grid
        for visit, painted in enumerate(self._layer.data):
            now = np.asarray(painted) != 0
            if not np.array_equal(now, self._seen[visit]):
                self._seen[visit] = now
                mask = np.ascontiguousarray(layers.from_display(now.astype(np.uint8), grid))
                self._waiting.append(Stroke(visit, mask))

    def _mode(self, mode: str) -> None:
        if self._layer is not None:
            self._widget.viewer.layers.selection.active = self._layer
            self._layer.mode = mode
            self.prepare()

    def prepare(self) -> None:
        """Measure what the first stroke will need, while the person chooses a brush."""
        if self.editor is None and self._job is None:
            self._ask(lambda editor: editor.prepare())

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
        self._taken, self._waiting = self._waiting, []
        self.said.setText("Measuring..." if self.editor is not None else "Getting ready to measure...")
        self.begin(self._steps(self._taken), self._show, lambda failure: self._turns.add(partial(self._end, failure)))

    def begin(
        self, steps: Generator[Any, None, Any], on_step: Callable[[Any], None], on_end: Callable[[Failure | None], None]
    ) -> None:
        """Work in a thread on the arrays that corrections change; strokes wait until ``finish``."""
        self._job = Job(steps, on_step, on_end)
        self._widget.watch(self._job)
        self._job.start()

    def finish(self) -> None:
        """That work is done: what waited goes on."""
        self._job = None
        self._next()

    def _steps(self, works: list[Callable[[Editor], Any]]) -> Generator[Any, None, None]:
        """In the thread: the layers are not touched here."""
        if self.editor is None:
            from napari_convlstm_tumor.edit.editor import Editor

            assert self._analysis is not None
            self.editor = Editor(self._analysis)
        while works:
            result = works[0](self.editor)
            if isinstance(result, Iterator):
                yield from result
            works.pop(0)
        yield self.editor.analysis, layers.made_layers(self.editor.analysis)

    def _show(self, step: Any) -> None:
        """Each part in a turn of its own: together they would hold up the next stroke."""
        if isinstance(step, (int, float)):
            self.said.setText(f"Segmenting... {100 * step:.0f} %")
            return
        analysis, made = step
        self._turns.add(
            partial(viewer.refresh, self._widget.viewer, analysis, made),
            partial(self._tell, analysis),
            partial(self._colour, analysis),
            self._list_log,
        )

    def _tell(self, analysis: Analysis) -> None:
        self._set(analysis)
        self._ours = True
        try:
            self._widget.update_analysis(analysis)
        finally:
            self._ours = False

    def _end(self, failure: Failure | None) -> None:
        self.said.setText("" if failure is None else failure.sentence)
        if failure is not None and self.editor is not None:
            self._colour(self.editor.analysis, always=True)
        if self._analysis is not None and self._analysis.prediction.forecast is None:
            self._forecast.start()
        if self.editor is not None and self.editor.log:
            self.autosaver.start()
        self._enable()
        self.finish()

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
            if not np.array_equal(drawn, now) and (always or np.array_equal(drawn != 0, self._seen[visit])):
                drawn[...] = now
                self._seen[visit] = now != 0
        self._layer.metadata[layers.CHECKSUM_KEY] = layers.checksum(self._layer.data)
        self._layer.refresh()

    # ---- buttons ----

    def undo(self) -> None:
        """Take the last edit back."""
        self._ask(lambda editor: editor.undo())

    def redo(self) -> None:
        """Do the last one again."""
        self._ask(lambda editor: editor.redo())

    def _segment(self, prompts: tuple[Prompt, ...]) -> None:
        segmenter = self._widget.segmenter
        self._ask(lambda editor: editor.prompted(prompts, segmenter))

    def _list_log(self) -> None:
        self.log.clear()
        for entry in self.editor.log if self.editor is not None else ():
            where = "" if entry.visit is None else f" at visit {entry.visit}"
            voxels = f": +{entry.added} -{entry.removed} voxels" if entry.added or entry.removed else ""
            self.log.addItem(f"{entry.what}{where}{voxels} ({entry.seconds:.0f} s)")
        self.log.scrollToBottom()
