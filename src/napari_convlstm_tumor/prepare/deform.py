"""Deformable registration of two visits on one grid: where every place of the one lies in the other.

Diffeomorphic Demons (Vercauteren et al. 2009, doi 10.1016/j.neuroimage.2008.10.040; ITK's filter), from coarse to fine
and in both directions, on images without their slow part as in prepare/register: with bias fields left in, the two
directions disagreed three times as much on a real pair (GBM-05).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from napari_convlstm_tumor.prepare.itk import high_passed, resampled, to_sitk, to_volume
from napari_convlstm_tumor.series import FloatVolume
from napari_convlstm_tumor.volume import Grid, Volume

# Voxels of each level (an axis that is coarser stays as it is) and its iterations.
LEVELS_MM = (8.0, 4.0, 2.0)
ITERATIONS = (30, 30, 20)
# As finely as an outline is carried: 2 mm took far longer and gained at most 0.02 of Dice (a scratch script).
CARRIED_MM = 4.0
# Standard deviations of the Gaussians that keep each step, and the whole field, smooth. The first alone makes a fluid,
# which folds. The second pulls the field back: of a known expansion 15 mm wide (one standard deviation) 0.81 is found
# at 3 mm, 0.90 at 2 mm; the log-Jacobian of GBM-05 away from its tumor then varies by 0.15 and 0.20.
STEP_SMOOTH_MM, FIELD_SMOOTH_MM = 6.0, 3.0
LARGEST_STEP_VOXELS = 2.0
# ITK cuts the Gaussian off where less than this is left of it, within at most so many voxels.
KERNEL_ERROR, KERNEL_VOXELS = 0.01, 60


@dataclass(frozen=True, eq=False)
class Deformation:
    """Two displacement fields (I, J, K, 3) float32, mm along R, A, S, at the voxels of ``grid``.

    What lies at x after lay at x + to_before_mm(x) before; what lay at x before lies at x + to_after_mm(x) after.
    """

    grid: Grid
    to_before_mm: FloatVolume
    to_after_mm: FloatVolume


def deform(before: Volume, after: Volume) -> Deformation:
    """Registers two images of one kind, on one axis-aligned RAS+ grid and in one intensity scale, in both directions.

    Deterministic: the iterations are counted, no sum decides when to stop.
    """
    # High-passed on the finest voxels; the coarser levels are made of that.
    edges = [high_passed(resampled(to_sitk(image), LEVELS_MM[-1])) for image in (before, after)]
    to_before, to_after = _demons(edges[1], edges[0]), _demons(edges[0], edges[1])
    return Deformation(to_volume(edges[1]).grid, _ras_mm(to_before), _ras_mm(to_after))


def carried(mask: Volume, before: Volume, after: Volume) -> FloatVolume:
    """Where the mask of ``before`` lies in ``after``: (I, J, K) float32 in 0..1, from one direction alone.

    All three on one axis-aligned RAS+ grid. Coarser than ``deform``: an outline asks for less than a map.
    """
    edges = [high_passed(resampled(to_sitk(image), CARRIED_MM)) for image in (before, after)]
    field = _demons(edges[1], edges[0], CARRIED_MM)
    moved = sitk.Resample(
        to_sitk(mask), to_sitk(after), sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0, sitk.sitkFloat32
    )
    return to_volume(moved).data


def _demons(fixed: sitk.Image, moving: sitk.Image, finest_mm: float = LEVELS_MM[-1]) -> sitk.Image:
    """Displacements (LPS mm) that take places of ``fixed`` to those of ``moving``, at the voxels of ``fixed``."""
    field = sitk.Image(resampled(fixed, LEVELS_MM[0]).GetSize(), sitk.sitkVectorFloat64, 3)
    field.CopyInformation(resampled(fixed, LEVELS_MM[0]))
    for voxel_mm, iterations in zip(LEVELS_MM, ITERATIONS, strict=True):
        if voxel_mm < finest_mm:
            break
        still, moved = resampled(fixed, voxel_mm), resampled(moving, voxel_mm)
        field = sitk.Resample(field, still, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64, True)
        field = _filter(still.GetSpacing(), iterations).Execute(still, moved, field)
    return field


def _filter(spacing_mm: tuple[float, ...], iterations: int) -> sitk.DiffeomorphicDemonsRegistrationFilter:
    """ITK's filter; it takes widths in voxels."""
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(iterations)
    demons.SetMaximumRMSError(0.0)
    demons.SetMaximumUpdateStepLength(LARGEST_STEP_VOXELS)
    demons.SetSmoothUpdateField(True)
    demons.SetUpdateFieldStandardDeviations([STEP_SMOOTH_MM / s for s in spacing_mm])
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations([FIELD_SMOOTH_MM / s for s in spacing_mm])
    demons.SetMaximumError(KERNEL_ERROR)
    demons.SetMaximumKernelWidth(KERNEL_VOXELS)
    return demons


def _ras_mm(field: sitk.Image) -> FloatVolume:
    """(K, J, I, 3) in LPS -> (I, J, K, 3) in RAS, float32."""
    lps = sitk.GetArrayViewFromImage(field).transpose(2, 1, 0, 3)
    return np.asarray(lps * (-1.0, -1.0, 1.0), dtype=np.float32)
