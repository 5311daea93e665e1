"""The neighbourhood of the tumor: the box in which a correction can change anything, and the world inside it.

A voxel further from all tumor than the rim below has no growth, no lesion and no size. Cutting there gives the same
numbers as the whole grid (tests/edit compares them), in a hundredth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.edit.case import Mask
from napari_convlstm_tumor.prepare.native import mask_to_grid
from napari_convlstm_tumor.series import AlignedSeries, Prediction
from napari_convlstm_tumor.steps.native import NativeVisit, box_around
from napari_convlstm_tumor.volume import Grid, Volume

Box = tuple[slice, ...]
# Distances and maps look one voxel beyond the tumor; two more cost nothing.
RIM_VOXELS = 3


def reach(mask: npt.NDArray[np.uint8]) -> Box | None:
    """The smallest box around a mask; None when it is empty."""
    spans = [np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans) if len(spans[0]) else None


def widened(boxes: Sequence[Box | None], grid: Grid) -> Box:
    """The box around boxes and their rim, within the grid; one voxel when all are empty."""
    found = [b for b in boxes if b is not None]
    if not found:
        return (slice(0, 1),) * 3
    return tuple(
        slice(
            max(0, min(b[n].start for b in found) - RIM_VOXELS), min(size, max(b[n].stop for b in found) + RIM_VOXELS)
        )
        for n, size in enumerate(grid.shape)
    )


def part_of(grid: Grid, box: Box) -> Grid:
    """The voxels of a grid that lie in a box."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm([s.start for s in box])
    i, j, k = (s.stop - s.start for s in box)
    return Grid((i, j, k), affine)


def cropped(aligned: AlignedSeries, prediction: Prediction, box: Box) -> tuple[AlignedSeries, Prediction]:
    """Both in a box of the common grid; views, no copies."""
    grid, inside = part_of(aligned.grid, box), (slice(None), *box)
    near = replace(
        aligned,
        data=aligned.data[(slice(None), slice(None), *box)],
        inside=aligned.inside[inside],
        grid=grid,
        masks=(None,) * len(aligned.days),
    )
    return near, replace(
        prediction, probability=prediction.probability[inside], grid=grid, forecast=None, features=None, look=None
    )


def painted_visit(painted: Mask, near: AlignedSeries, t: int, image: Grid) -> tuple[NativeVisit, Box]:
    """A 0-based visit whose mask was painted in the box of ``near``, and the box of its image that holds it.

    The mask of the answer lies in that box of the image's grid; as for every given mask, the voxels that count are
    those it was painted on.
    """
    affine = near.registrations[t].ref_to_visit @ near.grid.affine
    measured = Volume(np.ascontiguousarray(painted), Grid(near.grid.shape, affine))
    place = _place(measured, image)
    part = part_of(image, place)
    same = part.shape == measured.grid.shape and part.matches(measured.grid)
    mask = measured if same else Volume(mask_to_grid(measured, part, np.eye(4)), part)
    return NativeVisit(mask, measured, box_around(measured.data, measured.grid.spacing_mm), None), place


def _place(measured: Volume, image: Grid) -> Box:
    """The voxels of an image's grid that a smaller volume can reach, at least one."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in measured.grid.shape])).reshape(3, -1).T
    index = image.to_index(measured.grid.to_mm(corners))
    low, high = np.rint(index.min(axis=0)).astype(int), np.rint(index.max(axis=0)).astype(int) + 1
    return tuple(
        slice(int(np.clip(a, 0, n - 1)), int(np.clip(b, 1, n))) for a, b, n in zip(low, high, image.shape, strict=True)
    )
