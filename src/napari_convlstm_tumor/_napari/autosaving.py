"""Keeps what the panel "Correct" holds, every few seconds, so that a crash loses next to nothing."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_convlstm_tumor._napari.job import Job

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.correcting import CorrectPanel
    from napari_convlstm_tumor._napari.worker import Failure
    from napari_convlstm_tumor.analysis import Analysis
    from napari_convlstm_tumor.edit.session import Autosave

LOOKS_MS = 2000


class Autosaver(QObject):
    """home: the folder where corrections are kept meanwhile (None = nowhere)."""

    def __init__(self, panel: CorrectPanel) -> None:
        super().__init__(panel)
        self._panel = panel
        self.home: Path | None = None
        self._autosave: Autosave | None = None
        self.timer = QTimer(self)
        self.timer.setInterval(LOOKS_MS)
        self.timer.timeout.connect(self.keep)

    def start(self) -> None:
        """Keep what is corrected from now on."""
        if self.home is not None:
            self.timer.start()

    def leave(self) -> None:
        """The corrections go from the screen: keep what is not kept yet, at once. It is offered again."""
        from napari_convlstm_tumor.edit.session import Autosave

        self.timer.stop()
        editor, base = self._panel.editor, self._panel.base
        if self.home is not None and editor is not None:
            autosave = self._autosave = self._autosave or Autosave(self.home, editor)
            if autosave.due:
                autosave.keep()
            autosave.leave()
            if autosave.kept and not autosave.has_result:
                _in_background(autosave, editor.analysis if base is None else base)

    def forget(self) -> None:
        """Other corrections follow, to be kept in a folder of their own."""
        self._autosave = None

    def go_on(self, folder: Path) -> None:
        """What was kept in this folder was brought back: keep what follows there, too."""
        from napari_convlstm_tumor.edit.session import Autosave

        if self._panel.editor is not None:
            self._autosave = Autosave.going_on(folder, self._panel.editor)
            self.start()

    def saved(self) -> None:
        """The work is saved elsewhere: what was kept of it may go."""
        from napari_convlstm_tumor.edit.session import Autosave

        if self._autosave is not None:
            self._autosave.clear()
        if self.home is not None and self._panel.editor is not None:
            self._autosave = Autosave(self.home, self._panel.editor, saved_elsewhere=True)

    def keep(self) -> None:
        """Corrections first (small), then once the result they belong to."""
        if self.home is None or self._panel.editor is None or not self._panel.idle:
            return
        from napari_convlstm_tumor.edit.session import Autosave

        if self._autosave is None:
            self._autosave = Autosave(self.home, self._panel.editor)
        self._autosave.alive()
        if self._autosave.due:
            self._panel.begin(_keeping(self._autosave, self._panel.base), lambda step: None, self._kept)

    def _kept(self, failure: Failure | None) -> None:
        base, autosave = self._panel.base, self._autosave
        if failure is not None:
            self._panel.said.setText(f"Not autosaved: {failure.sentence}")
        elif base is not None and autosave is not None and not autosave.has_result:
            _in_background(autosave, base)
        self._panel.finish()


def _in_background(autosave: Autosave, analysis: Analysis) -> None:
    Job(_keeping_result(autosave, analysis), lambda step: None, lambda failure: None).start()


def _keeping(autosave: Autosave, base: Analysis | None) -> Generator[Any, None, None]:
    """In the thread. A result that came from a session is changed in place: it is kept before the next stroke."""
    autosave.keep()
    if base is None:
        autosave.keep_result(autosave.editor.analysis)
    yield None


def _keeping_result(autosave: Autosave, base: Analysis) -> Generator[Any, None, None]:
    """In a thread beside the measuring: the result as it came, which no correction changes."""
    autosave.keep_result(base)
    yield None
