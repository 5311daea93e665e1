"""The review of a batch: which patients to look at first and why, and what a person decided, in review.csv."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.batch.tables import FAILURES_FILE, SUMMARY_FILE
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.write import read_csv, write_csv
from napari_convlstm_tumor.results import REPORT_FILE, RUN_FILE, is_result

REVIEW_FILE = "review.csv"
MARKS = ("accepted", "corrected")
COLUMNS = ("patient", "mark")
FAILED, DOUBTFUL, DONE = range(3)


@dataclass(frozen=True)
class Item:
    """One patient of a batch. rank: FAILED, DOUBTFUL or DONE; reasons: why; mark: "", "accepted" or "corrected".

    folder: its result, None where there is none.
    """

    patient: str
    rank: int
    reasons: tuple[str, ...]
    folder: Path | None
    mark: str = ""


def read_queue(folder: Path) -> tuple[Item, ...]:
    """The patients of a batch's output folder: failed first, then doubtful, then the rest, each in their order.

    Raises InputError when the folder is no batch's, or a table of it is damaged.
    """
    if not (folder / SUMMARY_FILE).is_file():
        raise InputError(f"'{folder.name}' is not the output folder of a batch: it has no {SUMMARY_FILE}.")
    marks = read_marks(folder)
    advice = {row.get("patient", ""): row.get("what_to_do", "") for row in _rows(folder / FAILURES_FILE)}
    items = [_item(folder, row, advice) for row in _rows(folder / SUMMARY_FILE)]
    return tuple(replace(i, mark=marks.get(i.patient, "")) for i in sorted(items, key=lambda i: i.rank))


def read_marks(folder: Path) -> dict[str, str]:
    """What was decided so far: patient -> mark."""
    return {r["patient"]: r["mark"] for r in _rows(folder / REVIEW_FILE) if r.get("mark") in MARKS and "patient" in r}


def write_mark(folder: Path, patient: str, mark: str) -> None:
    """Write what was decided of one patient ("" takes it back); the marks of others, also of other readers, stay."""
    if mark not in ("", *MARKS):
        raise InputError(f"A mark is {' or '.join(MARKS)}, got {mark!r}.")
    marks = {**read_marks(folder), patient: mark}
    rows = [{"patient": name, "mark": said} for name, said in sorted(marks.items()) if said]
    write_csv(folder / REVIEW_FILE, rows or [dict.fromkeys(COLUMNS, "")])


def _item(folder: Path, row: dict[str, str], advice: dict[str, str]) -> Item:
    patient = row.get("patient", "")
    if not patient or patient in (".", "..") or any(c in patient for c in "/\\\0"):
        raise InputError(f"{SUMMARY_FILE} names a patient that is no name for a folder.")
    place = folder / patient
    result = place if is_result(place) else None
    if row.get("status") == "failed" or result is None:
        said = row.get("error") or "There is no result."
        return Item(patient, FAILED, tuple(s for s in (said, advice.get(patient, "")) if s), result)
    reasons = doubts(place)
    return Item(patient, DOUBTFUL if reasons else DONE, reasons, result)


def doubts(result: Path) -> tuple[str, ...]:
    """Why a result should be looked at: registrations that are not good, warnings of its visits, damaged records."""
    run, report = _json(result / RUN_FILE), _json(result / REPORT_FILE)
    if run is None or report is None:
        return ("The records of the result are damaged.",)
    found = [
        f"Visit {number}: the registration is not good."
        for number, one in enumerate(run.get("registration", []), start=1)
        if not one.get("good", False)
    ]
    for visit in report.get("visits", []):
        found += [f"Visit {visit.get('visit')}: {said}" for said in visit.get("warnings", [])]
    return tuple(dict.fromkeys(found))


def _rows(path: Path) -> list[dict[str, str]]:
    return read_csv(path) if path.is_file() else []


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
