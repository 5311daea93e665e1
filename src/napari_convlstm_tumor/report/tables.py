"""The numbers of one patient as rows: built once, written as CSV, JSON or a short table for the terminal.

One row per visit. A row's growth is the change from the visit before to this one, so the first row has none.
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
from napari_convlstm_tumor.measure.growth import (
    Rate,
    diameter_rate,
    specific_growth_rate,
    vde_mm_per_year,
    vdt_days,
)
from napari_convlstm_tumor.report import cautions
from napari_convlstm_tumor.series import Registration, Report

COLUMNS = (
    "visit",
    "day",
    "volume_mm3",
    "volume_change_percent",
    "sgr_per_day",
    "vdt_days",
    "vde_mm_per_year",
    "front_speed_mm_per_month",
    "registration_quality",
    "warnings",
)
# Without dates a growth is per visit, and its column says so.
UNDATED_NAMES = {
    "sgr_per_day": "sgr_per_visit",
    "vdt_days": "vdt_visits",
    "vde_mm_per_year": "vde_mm_per_visit",
    "front_speed_mm_per_month": "front_speed_mm_per_visit",
}
# Decimals in the CSV: a tenth of a fine voxel, a doubling time of 1,000 days to four digits, and so on.
DECIMALS = {
    "volume_mm3": 1,
    "volume_change_percent": 2,
    "sgr_per_day": 7,
    "vdt_days": 1,
    "vde_mm_per_year": 3,
    "front_speed_mm_per_month": 3,
    "registration_quality": 3,
}
TABLE_HEADER = ("visit", "day", "volume mL", "change %", "growth rate", "front speed")
UNDEFINED = "–"


def columns(dated: bool) -> tuple[str, ...]:
    """Column names of a row, in order."""
    return COLUMNS if dated else tuple(UNDATED_NAMES.get(name, name) for name in COLUMNS)


# ---- building ----


def build_report(
    patient: str,
    days: Sequence[int],
    dated: bool,
    volumes_mm3: Sequence[float],
    front_speeds: Sequence[float | None],
    registrations: Sequence[Registration],
    *,
    touches_edge: Sequence[bool] | None = None,
    visit_warnings: Sequence[Sequence[str]] | None = None,
    warnings: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Rows, warnings and summary of one patient from what was measured at each of its T visits.

    days: (T,) rising; positions 0, 1, 2 when not ``dated``. volumes_mm3: (T,) on each visit's native grid.
    front_speeds: (T,) median speed since the visit before in mm/month (mm/visit when not dated); None or NaN
    where undefined, as at the first visit. touches_edge: (T,) True where the tumor reaches the end of the
    image. visit_warnings, warnings: sentences that are already known, of a visit and of the whole patient.

    ``provenance`` is kept, with a "summary" over all visits added (see ``summary``). Raises InputError when
    the lengths differ.
    """
    count = len(days)
    edges = [False] * count if touches_edge is None else touches_edge
    known: Sequence[Sequence[str]] = [()] * count if visit_warnings is None else visit_warnings
    _check_lengths(count, volumes_mm3, front_speeds, registrations, edges, known)
    rows = []
    for k, registration in enumerate(registrations):
        row = _growth_row(k, days, dated, volumes_mm3, _finite(front_speeds[k]))
        row["registration_quality"] = _finite(registration.quality)
        found = [*known[k], *cautions.of_tumor(volumes_mm3[k], edges[k])]
        if count > 1:
            found += cautions.of_registration(registration)
        if k > 0:
            pair, speed = volumes_mm3[k - 1 : k + 1], row["front_speed_mm_per_month"]
            found += cautions.of_growth(days[k] - days[k - 1], dated, pair, speed)
        row["warnings"] = tuple(dict.fromkeys(found))
        rows.append(dict(zip(columns(dated), row.values(), strict=True)))
    return Report(
        patient=patient,
        visits=tuple(rows),
        warnings=tuple(dict.fromkeys([*warnings, *cautions.of_series(count, dated)])),
        provenance={**(provenance or {}), "summary": summary(days, dated, volumes_mm3)},
    )


def summary(days: Sequence[int], dated: bool, volumes_mm3: Sequence[float]) -> dict[str, Any]:
    """Growth over all visits, by the column names of the rows.

    Each rate is a least-squares slope: {"value", "standard_error", "low", "high"}, the last three (the 95 %
    interval) None with two visits; None as a whole where undefined. A doubling time has no standard error,
    and no interval when that of the growth rate holds zero: it would run through infinity.
    """
    sgr = specific_growth_rate(volumes_mm3, days)
    vde = vde_mm_per_year(volumes_mm3, days) if dated else diameter_rate(volumes_mm3, days)
    names = dict(zip(COLUMNS, columns(dated), strict=True))
    return {
        "visits": len(days),
        "days": int(days[-1] - days[0]) if dated else None,
        "volume_change_percent": _change_percent(volumes_mm3[0], volumes_mm3[-1]) if len(days) > 1 else None,
        names["sgr_per_day"]: _rate(sgr),
        names["vdt_days"]: _doubling_time(sgr),
        names["vde_mm_per_year"]: _rate(vde),
    }


def _growth_row(
    k: int, days: Sequence[int], dated: bool, volumes_mm3: Sequence[float], speed: float | None
) -> dict[str, Any]:
    """Row k by the names of COLUMNS, without registration and warnings."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"visit": k + 1, "day": int(days[k]) if dated else None, "volume_mm3": float(volumes_mm3[k])}
    if k == 0:
        return row
    pair, times = volumes_mm3[k - 1 : k + 1], days[k - 1 : k + 1]
    sgr = specific_growth_rate(pair, times)
    vde = vde_mm_per_year(pair, times) if dated else diameter_rate(pair, times)
    return row | {
        "volume_change_percent": _change_percent(*pair),
        "sgr_per_day": _value(sgr),
        "vdt_days": vdt_days(_value(sgr)),
        "vde_mm_per_year": _value(vde),
        "front_speed_mm_per_month": speed,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _change_percent(before: float, after: float) -> float | None:
    return 100 * (after / before - 1) if before > 0 else None


def _value(rate: Rate | None) -> float | None:
    return None if rate is None else rate.value


def _rate(rate: Rate | None) -> dict[str, float | None] | None:
    if rate is None:
        return None
    return {"value": rate.value, "standard_error": rate.standard_error, "low": rate.low, "high": rate.high}


def _doubling_time(sgr: Rate | None) -> dict[str, float | None] | None:
    time = vdt_days(_value(sgr))
    if sgr is None or time is None:
        return None
    if sgr.low is None or sgr.high is None or sgr.low <= 0 <= sgr.high:
        return {"value": time, "low": None, "high": None}
    return {"value": time, "low": vdt_days(sgr.high), "high": vdt_days(sgr.low)}


def _check_lengths(count: int, *per_visit: Sequence[Any]) -> None:
    lengths = [len(values) for values in per_visit]
    if count == 0 or any(n != count for n in lengths):
        raise InputError(f"A report needs one value per visit: {count} days, but lists of length {lengths}.")


# ---- writing ----


def visits_csv(report: Report) -> str:
    """The rows as CSV text with a header; undefined = empty, several warnings are joined by a space."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(report.visits[0])
    for row in report.visits:
        writer.writerow(_csv_cell(name, value) for name, value in zip(COLUMNS, row.values(), strict=True))
    return text.getvalue()


def report_json(report: Report) -> str:
    """The whole report as JSON text; NaN and infinite become null. The inverse is ``report_from_json``."""
    whole = {
        "patient": report.patient,
        "visits": report.visits,
        "warnings": report.warnings,
        "provenance": report.provenance,
    }
    return json.dumps(_plain(whole), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def report_from_json(text: str) -> Report:
    """The report that ``report_json`` wrote. InputError when the text is something else."""
    try:
        whole = json.loads(text)
        rows = tuple({**row, "warnings": tuple(row["warnings"])} for row in whole["visits"])
        return Report(whole["patient"], rows, tuple(whole["warnings"]), whole["provenance"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"This is not a report written by this program: {error!r}.") from error


def visit_table(report: Report) -> list[list[str]]:
    """Rows of text under TABLE_HEADER for the terminal; every rate with its unit."""
    dated = tuple(report.visits[0]) == COLUMNS
    return [_table_row(dict(zip(COLUMNS, row.values(), strict=True)), dated) for row in report.visits]


def _table_row(row: Mapping[str, Any], dated: bool) -> list[str]:
    """Cells of one row, given by the names of COLUMNS."""
    day = UNDEFINED if row["day"] is None else str(row["day"])
    cells = [str(row["visit"]), day, f"{row['volume_mm3'] / 1000:.2f}"]
    if row["visit"] == 1:
        return [*cells, "", "", ""]
    change, speed = row["volume_change_percent"], row["front_speed_mm_per_month"]
    per_month = "mm/month" if dated else "mm/visit"
    return [
        *cells,
        UNDEFINED if change is None else _signed(change, 1),
        _growth_cell(row["sgr_per_day"], row["vdt_days"], dated),
        UNDEFINED if speed is None else f"{_signed(speed, 2)} {per_month}",
    ]


def _growth_cell(sgr: float | None, vdt: float | None, dated: bool) -> str:
    """Such as "+1.16 %/day (doubling in 60 days)": the growth rate first, as Mehrara 2007 asks."""
    if sgr is None:
        return UNDEFINED
    text = f"{_signed(100 * sgr, 2)} %/{'day' if dated else 'visit'}"
    if vdt is None:
        return text
    time = f"{abs(vdt):.0f} days" if dated else f"{abs(vdt):.1f} visits"
    return f"{text} ({'doubling' if vdt > 0 else 'halving'} in {time})"


def _signed(value: float, decimals: int) -> str:
    """With its sign, but no sign on what rounds to zero."""
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}" if rounded else f"{0:.{decimals}f}"


def _csv_cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "warnings":
        return " ".join(value)
    if name in DECIMALS:
        return f"{round(value, DECIMALS[name]) + 0.0:.{DECIMALS[name]}f}"
    return str(value)


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
