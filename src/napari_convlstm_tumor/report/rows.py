"""The rows of a report, built once from what was measured: per visit, per visit and lesion, and over all visits.

A row's growth is the change from the visit before to this one, so the first row has none. Every column, its unit and
its interval are told in docs/output.md. What is undefined is None; never infinite, never a zero in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.growth import Rate
from napari_convlstm_tumor.measure.uncertainty import Interval, Size, doubling_time, summed
from napari_convlstm_tumor.report import cautions
from napari_convlstm_tumor.report.columns import COLUMNS, LESION_COLUMNS, columns
from napari_convlstm_tumor.report.course import Course, LesionCourse
from napari_convlstm_tumor.series import Registration, Report

Row = dict[str, Any]


# ---- the report ----


def build_report(
    patient: str,
    days: Sequence[int],
    dated: bool,
    volumes_mm3: Sequence[float],
    front_speeds: Sequence[Interval | None],
    registrations: Sequence[Registration],
    *,
    sizes: Sequence[Size | None] | None = None,
    baseline: int = 0,
    lesions: Sequence[LesionCourse] = (),
    events: Sequence[Mapping[str, Any]] = (),
    responses: Mapping[str, tuple[Mapping[str, Any], ...]] | None = None,
    forecasts: Sequence[Mapping[str, Any]] = (),
    touches_edge: Sequence[bool] | None = None,
    visit_warnings: Sequence[Sequence[str]] | None = None,
    warnings: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Rows, warnings and summary of one patient from what was measured at each of its T visits.

    days: (T,) rising; positions 0, 1, 2 when not ``dated``. volumes_mm3: (T,) on each visit's native grid.
    front_speeds: (T,) median speed since the visit before in mm/month (mm/visit when not dated); None where
    undefined, as at the first visit. sizes: the same volumes with their errors; without them nothing has an
    interval. baseline: 0-based visit that changes are counted from. touches_edge: (T,) True where the tumor reaches
    the end of the image. visit_warnings, warnings: sentences that are already known, of a visit and of the patient.

    ``provenance`` is kept, with a "summary" over all visits added (see ``summary``). Raises InputError when
    the lengths differ.
    """
    count = len(days)
    edges = [False] * count if touches_edge is None else touches_edge
    known: Sequence[Sequence[str]] = [()] * count if visit_warnings is None else visit_warnings
    given: Sequence[Size | None] = _without_errors(volumes_mm3) if sizes is None else sizes
    _check_lengths(count, volumes_mm3, front_speeds, registrations, edges, known, given)
    course = Course(days, dated, given, [True] * count, baseline, sizes is not None, edges)
    rows = []
    for k, registration in enumerate(registrations):
        row = _visit_row(k, course, front_speeds[k], registration)
        found = [*known[k], *cautions.of_tumor(volumes_mm3[k], edges[k])]
        if count > 1:
            found += cautions.of_registration(registration)
        if k > 0:
            pair, speed = volumes_mm3[k - 1 : k + 1], row["front_speed_mm_per_month"]
            found += cautions.of_growth(days[k] - days[k - 1], dated, pair, speed)
        rows.append(_named(row, COLUMNS, dated, found))
    return Report(
        patient=patient,
        visits=tuple(rows),
        warnings=tuple(dict.fromkeys([*warnings, *cautions.of_series(count, dated)])),
        provenance={**(provenance or {}), "summary": summary(course)},
        lesions=tuple(_lesion_rows(lesions, days, dated, baseline)),
        events=tuple(events),
        responses=dict(responses or {}),
        forecasts=tuple(forecasts),
    )


def summary(course: Course) -> dict[str, Any]:
    """Growth over all visits, by the column names of the rows.

    Each rate is a least-squares slope: {"value", "standard_error", "low", "high"}, the last three (the 95 %
    interval) None where they cannot be known; None as a whole where undefined. A doubling time has no standard error,
    and is None when the interval of the growth rate holds zero: its own would run through infinity. "within_error" is
    of the change from the first visit to the last: a rate may hold zero because growth was not steady.
    """
    last = len(course.days) - 1
    sgr, change = course.growth_rate(0, last), course.change(0, last) if last else None
    names = dict(zip(COLUMNS, columns(course.dated), strict=True))
    return {
        "visits": last + 1,
        "days": int(course.days[-1] - course.days[0]) if course.dated else None,
        **_spread("volume_change", "percent", change),
        "within_error": None if change is None else change.within_error,
        names["sgr_per_day"]: _rate(sgr),
        names["vdt_days"]: _time(doubling_time(sgr)),
        names["vde_mm_per_year"]: _rate(course.expansion(0, last)),
    }


def _without_errors(volumes_mm3: Sequence[float]) -> list[Size | None]:
    return [Size(float(v), 0.0) if v > 0 else None for v in volumes_mm3]


# ---- rows ----


def _visit_row(k: int, course: Course, speed: Interval | None, registration: Registration) -> Row:
    return {
        "visit": k + 1,
        "day": int(course.days[k]) if course.dated else None,
        **_volume(k, course),
        **_growth(k, course),
        **_spread("front_speed", "mm_per_month", speed if k else None),
        "registration_quality": _finite(registration.quality),
    }


def _lesion_rows(lesions: Sequence[LesionCourse], days: Sequence[int], dated: bool, baseline: int) -> list[Row]:
    """One row per visit and lesion, by visit."""
    return [
        _lesion_row(k, one, _course(_parts(k, one, lesions), days, dated, baseline))
        for k in range(len(days))
        for one in lesions
    ]


def _parts(k: int, one: LesionCourse, lesions: Sequence[LesionCourse]) -> list[LesionCourse]:
    """A lesion and those that are part of it at 0-based visit k, directly or through another."""
    parts, more = [], [one]
    while more:
        parts += more
        holders = {f"merged into {part.lesion.id}" for part in more}
        more = [other for other in lesions if other.lesion.states[k] in holders]
    return parts


def _course(parts: Sequence[LesionCourse], days: Sequence[int], dated: bool, baseline: int) -> Course:
    """The volumes of lesions that are one by now: what a merger adds is no growth, so earlier visits count them all."""
    visits = range(len(days))
    volumes = [[size.volume for part in parts if (size := part.sizes[t]) is not None] for t in visits]
    names = {f"merged into {part.lesion.id}" for part in parts}
    return Course(
        days,
        dated,
        [summed(found) if found else None for found in volumes],
        [all(part.is_known(t) or part.lesion.states[t] in names for part in parts) for t in visits],
        baseline,
        cut=[any(part.cut[t] for part in parts) for t in visits],
    )


def _lesion_row(k: int, one: LesionCourse, course: Course) -> Row:
    lesion, size = one.lesion, one.sizes[k]
    row = {
        "visit": k + 1,
        "day": int(course.days[k]) if course.dated else None,
        "lesion": lesion.id,
        "tracking_uid": lesion.tracking_uid,
        "state": lesion.states[k],
        **_volume(k, course),
        **_growth(k, course),
        **_spread("front_speed", "mm_per_month", one.front_speeds[k]),
        "match_confidence": lesion.confidences[k],
    }
    if size is not None:
        row |= _spread("longest_axial", "mm", size.longest_axial.interval)
        row |= _spread("perpendicular_axial", "mm", size.perpendicular.interval)
        row |= _spread("product", "mm2", size.product.interval)
        row |= _spread("longest_3d", "mm", size.longest_3d.interval)
    volumes = [None if s is None else s.volume.value for s in one.sizes]
    found = [*one.warnings[k], *cautions.of_lesion(lesion.states, volumes, one.cut[k], k)]
    return _named(row, LESION_COLUMNS, course.dated, found)


def _named(row: Row, names: Sequence[str], dated: bool, warnings: Sequence[str]) -> Row:
    """The row with every column in its place, under the names it has with or without dates."""
    whole = {**dict.fromkeys(names), **row, "warnings": tuple(dict.fromkeys(warnings))}
    return dict(zip(columns(dated, names), (whole[name] for name in names), strict=True))


def _volume(k: int, course: Course) -> Row:
    size = course.sizes[k]
    if size is None:
        return {"volume_mm3": 0.0 if course.known[k] else None}
    return _spread("volume", "mm3", size.interval if course.with_errors else Interval(size.value))


def _growth(k: int, course: Course) -> Row:
    """Change and growth since the visit before, and since the baseline and the nadir, with their intervals."""
    row = _spread("change_from_baseline", "percent", course.from_baseline(k))
    row |= _spread("change_from_nadir", "percent", course.from_nadir(k))
    if k == 0:
        return row
    change, sgr = course.change(k - 1, k), course.growth_rate(k - 1, k)
    row |= _spread("volume_change", "percent", change)
    row |= _spread("sgr", "per_day", sgr)
    row |= _spread("vdt", "days", doubling_time(sgr))
    row |= _spread("vde", "mm_per_year", course.expansion(k - 1, k))
    return row | {"within_error": None if change is None else change.within_error}


def _spread(stem: str, unit: str, found: Interval | Rate | None) -> Row:
    """A value and the ends of its interval as columns stem_unit, stem_low_unit, stem_high_unit."""
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return {f"{stem}_{unit}": value, f"{stem}_low_{unit}": low, f"{stem}_high_{unit}": high}


def _rate(rate: Rate | None) -> dict[str, float | None] | None:
    if rate is None:
        return None
    return {"value": rate.value, "standard_error": rate.standard_error, "low": rate.low, "high": rate.high}


def _time(time: Interval | None) -> dict[str, float | None] | None:
    return None if time is None else {"value": time.value, "low": time.low, "high": time.high}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _check_lengths(count: int, *per_visit: Sequence[Any]) -> None:
    lengths = [len(values) for values in per_visit]
    if count == 0 or any(n != count for n in lengths):
        raise InputError(f"A report needs one value per visit: {count} days, but lists of length {lengths}.")
