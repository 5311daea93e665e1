"""Volumes as ITK images and back, thinned, smoothed and without their slow part: what both registrations need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from napari_convlstm_tumor.volume import Grid, Volume

HIGH_PASS_MM = 8.0
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS <-> RAS


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """ITK on one thread: sums of several differ in the last digits from run to run, and a run must repeat exactly.

    It costs 5 % of the time of a registration; the filters' own switch does not reach the metric.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_sitk(volume: Volume) -> sitk.Image:
    """(I, J, K) in RAS to an ITK image in LPS; arrays are (k, j, i) there."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
    lps = FLIP @ volume.grid.affine
    spacing = np.array(volume.grid.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def to_volume(image: sitk.Image) -> Volume:
    """The inverse of to_sitk."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).T
    return Volume(array, Grid(array.shape, FLIP @ lps))


def smoothed(image: sitk.Image, to_mm: float) -> sitk.Image:
    """Gaussian along the axes that are finer than to_mm, as a voxel of that size would average."""
    sigmas = [0.5 * np.sqrt(max(to_mm**2 - s**2, 0.0)) for s in image.GetSpacing()]
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.2 * image.GetSpacing()[axis] and image.GetSize()[axis] >= 4:
            image = sitk.RecursiveGaussian(image, sigma=float(sigma), direction=axis)
    return image


def resampled(image: sitk.Image, to_mm: float) -> sitk.Image:
    """The image with no axis finer than to_mm."""
    return thinned(smoothed(image, to_mm), to_mm)


def thinned(smooth: sitk.Image, to_mm: float) -> sitk.Image:
    """A smoothed image on voxels no finer than to_mm."""
    spacing = [max(s, to_mm) for s in smooth.GetSpacing()]
    size = [max(1, round(n * s / t)) for n, s, t in zip(smooth.GetSize(), smooth.GetSpacing(), spacing, strict=True)]
    if size == list(smooth.GetSize()):
        return smooth
    steps = [t / s for s, t in zip(smooth.GetSpacing(), spacing, strict=True)]
    middle = [(n - 1) / 2 - (m - 1) / 2 * step for n, m, step in zip(smooth.GetSize(), size, steps, strict=True)]
    origin = smooth.TransformContinuousIndexToPhysicalPoint(middle)
    direction = smooth.GetDirection()
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, direction, 0.0, sitk.sitkFloat32
    )


def high_passed(image: sitk.Image) -> sitk.Image:
    """The image less its 8 mm Gaussian: what differs between two bias fields is gone."""
    if min(image.GetSize()) < 4:
        return image
    return image - sitk.SmoothingRecursiveGaussian(image, HIGH_PASS_MM)
