"""The tumor of every visit on the visit's own voxels, and whose lesion every one of them is.

Lesions are followed on the common grid and measured where they were drawn. A voxel of a visit takes the id of the
nearest labelled voxel of the common grid, so none is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_convlstm_tumor.measure.uncertainty import RAMP_REACH_MM
from napari_convlstm_tumor.prepare.native import mask_to_grid, to_common_mm, to_native
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Prediction, Series
from napari_convlstm_tumor.volume import Volume

Box = tuple[slice, ...]
Voxels = npt.NDArray[np.int64]
_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True, eq=False)
class NativeVisit:
    """One visit's tumor: mask on the grid of its image; measured on the voxels it was drawn on (mostly the same).

    box: of ``measured``, the tumor and what the width of its border needs. probability: in that box, None for a mask
    that was given. outside: mm3 of the tumor that lie beyond the common grid.
    """

    mask: Volume
    measured: Volume
    box: Box
    probability: FloatVolume | None
    outside_mm3: float = 0.0

    @property
    def given(self) -> bool:
        """True for a person's own mask."""
        return self.probability is None


def native_visit(series: Series, aligned: AlignedSeries, prediction: Prediction, t: int) -> NativeVisit:
    """The tumor of a 0-based visit: the person's own voxels where the mask was given, else the network's."""
    grid, given = aligned.native_grids[t], series.visits[t].mask
    if given is not None:
        same = given.grid.matches(grid)
        mask = given if same else Volume(mask_to_grid(given, grid, np.eye(4)), grid)
        box = box_around(given.data, given.grid.spacing_mm)
        return NativeVisit(mask, given, box, None, _outside_mm3(given, box, aligned, t))
    probability = to_native(prediction.probability[t], aligned, t)
    mask = Volume((probability >= 0.5).astype(np.uint8), grid)
    box = box_around(mask.data, grid.spacing_mm)
    return NativeVisit(mask, mask, box, np.ascontiguousarray(probability[box]))


def box_around(mask: npt.NDArray[Any], spacing_mm: tuple[float, float, float]) -> Box:
    """The box around all of a mask, wider by what the measurement of its border needs; one voxel for an empty one."""
    found = ndimage.find_objects((mask != 0).astype(np.uint8))
    if not found:
        return (slice(0, 1),) * 3
    reach = [math.ceil(RAMP_REACH_MM / s) + 2 for s in spacing_mm]
    return tuple(slice(max(0, s.start - n), s.stop + n) for s, n in zip(found[0], reach, strict=True))


# ---- between the two grids ----


def tracking_mask(visit: NativeVisit, aligned: AlignedSeries, prediction: Prediction, t: int) -> npt.NDArray[np.uint8]:
    """The mask of a visit on the common grid (I, J, K), with those pieces that were lost on the way to it put back.

    A small piece may fall between the voxels of a coarser grid, or lie beyond it (then it is put on its edge).
    """
    mask = prediction.mask(t)
    voxels = _voxels(visit.measured, visit.box)
    if not len(voxels):
        return mask
    place = _common_index(visit.measured, voxels, aligned, t)
    tumor = visit.measured.data[visit.box] != 0
    piece = ndimage.label(tumor, _TOUCHING)[0][tumor]
    seen = np.bincount(piece, mask[tuple(place.T)] != 0) > 0
    mask[tuple(place[~seen[piece]].T)] = 1
    return mask


def native_labels(
    volume: Volume, box: Box, labels: npt.NDArray[np.uint16], aligned: AlignedSeries, t: int
) -> npt.NDArray[np.uint16]:
    """Lesion ids (I, J, K) on a visit's own grid: every tumor voxel takes the nearest of ``labels`` (common grid)."""
    answer = np.zeros(volume.grid.shape, dtype=np.uint16)
    voxels = _voxels(volume, box)
    if not len(voxels) or not labels.any():
        return answer
    found = labels[tuple(_common_index(volume, voxels, aligned, t).T)]
    lost = found == 0
    if lost.any():
        known = np.argwhere(labels)
        near = cKDTree(aligned.grid.to_mm(known)).query(_common_mm(volume, voxels[lost], aligned, t))[1]
        found[lost] = labels[tuple(known[near].T)]
    answer[tuple(voxels.T)] = found
    return answer


def _voxels(volume: Volume, box: Box) -> Voxels:
    """Indices (N, 3) of the tumor voxels of a volume, all of which lie in the box."""
    return np.argwhere(volume.data[box] != 0) + np.array([s.start for s in box])


def _common_mm(volume: Volume, voxels: Voxels, aligned: AlignedSeries, t: int) -> npt.NDArray[np.float64]:
    return to_common_mm(volume.grid.to_mm(voxels), aligned.registrations[t].ref_to_visit)


def _common_index(volume: Volume, voxels: Voxels, aligned: AlignedSeries, t: int) -> Voxels:
    """The common voxel (N, 3) that each voxel's centre lies in; the nearest one of the grid where it lies beyond."""
    index = np.rint(aligned.grid.to_index(_common_mm(volume, voxels, aligned, t))).astype(np.int64)
    return np.clip(index, 0, np.array(aligned.grid.shape) - 1)


def _outside_mm3(volume: Volume, box: Box, aligned: AlignedSeries, t: int) -> float:
    index = aligned.grid.to_index(_common_mm(volume, _voxels(volume, box), aligned, t))
    beyond = np.any((index < -0.5) | (index > np.array(aligned.grid.shape) - 0.5), axis=1)
    return float(np.count_nonzero(beyond)) * volume.grid.voxel_mm3
