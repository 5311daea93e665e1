"""The way back from the common grid to a visit's own grid, and points and masks between the two spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.series import AlignedSeries
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

# Common voxels taken at a time on the way back: bounds the memory for their coordinates to about 100 MB.
VOXELS_AT_A_TIME = 2_000_000
# Probabilities below this do not decide any voxel.
NEGLIGIBLE = 1e-3


def to_common_mm(visit_mm: npt.ArrayLike, ref_to_visit: FloatArray) -> FloatArray:
    """Points (..., 3) in a visit's scanner space (RAS mm) -> the space of the common grid."""
    return _apply(np.linalg.inv(ref_to_visit), visit_mm)


def to_visit_mm(common_mm: npt.ArrayLike, ref_to_visit: FloatArray) -> FloatArray:
    """Points (..., 3) in the space of the common grid -> a visit's scanner space (RAS mm)."""
    return _apply(ref_to_visit, common_mm)


def mask_to_grid(mask: Volume, grid: Grid, grid_to_mask: FloatArray) -> npt.NDArray[np.uint8]:
    """A mask on another grid (I, J, K) uint8: every voxel takes the label of the mask voxel its centre lies in.

    grid_to_mask: RAS mm of the grid's space -> RAS mm of the mask's space (a Registration's ref_to_visit).
    """
    to_index = np.linalg.inv(mask.grid.affine) @ grid_to_mask @ grid.affine
    binary = (mask.data > 0).astype(np.uint8)
    # grid-constant: a mask ends at the sides of its outer voxels; "constant" would end it at their centres
    moved = ndimage.affine_transform(
        binary, to_index[:3, :3], to_index[:3, 3], grid.shape, order=0, mode="grid-constant"
    )
    answer: npt.NDArray[np.uint8] = moved
    return answer


def to_native(
    array: npt.NDArray[Any], aligned: AlignedSeries, visit: int, grid: Grid | None = None
) -> npt.NDArray[Any]:
    """(I, J, K) on the common grid -> the native grid of a 0-based visit (or another grid in its space).

    A mask (uint8) answers uint8, a probability (float) float32. A native voxel takes the mean of the common voxels
    whose centres lie in it, so that a mask brought to a turned grid by ``mask_to_grid`` comes back as it was; where
    none does it is read at its own centre (nearest for a mask, linear for a probability).
    """
    target = grid or aligned.native_grids[visit]
    is_mask = array.dtype == np.uint8
    answer = np.zeros(target.shape, dtype=np.float32)
    box = _box_of(array)
    if box is not None:
        to_index = np.linalg.inv(target.affine) @ aligned.registrations[visit].ref_to_visit @ aligned.grid.affine
        total, count = _gathered(array, box, to_index, target.shape)
        answer[...] = total / np.maximum(count, 1)
        _fill_gaps(answer, count, _reach(box, to_index, target.shape), array, np.linalg.inv(to_index), is_mask)
    return (answer >= 0.5).astype(np.uint8) if is_mask else answer


def _apply(matrix: npt.NDArray[Any], points: npt.ArrayLike) -> FloatArray:
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def _box_of(array: npt.NDArray[Any]) -> tuple[slice, ...] | None:
    """The box around all that is not negligible, two voxels wider; None when nothing is."""
    found = ndimage.find_objects((array > NEGLIGIBLE).astype(np.uint8))
    if not found:
        return None
    return tuple(slice(max(0, s.start - 2), s.stop + 2) for s in found[0])


def _gathered(
    array: npt.NDArray[Any], box: tuple[slice, ...], to_index: FloatArray, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Sum and number (both of ``shape``) of the voxels of array[box] whose centres lie in each native voxel."""
    ranges = [np.arange(n)[s] for n, s in zip(array.shape, box, strict=True)]
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    planes = max(1, VOXELS_AT_A_TIME // (len(ranges[1]) * len(ranges[2])))
    for start in range(0, len(ranges[0]), planes):
        here = [ranges[0][start : start + planes], ranges[1], ranges[2]]
        index = [
            np.floor(sum(to_index[a, n] * _along(here[n], n) for n in range(3)) + to_index[a, 3] + 0.5).astype(np.int32)
            for a in range(3)
        ]
        known = np.logical_and.reduce([(x >= 0) & (x < n) for x, n in zip(index, shape, strict=True)])
        values = array[np.ix_(*here)][known].astype(np.float32)
        where = tuple(x[known] for x in index)
        np.add.at(total, where, values)
        np.add.at(count, where, np.float32(1))
    return total, count


def _along(values: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float64]:
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.astype(np.float64).reshape(shape)


def _reach(box: tuple[slice, ...], to_index: npt.NDArray[Any], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The native voxels that a box of common voxels can touch."""
    corners = np.array(np.meshgrid(*[(s.start - 1, s.stop) for s in box])).reshape(3, -1).T
    index = _apply(to_index, corners)
    low, high = np.floor(index.min(axis=0)).astype(int) - 1, np.ceil(index.max(axis=0)).astype(int) + 2
    return tuple(slice(max(0, int(a)), max(0, min(n, int(b)))) for a, b, n in zip(low, high, shape, strict=True))


def _fill_gaps(
    answer: npt.NDArray[np.float32],
    count: npt.NDArray[np.float32],
    reach: tuple[slice, ...],
    array: npt.NDArray[Any],
    to_common_index: npt.NDArray[Any],
    is_mask: bool,
) -> None:
    """Read native voxels that hold no common centre at their own centre, in place, a few planes at a time."""
    planes = max(1, VOXELS_AT_A_TIME // max(1, (reach[1].stop - reach[1].start) * (reach[2].stop - reach[2].start)))
    values = array if is_mask else array.astype(np.float32, copy=False)
    for start in range(reach[0].start, reach[0].stop, planes):
        here = (slice(start, min(start + planes, reach[0].stop)), reach[1], reach[2])
        gaps = count[here] == 0
        points = _apply(to_common_index, np.argwhere(gaps) + [s.start for s in here]).T
        answer[here][gaps] = ndimage.map_coordinates(values, points, order=0 if is_mask else 1, mode="constant")
