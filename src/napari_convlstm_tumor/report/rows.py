"""The rows of a report, built once from what was measured: per visit, per visit and lesion, and over all visits.

A row's growth is the change from the visit before to this one, so the first row has none. Every column, its unit and
its interval are told in docs/output.md. What is undefined is None; never infinite, never a zero in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.growth import DAYS_PER_YEAR, Rate, diameter_rate, specific_growth_rate
from napari_convlstm_tumor.measure.lesions import Lesion
from napari_convlstm_tumor.measure.uncertainty import (
    Interval,
    LesionSize,
    Size,
    change_percent,
    changes_from_baseline,
    changes_from_nadir,
    doubling_time,
    summed,
)
from napari_convlstm_tumor.report import cautions
from napari_convlstm_tumor.series import Registration, Report

# Ends of 95 % intervals of a row's growth; those of its volume and changes stand beside the value.
_GROWTH_ENDS = (
    "volume_change_low_percent",
    "volume_change_high_percent",
    "change_from_baseline_low_percent",
    "change_from_baseline_high_percent",
    "change_from_nadir_low_percent",
    "change_from_nadir_high_percent",
    "sgr_low_per_day",
    "sgr_high_per_day",
    "vdt_low_days",
    "vdt_high_days",
    "vde_low_mm_per_year",
    "vde_high_mm_per_year",
    "front_speed_low_mm_per_month",
    "front_speed_high_mm_per_month",
)
_SIZE_ENDS = (
    "longest_axial_low_mm",
    "longest_axial_high_mm",
    "perpendicular_axial_low_mm",
    "perpendicular_axial_high_mm",
    "product_low_mm2",
    "product_high_mm2",
    "longest_3d_low_mm",
    "longest_3d_high_mm",
)
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
    "volume_low_mm3",
    "volume_high_mm3",
    "change_from_baseline_percent",
    "change_from_nadir_percent",
    "within_error",
    *_GROWTH_ENDS,
    "warnings",
)
LESION_COLUMNS = (
    "visit",
    "day",
    "lesion",
    "tracking_uid",
    "state",
    "volume_mm3",
    "volume_low_mm3",
    "volume_high_mm3",
    "longest_axial_mm",
    "perpendicular_axial_mm",
    "product_mm2",
    "longest_3d_mm",
    "change_from_baseline_percent",
    "change_from_nadir_percent",
    "sgr_per_day",
    "vdt_days",
    "front_speed_mm_per_month",
    "within_error",
    "match_confidence",
    "volume_change_percent",
    "vde_mm_per_year",
    *_SIZE_ENDS,
    *_GROWTH_ENDS,
    "warnings",
)
# Without dates a growth is per visit, and its column says so.
UNDATED_NAMES = {
    "sgr_per_day": "sgr_per_visit",
    "sgr_low_per_day": "sgr_low_per_visit",
    "sgr_high_per_day": "sgr_high_per_visit",
    "vdt_days": "vdt_visits",
    "vdt_low_days": "vdt_low_visits",
    "vdt_high_days": "vdt_high_visits",
    "vde_mm_per_year": "vde_mm_per_visit",
    "vde_low_mm_per_year": "vde_low_mm_per_visit",
    "vde_high_mm_per_year": "vde_high_mm_per_visit",
    "front_speed_mm_per_month": "front_speed_mm_per_visit",
    "front_speed_low_mm_per_month": "front_speed_low_mm_per_visit",
    "front_speed_high_mm_per_month": "front_speed_high_mm_per_visit",
}
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class LesionCourse:
    """One lesion over T visits: how it was followed, its sizes on each visit's own voxels, the speed of its front.

    sizes: None where there is nothing of it. front_speeds: medians since the visit before, in mm/month (mm/visit when
    not dated), None where undefined. cut: where it reaches the end of the image. warnings: per visit, what is known.
    """

    lesion: Lesion
    sizes: tuple[LesionSize | None, ...]
    front_speeds: tuple[Interval | None, ...]
    cut: tuple[bool, ...]
    warnings: tuple[tuple[str, ...], ...]

    def is_known(self, visit: int) -> bool:
        """False at a 0-based visit whose images do not tell: out of view, or part of another lesion."""
        states = self.lesion.states
        if states[visit] == "not covered" or states[visit].startswith("merged into"):
            return False
        arrives = next((s for s in states if s not in ("absent", "not covered")), "")
        return not (states[visit] == "absent" and arrives == "first seen")


@dataclass(frozen=True)
class Course:
    """Volumes over T visits: None = no tumor; ``known`` is False where a visit cannot tell. baseline: 0-based.

    with_errors: False when the sizes have no known errors; nothing then has an interval, but rates over three or more
    visits, which show their own scatter. cut: where the image ends in the tumor (empty = nowhere): how much of it lies
    beyond is no measurement error, so a change to or from there has no interval.
    """

    days: Sequence[int]
    dated: bool
    sizes: Sequence[Size | None]
    known: Sequence[bool]
    baseline: int = 0
    with_errors: bool = True
    cut: Sequence[bool] = ()

    def change(self, before: int, after: int) -> Interval | None:
        """Change in percent between two visits."""
        return self._told(change_percent(self.sizes[before], self.sizes[after]), before, after)

    def from_baseline(self, visit: int) -> Interval | None:
        """Change in percent against the baseline."""
        return self._told(changes_from_baseline(self.sizes, self.baseline)[visit], self.baseline, visit)

    def from_nadir(self, visit: int) -> Interval | None:
        """Change in percent against the smallest size since the baseline."""
        return self._told(changes_from_nadir(self.sizes, self.baseline)[visit], self.baseline, visit)

    def growth_rate(self, first: int, last: int) -> Rate | None:
        """Specific growth rate per day (per visit when not dated) over the visits first to last."""
        return self._rate(specific_growth_rate, first, last)

    def expansion(self, first: int, last: int) -> Rate | None:
        """Velocity of diametric expansion in mm per year (per visit when not dated)."""
        rate = self._rate(diameter_rate, first, last)
        return rate.times(DAYS_PER_YEAR) if rate is not None and self.dated else rate

    def is_cut(self, first: int, last: int) -> bool:
        """True where the image ends in the tumor at one of the visits first to last."""
        return any(self.cut[first : last + 1])

    def _rate(self, slope: Callable[..., Rate | None], first: int, last: int) -> Rate | None:
        visits = range(first, last + 1)
        if not all(self.known[t] for t in visits):
            return None
        sizes = [self.sizes[t] for t in visits]
        errors = [0.0 if s is None else s.repeat_log_sd for s in sizes] if self.with_errors else None
        rate = slope([0.0 if s is None else s.value for s in sizes], [self.days[t] for t in visits], errors)
        return Rate(rate.value) if rate is not None and self.is_cut(first, last) else rate

    def _told(self, change: Interval | None, before: int, after: int) -> Interval | None:
        if change is None or not (self.known[before] and self.known[after]):
            return None
        return change if self.with_errors and not self.is_cut(before, after) else Interval(change.value)


def columns(dated: bool, names: Sequence[str] = COLUMNS) -> tuple[str, ...]:
    """Column names of a row, in order."""
    return tuple(names) if dated else tuple(UNDATED_NAMES.get(name, name) for name in names)


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
