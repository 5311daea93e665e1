"""Rigid registration of one visit to the reference, SimpleITK.

Two stages. The first, on coarse images by mutual information, finds the place from several starts; the second
refines it on images with their slow part removed: the bias fields of two scans differ, and pull plain measures
0.3-0.7 mm off (after subtracting an 8 mm Gaussian the error was 0.03-0.04 mm).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from napari_convlstm_tumor.series import Registration
from napari_convlstm_tumor.volume import FloatArray, Volume

HIGH_PASS_MM = 8.0
# Both stages see at most this many voxels along an axis at their finest: finer gains nothing and costs seconds.
COARSE_MM, FINE_MM = 4.0, 1.0
COARSE_SAMPLING, FINE_SAMPLING = 0.2, 0.1
SEED = 20
# Agreement below which a person must look. On real pairs (docs/first-results.md) registered visits gave 0.66-0.97 and
# the same visits 3 mm off 0.40-0.57, 7 mm off below 0.2.
QUALITY_THRESHOLD = 0.6
# A visit that shows less than this share of the reference's body cannot be judged against it.
SMALLEST_SHARE = 0.3
# Registration replaces the headers' own alignment only when it gains at least this much correlation.
WORTHWHILE_GAIN = 0.002
# The judging grid: fine enough for the folds of the brain, coarse enough to be quick.
JUDGE_MM = 2.0
BODY_SHARE_OF_P99 = 0.12
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS <-> RAS


def register(moving: Volume, fixed: Volume, same_modality: bool = True) -> Registration:
    """Lay ``moving`` (a visit) on ``fixed`` (the reference): ref_to_visit and how well the two then agree.

    Deterministic. When the registered images agree no better than by their headers, the headers' alignment stays.
    Images of different kinds (same_modality False) cannot be judged by correlation: quality NaN, good False.
    """
    still, moved = _to_sitk(fixed), _to_sitk(moving)
    with _one_thread():
        found = _refine(still, moved, _best_start(still, moved))
    matrix = _matrix_ras(found)
    if not same_modality:
        note = "no sequence shared with the reference, so the match cannot be judged"
        return Registration(matrix, float("nan"), False, note)
    registered, header = agreement(moving, fixed, matrix), agreement(moving, fixed, np.eye(4))
    if registered < header + WORTHWHILE_GAIN:
        return judged(np.eye(4), header, "kept as the headers say: registration did not improve the match")
    return judged(matrix, registered, "")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """ITK on one thread: sums of several differ in the last digits from run to run, and a run must repeat exactly.

    It costs 5 % of the time of a registration; the filters' own switch does not reach the metric.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def judged(matrix: FloatArray, quality: float, note: str) -> Registration:
    """A Registration with its verdict."""
    return Registration(matrix, round(quality, 4), quality >= QUALITY_THRESHOLD, note)


def agreement(moving: Volume, fixed: Volume, ref_to_visit: FloatArray) -> float:
    """How well the fine structure of two images agrees, 0..1: what ``Registration.quality`` says.

    Correlation, within the body of ``fixed`` and where both reach, of both images less their 8 mm Gaussian: bias fields
    do not count, 3 mm of error does. Negative counts as 0, and so does too small a common part.
    """
    still, moved = _resampled(_to_sitk(fixed), JUDGE_MM), _smoothed(_to_sitk(moving), JUDGE_MM)
    transform = sitk.AffineTransform(3)
    lps = FLIP @ ref_to_visit @ FLIP
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    whole = sitk.GetArrayFromImage(still)
    body = whole > BODY_SHARE_OF_P99 * np.percentile(whole, 99)
    a = sitk.GetArrayFromImage(_high_passed(still))
    placed = sitk.Resample(_high_passed(moved), still, transform, sitk.sitkLinear, float("-inf"))
    b = sitk.GetArrayFromImage(placed)
    both = body & np.isfinite(b)
    if both.sum() < max(SMALLEST_SHARE * body.sum(), 100) or a[both].std() == 0 or b[both].std() == 0:
        return 0.0
    return max(0.0, float(np.corrcoef(a[both], b[both])[0, 1]))


# ---- finding the place ----


@dataclass(frozen=True)
class _Start:
    transform: sitk.Euler3DTransform
    metric: float


def _best_start(fixed: sitk.Image, moving: sitk.Image) -> sitk.Euler3DTransform:
    """The best of three starts after coarse registration: the headers, the middles of the images, their mass."""
    still, moved = _resampled(fixed, COARSE_MM), _resampled(moving, COARSE_MM)
    starts = [_centred(still, np.zeros(3))]
    for kind in (
        sitk.CenteredTransformInitializerFilter.GEOMETRY,
        sitk.CenteredTransformInitializerFilter.MOMENTS,
    ):
        try:
            guess = sitk.Euler3DTransform(
                sitk.CenteredTransformInitializer(still, moved, sitk.Euler3DTransform(), kind)
            )
        except RuntimeError:  # an image without mass
            continue
        starts.append(_centred(still, np.array(guess.TransformPoint(guess.GetCenter())) - np.array(guess.GetCenter())))
    found = []
    for start in starts:
        try:
            found.append(_optimise(still, moved, start, (2, 1), COARSE_SAMPLING, smallest_step=1e-2))
        except RuntimeError:  # the images do not overlap from this start
            continue
    if not found:
        return starts[-1]
    return min(found, key=lambda s: s.metric).transform


def _centred(fixed: sitk.Image, translation: npt.NDArray[np.float64]) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    middle = [(n - 1) / 2 for n in fixed.GetSize()]
    transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
    transform.SetTranslation([float(t) for t in translation])
    return transform


def _refine(fixed: sitk.Image, moving: sitk.Image, start: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """The fine stage on high-passed images; the start itself when it finds no overlap."""
    still, moved = _high_passed(_resampled(fixed, FINE_MM)), _high_passed(_resampled(moving, FINE_MM))
    try:
        return _optimise(still, moved, start, (3, 1), FINE_SAMPLING, smallest_step=1e-4).transform
    except RuntimeError:
        return start


def _optimise(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Euler3DTransform,
    shrink: tuple[int, ...],
    sampling: float,
    smallest_step: float,
) -> _Start:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(sampling, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, smallest_step, 120, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([0.0 if s == 1 else s / 2 for s in shrink])
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return _Start(transform, method.GetMetricValue())


def _matrix_ras(transform: sitk.Euler3DTransform) -> FloatArray:
    """(4, 4) RAS mm of the fixed image -> RAS mm of the moving one (ITK's is the same map in LPS)."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    lps[:3, 3] = centre + np.array(transform.GetTranslation()) - lps[:3, :3] @ centre
    return FLIP @ lps @ FLIP


# ---- images ----


def _to_sitk(volume: Volume) -> sitk.Image:
    """(I, J, K) in RAS to an ITK image in LPS; arrays are (k, j, i) there."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
    lps = FLIP @ volume.grid.affine
    spacing = np.array(volume.grid.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def _smoothed(image: sitk.Image, to_mm: float) -> sitk.Image:
    """Gaussian along the axes that are finer than to_mm, as a voxel of that size would average."""
    sigmas = [0.5 * np.sqrt(max(to_mm**2 - s**2, 0.0)) for s in image.GetSpacing()]
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.2 * image.GetSpacing()[axis] and image.GetSize()[axis] >= 4:
            image = sitk.RecursiveGaussian(image, sigma=float(sigma), direction=axis)
    return image


def _resampled(image: sitk.Image, to_mm: float) -> sitk.Image:
    """The image with no axis finer than to_mm."""
    spacing = [max(s, to_mm) for s in image.GetSpacing()]
    size = [max(1, round(n * s / t)) for n, s, t in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)]
    if size == list(image.GetSize()):
        return image
    smooth = _smoothed(image, to_mm)
    steps = [t / s for s, t in zip(image.GetSpacing(), spacing, strict=True)]
    middle = [(n - 1) / 2 - (m - 1) / 2 * step for n, m, step in zip(image.GetSize(), size, steps, strict=True)]
    origin = image.TransformContinuousIndexToPhysicalPoint(middle)
    return sitk.Resample(
        smooth,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        origin,
        spacing,
        image.GetDirection(),
        0.0,
        sitk.sitkFloat32,
    )


def _high_passed(image: sitk.Image) -> sitk.Image:
    """The image less its 8 mm Gaussian: what differs between two bias fields is gone."""
    if min(image.GetSize()) < 4:
        return image
    return image - sitk.SmoothingRecursiveGaussian(image, HIGH_PASS_MM)
