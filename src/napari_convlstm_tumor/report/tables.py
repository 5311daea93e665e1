"""The numbers of one patient written as CSV, JSON or short tables for the terminal; the rows are made in ``rows``.

What is undefined is empty (CSV), null (JSON) or a dash (terminal); never infinite, never a zero in its place.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.report.columns import COLUMNS, LESION_COLUMNS, UNDATED_NAMES
from napari_convlstm_tumor.report.course import Course
from napari_convlstm_tumor.report.rows import build_report, summary
from napari_convlstm_tumor.series import Report

__all__ = [
    "COLUMNS",
    "LESION_COLUMNS",
    "UNDATED_NAMES",
    "UNDEFINED",
    "Course",
    "build_report",
    "event_lines",
    "lesion_table",
    "lesions_csv",
    "report_from_json",
    "report_json",
    "response_lines",
    "summary",
    "visit_table",
    "visits_csv",
]

# Of the form of report.json (report.schema.json); it rises when a name or a meaning changes.
FORMAT = 1
# Decimals in the CSV: a tenth of a fine voxel, a doubling time of 1,000 days to four digits, and so on. The ends of an
# interval are written as its value.
DECIMALS = {
    "volume_mm3": 1,
    "volume_change_percent": 2,
    "change_from_baseline_percent": 2,
    "change_from_nadir_percent": 2,
    "sgr_per_day": 7,
    "vdt_days": 1,
    "vde_mm_per_year": 3,
    "front_speed_mm_per_month": 3,
    "registration_quality": 3,
    "longest_axial_mm": 2,
    "perpendicular_axial_mm": 2,
    "product_mm2": 1,
    "longest_3d_mm": 2,
    "match_confidence": 3,
}
TABLE_HEADER = ("visit", "day", "volume mL", "change %", "growth rate", "front speed")
LESION_HEADER = ("lesion", "visit", "state", "volume mL", "axial mm", "since baseline %", "since nadir %")
UNDEFINED = "–"
# A volume below this many mL needs three decimals.
SMALL_ML = 0.1
Row = Mapping[str, Any]


# ---- files ----


def visits_csv(report: Report) -> str:
    """The rows per visit as CSV text with a header; undefined = empty, several warnings are joined by a space."""
    return _csv(report.visits, tuple(report.visits[0]))


def lesions_csv(report: Report) -> str:
    """One row per visit and lesion, as ``visits_csv``; the header alone when there is no lesion."""
    dated = "sgr_per_visit" not in report.visits[0]
    names = tuple(report.lesions[0]) if report.lesions else _undated(LESION_COLUMNS, dated)
    return _csv(report.lesions, names)


def report_json(report: Report) -> str:
    """The whole report as JSON text (report.schema.json); NaN and infinite become null.

    The inverse is ``report_from_json``.
    """
    whole = {
        "format": FORMAT,
        "patient": report.patient,
        "visits": report.visits,
        "lesions": report.lesions,
        "events": report.events,
        "responses": report.responses,
        "forecasts": report.forecasts,
        "warnings": report.warnings,
        "provenance": report.provenance,
    }
    return json.dumps(_plain(whole), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def report_from_json(text: str) -> Report:
    """The report that ``report_json`` wrote. InputError when the text is something else."""
    try:
        whole = json.loads(text)
        return Report(
            patient=whole["patient"],
            visits=_rows(whole["visits"], "warnings"),
            warnings=tuple(whole["warnings"]),
            provenance=whole["provenance"],
            lesions=_rows(whole.get("lesions", ()), "warnings"),
            events=_rows(whole.get("events", ()), "lesions"),
            responses={name: tuple(rows) for name, rows in whole.get("responses", {}).items()},
            forecasts=tuple(whole.get("forecasts", ())),
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"This is not a report written by this program: {error!r}.") from error


def _rows(rows: Sequence[Row], listed: str) -> tuple[Row, ...]:
    """Rows read from JSON with the list in one of their columns as a tuple."""
    return tuple({**row, listed: tuple(row[listed])} for row in rows)


def _undated(names: Sequence[str], dated: bool) -> tuple[str, ...]:
    return tuple(names) if dated else tuple(UNDATED_NAMES.get(name, name) for name in names)


def _csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(_csv_cell(name, row[name]) for name in names)
    return text.getvalue()


def _csv_cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "warnings":
        return " ".join(value)
    decimals = _decimals(name)
    return str(value) if decimals is None else f"{round(value, decimals) + 0.0:.{decimals}f}"


def _decimals(name: str) -> int | None:
    """Decimals of a column, under the name it has with or without dates; None = as it is."""
    dated = {undated: name for name, undated in UNDATED_NAMES.items()}.get(name, name)
    return DECIMALS.get(dated.replace("_low_", "_").replace("_high_", "_"))


def _plain(value: Any) -> Any:
    """Value in the types of JSON; a path becomes its name, as full paths are private."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.name if isinstance(value, Path) else value


# ---- terminal and viewer ----


def visit_table(report: Report, intervals: bool = False) -> list[list[str]]:
    """Rows of text under TABLE_HEADER; every rate with its unit. intervals: also those of volume and speed."""
    dated = "sgr_per_visit" not in report.visits[0]
    return [_visit_cells(_dated_names(row), dated, intervals) for row in report.visits]


def lesion_table(report: Report) -> list[list[str]]:
    """Rows of text under LESION_HEADER, by lesion; specks and visits before a lesion appears are left out."""
    rows = sorted(report.lesions, key=lambda row: (row["lesion"], row["visit"]))
    return [_lesion_cells(row) for row in rows if row["state"] not in ("absent", "speck")]


def event_lines(report: Report) -> list[str]:
    """What befell the lesions, in words."""
    return [f"Visit {event['visit']}, {event['kind']}: {event['reason']}" for event in report.events]


def response_lines(report: Report) -> list[str]:
    """The latest response under each criterion with its reason, and why this criterion."""
    lines = [f"{rows[-1]['reason']} (visit {rows[-1]['visit']})" for rows in report.responses.values() if rows]
    why = report.provenance.get("response", {}).get("why", "")
    return [*lines, why] if why else lines


def _dated_names(row: Row) -> Row:
    """A row under the names it has when dated."""
    dated = {undated: name for name, undated in UNDATED_NAMES.items()}
    return {dated.get(name, name): value for name, value in row.items()}


def _visit_cells(row: Row, dated: bool, intervals: bool) -> list[str]:
    """Cells of one row, given by the names of COLUMNS."""
    day = UNDEFINED if row["day"] is None else str(row["day"])
    cells = [str(row["visit"]), day, _volume_cell(row, intervals)]
    if row["visit"] == 1:
        return [*cells, "", "", ""]
    return [
        *cells,
        _percent(row["volume_change_percent"]),
        _growth_cell(row, dated),
        _speed_cell(row, dated, intervals),
    ]


def _speed_cell(row: Row, dated: bool, interval: bool) -> str:
    """Such as "+1.25 mm/month (+0.50 to +2.00)": the median with its 95 % interval."""
    speed, low, high = (row.get(f"front_speed_{name}mm_per_month") for name in ("", "low_", "high_"))
    if speed is None:
        return UNDEFINED
    text = f"{_signed(speed, 2)} {'mm/month' if dated else 'mm/visit'}"
    return text if not interval or low is None or high is None else f"{text} ({_signed(low, 2)} to {_signed(high, 2)})"


def _lesion_cells(row: Row) -> list[str]:
    across = (row["longest_axial_mm"], row["perpendicular_axial_mm"])
    return [
        str(row["lesion"]),
        str(row["visit"]),
        str(row["state"]),
        _volume_cell(row),
        UNDEFINED if None in across else f"{across[0]:.1f} x {across[1]:.1f}",
        _percent(row["change_from_baseline_percent"]),
        _percent(row["change_from_nadir_percent"]),
    ]


def _volume_cell(row: Row, interval: bool = True) -> str:
    """Such as "8.00 (7.41–8.64)": mL with the 95 % interval."""
    volume, low, high = (row.get(name) for name in ("volume_mm3", "volume_low_mm3", "volume_high_mm3"))
    if volume is None:
        return UNDEFINED
    return _ml(volume) if not interval or low is None or high is None else f"{_ml(volume)} ({_ml(low)}–{_ml(high)})"


def _ml(mm3: float) -> str:
    return f"{mm3 / 1000:.{2 if mm3 == 0 or mm3 >= 1000 * SMALL_ML else 3}f}"


def _percent(change: float | None) -> str:
    return UNDEFINED if change is None else _signed(change, 1)


def _growth_cell(row: Row, dated: bool) -> str:
    """Such as "+1.16 %/day (doubling in 60 days)": the growth rate first, as Mehrara 2007 asks.

    "within error" stands in the place of a doubling time that cannot be told from none.
    """
    sgr, vdt = row["sgr_per_day"], row["vdt_days"]
    if sgr is None:
        return UNDEFINED
    text = f"{_signed(100 * sgr, 2)} %/{'day' if dated else 'visit'}"
    if row.get("within_error"):
        return f"{text} (within error)"
    if vdt is None:
        return text
    time = f"{abs(vdt):.0f} days" if dated else f"{abs(vdt):.1f} visits"
    return f"{text} ({'doubling' if vdt > 0 else 'halving'} in {time})"


def _signed(value: float, decimals: int) -> str:
    """With its sign, but no sign on what rounds to zero."""
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}" if rounded else f"{0:.{decimals}f}"
