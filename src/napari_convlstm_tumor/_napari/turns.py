"""Work that only the window's own thread may do, one piece a turn of its event loop, so that it never stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer


class Turns(QObject):
    """Pieces of work in order; between two of them the window draws and listens."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._works: list[Callable[[], Any]] = []
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._next)

    def add(self, *works: Callable[[], Any]) -> None:
        """Do these after what waits already."""
        self._works += works
        self._timer.start(0)

    def clear(self) -> None:
        """Do nothing of what waits."""
        self._works.clear()
        self._timer.stop()

    @property
    def busy(self) -> bool:
        """True while something waits."""
        return bool(self._works)

    def _next(self) -> None:
        work = self._works.pop(0)
        if not self._works:
            self._timer.stop()
        work()
