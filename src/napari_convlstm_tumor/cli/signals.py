"""SIGTERM ends a batch as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a job scheduler sends before it kills, taken as Ctrl-C is."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises Terminated."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be handled
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
