"""The dock "Review queue": the patients of a batch, failed and doubtful first; what is decided is written back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import viewer
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.parts import button, named, row, sentence
from napari_convlstm_tumor._napari.turns import Turns
from napari_convlstm_tumor._napari.worker import open_steps
from napari_convlstm_tumor.errors import TumorError

if TYPE_CHECKING:
    import napari

    from napari_convlstm_tumor._napari.worker import Failure
    from napari_convlstm_tumor.edit.review import Item

# Words and signs, so that nothing is told by colour alone.
RANKS = ("failed", "doubtful", "done")
SIGNS = {"": "○", "accepted": "✓", "corrected": "✎"}
HOW_TO = (
    "Open the output folder of a batch. Double-click a patient to see it; correct it in the widget 'Tumor growth' if "
    "needed, and mark it. Marks are written to review.csv in that folder."
)


class ReviewQueue(QWidget):
    """A dock of its own. folder: the batch on show, None before one was opened."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.folder: Path | None = None
        self.items: tuple[Item, ...] = ()
        self.job: Job | None = None
        self._turns = Turns(self)
        viewer.attach(napari_viewer)
        self._build()
        self._tell()

    def _build(self) -> None:
        self.open_button = button("Open batch...", self._ask, "Choose the output folder of a batch")
        self.list = named(QListWidget(), "Patients", "Failed and doubtful first; double-click to see one")
        self.list.currentRowChanged.connect(lambda number: self._tell())
        self.list.itemDoubleClicked.connect(lambda item: self.show_current())
        self.why = sentence("")
        self.why.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.count = QLabel("")
        self.show_button = button("Show", self.show_current, "Show this patient's result in the viewer")
        self.next_button = button("Next", self.next, "Go to the next patient that has no mark, and show it")
        self.accept_button = button("Accept", lambda: self.mark("accepted"), "The result is right as it is")
        self.correct_button = button("Corrected", lambda: self.mark("corrected"), "You corrected the result")
        self.clear_button = button("No mark", lambda: self.mark(""), "Take the mark back")
        layout = QVBoxLayout(self)
        layout.addWidget(sentence(HOW_TO))
        layout.addWidget(self.open_button)
        layout.addWidget(self.count)
        layout.addWidget(self.list, stretch=1)
        layout.addWidget(self.why)
        layout.addLayout(row(self.show_button, self.next_button))
        layout.addLayout(row(self.accept_button, self.correct_button, self.clear_button))

    @property
    def current(self) -> Item | None:
        """The patient that is chosen."""
        number = self.list.currentRow()
        return self.items[number] if 0 <= number < len(self.items) else None

    def open(self, folder: Path) -> None:
        """List the patients of a batch's output folder."""
        from napari_convlstm_tumor.edit.review import read_queue

        try:
            self.items = read_queue(folder)
        except TumorError as error:
            return self.why.setText(str(error))
        self.folder = folder
        self.list.clear()
        for item in self.items:
            self.list.addItem(QListWidgetItem(_line(item)))
        self.list.setCurrentRow(self._unmarked(0) or 0)
        self._tell()

    def mark(self, mark: str) -> None:
        """Write what was decided of the chosen patient, and go on to the next without a mark."""
        from napari_convlstm_tumor.edit.review import read_queue, write_mark

        item = self.current
        if item is None or self.folder is None:
            return
        try:
            write_mark(self.folder, item.patient, mark)
            self.items = read_queue(self.folder)
        except TumorError as error:
            return self.why.setText(str(error))
        for number, one in enumerate(self.items):
            self.list.item(number).setText(_line(one))
        following = self._unmarked(self.list.currentRow())
        if mark and following is not None:
            self.list.setCurrentRow(following)
        self._tell()

    def next(self) -> None:
        """Choose and show the next patient without a mark."""
        following = self._unmarked(self.list.currentRow() + 1)
        if following is None:
            return self.why.setText("Every patient has a mark.")
        self.list.setCurrentRow(following)
        self.show_current()

    def show_current(self) -> None:
        """Put the chosen patient's result in the viewer; the widget 'Tumor growth', if open, shows its numbers."""
        item = self.current
        if item is None or item.folder is None or self.job is not None:
            return
        self.job = Job(open_steps(item.folder), self._show, self._end)
        self.why.setText(f"Reading {item.patient}...")
        self.job.start()

    def _show(self, step: Any) -> None:
        made = getattr(step, "layers", None)
        if made is None:
            return
        self._turns.add(partial(viewer.take_out, self.viewer, made))
        self._turns.add(*(partial(viewer.put_in, self.viewer, *layer) for layer in made))

    def _end(self, failure: Failure | None) -> None:
        self._turns.add(partial(self._ended, failure))  # after the last layer

    def _ended(self, failure: Failure | None) -> None:
        self.job = None
        self._tell()
        if failure is not None:
            self.why.setText(failure.sentence)

    # ---- what is shown ----

    def _unmarked(self, start: int) -> int | None:
        """The first patient without a mark from a place on, around the end."""
        count = len(self.items)
        places = ((start + n) % count for n in range(count))
        return next((n for n in places if not self.items[n].mark), None)

    def _tell(self) -> None:
        item = self.current
        self.why.setText("" if item is None else "\n".join(item.reasons) or "Nothing doubtful was found.")
        self.show_button.setEnabled(item is not None and item.folder is not None)
        for part in (self.next_button, self.accept_button, self.correct_button, self.clear_button):
            part.setEnabled(item is not None)
        marked = sum(bool(i.mark) for i in self.items)
        self.count.setText(f"{marked} of {len(self.items)} patients reviewed" if self.items else "")

    def _ask(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose the output folder of a batch")
        if folder:
            self.open(Path(folder))


def _line(item: Item) -> str:
    mark = f", {item.mark}" if item.mark else ""
    return f"{SIGNS[item.mark]} {item.patient} ({RANKS[item.rank]}{mark})"
