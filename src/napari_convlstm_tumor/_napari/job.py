"""One piece of work in a thread, which the window can let go of at once.

A registration or a pass of the network cannot be interrupted in its middle. ``cancel`` therefore frees the window
immediately: the thread stops at its next step, and what it still says is thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from napari.qt.threading import create_worker

from napari_convlstm_tumor._napari.worker import Failure, guarded

WAIT_S = 0.01  # between two looks at a thread


class Job:
    """Runs ``steps``; calls on_step with each, then on_end with None or what went wrong; neither once cancelled."""

    def __init__(
        self, steps: Generator[Any, None, Any], on_step: Callable[[Any], None], on_end: Callable[[Failure | None], None]
    ) -> None:
        self._on_step, self._on_end = on_step, on_end
        self.worker: Any = create_worker(guarded, steps, _start_thread=False)
        self.abandoned = False
        self.worker.yielded.connect(self._step)
        self.worker.returned.connect(self._end)
        # napari keeps every worker for as long as its window: one that was stopped must not hold a patient's arrays.
        self.worker.finished.connect(partial(_forget, steps))

    def start(self) -> None:
        """Begin, in a thread of Qt's pool."""
        self.worker.start()

    def cancel(self) -> None:
        """Let go of the work."""
        self.abandoned = True
        self.worker.quit()

    def wait(self, longest_s: float) -> bool:
        """Until the thread is at its next step, which ends a work that was let go of. False: it takes longer."""
        end = time.monotonic() + longest_s
        while self.is_running and time.monotonic() < end:
            time.sleep(WAIT_S)
        return not self.is_running

    @property
    def is_running(self) -> bool:
        """True while the thread is at work, let go of or not."""
        return bool(self.worker.is_running)

    def _step(self, step: Any) -> None:
        if not self.abandoned:
            self._on_step(step)

    def _end(self, failure: Failure | None) -> None:
        if not self.abandoned:
            self._on_end(failure)


def _forget(steps: Generator[Any, None, Any], *_: Any) -> None:
    """The thread has ended: what the generator still holds goes."""
    steps.close()
