"""Signed distance to a tumor's boundary in millimetres, and the small mask geometry around it.

Masks are (I, J, K), any type, non-zero = tumor; spacing_mm is the voxel size along i, j, k. The edge of the
array is the edge of the field of view and never counts as a boundary: what lies beyond it is unknown, not
healthy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import InputError

BoolVolume = npt.NDArray[np.bool_]
FloatVolume = npt.NDArray[np.float32]
Box = tuple[slice, ...]

# A component whose nearest voxel lies further than this from all tumor of the other visit did not get there
# as a front: it is a new (or vanished) lesion. 10 mm is more than one 6.5 mm slice and the usual error of
# registration (2 mm) together, and three months of a front at 3 mm/month. A rule of this program, not of a
# guideline.
NEW_LESION_DISTANCE_MM = 10.0

# A distance of this many mm turns a front into probability 0.27: about one voxel.
SOFTNESS_MM = 1.0

_FACES_EDGES_CORNERS = ndimage.generate_binary_structure(3, 3)


def signed_distance_mm(
    mask: npt.NDArray[Any], spacing_mm: Sequence[float], valid: npt.NDArray[Any] | None = None
) -> FloatVolume:
    """Distance of every voxel centre to the tumor's boundary: (I, J, K) float32 in mm, negative inside.

    The boundary lies halfway between a tumor voxel and its healthy neighbour. Between the centres of unlike
    voxels the distance is therefore too long by half the gap between two layers of voxels across that
    direction, on both sides of the boundary, which would turn into a false speed; it is taken off. For a
    direction with cosines u the half gap is the sum of |u|^3 spacing / 2: exact for cubic voxels along an
    axis, a face diagonal and a space diagonal.

    An empty mask is +inf everywhere, a full one -inf. valid: (I, J, K), zero where the visit has no image;
    tumor and healthy tissue are then only known where it is not zero.
    """
    inside, outside = known_sets(mask, valid)
    phi = _distance_to(inside, spacing_mm)
    box = tumor_box(inside, valid)
    phi[box] = np.where(inside[box], -_distance_to(outside[box], spacing_mm), phi[box])
    return phi


def known_sets(mask: npt.NDArray[Any], valid: npt.NDArray[Any] | None) -> tuple[BoolVolume, BoolVolume]:
    """Voxels known to be tumor and voxels known not to be."""
    tumor = np.asarray(mask) != 0
    if valid is None:
        return tumor, ~tumor
    seen = np.asarray(valid) != 0
    return tumor & seen, ~tumor & seen


def front_area_mm2(
    mask: npt.NDArray[Any], spacing_mm: Sequence[float], valid: npt.NDArray[Any] | None = None
) -> FloatVolume:
    """Boundary that each voxel touches: (I, J, K) float32, the area in mm2 of its faces towards the other
    kind.

    Zero away from the front. As a weight it keeps thick slices honest: their large faces lie across the fine
    axes.
    """
    inside, outside = known_sets(mask, valid)
    area = np.zeros(inside.shape, dtype=np.float32)
    box = tumor_box(inside)
    inside, outside, part = inside[box], outside[box], area[box]
    for axis in range(3):
        lower: list[slice] = [slice(None)] * 3
        upper = lower.copy()
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        low, high = tuple(lower), tuple(upper)
        faces = (inside[low] & outside[high]) | (outside[low] & inside[high])
        face_mm2 = np.float32(np.prod(spacing_mm) / spacing_mm[axis])
        part[low] += faces * face_mm2
        part[high] += faces * face_mm2
    return area


def far_components(mask: npt.NDArray[Any], other: npt.NDArray[Any], spacing_mm: Sequence[float]) -> BoolVolume:
    """Voxels (I, J, K) of components (26-connected) of ``mask`` that are far from all of ``other``.

    Far is further than NEW_LESION_DISTANCE_MM. All of them when ``other`` is empty. With the earlier mask as
    ``other`` these are the new lesions; the other way round, the vanished ones. Distance runs from voxel
    centre to voxel centre.
    """
    found: BoolVolume = np.asarray(mask) != 0
    elsewhere = np.asarray(other) == 0
    if not found.any() or elsewhere.all():
        return found
    box = tumor_box(found | ~elsewhere)
    labels, count = ndimage.label(found[box], _FACES_EDGES_CORNERS)
    is_far = np.arange(count + 1) > 0  # by label
    is_far[labels[~elsewhere[box]]] = False  # they overlap: no distance needed, which would be most of the time
    if is_far.any():
        gaps = ndimage.distance_transform_edt(elsewhere[box], sampling=tuple(spacing_mm))
        is_far[labels[gaps <= NEW_LESION_DISTANCE_MM]] = False  # one near voxel is enough
    far = np.zeros(found.shape, dtype=bool)
    far[box] = is_far[labels]
    return far


def tumor_box(tumor: BoolVolume, valid: npt.NDArray[Any] | None = None) -> Box:
    """Slices of the smallest box with the tumor and its nearest healthy voxels; the whole array if empty.

    That is one voxel around the tumor, as any healthy voxel further out has a nearer one in that shell;
    unless part of the shell is not known, then it is the whole array.
    """
    whole = tuple(slice(0, n) for n in tumor.shape)
    found = ndimage.find_objects(tumor.astype(np.uint8))
    if not found:
        return whole
    box = tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(found[0], tumor.shape, strict=True))
    return box if valid is None or np.all(np.asarray(valid)[box]) else whole


def check_masks(
    masks: Sequence[npt.NDArray[Any]], spacing_mm: Sequence[float], valid: npt.NDArray[Any] | None = None
) -> None:
    """Refuse with InputError masks that are not 3-D or differ in shape, and a bad spacing."""
    shapes = [np.shape(m) for m in masks] + ([] if valid is None else [np.shape(valid)])
    if any(len(shape) != 3 or shape != shapes[0] for shape in shapes):
        raise InputError(f"Masks of one series are 3-D and share one grid, got shapes {shapes}.")
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise InputError(f"A voxel size is three positive numbers in mm, got {tuple(spacing_mm)}.")


def _distance_to(target: BoolVolume, spacing_mm: Sequence[float]) -> FloatVolume:
    """Distance in mm from each voxel centre to the near side of the nearest target voxel; 0 on the target."""
    if not target.any():
        return np.full(target.shape, np.inf, dtype=np.float32)
    mm, nearest = ndimage.distance_transform_edt(~target, sampling=tuple(spacing_mm), return_indices=True)
    half_gap = np.zeros(target.shape)
    safe = np.where(target, 1.0, mm)
    indices = np.ogrid[tuple(slice(n) for n in target.shape)]
    for found, here, spacing in zip(nearest, indices, spacing_mm, strict=True):
        cosine = np.abs(found - here) * spacing / safe
        half_gap += cosine * cosine * cosine * (spacing / 2)  # a power takes half of the time of the whole distance
    return np.asarray(mm - half_gap, dtype=np.float32)


def soft_mask(distance_mm: FloatVolume) -> FloatVolume:
    """Signed distance (I, J, K) mm -> probability, 0.5 at the boundary; one SOFTNESS_MM beyond it 0.27."""
    soft: FloatVolume = 1 / (1 + np.exp(np.clip(distance_mm / SOFTNESS_MM, -30, 30)))
    return soft.astype(np.float32)


def box_around(mask: npt.NDArray[Any], spacing_mm: Sequence[float], margin_mm: float) -> Box:
    """The box of a mask that is not empty, wider by ``margin_mm`` to each side, within the grid."""
    tight = ndimage.find_objects((mask != 0).astype(np.uint8))[0]
    reach = [math.ceil(margin_mm / s) for s in spacing_mm]
    return tuple(
        slice(max(0, s.start - n), min(s.stop + n, m)) for s, n, m in zip(tight, reach, mask.shape, strict=True)
    )
