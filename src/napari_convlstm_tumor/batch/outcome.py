"""What became of one patient: a row of summary.csv, or an error sentence with the step and what to do."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import MissingDependency, ModelError, SettingsError, TumorError
from napari_convlstm_tumor.io.names import printable
from napari_convlstm_tumor.series import Report

SUMMARY_COLUMNS = (
    "patient",
    "status",
    "visits",
    "days",
    "volume_first_mm3",
    "volume_last_mm3",
    "volume_change_percent",
    "sgr_per_day",
    "vdt_days",
    "response",
    "lowest_registration_quality",
    "warnings",
    "error",
)
FAILURE_COLUMNS = ("patient", "step", "error", "what_to_do")
SAVING = "Saving"
# The disk's fault, not the patient's: every patient after this one would fail in the same way.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Torch, ITK and the C++ library have no common error for this; these words stand in theirs.
MEMORY_WORDS = ("out of memory", "can't allocate memory", "bad_alloc", "failed to allocate", "can't start new thread")

NO_MEMORY = "Not enough memory for this patient."
MORE_MEMORY = (
    "Run again with a coarser --spacing (for example 2), a larger --memory-limit or fewer --jobs; finished "
    "patients are kept."
)
MAKE_ROOM = "Make room, or the output folder writable, and run the same command again; finished patients are kept."
LOOK_AT_INPUT = "Repair or leave out what the error names, and run again; `convlstm-tumor info` shows what is read."


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one patient: a result in folder, or an error sentence.

    analysis: the result itself, only where it was made in this process. row: its line of summary.csv.
    step, advice: of an error, where it happened and what to do. earlier: a result of an earlier run that still holds.
    busy: another batch has this patient in hand. fatal: the next patients would fail in the same way.
    seconds: wall time.
    """

    patient: str
    folder: Path
    analysis: Analysis | None = None
    error: str = ""
    step: str = ""
    advice: str = ""
    row: Mapping[str, Any] | None = None
    earlier: bool = False
    busy: bool = False
    fatal: bool = False
    seconds: float = 0.0

    def slim(self) -> Outcome:
        """Without the images, to be sent to another process."""
        return replace(self, analysis=None)


def failure(patient: str, folder: Path, step: str, error: BaseException) -> Outcome:
    """The Outcome of an error."""
    sentence, advice = explain(error)
    sentence = printable(sentence)  # a file of a name that is no text could be written to no table
    fatal = step == SAVING and _errno(error) in DISK_ERRORS
    return Outcome(patient, folder, error=sentence, step=step, advice=advice, fatal=fatal)


def explain(error: BaseException) -> tuple[str, str]:
    """(what happened, what to do) of any error, in words for a person."""
    if _errno(error) in DISK_ERRORS:
        return str(error) if isinstance(error, TumorError) else _of_system(error), MAKE_ROOM
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in MEMORY_WORDS):
        return NO_MEMORY, MORE_MEMORY
    if isinstance(error, (SettingsError, ModelError)):
        return str(error), "Change the setting that the error names, and run again."
    if isinstance(error, MissingDependency):
        return str(error), "Install it, and run again."
    if isinstance(error, TumorError):
        return str(error), LOOK_AT_INPUT
    if isinstance(error, OSError):
        return _of_system(error), "See whether the files can be read and the output be written, and run again."
    return f"Unexpected {type(error).__name__}: {error}", "This is a fault of the program: please report it."


def summary_row(patient: str, report: Report) -> dict[str, Any]:
    """One line of summary.csv, for a patient that is done."""
    visits, summary = report.visits, report.provenance["summary"]
    qualities = [v["registration_quality"] for v in visits if v["registration_quality"] is not None]
    return {
        "patient": patient,
        "status": "done",
        "visits": len(visits),
        "days": summary["days"],
        "volume_first_mm3": visits[0]["volume_mm3"],
        "volume_last_mm3": visits[-1]["volume_mm3"],
        "volume_change_percent": summary["volume_change_percent"],
        "sgr_per_day": _value(summary.get("sgr_per_day")),
        "vdt_days": _value(summary.get("vdt_days")),
        "response": last_response(report),
        "lowest_registration_quality": min(qualities, default=None),
        "warnings": " ".join((*report.warnings, *(w for v in visits for w in v["warnings"]))),
        "error": "",
    }


def failed_row(outcome: Outcome) -> dict[str, Any]:
    """One line of summary.csv, for a patient that failed."""
    empty = dict.fromkeys(SUMMARY_COLUMNS)
    return {**empty, "patient": outcome.patient, "status": "failed", "error": outcome.error}


def failure_row(outcome: Outcome) -> dict[str, Any]:
    """One line of failures.csv."""
    return dict(zip(FAILURE_COLUMNS, (outcome.patient, outcome.step, outcome.error, outcome.advice), strict=True))


def last_response(report: Report) -> str:
    """The last visit's category of the first criterion (the one that was chosen), or nothing."""
    rows = next(iter(report.responses.values()), ())
    return str(rows[-1].get("category") or "") if rows else ""


def _value(rate: Mapping[str, Any] | None) -> Any:
    return None if rate is None else rate["value"]


def _of_system(error: BaseException) -> str:
    """The system's reason without the path that stands in its message."""
    return f"Reading or writing failed: {getattr(error, 'strerror', None) or type(error).__name__}."


def _errno(error: BaseException | None) -> int | None:
    """The system's number of an error, or of the error it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__
    return None
