"""Grid (shape and affine, no pixels) and Volume (an array on a Grid).

Index order is (i, j, k) everywhere outside ``_napari``; an affine maps (i, j, k, 1) to RAS+ millimetres, as in nibabel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import GeometryError

FloatArray = npt.NDArray[np.float64]

# Two affines within this distance at the far corner of the grid describe the same grid: a hundredth of a fine voxel.
SAME_GRID_TOLERANCE_MM = 0.01
# Direction cosines closer than this to a signed permutation are axis-aligned (0.06 degrees: 0.25 mm over 240 mm).
AXIS_ALIGNED_TOLERANCE = 1e-3
# Columns of an affine whose cosine exceeds this are sheared (0.06 degrees).
SHEAR_TOLERANCE = 1e-3
# Finer than any scan of a person; a header in micrometres comes out far below.
SMALLEST_SPACING_MM = 0.01
LARGEST_SPACING_MM = 200.0


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie in space.

    shape: three voxel counts (I, J, K), each at least 1.
    affine: (4, 4), voxel index to RAS+ mm. Refused with GeometryError: wrong shape, not finite, singular,
    sheared, or a voxel size outside 0.01-200 mm.
    """

    shape: tuple[int, int, int]
    affine: FloatArray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"A grid has three positive sizes, got {tuple(self.shape)}.")
        _refuse_bad_affine(affine)
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def is_axis_aligned(self) -> bool:
        """True when every grid axis runs along one scanner axis."""
        cosines = np.abs(self.affine[:3, :3]) / np.array(self.spacing_mm)
        return bool(np.all(np.minimum(cosines, 1 - cosines) < AXIS_ALIGNED_TOLERANCE))

    def matches(self, other: Grid, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """True when both grids have the same voxels, within tolerance_mm at every corner."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        return bool(np.all(np.abs(self.to_mm(corners) - other.to_mm(corners)) <= tolerance_mm))

    def to_mm(self, ijk: npt.ArrayLike) -> FloatArray:
        """Voxel indices (..., 3) to RAS+ mm (..., 3)."""
        return np.asarray(ijk, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, ras_mm: npt.ArrayLike) -> FloatArray:
        """RAS+ mm (..., 3) to fractional voxel indices (..., 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(ras_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or mask: data (I, J, K) on a Grid of the same shape."""

    data: npt.NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise GeometryError(f"The array has shape {self.data.shape}, its grid {self.grid.shape}.")


def _refuse_bad_affine(affine: FloatArray) -> None:
    if affine.shape != (4, 4):
        raise GeometryError(f"An affine is a 4x4 matrix, got shape {affine.shape}.")
    if not np.all(np.isfinite(affine)):
        raise GeometryError("The affine has values that are not finite.")
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if np.any(spacing < SMALLEST_SPACING_MM) or np.any(spacing > LARGEST_SPACING_MM):
        raise GeometryError(
            f"A voxel size of {tuple(round(float(s), 4) for s in spacing)} mm is outside "
            f"{SMALLEST_SPACING_MM}-{LARGEST_SPACING_MM} mm; the header is damaged or in another unit."
        )
    cosines = (axes / spacing).T @ (axes / spacing)
    if np.any(np.abs(cosines - np.eye(3)) > SHEAR_TOLERANCE):
        worst = float(np.max(np.abs(cosines - np.eye(3))))
        raise GeometryError(
            f"The affine is sheared or singular (cosine {worst:.3f} between two axes, 0 expected). "
            "Resample the image to a rectangular grid first, e.g. with SimpleITK or FreeSurfer mri_convert."
        )
