"""Rigid registration of one visit to the reference.

Two stages. The first, on coarse images by mutual information (SimpleITK), finds the place from several starts; the
second refines it on images with their slow part removed: the bias fields of two scans differ, and pull plain measures
0.3-0.7 mm off. Like images are refined by Gauss-Newton (prepare/refine). Where the match is then not good, and for
unlike images, the second stage is mutual information too; the better match of the two stands.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from napari_convlstm_tumor.prepare.itk import (
    FLIP,
    high_passed,
    one_thread,
    resampled,
    smoothed,
    thinned,
    to_sitk,
    to_volume,
)
from napari_convlstm_tumor.prepare.refine import refine
from napari_convlstm_tumor.series import Registration
from napari_convlstm_tumor.volume import FloatArray, Volume

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
# Two starts nearer than this lead to the same place.
SAME_START_MM = 1.0
BODY_SHARE_OF_P99 = 0.12


def register(moving: Volume, fixed: Volume, same_modality: bool = True) -> Registration:
    """Lay ``moving`` (a visit) on ``fixed`` (the reference): ref_to_visit and how well the two then agree.

    Deterministic. When the registered images agree no better than by their headers, the headers' alignment stays.
    Images of different kinds (same_modality False) cannot be judged by correlation: quality NaN, good False.
    """
    with one_thread():
        pair = _Pair(_still(fixed), _Prepared.of(moving))
        start = _best_start(pair.still, pair.moved)
        if not same_modality:
            note = "no sequence shared with the reference, so the match cannot be judged"
            return Registration(_matrix_ras(_refine_unlike(pair, start)), float("nan"), False, note)
        matrix, registered = _best_match(pair, start)
        header = pair.agreement(np.eye(4))
    if registered < header + WORTHWHILE_GAIN:
        return judged(np.eye(4), header, "kept as the headers say: registration did not improve the match")
    return judged(matrix, registered, "")


def _best_match(pair: _Pair, start: sitk.Euler3DTransform) -> tuple[FloatArray, float]:
    """The better of Gauss-Newton and, where that does not give a good match, mutual information; and its agreement."""
    found = refine(to_volume(pair.moved.edges), to_volume(pair.still.thin_edges), _matrix_ras(start))
    quality = -1.0 if found is None else pair.agreement(found)
    if found is not None and quality >= QUALITY_THRESHOLD:
        return found, quality
    other = _matrix_ras(_refine_unlike(pair, start))
    other_quality = pair.agreement(other)
    return (other, other_quality) if found is None or other_quality > quality else (found, quality)


def judged(matrix: FloatArray, quality: float, note: str) -> Registration:
    """A Registration with its verdict."""
    return Registration(matrix, round(quality, 4), quality >= QUALITY_THRESHOLD, note)


def agreement(moving: Volume, fixed: Volume, ref_to_visit: FloatArray) -> float:
    """How well the fine structure of two images agrees, 0..1: what ``Registration.quality`` says.

    Correlation, within the body of ``fixed`` and where both reach, of both images less their 8 mm Gaussian: bias fields
    do not count, 3 mm of error does. Negative counts as 0, and so does too small a common part.
    """
    with one_thread():
        return _Pair(_still(fixed), _Prepared.of(moving)).agreement(ref_to_visit)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """An image, and what registration needs of it, each computed once and when first asked for."""

    image: sitk.Image

    @classmethod
    def of(cls, volume: Volume) -> _Prepared:
        return cls(to_sitk(volume))

    @cached_property
    def smooth(self) -> sitk.Image:
        """On its own voxels, as fine as JUDGE_MM."""
        return smoothed(self.image, JUDGE_MM)

    @cached_property
    def edges(self) -> sitk.Image:
        """``smooth`` less its slow part."""
        return high_passed(self.smooth)

    @cached_property
    def thin(self) -> sitk.Image:
        """``smooth`` on voxels of JUDGE_MM."""
        return thinned(self.smooth, JUDGE_MM)

    @cached_property
    def thin_edges(self) -> sitk.Image:
        """``thin`` less its slow part."""
        return high_passed(self.thin)

    @cached_property
    def coarse(self) -> sitk.Image:
        """On voxels of COARSE_MM."""
        return resampled(self.thin, COARSE_MM)

    @cached_property
    def body(self) -> npt.NDArray[np.bool_]:
        """(K, J, I) of ``thin``: brighter than the background."""
        whole = sitk.GetArrayViewFromImage(self.thin)
        return np.asarray(whole > BODY_SHARE_OF_P99 * np.percentile(whole, 99))


def forget_reference() -> None:
    """Free what is kept of the last reference (about three times its image)."""
    _still.cache_clear()


@functools.lru_cache(maxsize=1)
def _still(fixed: Volume) -> _Prepared:
    """The reference is the same for all visits of a patient: what was computed of it is kept until the next one."""
    return _Prepared.of(fixed)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Reference and visit."""

    still: _Prepared
    moved: _Prepared

    def agreement(self, ref_to_visit: FloatArray) -> float:
        """What ``agreement`` says."""
        transform = sitk.AffineTransform(3)
        lps = FLIP @ ref_to_visit @ FLIP
        transform.SetMatrix(lps[:3, :3].ravel().tolist())
        transform.SetTranslation(lps[:3, 3].tolist())
        placed = sitk.Resample(self.moved.edges, self.still.thin_edges, transform, sitk.sitkLinear, float("-inf"))
        a, b = sitk.GetArrayViewFromImage(self.still.thin_edges), sitk.GetArrayFromImage(placed)
        body = self.still.body
        both = body & np.isfinite(b)
        if both.sum() < max(SMALLEST_SHARE * body.sum(), 100) or a[both].std() == 0 or b[both].std() == 0:
            return 0.0
        return max(0.0, float(np.corrcoef(a[both], b[both])[0, 1]))


# ---- finding the place ----


@dataclass(frozen=True)
class _Start:
    transform: sitk.Euler3DTransform
    metric: float


def _best_start(fixed: _Prepared, moving: _Prepared) -> sitk.Euler3DTransform:
    """The best of three starts after coarse registration: the headers, the middles of the images, their mass."""
    still, moved = fixed.coarse, moving.coarse
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
    for start in _different(starts):
        try:
            found.append(_optimise(still, moved, start, (2, 1), COARSE_SAMPLING, smallest_step=1e-2))
        except RuntimeError:  # the images do not overlap from this start
            continue
    if not found:
        return starts[-1]
    return min(found, key=lambda s: s.metric).transform


def _different(starts: list[sitk.Euler3DTransform]) -> list[sitk.Euler3DTransform]:
    """The starts (shifts alone) without those that lie where an earlier one does."""
    kept: list[sitk.Euler3DTransform] = []
    for start in starts:
        shift = np.array(start.GetTranslation())
        if all(np.linalg.norm(shift - np.array(k.GetTranslation())) >= SAME_START_MM for k in kept):
            kept.append(start)
    return kept


def _centred(fixed: sitk.Image, translation: npt.NDArray[np.float64]) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    middle = [(n - 1) / 2 for n in fixed.GetSize()]
    transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
    transform.SetTranslation([float(t) for t in translation])
    return transform


def _refine_unlike(pair: _Pair, start: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """The fine stage by mutual information on high-passed images; the start itself when it finds no overlap."""
    still, moved = (high_passed(resampled(side.image, FINE_MM)) for side in (pair.still, pair.moved))
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
