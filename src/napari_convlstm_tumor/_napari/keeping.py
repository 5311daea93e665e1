"""The panel "Keep": sessions, what a crash left behind, and everything that can be given away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.parts import button, named, row, sentence

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.layers import LayerData
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor._napari.worker import Failure
    from napari_convlstm_tumor.edit.editor import Editor

# What the menu calls each kind of edit.exports.
KINDS = {
    "report": "Report (HTML)",
    "csv": "Tables and list of corrections (CSV)",
    "nifti": "Result folder with masks and maps (NIfTI)",
    "dicom": "DICOM SEG, growth maps and SR",
    "png": "Picture of all visits (PNG)",
    "gif": "Film of the growth (GIF)",
    "mp4": "Film of the growth (MP4)",
    "recipe": "Recipe that replays it in batch",
}
# A program that still runs touches its autosave every few seconds; left alone so long, its program has ended.
LEFT_ALONE_S = 15
CORRECTIONS_KEPT = "Corrections that were not saved as a session were kept."
KEPT = f"{CORRECTIONS_KEPT} Bring them back under '6 Keep'."
HOW_TO = (
    "A session keeps the result with all corrections and the list of them, and reopens as it was. "
    "While you correct, the work is kept every few seconds and offered here after a crash."
)


class KeepPanel(QWidget):
    """Saves, opens, exports; follows the corrections of the widget's panel "Correct"."""

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self._job: Job | None = None
        self.found: list[Path] = []
        self._build()
        widget.analysis_changed.connect(self._take)
        self._take(None)

    def _build(self) -> None:
        self.save_button = button("Save session...", self._ask_and_save, "Keep the result with all corrections")
        self.open_button = button("Open session...", self._ask_and_open, "Go on with a saved session")
        self.export_button = named(QPushButton("Export"), "Export", "Give away the report, tables, images or a film")
        self.menu = QMenu(self.export_button)
        self.menu.setToolTipsVisible(True)
        for kind, text in KINDS.items():
            action = self.menu.addAction(text)
            action.triggered.connect(lambda checked=False, kind=kind: self._ask_and_export(kind))
            action.setData(kind)
        self.export_button.setMenu(self.menu)
        self.said = sentence("")
        self.offer = sentence("")
        self.recover_button = button("Bring back", self.recover, "Go on where the program was cut off")
        self.discard_button = button("Discard", self.discard, "Delete what was kept of it")
        layout = QVBoxLayout(self)
        layout.addWidget(sentence(HOW_TO))
        layout.addWidget(self.offer)
        layout.addLayout(row(self.recover_button, self.discard_button))
        layout.addLayout(row(self.save_button, self.open_button))
        layout.addWidget(self.export_button)
        layout.addWidget(self.said)
        layout.addStretch()
        self._offer()

    # ---- crash ----

    def watch(self, home: Path) -> None:
        """Keep corrections in this folder from now on, and offer what lies there of programs that were cut off."""
        self._widget.correcting.autosaver.home = home
        self.look_for_crashes()
        later = QTimer(self)  # its child: it ends with the panel
        later.setSingleShot(True)
        later.timeout.connect(self.look_for_crashes)
        later.start(int(1000 * (LEFT_ALONE_S + 5)))

    def look_for_crashes(self, left_alone_s: float = LEFT_ALONE_S) -> None:
        """Offer the latest session that was cut off."""
        from napari_convlstm_tumor.edit.session import left_behind

        home = self._widget.correcting.autosaver.home
        known, self.found = self.found, [] if home is None else left_behind(home, left_alone_s)
        self._offer()
        if set(self.found) - set(known):
            self._widget.say(KEPT)

    def _offer(self) -> None:
        self.offer.setText(CORRECTIONS_KEPT if self.found else "")
        for part in (self.offer, self.recover_button, self.discard_button):
            part.setVisible(bool(self.found))

    def recover(self) -> None:
        """Open what was kept; on the result on show where its own was not kept in time."""
        from napari_convlstm_tumor.edit.session import open_session, recover
        from napari_convlstm_tumor.results import is_result

        if not self.found:
            return
        folder, shown = self.found[0], self._widget.analysis
        whole = is_result(folder / "result") or shown is None
        self._open(lambda: open_session(folder) if whole else recover(folder, shown), folder)

    def discard(self) -> None:
        """Delete the offered one."""
        if self.found:
            shutil.rmtree(self.found.pop(0), ignore_errors=True)
        self._offer()

    # ---- sessions ----

    def save(self, folder: Path) -> None:
        """Save the session into this folder."""
        from napari_convlstm_tumor.edit.session import save_session

        self._start("Saving the session...", lambda: save_session(self._editor(), folder), f"Saved in {folder.name}.",
                    lambda nothing: self._widget.correcting.autosaver.saved())  # fmt: skip

    def open(self, folder: Path) -> None:
        """Go on with a session."""
        from napari_convlstm_tumor.edit.session import open_session

        self._open(lambda: open_session(folder))

    def export(self, kind: str, folder: Path) -> None:
        """Write one kind of export into this folder."""
        from napari_convlstm_tumor.edit.exports import export

        self._start(f"Exporting: {KINDS[kind]}...", lambda: export(self._editor(), kind, folder),
                    f"Exported to {folder.name}: {KINDS[kind]}.")  # fmt: skip

    def _open(self, work: Any, kept_in: Path | None = None) -> None:
        """kept_in: the autosave that is brought back; what is corrected next goes there, too."""

        def editor_and_layers() -> tuple[Editor, list[LayerData]]:
            from napari_convlstm_tumor._napari.layers import to_layers

            editor = work()
            return editor, to_layers(editor.analysis)

        self._start("Opening the session...", editor_and_layers, "Opened.", lambda made: self._adopt(*made, kept_in))

    def _adopt(self, editor: Editor, made: list[LayerData], kept_in: Path | None) -> None:
        self._widget.correcting.adopt(editor, made)
        self._widget.in_turn(lambda: self._adopted(kept_in))

    def _adopted(self, kept_in: Path | None) -> None:
        if kept_in is not None:
            self._widget.correcting.autosaver.go_on(kept_in)
        self.look_for_crashes()

    def _editor(self) -> Editor:
        """In the thread: the corrections, or the result as it came."""
        from napari_convlstm_tumor.edit.editor import Editor

        panel = self._widget.correcting
        if panel.editor is None:
            assert self._widget.analysis is not None
            panel.editor = Editor(self._widget.analysis)
        return panel.editor

    # ---- work ----

    def _start(self, doing: str, work: Any, done: str, then: Any = None) -> None:
        if self._job is not None or self._widget.job is not None or not self._widget.correcting.idle:
            return self.said.setText("Something is still being measured; try again in a moment.")
        self.said.setText(doing)

        def steps() -> Iterator[Any]:
            yield work()

        def finish(failure: Failure | None) -> None:
            self._widget.in_turn(lambda: end(failure))  # after the last layer

        def end(failure: Failure | None) -> None:
            self._job = None
            self.said.setText(done if failure is None else failure.sentence)
            self._take(self._widget.analysis)

        self._job = Job(steps(), lambda result: then(result) if then else None, finish)
        self._widget.watch(self._job)
        self._take(self._widget.analysis)
        self._job.start()

    @property
    def idle(self) -> bool:
        """True when nothing is being saved, opened or exported."""
        return self._job is None

    def _take(self, analysis: Any) -> None:
        ready = analysis is not None and self._job is None
        self.save_button.setEnabled(ready)
        self.export_button.setEnabled(ready)
        self.open_button.setEnabled(self._job is None)
        if analysis is None:
            return
        from napari_convlstm_tumor.edit.exports import can_export

        reasons = can_export(analysis)
        for action in self.menu.actions():
            action.setEnabled(not reasons[action.data()])
            action.setToolTip(reasons[action.data()])

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose (or make) an empty folder for the session")
        if folder:
            self.save(Path(folder))

    def _ask_and_open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose the folder of a session")
        if folder:
            self.open(Path(folder))

    def _ask_and_export(self, kind: str) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a folder for the export")
        if folder:
            self.export(kind, Path(folder))
