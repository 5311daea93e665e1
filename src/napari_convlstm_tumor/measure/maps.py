"""Growth maps and where they can be trusted: front speed and voxel log-growth, each with a reliability mask.

A voxel is reliable where its change is larger than what two scans of an unchanged tumor would show (95 %), both visits
are registered well, and both images cover it. Everything else is "within error": grey in the viewer, never zero.

The error of a boundary's place between two visits is a sum of variances: the repeat error of either visit's
segmentation (measure/uncertainty), the registration, and three times a voxel's rounding (uniform over its length across
the boundary): where the boundary lies in its voxel at either visit, and the voxel to which a mask was moved as a whole
when it was laid on the common grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.distance import (
    BoolVolume,
    FloatVolume,
    check_masks,
    far_components,
    front_area_mm2,
    known_sets,
)
from napari_convlstm_tumor.measure.uncertainty import BOUNDARY_SD_MM, NORMAL_REACH, lattice_sd_mm3
from napari_convlstm_tumor.series import DAYS_PER_MONTH

# Error of a good rigid registration at the tumor: ours lay 0.40 and 0.52 mm from the published transforms of two real
# patients (docs/first-results.md).
REGISTRATION_SD_MM = 0.5
# Standard deviation of the Gaussian neighbourhood of the log-growth map, 12 mm across at half its height: wide enough
# for two thick slices (6.5 mm), narrow enough to show which side of a tumor grows.
NEIGHBOURHOOD_SD_MM = 5.0
# Variance of what is rounded to whole voxels, in voxels^2: that of a uniform distribution.
ROUNDING_VARIANCE = 1 / 12
# With less than this part of a neighbourhood filled by tumor its logarithm says nothing.
SMALLEST_FILLING = 0.02


@dataclass(frozen=True, eq=False)
class VisitPair:
    """Two visits on one grid: masks (I, J, K), non-zero = tumor.

    days: between them (difference of positions when not dated). valid: (I, J, K), non-zero where both visits have an
    image; None = everywhere. boundary_sds_mm: repeat error of either mask (``uncertainty.boundary_sd_mm``).
    registered: whether both visits are registered well; if not, nothing in their maps is reliable. registration_sd_mm:
    0 when both masks were drawn in one space. InputError for shapes that differ, a bad spacing or days not positive.
    """

    before: npt.NDArray[Any]
    after: npt.NDArray[Any]
    spacing_mm: Sequence[float]
    days: float
    dated: bool = True
    valid: npt.NDArray[Any] | None = None
    boundary_sds_mm: tuple[float, float] = (BOUNDARY_SD_MM, BOUNDARY_SD_MM)
    registered: bool = True
    registration_sd_mm: float = REGISTRATION_SD_MM

    def __post_init__(self) -> None:
        check_masks((self.before, self.after), self.spacing_mm, self.valid)
        if not self.days > 0:
            raise InputError(f"The time between two visits must be positive, got {self.days}.")
        errors = (*self.boundary_sds_mm, self.registration_sd_mm)
        if not all(math.isfinite(sd) and sd >= 0 for sd in errors):
            raise InputError(f"Errors in mm are finite and not negative, got {errors}.")

    @property
    def periods(self) -> float:
        """Months between the visits; visits when not dated."""
        return self.days / DAYS_PER_MONTH if self.dated else self.days

    @property
    def seen(self) -> BoolVolume:
        """Voxels (I, J, K) that both images cover."""
        return np.ones(np.shape(self.after), dtype=bool) if self.valid is None else np.asarray(self.valid) != 0


# ---- front speed ----


def reliable_speed(speed: FloatVolume, pair: VisitPair) -> BoolVolume:
    """Voxels (I, J, K) whose front speed is more than measurement error.

    speed: (I, J, K) of ``growth.front_speed`` for the same pair, mm/month (mm/visit when not dated), NaN = undefined.
    """
    if np.shape(speed) != np.shape(pair.after):
        raise InputError(f"The speed has shape {np.shape(speed)}, the masks {np.shape(pair.after)}.")
    reliable = np.zeros(np.shape(speed), dtype=bool)
    box = _around(np.isfinite(speed))
    if not pair.registered or box is None:
        return reliable
    moved = np.abs(speed[box]) * pair.periods
    reliable[box] = pair.seen[box] & (np.nan_to_num(moved) > front_error_mm(pair, box))
    return reliable


def front_error_mm(pair: VisitPair, box: tuple[slice, ...] = (slice(None),) * 3) -> FloatVolume:
    """How far an unchanged boundary may seem to have moved (95 %), in mm, at every voxel of the box."""
    voxel_mm = _across_boundary_mm(pair, box)
    first, second = pair.boundary_sds_mm
    variance = first**2 + second**2 + pair.registration_sd_mm**2 + 3 * ROUNDING_VARIANCE * voxel_mm**2
    return np.asarray(NORMAL_REACH * np.sqrt(variance), dtype=np.float32)


def _across_boundary_mm(pair: VisitPair, box: tuple[slice, ...]) -> FloatVolume:
    """Length of a voxel across the nearby boundary; the longest side where no boundary is near."""
    both = (np.asarray(pair.before)[box] != 0).astype(np.float32) + (np.asarray(pair.after)[box] != 0)
    # As wide along every axis in mm, or thick slices would seem to have no slope across them.
    smooth = ndimage.gaussian_filter(both, [max(pair.spacing_mm) / s for s in pair.spacing_mm])
    slopes = [ndimage.correlate1d(smooth, [-0.5, 0, 0.5], axis=a) / s for a, s in enumerate(pair.spacing_mm)]
    steep = sum(g**2 for g in slopes)
    length = sum((g * s) ** 2 for g, s in zip(slopes, pair.spacing_mm, strict=True))
    longest = max(pair.spacing_mm) ** 2
    return np.sqrt(np.divide(length, steep, out=np.full(both.shape, longest, np.float32), where=steep > 1e-12))


# ---- voxel log-growth ----


def log_growth(pair: VisitPair) -> tuple[FloatVolume, BoolVolume]:
    """Voxel log-growth and where it is reliable: (I, J, K) float32 per month (per visit when not dated), and bool.

    At a voxel x: ln(V_after / V_before) / months, V being the tumor's volume in the neighbourhood of x, a Gaussian of
    NEIGHBOURHOOD_SD_MM. Evenly growing tumor gives its specific growth rate where a neighbourhood holds all of it;
    where it holds only a part, that part's. In the depth of a large tumor nothing changes: 0, within error.

    NaN outside the tumor of both visits, where a neighbourhood holds hardly any tumor of either, and at new and
    vanished lesions, as in ``growth.front_speed``.
    """
    growth = np.full(np.shape(pair.after), np.nan, dtype=np.float32)
    reliable = np.zeros(growth.shape, dtype=bool)
    start, end, box = _followed(pair)
    if box is None:
        return growth, reliable
    before, after = (_neighbourhood(m[box], pair.spacing_mm) for m in (start, end))
    known = (start | end)[box] & (np.minimum(before, after) >= SMALLEST_FILLING)
    change = np.full(before.shape, np.nan)
    change[known] = np.log(after[known] / before[known])
    boundary = np.hypot(
        *(
            _log_error(m[box], v, pair, sd)
            for m, v, sd in zip((start, end), (before, after), pair.boundary_sds_mm, strict=True)
        )
    )
    error = np.hypot(boundary, _shift_log_error(before, pair))
    growth[box] = change / pair.periods
    if pair.registered:
        reliable[box] = np.abs(np.nan_to_num(change)) > NORMAL_REACH * error
    return growth, reliable


def _followed(pair: VisitPair) -> tuple[BoolVolume, BoolVolume, tuple[slice, ...] | None]:
    """Tumor of both visits that both images show, without new and vanished lesions, and the box it needs."""
    before, _ = known_sets(pair.before, pair.valid)
    after, _ = known_sets(pair.after, pair.valid)
    start = before & ~far_components(before, after, pair.spacing_mm)
    end = after & ~far_components(after, before, pair.spacing_mm)
    box = _around(start | end) if start.any() and end.any() else None
    return start, end, box


def _neighbourhood(values: npt.NDArray[Any], spacing_mm: Sequence[float]) -> npt.NDArray[np.float64]:
    """Mean of the values over the Gaussian neighbourhood of every voxel; nothing lies beyond the box."""
    scale = [NEIGHBOURHOOD_SD_MM / s for s in spacing_mm]
    return ndimage.gaussian_filter(values.astype(np.float64), scale, mode="constant")


def _log_error(mask: BoolVolume, filling: npt.NDArray[np.float64], pair: VisitPair, sd: float) -> Any:
    """Standard deviation of ln V of the neighbourhood: its surface x sd, and the voxels' share, over its volume.

    The lattice adds up over the square of the Gaussian, whose integral is (4 pi sd^2)^(-3/2).
    """
    voxel_mm3 = math.prod(pair.spacing_mm)
    surface = _neighbourhood(front_area_mm2(mask, pair.spacing_mm), pair.spacing_mm) / 3 / voxel_mm3  # Crofton, mm2/mm3
    lattice = lattice_sd_mm3(1.0, pair.spacing_mm) * (4 * math.pi * NEIGHBOURHOOD_SD_MM**2) ** -0.75
    return _over(np.hypot(surface * sd, np.sqrt(surface) * lattice), filling)


def _shift_log_error(filling: npt.NDArray[np.float64], pair: VisitPair) -> Any:
    """Standard deviation of ln V of the neighbourhood when the whole tumor lies off: registration, nearest voxel."""
    variance = np.zeros(filling.shape)
    for axis, spacing in enumerate(pair.spacing_mm):
        step = np.abs(np.diff(filling, axis=axis, prepend=0, append=0)) / spacing
        slope = np.maximum(*(np.take(step, range(n, n + filling.shape[axis]), axis) for n in (0, 1)))  # steeper side
        variance += slope**2 * (pair.registration_sd_mm**2 + ROUNDING_VARIANCE * spacing**2)
    return _over(np.sqrt(variance), filling)


def _over(spread: npt.NDArray[np.float64], filling: npt.NDArray[np.float64]) -> Any:
    return np.divide(spread, filling, out=np.full(filling.shape, np.inf), where=filling > 0)


def _around(voxels: BoolVolume) -> tuple[slice, ...] | None:
    """The smallest box with all the voxels and one more on every side; None when there are none."""
    found = ndimage.find_objects(voxels.astype(np.uint8))
    return tuple(slice(max(0, s.start - 1), s.stop + 1) for s in found[0]) if found else None
