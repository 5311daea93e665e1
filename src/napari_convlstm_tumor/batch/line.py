"""The line in which patients wait for a worker."""

from __future__ import annotations

import time
from collections import deque

from napari_convlstm_tumor.batch.patient import Task

# How long to leave a patient alone that another batch has in hand.
COME_BACK_S = 2.0


class Line:
    """Tasks still to be taken. One that another batch has in hand comes back after a while, behind all others."""

    def __init__(self) -> None:
        self._ready: deque[Task] = deque()
        self._held: deque[tuple[float, Task]] = deque()

    def add(self, task: Task) -> None:
        """Behind all that are there."""
        self._ready.append(task)

    def take(self) -> Task | None:
        """The next task, or None when there is none at this moment (see ``pause``)."""
        if self._ready:
            return self._ready.popleft()
        if self._held and self._held[0][0] <= time.monotonic():
            return self._held.popleft()[1]
        return None

    def later(self, task: Task) -> None:
        """Put back a task that another batch has in hand."""
        self._held.append((time.monotonic() + COME_BACK_S, task))

    def again(self, task: Task) -> None:
        """Put back a task to be taken next: its worker is gone."""
        self._ready.appendleft(task)

    def stop(self) -> None:
        """Let no further task be taken."""
        self._ready.clear()
        self._held.clear()

    @property
    def pause(self) -> float | None:
        """Seconds until the next task can be taken; None when none is left."""
        if self._ready:
            return 0.0
        return max(self._held[0][0] - time.monotonic(), 0.0) if self._held else None
