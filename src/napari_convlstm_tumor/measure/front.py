"""How far a tumor's front moved between two visits, finer than a voxel, and the error of its median.

The map of ``growth.front_speed`` goes from voxel centre to voxel centre and so in steps. Here the front of either visit
lies between the voxels, where a level crosses zero: the segmenter's probability less 0.5, or a given mask smoothed by
less than a voxel. Every piece of the later front then has a distance to the earlier front.

The error of their median: either boundary as a whole (``uncertainty.boundary_sd_mm``), what the voxels leave, and a
part of the way, as the nearest place is not quite where the front came from. A registration error moves one side of a
closed front outward and the other one inward; the median hardly knows of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_convlstm_tumor.measure.distance import BoolVolume, check_masks, far_components
from napari_convlstm_tumor.measure.uncertainty import NORMAL_REACH, Interval
from napari_convlstm_tumor.volume import FloatArray

# Standard deviation of the Gaussian that smooths a given mask: this many of its finest voxels, and along a thick axis
# at least this many of its own. A wider one would move the sides of a rim two voxels thin.
SMOOTH_FINE_VOXELS, SMOOTH_THICK_VOXELS = 0.7, 0.4
# No smoothed voxel comes closer to zero than this: it stays on its side, and every face of the mask a piece of front.
LEAST_LEVEL = 0.02
# Error of the median from the voxels, as a part of their mean side: measured on balls, ellipsoids and lobed bodies
# scanned twice (docs/measurement.md).
VOXEL_SD = 0.1
# Error of the median as a part of how far the front moved: balls that grew or shrank by 10 to 15 mm came out a
# hundredth off with cubic voxels, and up to a tenth in slices of 6.5 mm.
WAY_SD = 0.05


@dataclass(frozen=True, eq=False)
class FrontMotion:
    """The later front in N pieces: how far each lies outside the earlier front.

    moved_mm: (N,), positive = outward. areas_mm2: (N,). voxels: (N, 3) index of the tumor voxel each belongs to.
    voxel_sd_mm: error of their median that is left by the voxels.
    """

    moved_mm: FloatArray
    areas_mm2: FloatArray
    voxels: npt.NDArray[np.intp]
    voxel_sd_mm: float

    def median_speed(
        self,
        periods: float,
        boundary_sds_mm: Sequence[float | None],
        among: npt.NDArray[np.bool_] | None = None,
    ) -> Interval | None:
        """Median speed in mm per period, every piece (of those ``among``, (N,)) weighted by its area; None without any.

        periods: between the visits (``maps.VisitPair.periods``). boundary_sds_mm: repeat error of either boundary; with
        a None, for one that is not known, there is no interval.
        """
        known = slice(None) if among is None else among
        values, areas = self.moved_mm[known], self.areas_mm2[known]
        if not values.size:
            return None
        order = np.argsort(values)
        covered = np.cumsum(areas[order])
        moved = float(values[order][np.searchsorted(covered, covered[-1] / 2)])
        known_sds = [sd for sd in boundary_sds_mm if sd is not None]
        if len(known_sds) < len(boundary_sds_mm):
            return Interval(moved / periods)
        reach = NORMAL_REACH * math.hypot(*known_sds, self.voxel_sd_mm, WAY_SD * moved) / periods
        return Interval(moved / periods, moved / periods - reach, moved / periods + reach)

    def shifted(self, voxels: Sequence[int]) -> FrontMotion:
        """The same with indices that count from elsewhere."""
        return replace(self, voxels=self.voxels + np.asarray(voxels))


def front_motion(
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    valid: npt.NDArray[Any] | None = None,
    given: tuple[bool, bool] = (True, True),
) -> FrontMotion:
    """How far the tumor's front moved; no pieces where none was followed.

    before, after: probability (I, J, K) of either visit, tumor where it is 0.5 or more; or 0 and 1, a mask that was
    ``given``. valid: (I, J, K), non-zero where both visits have an image. New and vanished lesions (see
    ``growth.front_speed``) and the end of the field of view are no front.
    """
    check_masks((before, after), spacing_mm, valid)
    seen = np.ones(np.shape(after), dtype=bool) if valid is None else np.asarray(valid) != 0
    start, end = ((np.asarray(p) >= 0.5) & seen for p in (before, after))
    start, end = start & ~far_components(start, end, spacing_mm), end & ~far_components(end, start, spacing_mm)
    voxel_sd = VOXEL_SD * float(np.mean(spacing_mm))
    found = ndimage.find_objects((start | end).astype(np.uint8))
    if not (start.any() and end.any()):
        return FrontMotion(np.empty(0), np.empty(0), np.empty((0, 3), dtype=np.intp), voxel_sd)
    box = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in found[0])
    first, last = (
        _Front.of(np.asarray(p)[box], mask[box], seen[box], spacing_mm, whole)
        for p, mask, whole in ((before, start, given[0]), (after, end, given[1]))
    )
    moved = last.outside_mm(first, max(spacing_mm)) if len(first.points_mm) else np.full(len(last.points_mm), np.nan)
    known = np.isfinite(moved)
    corner = [s.start for s in box]
    return FrontMotion(moved[known], last.areas_mm2[known], last.voxels[known], voxel_sd).shifted(corner)


@dataclass(frozen=True, eq=False)
class _Front:
    """Pieces of a front: (N, 3) where they cross a line between two voxel centres, (N, 3) the way out, (N,) areas."""

    points_mm: FloatArray
    normals: FloatArray
    areas_mm2: FloatArray
    voxels: npt.NDArray[np.intp]

    @classmethod
    def of(
        cls, probability: npt.NDArray[Any], tumor: BoolVolume, seen: BoolVolume, spacing: Sequence[float], given: bool
    ) -> _Front:
        level = _level(probability, tumor, spacing, given)
        slopes = [ndimage.correlate1d(level, [-0.5, 0, 0.5], axis=a) / s for a, s in enumerate(spacing)]
        parts = [_crossings(level, tumor, seen, axis) for axis in range(3)]
        inner, outer = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
        there, beyond = level[tuple(inner.T)], level[tuple(outer.T)]
        share = (there / (there - beyond))[:, None]  # of the way to the voxel outside
        inward = [s[tuple(inner.T)] * (1 - share[:, 0]) + s[tuple(outer.T)] * share[:, 0] for s in slopes]
        normals = -np.stack(inward, axis=-1)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        areas = np.repeat([math.prod(spacing) / s for s in spacing], [len(part[0]) for part in parts])
        points = (inner + share * (outer - inner)) * np.asarray(spacing)
        return cls(points, normals / np.maximum(length, np.finfo(float).tiny), areas, inner)

    def outside_mm(self, earlier: _Front, near_mm: float) -> FloatArray:
        """(N,) how far each piece lies outside another front.

        Up to near_mm its distance from the plane through the nearest piece, as the pieces lie apart; further out from
        that piece itself, as its plane is not that exact.
        """
        distance, nearest = cKDTree(earlier.points_mm).query(self.points_mm)
        away = self.points_mm - earlier.points_mm[nearest]
        moved = np.sum(away * earlier.normals[nearest], axis=1)
        return np.where(distance > near_mm, np.sign(moved) * distance, moved)


def _level(probability: npt.NDArray[Any], tumor: BoolVolume, spacing_mm: Sequence[float], given: bool) -> FloatArray:
    """(I, J, K) above zero in the tumor and below it elsewhere, zero at its front."""
    if given:
        fine = SMOOTH_FINE_VOXELS * min(spacing_mm)
        widths = [max(fine / s, SMOOTH_THICK_VOXELS) for s in spacing_mm]
        values, least = ndimage.gaussian_filter(tumor.astype(np.float64), widths), LEAST_LEVEL
    else:
        values, least = np.asarray(probability, dtype=np.float64), float(np.finfo(np.float32).eps)
    return np.where(tumor, np.maximum(values - 0.5, least), np.minimum(values - 0.5, -least))


def _crossings(
    level: FloatArray, tumor: BoolVolume, seen: BoolVolume, axis: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices (N, 3) of neighbours along an axis, both seen, the first in the tumor and the second not."""
    count = level.shape[axis]
    low, high = (np.take(tumor, range(n, count - 1 + n), axis) for n in (0, 1))
    known = np.take(seen, range(count - 1), axis) & np.take(seen, range(1, count), axis)
    below = np.argwhere((low != high) & known)
    above = below.copy()
    above[:, axis] += 1
    inside = low[tuple(below.T)][:, None]
    return np.where(inside, below, above), np.where(inside, above, below)
