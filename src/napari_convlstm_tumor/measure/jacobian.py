"""Log-Jacobian rate: how fast tissue expands or shrinks at every place, from the displacements between two visits.

The rate at x of the later visit is ln(volume now / volume before) / months of what lies at x: with u the displacement
back to the visit before it is -ln det(I + grad u) / months (Leow 2007, TMI). Positive = expansion, zero mean on stable
tissue. No mask enters: it is a map of the images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.distance import BoolVolume, FloatVolume
from napari_convlstm_tumor.measure.uncertainty import NORMAL_REACH

# Registration there and back must lead to the same voxel.
LARGEST_INVERSE_ERROR_VOXELS = 1.0
# Standard deviation of a normal distribution from the median of its absolute values.
SIGMA_PER_MEDIAN = 1.4826


def jacobian_determinant(displacement_mm: npt.NDArray[Any], spacing_mm: Sequence[float]) -> FloatVolume:
    """det(I + grad u), (I, J, K) float32: the volume that a voxel is taken to, over its own; at most 0 = folded.

    displacement_mm: u, (I, J, K, 3) along the axes. Along an axis of one voxel nothing changes.
    """
    _check_field(displacement_mm)
    gradient = np.zeros((*displacement_mm.shape, 3), dtype=np.float32)  # [..., component, axis]
    for axis in (a for a in range(3) if displacement_mm.shape[a] > 1):
        gradient[..., axis] = np.gradient(displacement_mm, spacing_mm[axis], axis=axis)
    (a, b, c), (d, e, f), (g, h, i) = np.moveaxis(gradient + np.eye(3, dtype=np.float32), (3, 4), (0, 1))
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def inverse_error_voxels(
    there_mm: npt.NDArray[Any], back_mm: npt.NDArray[Any], spacing_mm: Sequence[float]
) -> FloatVolume:
    """How far from where it began a place lies after the way there and back, (I, J, K) in voxels; 0 = consistent.

    there_mm, back_mm: displacements (I, J, K, 3) along the axes, of the two directions of one registration.
    """
    _check_field(there_mm)
    if there_mm.shape != back_mm.shape:
        raise InputError(f"The fields there and back have the shapes {there_mm.shape} and {back_mm.shape}.")
    there = np.moveaxis(there_mm / np.asarray(spacing_mm, dtype=np.float32), -1, 0)  # (3, I, J, K) voxels
    reached = np.indices(there.shape[1:], dtype=np.float32) + there
    back = np.stack([ndimage.map_coordinates(back_mm[..., n], reached, order=1, mode="nearest") for n in range(3)])
    left = there + back / np.reshape(spacing_mm, (3, 1, 1, 1))
    return np.asarray(np.sqrt((left**2).sum(axis=0)), dtype=np.float32)


def log_jacobian(
    determinant_back: FloatVolume,
    inverse_error: FloatVolume,
    body: npt.NDArray[Any],
    periods: float,
    registered: bool = True,
) -> tuple[FloatVolume, BoolVolume]:
    """Log-Jacobian rate and where it is reliable: (I, J, K) float32 per period, and bool.

    determinant_back: ``jacobian_determinant`` of the way to the visit before. inverse_error: in voxels. body: non-zero
    in the body where both images reach. periods: months between the visits; visits when not dated. registered: whether
    both visits are registered well; if not, nothing is reliable.

    NaN outside the body and where the field folds. Reliable where the rate exceeds (95 %) what the same pair shows in
    the rest of the body, its robust standard deviation about zero, and there and back lead to the same voxel. In the
    depth of tissue without structure nothing pulls at the field: it tends to 0, which is within error.
    """
    if not periods > 0:
        raise InputError(f"The time between two visits must be positive, got {periods}.")
    known = (np.asarray(body) != 0) & (determinant_back > 0)
    change = np.full(determinant_back.shape, np.nan, dtype=np.float32)
    np.log(determinant_back, out=change, where=known)
    size = np.abs(change)
    noise = SIGMA_PER_MEDIAN * float(np.median(size[known])) if known.any() else 0.0
    consistent = inverse_error <= LARGEST_INVERSE_ERROR_VOXELS
    reliable = known & consistent & (np.nan_to_num(size) > NORMAL_REACH * noise) & registered
    return np.asarray(-change / periods, dtype=np.float32), reliable


def _check_field(displacement_mm: npt.NDArray[Any]) -> None:
    if displacement_mm.ndim != 4 or displacement_mm.shape[-1] != 3:
        raise InputError(f"A displacement field has the shape (I, J, K, 3), got {displacement_mm.shape}.")
