"""A small CSV of what images cannot tell: steroids, clinical state, a reader's judgement, the end of radiotherapy.

Columns: visit or day, and any of patient, steroid_mg_per_day, status, non_target_progression, event. Comma,
semicolon or tab; UTF-8; one row per visit, and a row with an event instead of a visit.

- patient: name of the result folder; needed when the file holds several patients.
- visit: number in the order of time, from 1; day: days since the first visit, exactly that of a visit.
- steroid_mg_per_day: dexamethasone equivalent above physiological replacement; 0 = none.
- status: better, stable or worse than at the baseline; worse = clearly, by the tumor and by nothing else.
- non_target_progression: yes or no, a reader's judgement.
- event: "radiotherapy end", with its day (may be before the first visit, negative).

An empty cell is "not known". No dates: they would be personal data in a file that is passed around.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_convlstm_tumor.errors import InputError

COLUMNS = ("patient", "visit", "day", "steroid_mg_per_day", "status", "non_target_progression", "event")
STATUS: dict[str, Literal["better", "stable", "worse"]] = {"better": "better", "stable": "stable", "worse": "worse"}
YES_NO = {"yes": True, "no": False}
RADIOTHERAPY_END = "radiotherapy end"
# Above this a dose is in another unit, or of another steroid (100 mg/day is four times the largest usual dose).
LARGEST_DOSE_MG = 100.0


@dataclass(frozen=True)
class ClinicalState:
    """What was entered for one visit; None = not known."""

    steroid_mg_per_day: float | None = None
    status: Literal["better", "stable", "worse"] | None = None
    non_target_progression: bool | None = None


@dataclass(frozen=True)
class ClinicalInputs:
    """What was entered for one patient: per visit in the order of time, and the day radiotherapy ended."""

    visits: tuple[ClinicalState | None, ...]
    radiotherapy_end_day: int | None = None


@dataclass(frozen=True)
class _Row:
    line: int
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")


def read_clinical(path: Path, patient: str, days: Sequence[int], dated: bool = True) -> ClinicalInputs:
    """The entries of one patient, laid on the visits with these days.

    Raises InputError with the line, the value and the choices: a file that is no such table, a visit that is not
    there or entered twice, a value that cannot be.
    """
    rows = [row for row in _rows(path) if row["patient"] in ("", patient)]
    states: list[ClinicalState | None] = [None] * len(days)
    end: int | None = None
    for row in rows:
        try:
            if row["event"]:
                end = _radiotherapy_end(row, end, dated)
                continue
            at = _visit(row, days, dated)
            if states[at] is not None:
                raise InputError(f"visit {at + 1} is entered a second time; give one row per visit.")
            states[at] = _state(row)
        except InputError as error:
            raise InputError(f"{path.name}, line {row.line}: {error}") from error
    return ClinicalInputs(tuple(states), end)


def clinical_text(inputs: ClinicalInputs) -> str:
    """The entries of one patient as the text of such a file, without the patient's name."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS[1:])
    words = {value: word for word, value in YES_NO.items()}
    for number, state in enumerate(inputs.visits, start=1):
        if state is not None:
            judged = state.non_target_progression
            said = "" if judged is None else words[judged]
            writer.writerow([number, "", state.steroid_mg_per_day, state.status, said, ""])
    if inputs.radiotherapy_end_day is not None:
        writer.writerow(["", inputs.radiotherapy_end_day, "", "", "", RADIOTHERAPY_END])
    return text.getvalue()


def _rows(path: Path) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read as UTF-8 text. Save it as CSV, UTF-8.") from error
    lines = text.splitlines()
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=delimiter)
    names = [name.strip().lower() for name in next(reader, [])]
    _check_names(path.name, names)
    try:
        rows = [
            _Row(reader.line_num, _cells(path.name, reader.line_num, names, c))
            for c in reader
            if any(map(str.strip, c))
        ]
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: this is no line of a CSV table ({error}).") from error
    several = {row["patient"] for row in rows}
    if "" in several and len(several) > 1:
        line = next(row.line for row in rows if not row["patient"])
        raise InputError(f"{path.name}, line {line}: the patient is missing, but other rows name one.")
    return rows


def _check_names(file: str, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    twice = [name for name in names if names.count(name) > 1]
    if unknown or twice:
        what = "is not known" if unknown else "stands twice"
        raise InputError(f"{file}: the column {(unknown or twice)[0]!r} {what}. Columns: {', '.join(COLUMNS)}.")
    if "visit" not in names and "day" not in names:
        raise InputError(f"{file} has neither a column 'visit' nor 'day'. Columns: {', '.join(COLUMNS)}.")


def _cells(file: str, line: int, names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A decimal comma in a comma-separated file makes a row longer than the header: refused, never shifted."""
    if len(cells) > len(names):
        raise InputError(
            f"{file}, line {line}: {len(cells)} cells for {len(names)} columns; write decimals with a point."
        )
    return dict(zip(names, (cell.strip() for cell in cells), strict=False))


def _visit(row: _Row, days: Sequence[int], dated: bool) -> int:
    """0-based visit of a row."""
    if row["visit"]:
        number = _whole(row, "visit")
        if not 1 <= number <= len(days):
            raise InputError(f"there is no visit {number}; the patient has visits 1 to {len(days)}.")
        if row["day"] and dated and _whole(row, "day") != days[number - 1]:
            raise InputError(f"visit {number} is on day {days[number - 1]}, not {row['day']}; give one of the two.")
        return number - 1
    if not row["day"]:
        raise InputError("neither visit nor day is given.")
    if not dated:
        raise InputError("a day is given, but the visits have no dates; give the number of the visit.")
    day = _whole(row, "day")
    if day not in days:
        raise InputError(f"no visit is on day {day} (visits: {', '.join(map(str, days))}); give the visit's number.")
    return list(days).index(day)


def _state(row: _Row) -> ClinicalState:
    return ClinicalState(
        steroid_mg_per_day=_dose(row),
        status=STATUS[_choice(row, "status", tuple(STATUS))] if row["status"] else None,
        non_target_progression=(
            YES_NO[_choice(row, "non_target_progression", tuple(YES_NO))] if row["non_target_progression"] else None
        ),
    )


def _radiotherapy_end(row: _Row, before: int | None, dated: bool) -> int:
    _choice(row, "event", (RADIOTHERAPY_END,))
    if before is not None:
        raise InputError(f"{RADIOTHERAPY_END!r} is entered a second time; give one row.")
    if not dated:
        raise InputError("an event needs days, but the visits have no dates; leave it out.")
    if not row["day"]:
        raise InputError("an event needs its day.")
    return _whole(row, "day")


def _choice(row: _Row, column: str, choices: Sequence[str]) -> str:
    value = row[column].lower()
    if value not in choices:
        raise InputError(f"{column} is {' or '.join(choices)}, got {row[column]!r}.")
    return value


def _whole(row: _Row, column: str) -> int:
    try:
        return int(row[column])
    except ValueError as error:
        raise InputError(f"{column} is a whole number (and never a date).") from error  # so a date is not repeated


def _dose(row: _Row) -> float | None:
    text = row["steroid_mg_per_day"]
    if not text:
        return None
    try:
        dose = float(text)
    except ValueError as error:
        raise InputError(f"steroid_mg_per_day is a number with a point, got {text!r}.") from error
    if not (math.isfinite(dose) and 0 <= dose <= LARGEST_DOSE_MG):
        raise InputError(
            f"steroid_mg_per_day is 0 to {LARGEST_DOSE_MG:g}, as dexamethasone, got {text}; convert other steroids."
        )
    return dose
