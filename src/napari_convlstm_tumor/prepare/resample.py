"""One place that moves voxels between grids, by MONAI's SpatialResample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from scipy import ndimage

from napari_convlstm_tumor.series import FloatVolume
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

# Smoothing before voxels get coarser than this many times the old ones, so that fine detail does not alias.
ANTI_ALIAS_RATIO = 1.5
# The outer side of the first voxel, a hair wider: a centre on the very side, up to rounding, counts as within.
EDGE_INDEX = -0.5 - 1e-6


def resample(volume: Volume, grid: Grid, grid_to_volume: FloatArray, mode: str = "bilinear") -> FloatVolume:
    """``volume`` read at the voxels of ``grid``: (I, J, K) float32; outside it the edge repeated (nearest: 0).

    grid_to_volume: (4, 4), RAS mm of the grid's space -> RAS mm of the volume's space. mode: bilinear (linear in 3-D)
    or nearest.
    """
    one: FloatVolume = resample_all([volume], grid, grid_to_volume, mode)[0]
    return one


def resample_all(
    volumes: Sequence[Volume], grid: Grid, grid_to_volume: FloatArray, mode: str = "bilinear"
) -> FloatVolume:
    """Volumes on the same voxels as ``resample`` reads each, (C, I, J, K): where they are read is worked out once."""
    old = volumes[0].grid
    placed = np.linalg.inv(grid_to_volume) @ old.affine
    data = [torch.from_numpy(np.ascontiguousarray(v.data, dtype=np.float32)) for v in volumes]
    if mode == "bilinear":
        data = [_anti_aliased(d, old, grid) for d in data]
    image = MetaTensor(torch.stack(data), affine=torch.from_numpy(placed))
    move = SpatialResample(
        mode=mode, padding_mode="border" if mode == "bilinear" else "zeros", align_corners=True, dtype=np.float32
    )
    moved = move(image, dst_affine=torch.from_numpy(np.array(grid.affine)), spatial_size=grid.shape)
    array: FloatVolume = np.asarray(moved, dtype=np.float32)
    return array


def _anti_aliased(data: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Gaussian along the axes that get coarser; the new spacing is taken along the nearest axis of the old grid."""
    turn = np.abs(np.linalg.inv(old.affine[:3, :3] / old.spacing_mm) @ (new.affine[:3, :3] / new.spacing_mm))
    coarser = (turn @ np.array(new.spacing_mm)) / np.array(old.spacing_mm)
    if np.all(coarser <= ANTI_ALIAS_RATIO):
        return data
    sigma = [float(0.5 * np.sqrt(max(r * r - 1, 0))) if r > ANTI_ALIAS_RATIO else 0.0 for r in coarser]
    return torch.from_numpy(ndimage.gaussian_filter(data.numpy(), sigma, mode="nearest"))


def covered(source: Grid, grid: Grid, grid_to_source: FloatArray) -> npt.NDArray[Any]:
    """(I, J, K) bool: voxels of ``grid`` whose centre lies within the voxels of ``source``."""
    to_index = np.linalg.inv(source.affine) @ grid_to_source @ grid.affine
    inside = np.ones(grid.shape, dtype=bool)
    i, j, k = (np.arange(n, dtype=np.float64) for n in grid.shape)
    for row, size in zip(to_index[:3], source.shape, strict=True):
        plane = row[0] * i[:, None] + row[1] * j + row[3]
        for index, here in zip(plane, inside, strict=True):  # plane by plane: the coordinates stay in the cache
            along = index[:, None] + row[2] * k
            here &= (along > EDGE_INDEX) & (along < size - 1 - EDGE_INDEX)
    return inside
