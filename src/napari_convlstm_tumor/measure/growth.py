"""Growth of a tumor from its masks: volume, growth rates and the speed of its front. Pure functions.

Every rate is per day of the ``days`` given. Undated visits are given as positions 0, 1, 2: the same numbers
are then per visit. What cannot be computed is None, never infinite and never a stand-in. Formulas and
sources: Mehrara 2007 (Cancer Res 67:3970), Mandonnet 2003, Pallud 2013 (PMC3635513).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.distance import (
    BoolVolume,
    FloatVolume,
    check_masks,
    far_components,
    front_area_mm2,
    known_sets,
    signed_distance_mm,
    tumor_box,
)
from napari_convlstm_tumor.series import DAYS_PER_MONTH

DAYS_PER_YEAR = 365.25
# (check) Mean tumor diameter as (2 V)^(1/3), after Pallud 2013; recalled, not read. Of a sphere it
# is the diameter and 1.5 % more.
MEAN_DIAMETER_FACTOR = 2.0
# Below this rate (doubling in more than 1.9 million years) two volumes are equal but for rounding: no
# doubling time.
SMALLEST_RATE_PER_DAY = 1e-9
# Width of every interval.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """A slope over time: its value, its standard error and 95 % interval where they can be known, else None.

    Without known errors of the sizes the interval is the scatter about the line alone (t distribution, n - 2
    degrees of freedom); with two visits the line passes through both points and says nothing of its own error.
    With them see ``_slope``.
    """

    value: float
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Rate:
        """The same rate in another unit; factor is positive."""
        error, low, high = (None if x is None else x * factor for x in (self.standard_error, self.low, self.high))
        return Rate(self.value * factor, error, low, high)

    @property
    def within_error(self) -> bool | None:
        """True when zero lies inside the interval: no growth that can be told from error. None without one."""
        return None if self.low is None or self.high is None else self.low <= 0 <= self.high


# ---- volume and diameter ----


def volume_mm3(mask: npt.NDArray[Any], voxel_mm3: float) -> float:
    """Volume of the non-zero voxels in mm3."""
    return float(np.count_nonzero(mask)) * voxel_mm3


def mean_tumor_diameter_mm(volume: float) -> float:
    """Mean tumor diameter MTD = (2 V)^(1/3) in mm, from a volume in mm3 (Pallud 2013)."""
    return math.cbrt(MEAN_DIAMETER_FACTOR * volume)


def sphere_diameter_mm(volume: float) -> float:
    """Diameter in mm of the sphere of this volume in mm3: (6 V / pi)^(1/3)."""
    return math.cbrt(6 * volume / math.pi)


# ---- rates over two or more visits ----


def specific_growth_rate(
    volumes_mm3: Sequence[float], days: Sequence[float], log_sds: Sequence[float] | None = None
) -> Rate | None:
    """Specific growth rate per day: the slope of ln V on t; for two visits ln(V2 / V1) / dt (Mehrara 2007).

    log_sds: standard deviation of ln V at every visit, of the error that differs between visits
    (measure/uncertainty). None with fewer than two visits, or when the tumor has no volume at one of them.
    """
    _check_series(volumes_mm3, days, log_sds)
    if len(volumes_mm3) < 2 or min(volumes_mm3) == 0:
        return None
    return _slope([math.log(v) for v in volumes_mm3], days, log_sds)


def vdt_days(sgr_per_day: float | None) -> float | None:
    """Doubling time ln 2 / SGR in days; negative = halving time; None at equal volumes (Mehrara 2007)."""
    if sgr_per_day is None or abs(sgr_per_day) < SMALLEST_RATE_PER_DAY:
        return None
    return math.log(2) / sgr_per_day


def diameter_rate(
    volumes_mm3: Sequence[float], days: Sequence[float], log_sds: Sequence[float] | None = None
) -> Rate | None:
    """Slope of the mean tumor diameter on t, in mm per day (Mandonnet 2003, Pallud 2013).

    log_sds: as in specific_growth_rate; a diameter has a third of the relative error of its volume. None with
    fewer than two visits, or when the tumor has no volume at one of them: a tumor that appears or vanishes has a
    diameter of 0 for an unknown part of the interval.
    """
    _check_series(volumes_mm3, days, log_sds)
    if len(volumes_mm3) < 2 or min(volumes_mm3) == 0:
        return None
    diameters = [mean_tumor_diameter_mm(v) for v in volumes_mm3]
    errors = None if log_sds is None else [d * sd / 3 for d, sd in zip(diameters, log_sds, strict=True)]
    return _slope(diameters, days, errors)


def vde_mm_per_year(volumes_mm3: Sequence[float], days: Sequence[float]) -> Rate | None:
    """Velocity of diametric expansion in mm per year: diameter_rate x 365.25."""
    rate = diameter_rate(volumes_mm3, days)
    return None if rate is None else rate.times(DAYS_PER_YEAR)


def _slope(values: Sequence[float], days: Sequence[float], sds: Sequence[float] | None = None) -> Rate:
    """Least-squares slope of values on days with its standard error and interval.

    sds: known error of each value. The slope's variance is then that which follows from them, plus what the
    scatter about the line shows beyond it (growth that is not steady), never less: few visits that happen to lie
    on a line prove no precision. The first part is known, the second has n - 2 degrees of freedom; those of the
    sum, for its t distribution, are by Welch and Satterthwaite.
    """
    t = np.asarray(days, dtype=np.float64) - np.mean(days)
    y = np.asarray(values, dtype=np.float64) - np.mean(values)
    spread = float(t @ t)
    slope = float(t @ y) / spread
    freedom = len(t) - 2
    residual = y - slope * t
    scatter = float(residual @ residual) / freedom / spread if freedom > 0 else 0.0
    if sds is None:
        return _with_interval(slope, scatter, freedom) if freedom > 0 else Rate(slope)
    measured = float(t**2 @ np.square(sds)) / spread**2
    excess = max(0.0, scatter - measured)
    total = measured + excess
    return _with_interval(slope, total, freedom * (total / excess) ** 2 if excess > 0 else math.inf)


def _with_interval(slope: float, variance: float, freedom: float) -> Rate:
    error, level = math.sqrt(variance), (1 + CONFIDENCE) / 2
    quantile = special.stdtrit(freedom, level) if math.isfinite(freedom) else special.ndtri(level)
    reach = float(quantile) * error
    return Rate(slope, error, slope - reach, slope + reach)


def _check_series(volumes_mm3: Sequence[float], days: Sequence[float], log_sds: Sequence[float] | None = None) -> None:
    if len(volumes_mm3) != len(days):
        raise InputError(f"{len(volumes_mm3)} volumes for {len(days)} days; give one volume per visit.")
    if log_sds is not None and (len(log_sds) != len(days) or any(not (math.isfinite(s) and s >= 0) for s in log_sds)):
        raise InputError(f"Errors are finite, not negative and one per visit, got {[float(s) for s in log_sds]}.")
    if any(not math.isfinite(v) or v < 0 for v in volumes_mm3):
        raise InputError(f"Volumes are finite and not negative, got {[float(v) for v in volumes_mm3]}.")
    if any(b <= a for a, b in pairwise(days)):
        raise InputError(f"Days must rise from visit to visit, got {[float(d) for d in days]}.")


# ---- front speed ----


def front_speed(
    mask_before: npt.NDArray[Any],
    mask_after: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    days: float,
    valid: npt.NDArray[Any] | None = None,
    dated: bool = True,
) -> FloatVolume:
    """Speed of the tumor's front, (I, J, K) float32 in mm/month (mm/visit if not dated); positive = outward.

    With phi the signed distance (negative inside), v = (phi_before - phi_after) / dt x 30.44. days: time
    between the two visits; the difference of their positions when not dated. valid: non-zero where both
    visits have an image.

    NaN everywhere but in the band: the voxels between the two boundaries and the layer of voxels on either
    side of each. Components further than NEW_LESION_DISTANCE_MM from all tumor of the other visit are new or
    vanished lesions, not a fast front: they are left out and NaN, so the map is all NaN when either mask is
    empty.
    """
    check_masks((mask_before, mask_after), spacing_mm, valid)
    if not days > 0:
        raise InputError(f"The time between two visits must be positive, got {days}.")
    before, _ = known_sets(mask_before, valid)
    after, _ = known_sets(mask_after, valid)
    box = tumor_box(before | after, valid)
    seen = None if valid is None else np.asarray(valid)[box] != 0
    speed = np.full(before.shape, np.nan, dtype=np.float32)
    moved = _front_moved_mm(before[box], after[box], spacing_mm, seen)
    speed[box] = moved * np.float32(DAYS_PER_MONTH / days if dated else 1 / days)
    return speed


def mean_front_speed(speed: FloatVolume, mask_after: npt.NDArray[Any], spacing_mm: Sequence[float]) -> float | None:
    """Mean of ``speed`` over the front of the later mask, every voxel weighted by the boundary it touches.

    None where that front has no speed: an empty mask, or only new lesions. The median, finer than a voxel and with its
    error, is in measure/front.
    """
    area = front_area_mm2(mask_after, spacing_mm)
    known = (area > 0) & np.isfinite(speed)
    return float(np.average(speed[known].astype(np.float64), weights=area[known])) if known.any() else None


def _front_moved_mm(
    before: BoolVolume, after: BoolVolume, spacing_mm: Sequence[float], seen: BoolVolume | None
) -> FloatVolume:
    """Millimetres by which the boundary moved outward, NaN outside the band of front_speed."""
    new, vanished = far_components(after, before, spacing_mm), far_components(before, after, spacing_mm)
    start, end = before & ~vanished, after & ~new
    if not (start.any() and end.any()):
        return np.full(before.shape, np.nan, dtype=np.float32)
    with np.errstate(invalid="ignore"):  # inf - inf, where a tumor fills all that was seen
        moved = signed_distance_mm(start, spacing_mm, seen) - signed_distance_mm(end, spacing_mm, seen)
    at_boundary = front_area_mm2(start, spacing_mm, seen) + front_area_mm2(end, spacing_mm, seen) > 0
    band = (at_boundary | (start ^ end)) & ~new & ~vanished & np.isfinite(moved)
    return np.where(band, moved, np.float32(np.nan))
