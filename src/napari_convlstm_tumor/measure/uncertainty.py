"""Error bars: how far a measured size can be off, and whether a change is more than measurement error.

Two kinds of error, kept apart because only one of them matters for growth:

- Repeat error differs from visit to visit. (a) The segmenter puts the boundary a little further out or in: a
  displacement of the whole boundary, drawn anew at each visit, with ``boundary_sd_mm``. A volume then varies by surface
  x sd. (b) The voxels fall otherwise on the tumor: see ``lattice_sd_mm3``. Diameters in a thick-sliced image also vary
  with where the slices happen to cut (``SLICE_TERM``).
- Shared error is the same at every visit: this scanner, protocol and segmenter always draw this border too wide.
  It belongs to the size itself and cancels in a change, so changes and rates leave it out.

Registration has no part in a size, which is measured on each visit's own voxels; for maps see measure/maps.

Sizes are positive and their errors relative, so intervals are symmetric in the logarithm: value x exp(+-1.96 sd).
What cannot be computed is None. CONFIDENCE (95 %) holds for every interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.diameters import Diameters, measure_diameters
from napari_convlstm_tumor.measure.distance import BoolVolume, check_masks
from napari_convlstm_tumor.measure.growth import (
    CONFIDENCE,
    DAYS_PER_YEAR,
    Rate,
    diameter_rate,
    specific_growth_rate,
    vdt_days,
)
from napari_convlstm_tumor.measure.parts import parts_apart

# Repeat error of a mask drawn by a person or a tool unknown to us: one reader with a semi-automatic tool repeated
# glioblastoma volumes to 3.3 % (FLAIR) and 8.2 % (T1c) (Huber, "Reliability of semi-automated segmentations in
# glioblastoma", Clin Neuroradiol; read as an abstract): 0.25 mm and 0.4 mm of the boundary of spheres of 50 and 15 mL
# (check: volumes assumed). Five readers of sharp-edged schwannomas: 0.13 mm (Neuroradiology 2024, PMID 38980343).
BOUNDARY_SD_MM = 0.3
# Shared error: between readers the volume of glioblastoma agrees with an intraclass correlation of 0.99 (PMC6396436),
# 0.08 of ln V where patients spread by 0.8 (check: spread assumed), 0.5 mm on 30 mL; 0.4 mm of it beyond the repeat.
SHARED_BOUNDARY_SD_MM = 0.4
# Part of the width of the network's own doubt (``ramp_sd_mm``) by which its boundary moves from visit to visit. See
# docs/measurement.md for the measurement on simulated tumors that did not change; 1 is the safe side of it.
RAMP_SHARE = 1.0
# The probability counts as doubt about this lesion's boundary up to this far from it; further out it is another matter.
RAMP_REACH_MM = 5.0
# Lattice error of a diameter in voxels along it, and what it varies as a part of its length because a head lies a few
# degrees otherwise and, for the perpendicular, because the longest diameter of a round or lobed lesion turns:
# measured on unchanged shapes (docs/measurement.md).
LONGEST_LATTICE_SD = 0.15
LONGEST_TURN_SD = 0.015
ACROSS_LATTICE_SD = 0.3
ACROSS_TURN_SD = 0.035
# The nearest slice misses the widest place of an ellipsoid cut into n slices by u / n of its half height, u uniform
# in +-1: the diameter there is short by D u^2 / (2 n^2), with a standard deviation of D / n^2 x this.
SLICE_TERM = 1 / math.sqrt(45)
# Beyond this many reciprocal voxels the lattice sum adds less than 5 % of the variance.
LATTICE_SUM_REACH = 16

NORMAL_REACH = float(special.ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def within_error(self) -> bool | None:
        """For a change: True when zero lies inside the interval; None without an interval."""
        return None if self.low is None or self.high is None else self.low <= 0 <= self.high


@dataclass(frozen=True)
class Size:
    """A measured size (mm, mm2 or mm3) with the standard deviations of its logarithm.

    repeat_log_sd: what differs from visit to visit and is all that a change knows of. shared_log_sd: what every visit
    has alike. low, high: 95 % interval of the size itself, of both together.
    """

    value: float
    repeat_log_sd: float
    shared_log_sd: float = 0.0

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value * math.exp(-NORMAL_REACH * math.hypot(self.repeat_log_sd, self.shared_log_sd))

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value * math.exp(NORMAL_REACH * math.hypot(self.repeat_log_sd, self.shared_log_sd))

    @property
    def interval(self) -> Interval:
        """The size and its interval as plain numbers."""
        return Interval(self.value, self.low, self.high)


@dataclass(frozen=True, eq=False)
class LesionSize:
    """All sizes of one lesion at one visit: mm3, mm, mm, mm2, mm; and the diameters of its largest part.

    Diameters and products of parts that lie apart (measure/parts) add up.
    """

    volume: Size
    longest_axial: Size
    perpendicular: Size
    product: Size
    longest_3d: Size
    diameters: Diameters
    boundary_sd_mm: float


# ---- one visit ----


def measure_lesion(
    mask: npt.NDArray[Any], spacing_mm: Sequence[float], probability: npt.NDArray[Any] | None = None, axis: int = 2
) -> LesionSize | None:
    """Sizes of one lesion (I, J, K), non-zero = lesion, with their errors; None when it is empty.

    probability: (I, J, K) 0..1 of the segmenter that gave the mask (``mask`` is then one component of probability >=
    0.5); None for a mask from elsewhere. axis: across the axial slices. InputError for a bad shape or spacing.
    """
    lesion, chance = _cropped(mask, spacing_mm, probability)
    parts = parts_apart(np.asarray(mask) != 0, spacing_mm)
    diameters = [found for part in parts if (found := measure_diameters(part, spacing_mm, axis)) is not None]
    if not diameters:
        return None
    sd = boundary_sd_mm(lesion, spacing_mm, chance)
    sizes = [_diameter_sizes(one, spacing_mm, sd, axis) for one in diameters]
    longest, across, longest_3d = (summed(each) for each in zip(*sizes, strict=True))
    return LesionSize(
        volume=_volume_size(lesion, spacing_mm, sd),
        longest_axial=longest,
        perpendicular=across,
        product=summed([_product(long, short) for long, short, _ in sizes]),
        longest_3d=longest_3d,
        diameters=diameters[0],
        boundary_sd_mm=sd,
    )


def measure_volume(
    mask: npt.NDArray[Any], spacing_mm: Sequence[float], probability: npt.NDArray[Any] | None = None
) -> Size | None:
    """Volume in mm3 of everything in the mask, lesions taken together, as in ``measure_lesion``; None when empty."""
    lesion, chance = _cropped(mask, spacing_mm, probability)
    return _volume_size(lesion, spacing_mm, boundary_sd_mm(lesion, spacing_mm, chance)) if lesion.any() else None


def surface_mm2(mask: npt.NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """Surface in mm2 of the non-zero voxels, by Crofton's formula: two thirds of the area of the voxels' faces.

    Right on average over directions: within 5 % for spheres and ellipsoids; a box along the axes gets two thirds.
    The edge of the image counts as an end of the lesion.
    """
    filled = np.pad(np.asarray(mask) != 0, 1).astype(np.int8)
    faces = [float(np.count_nonzero(np.diff(filled, axis=a))) / float(spacing_mm[a]) for a in range(3)]
    return 2 / 3 * math.prod(spacing_mm) * sum(faces)


def ramp_sd_mm(mask: npt.NDArray[Any], spacing_mm: Sequence[float], probability: npt.NDArray[Any]) -> float:
    """Width in mm of the segmenter's doubt about where the lesion ends; 0 for an empty mask.

    The standard deviation s of the boundary when the probability falls as a normal distribution across it, from the
    integral of p (1 - p) over the surroundings, which is then surface x s / sqrt(pi).
    """
    inside = np.asarray(mask) != 0
    if not inside.any():
        return 0.0
    p = np.clip(np.asarray(probability, dtype=np.float64), 0, 1)
    near = ndimage.distance_transform_edt(~inside, sampling=tuple(spacing_mm)) <= RAMP_REACH_MM
    near &= inside | (p < 0.5)  # another lesion is not this one's border
    doubt = float(np.sum(p * (1 - p), where=near)) * math.prod(spacing_mm)
    return math.sqrt(math.pi) * doubt / surface_mm2(inside, spacing_mm)


def boundary_sd_mm(
    mask: npt.NDArray[Any], spacing_mm: Sequence[float], probability: npt.NDArray[Any] | None = None
) -> float:
    """Repeat error of a lesion's boundary in mm: BOUNDARY_SD_MM, or the segmenter's own doubt where that is more."""
    if probability is None:
        return BOUNDARY_SD_MM
    return max(BOUNDARY_SD_MM, RAMP_SHARE * ramp_sd_mm(mask, spacing_mm, probability))


def lattice_sd_mm3(surface: float, spacing_mm: Sequence[float]) -> float:
    """Standard deviation in mm3 of a volume counted in voxels that fall at random on a shape of this surface in mm2.

    The variance is the shape's power spectrum summed over the reciprocal lattice; far out the spectrum of any body
    with a sharp boundary is surface / (8 pi^3 |k|^4) on average over directions (Porod's law; Matern 1989 for counts).
    """
    return math.sqrt(surface * _lattice_sum(tuple(float(s) for s in spacing_mm)) / (8 * math.pi**3))


@lru_cache(maxsize=32)
def _lattice_sum(spacing_mm: tuple[float, ...]) -> float:
    """Sum of |k|^-4 in mm^4 over the reciprocal lattice without its origin."""
    reach = [math.ceil(LATTICE_SUM_REACH * s / min(spacing_mm)) for s in spacing_mm]
    axes = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    squares = sum((a / s) ** 2 for a, s in zip(axes, spacing_mm, strict=True))
    return float(np.sum(np.divide(1.0, squares**2, out=np.zeros_like(squares), where=squares > 0)))


def _cropped(
    mask: npt.NDArray[Any], spacing_mm: Sequence[float], probability: npt.NDArray[Any] | None
) -> tuple[BoolVolume, npt.NDArray[Any] | None]:
    """Mask and probability in the box around the lesion, wide enough for its ramp."""
    check_masks((mask,) if probability is None else (mask, probability), spacing_mm)
    lesion: BoolVolume = np.asarray(mask) != 0
    reach = [math.ceil(RAMP_REACH_MM / s) + 1 for s in spacing_mm]
    tight = (ndimage.find_objects(lesion.astype(np.uint8)) or [(slice(0, 0),) * 3])[0]
    box = tuple(slice(max(0, s.start - n), s.stop + n) for s, n in zip(tight, reach, strict=True))
    return lesion[box], None if probability is None else np.asarray(probability)[box]


def _log_sd(relative_sd: float) -> float:
    """Standard deviation of the logarithm of what varies by this much of its mean, if log-normal."""
    return math.sqrt(math.log1p(relative_sd**2))


def _volume_size(lesion: BoolVolume, spacing_mm: Sequence[float], sd_mm: float) -> Size:
    volume, surface = float(np.count_nonzero(lesion)) * math.prod(spacing_mm), surface_mm2(lesion, spacing_mm)
    repeat = math.hypot(surface * sd_mm, lattice_sd_mm3(surface, spacing_mm))
    return Size(volume, _log_sd(repeat / volume), _log_sd(surface * SHARED_BOUNDARY_SD_MM / volume))


def _diameter_sizes(
    diameters: Diameters, spacing_mm: Sequence[float], sd_mm: float, axis: int
) -> tuple[Size, Size, Size]:
    """Errors of the three diameters: both ends move with the boundary, the voxels, and the choice of slice."""
    in_plane, whole = np.delete(np.asarray(spacing_mm, dtype=float), axis), np.asarray(spacing_mm, dtype=float)
    longest, across, longest_3d = diameters.longest, diameters.perpendicular, diameters.longest_3d
    cut = SLICE_TERM / diameters.slices**2

    def size(length: float, lattice_mm: float, relative: float) -> Size:
        repeat = math.hypot(2 * sd_mm, lattice_mm, relative * length)
        return Size(length, _log_sd(repeat / length), _log_sd(2 * SHARED_BOUNDARY_SD_MM / length))

    pixel = float(in_plane.max())
    ends = (longest_3d.ends[1] - longest_3d.ends[0]) * whole
    along = float(np.linalg.norm(ends / np.linalg.norm(ends) * whole))
    return (
        size(longest.length_mm, LONGEST_LATTICE_SD * pixel, math.hypot(cut, LONGEST_TURN_SD)),
        size(across.length_mm, ACROSS_LATTICE_SD * pixel, math.hypot(cut, ACROSS_TURN_SD)),
        size(longest_3d.length_mm, LONGEST_LATTICE_SD * along, cut),
    )


def _product(longest: Size, across: Size) -> Size:
    """Bidimensional product. Both diameters follow the boundary and the slice, so their errors add up."""
    return Size(
        longest.value * across.value,
        longest.repeat_log_sd + across.repeat_log_sd,
        longest.shared_log_sd + across.shared_log_sd,
    )


# ---- two visits ----


def change_percent(before: Size | None, after: Size | None) -> Interval | None:
    """Change in percent of ``before``, with the repeat errors of both visits; None where there was nothing before.

    A lesion that is gone has changed by -100 %, without an interval: whether it can hide below what can be seen is
    not a matter of measurement error.
    """
    if before is None:
        return None
    if after is None:
        return Interval(-100.0)
    change = math.log(after.value / before.value)
    reach = NORMAL_REACH * math.hypot(before.repeat_log_sd, after.repeat_log_sd)
    low, middle, high = (100 * math.expm1(x) for x in (change - reach, change, change + reach))
    return Interval(middle, low, high)


def changes_from_baseline(sizes: Sequence[Size | None], baseline: int = 0) -> list[Interval | None]:
    """Change in percent of every visit against the 0-based baseline; None at the baseline and before it."""
    return [change_percent(sizes[baseline], s) if t > baseline else None for t, s in enumerate(sizes)]


def changes_from_nadir(sizes: Sequence[Size | None], baseline: int = 0) -> list[Interval | None]:
    """Change in percent of every visit against the smallest one from the baseline up to the visit before it.

    None at the baseline, and after a visit where the lesion was gone: what comes back is new, not a percentage. The
    smallest of several noisy sizes is a little too small, which the interval does not know of.
    """
    found: list[Interval | None] = []
    for t, size in enumerate(sizes):
        earlier = sizes[baseline:t]
        known = [s for s in earlier if s is not None]
        has_nadir = len(known) > 0 and len(known) == len(earlier)
        found.append(change_percent(min(known, key=lambda s: s.value), size) if has_nadir else None)
    return found


def summed(sizes: Sequence[Size]) -> Size:
    """Sum of sizes over lesions of one visit; one segmenter, so their errors add up.

    InputError when there are none. For the volume of masks at hand use ``measure_volume`` on all of them.
    """
    if not sizes:
        raise InputError("A sum of sizes needs at least one.")
    total = sum(s.value for s in sizes)
    repeat, shared = (
        sum(s.value * sd for s, sd in zip(sizes, sds, strict=True)) / total
        for sds in ([s.repeat_log_sd for s in sizes], [s.shared_log_sd for s in sizes])
    )
    return Size(total, repeat, shared)


# ---- two or more visits ----


def growth_rate(volumes: Sequence[Size | None], days: Sequence[float]) -> Rate | None:
    """Specific growth rate per day with the repeat errors of the volumes; None as in ``specific_growth_rate``."""
    return specific_growth_rate(*_values_and_errors(volumes, days))


def expansion_mm_per_year(volumes: Sequence[Size | None], days: Sequence[float]) -> Rate | None:
    """Velocity of diametric expansion in mm per year with the repeat errors of the volumes."""
    rate = diameter_rate(*_values_and_errors(volumes, days))
    return None if rate is None else rate.times(DAYS_PER_YEAR)


def doubling_time(rate: Rate | None) -> Interval | None:
    """Doubling time in days (negative = halving) of a growth rate per day; without ends when the rate has none.

    None where the interval of the rate holds zero: that of the doubling time then runs through infinity, and a tumor of
    which nobody knows whether it grows or shrinks has no time to double in.
    """
    value = None if rate is None else vdt_days(rate.value)
    if rate is None or value is None:
        return None
    if rate.low is None or rate.high is None:
        return Interval(value)
    if rate.low <= 0 <= rate.high:
        return None
    return Interval(value, vdt_days(rate.high), vdt_days(rate.low))


def _values_and_errors(
    sizes: Sequence[Size | None], days: Sequence[float]
) -> tuple[list[float], Sequence[float], list[float]]:
    return (
        [0.0 if s is None else s.value for s in sizes],
        days,
        [0.0 if s is None else s.repeat_log_sd for s in sizes],
    )
