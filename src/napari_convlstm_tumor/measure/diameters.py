"""Diameters of a lesion as a radiologist draws them: the longest in a slice, its perpendicular, and the longest in 3-D.

Masks are (I, J, K), non-zero = lesion; spacing_mm is the voxel size along i, j, k; slices lie across ``axis``
(2 = axial on an RAS grid). Every line ends in the lesion, but it may cross a notch or a cavity on its way, as RANO has
it for a ring with a necrotic core.

Where a lesion ends. Between the centres of its outermost voxels it is measured too short, between their outer edges
too long. What the centres miss was measured on ellipses of 8 to 40 voxels in all positions and directions: along the
longest diameter 0.2 voxels for a disc, where many directions compete, rising to 1 voxel for a thin bar, where the tip
decides; along the perpendicular 0.5 to 0.8 voxels. That much is added, in voxels as they lie along the diameter, so
that a sphere and a bar both read their length without bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from napari_convlstm_tumor.measure.distance import check_masks
from napari_convlstm_tumor.volume import FloatArray

# RANO: a lesion can be measured where two perpendicular diameters are at least this long (clinical.md).
MEASURABLE_MM = 10.0
# Part of a voxel that the centres miss along a longest diameter: of a bar, and how much less for a disc (see above).
MISSED_BY_A_BAR = 1.0
LESS_FOR_A_DISC = 0.8
# Part of a voxel that they miss along the perpendicular; it is at least one voxel, at most the longest diameter.
MISSED_ACROSS = 0.65


@dataclass(frozen=True, eq=False)
class Segment:
    """A straight line to draw: its length in mm and its two ends (2, 3) in voxel indices, fractions allowed."""

    length_mm: float
    ends: FloatArray


@dataclass(frozen=True, eq=False)
class Diameters:
    """Diameters of one lesion.

    longest, perpendicular: on slice ``slice_index``, the one with the longest in-plane diameter; they meet at a right
    angle, exactly. longest_3d: in any direction, never shorter than ``longest``. slices: how many the lesion has.
    measurable_slices: those where both diameters are at least MEASURABLE_MM; RANO 2010 asks for two.
    """

    longest: Segment
    perpendicular: Segment
    longest_3d: Segment
    slice_index: int
    slices: int
    measurable_slices: int

    @property
    def product_mm2(self) -> float:
        """Bidimensional product in mm2: the longest axial diameter times its perpendicular."""
        return self.longest.length_mm * self.perpendicular.length_mm


def measure_diameters(mask: npt.NDArray[Any], spacing_mm: Sequence[float], axis: int = 2) -> Diameters | None:
    """Diameters of the lesion in ``mask`` (I, J, K); None when it is empty. InputError for a bad shape or spacing.

    The whole mask counts as one lesion: give one at a time. An empty slice between two parts is no obstacle in 3-D.
    """
    check_masks((mask,), spacing_mm)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    filled = np.moveaxis(np.asarray(mask) != 0, axis, 2)
    plane = np.delete(spacing, axis)
    indices = np.flatnonzero(filled.any(axis=(0, 1)))
    if not indices.size:
        return None
    centres = [np.argwhere(filled[:, :, k]) * plane for k in indices]
    hulls = [_hull(points) for points in centres]
    pairs = [_longest_and_across(points, hull, plane) for points, hull in zip(centres, hulls, strict=True)]
    best = int(np.argmax([longest.length_mm for longest, _ in pairs]))
    corners = np.concatenate([_lift(h, k * spacing[axis], axis) for h, k in zip(hulls, indices, strict=True)])
    longest, across = (_in_voxels(segment, int(indices[best]), plane, axis) for segment in pairs[best])
    return Diameters(
        longest=longest,
        perpendicular=across,
        longest_3d=_longest_3d(_hull(corners), spacing, longest),
        slice_index=int(indices[best]),
        slices=int(indices.size),
        measurable_slices=sum(min(a.length_mm, b.length_mm) >= MEASURABLE_MM for a, b in pairs),
    )


# ---- points ----


def _hull(points: FloatArray) -> FloatArray:
    """Corners (N, d) of the convex hull, in order around it in 2-D; of a flat or straight set its extreme points."""
    if len(points) <= points.shape[1]:
        return points
    try:
        return points[ConvexHull(points).vertices]
    except QhullError:  # all on one line or plane
        return points if points.shape[1] == 3 else points[np.lexsort(points.T)[[0, -1]]]


def _farthest(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The two points that lie furthest apart; one point twice when there is only one."""
    if len(points) == 1:
        return points[0], points[0]
    gaps = squareform(pdist(points))
    a, b = np.unravel_index(int(np.argmax(gaps)), gaps.shape)
    return points[a], points[b]


def _lift(points: FloatArray, height: float, axis: int) -> FloatArray:
    return np.insert(points, axis, height, axis=1)


def _in_voxels(segment: Segment, index: int, plane: FloatArray, axis: int) -> Segment:
    return Segment(segment.length_mm, _lift(segment.ends / plane, index, axis))


# ---- lines ----


def _longest_and_across(points: FloatArray, hull: FloatArray, plane: FloatArray) -> tuple[Segment, Segment]:
    """Longest diameter of a slice and the longest line across it at a right angle; ends in mm."""
    a, b = _farthest(hull)
    along = _direction(b - a)
    normal = np.array([-along[1], along[0]])
    longest = _grown(a, b, along, _missed(a, b, hull) * _voxel_mm(along, plane))
    c, d = _longest_across(points, along, normal, float(plane.max()))
    voxel, between = _voxel_mm(normal, plane), float(np.linalg.norm(d - c))
    length = min(max(between + MISSED_ACROSS * voxel, voxel), longest.length_mm)
    return longest, _grown(c, d, normal, length - between)


def _longest_3d(hull: FloatArray, spacing: FloatArray, in_plane: Segment) -> Segment:
    """Longest diameter in any direction, ends in voxels; the in-plane one where no other is longer."""
    a, b = _farthest(hull)
    along = _direction(b - a)
    found = _grown(a, b, along, _missed(a, b, hull) * _voxel_mm(along, spacing))
    return in_plane if found.length_mm <= in_plane.length_mm else Segment(found.length_mm, found.ends / spacing)


def _direction(vector: FloatArray) -> FloatArray:
    """Unit vector; the first axis for a single point."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else np.eye(len(vector))[0]


def _missed(a: FloatArray, b: FloatArray, hull: FloatArray) -> float:
    """Part of a voxel that lies beyond the centres a, b of a longest diameter, by how round the lesion is."""
    length = float(np.linalg.norm(b - a))
    if length == 0:
        return MISSED_BY_A_BAR
    along = (b - a) / length
    shadow = hull - np.outer(hull @ along, along)
    width = float(np.linalg.norm(np.subtract(*_farthest(shadow))))
    return MISSED_BY_A_BAR - LESS_FOR_A_DISC * min(width / length, 1.0)


def _voxel_mm(along: FloatArray, spacing: FloatArray) -> float:
    """Length of a voxel along a direction."""
    return float(np.linalg.norm(along * spacing))


def _grown(a: FloatArray, b: FloatArray, along: FloatArray, extra_mm: float) -> Segment:
    """The line from a to b, longer by ``extra_mm``, half of it at either end."""
    ends = np.stack([a - along * extra_mm / 2, b + along * extra_mm / 2])
    return Segment(float(np.linalg.norm(b - a)) + extra_mm, ends)


def _longest_across(
    points: FloatArray, along: FloatArray, normal: FloatArray, width: float
) -> tuple[FloatArray, FloatArray]:
    """Ends of the longest line across, in the direction of ``normal``, between points of one strip of this width.

    Both ends so belong to the lesion, and the line is at a right angle however the strip's points lie in it.
    """
    x, y = points @ along, points @ normal
    half = np.floor((x - x.min()) / (width / 2)).astype(int)
    top, bottom = np.full(half.max() + 2, -np.inf), np.full(half.max() + 2, np.inf)
    np.maximum.at(top, half, y)
    np.minimum.at(bottom, half, y)
    top, bottom = np.maximum(top[:-1], top[1:]), np.minimum(bottom[:-1], bottom[1:])
    k = int(np.argmax(top - bottom))
    place = min(x.min() + (k + 1) * width / 2, x.max())
    return place * along + bottom[k] * normal, place * along + top[k] * normal
