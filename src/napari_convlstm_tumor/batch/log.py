"""A batch as lines of JSON, for other programs: one object per event, written at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from napari_convlstm_tumor.batch.outcome import Outcome
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.pipeline import Step


class JsonLog:
    """Events of a batch: start, step (when a patient goes on to the next), done, earlier, failed, end or stopped.

    "t" is the seconds since the start. No date stands in it, and of names only the patients' (those of their folders).
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._started = time.monotonic()
        self._steps: dict[str, str] = {}

    def write(self, event: str, **values: Any) -> None:
        """One line."""
        if self._stream is not None:
            line = {"t": round(time.monotonic() - self._started, 3), "event": event, **values}
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._stream.flush()

    def show(self, patient: str, event: Step | Outcome) -> None:
        """One event of a patient."""
        if isinstance(event, Outcome):
            self._steps.pop(patient, None)
            kind = "failed" if event.error else "earlier" if event.earlier else "done"
            told = {"step": event.step, "error": event.error, "what_to_do": event.advice} if event.error else {}
            self.write(kind, patient=patient, seconds=event.seconds, **told)
        elif self._steps.get(patient) != event.name:
            self._steps[patient] = event.name
            self.write("step", patient=patient, step=event.name)


@contextmanager
def json_log(path: Path | None) -> Iterator[JsonLog]:
    """A log that is appended to ``path``, or one that writes nothing. Raises InputError when it cannot be opened."""
    if path is None:
        yield JsonLog(None)
        return
    try:
        stream = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"The log {path.name} cannot be written: {error.strerror or 'unknown reason'}.") from error
    with stream:
        yield JsonLog(stream)
