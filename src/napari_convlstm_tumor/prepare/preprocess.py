"""All visits of a patient on one axis-aligned grid, in one intensity scale."""

from __future__ import annotations

import math
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import nibabel as nib
import numpy as np
import numpy.typing as npt
from monai.transforms import NormalizeIntensity
from scipy import ndimage

from napari_convlstm_tumor.errors import SeriesError
from napari_convlstm_tumor.prepare.native import mask_to_grid
from napari_convlstm_tumor.prepare.register import agreement, forget_reference, judged, register
from napari_convlstm_tumor.prepare.resample import covered, resample_all
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Registration, Series, Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

# The image that carries a visit in registration: the first of these that visit and reference share.
ANCHOR_ORDER = ("t1c", "t1", "flair", "t2", "ct", "other")
# More voxels than this make the fine axes coarser: 20 million are 80 MB a map, and every visit has several.
LARGEST_GRID_VOXELS = 20_000_000
COARSENING = 1.1
# A window for soft tissue: 0 at 40 HU, one unit 100 HU.
CT_CENTRE_HU, CT_SCALE_HU = 40.0, 100.0
# Standard deviation of a normal distribution from its quartiles.
IQR_PER_SIGMA = 1.349
# MR is scaled by what lies this deep under the skin: scalp, skull and fat take up more of one scan than of the next
# (two visits of GBM-09 differed by 1.6 in contrast when they counted, by 1.1 now). Unless that is less than this share.
DEEP_MM, LEAST_DEEP = 15.0, 0.1
# So many of its sigmas are one unit: what enhances then stays within what the network tells apart.
SIGMAS_PER_UNIT = 1.5
# Gaps of the body up to twice this wide are no way in from outside: sulci, the skull between scalp and brain.
CLOSED_MM = 6.0
COARSE_MM = 3.0  # voxels that are enough for depth and percentiles
# Voxels this share of the way from the darkest to the 99th percentile are body, not background.
BODY_SHARE = 0.1
# The commonest intensity in the lowest part of the range is air if it varies little (shares of the range) and little is
# darker (share of the voxels); the body begins so many of its standard deviations above it, within that lowest part.
AIR_BELOW, AIR_VARIES, AIR_DARKER, AIR_SIGMAS = 0.35, 0.08, 0.05, 5.0
# Half of a normal distribution has its median here.
MEDIAN_PER_SIGMA = 0.674


def align(series: Series, settings: Settings) -> Generator[float, None, AlignedSeries]:
    """Register, resample and normalise every visit; yields the fraction done, returns the AlignedSeries.

    The common grid has the voxels of the reference visit's image (``settings.spacing`` overrides its voxel size), axes
    along the scanner's. Raises SeriesError when there is no visit ``settings.reference``.
    """
    reference = settings.reference - 1
    if not 0 <= reference < len(series.visits):
        raise SeriesError(
            f"There is no visit {settings.reference} to be the reference: the patient has {len(series.visits)}."
        )
    fixed = series.visits[reference]
    anchor = _anchor(fixed, fixed)
    grid, note = common_grid(fixed.images[anchor].grid, settings.spacing)
    aligned = _empty(series, grid, reference)
    registrations, masks = [], []
    moving = [(t, visit) for t, visit in enumerate(series.visits) if t != reference]
    # a visit is registered while the one before is resampled; in one thread, for ITK's switches are global
    ahead = ThreadPoolExecutor(1)
    try:
        laid = {t: ahead.submit(_lay, visit, fixed, settings.register, note) for t, visit in moving}
        for t, visit in enumerate(series.visits):
            registration = laid[t].result() if t != reference else _itself(note)
            yield (t + 0.6) / len(series.visits)
            _fill(aligned, t, visit, registration)
            if not aligned.inside[t].any():
                raise SeriesError(
                    f"Visit {t + 1} does not overlap the reference visit in space. Leave it out, or let it be "
                    "registered."
                )
            mask = visit.mask
            masks.append(None if mask is None else mask_to_grid(mask, grid, registration.ref_to_visit))
            registrations.append(registration)
            yield (t + 1) / len(series.visits)
    finally:
        ahead.shutdown(cancel_futures=True)
        forget_reference()
    return replace(aligned, registrations=tuple(registrations), masks=tuple(masks))


def common_grid(native: Grid, spacing: tuple[float, ...] = ()) -> tuple[Grid, str]:
    """The axis-aligned RAS+ grid that covers ``native``, and a note when its voxels had to be made coarser.

    An axis-aligned native grid keeps its very voxels (axes reordered); an oblique one is covered at its own spacing.
    """
    turned = nib.orientations.io_orientation(native.affine)
    order = np.argsort(turned[:, 0])
    own = np.array(native.spacing_mm)[order]
    wanted = np.array(spacing if len(spacing) == 3 else spacing * 3) if spacing else own
    if native.is_axis_aligned and np.allclose(wanted, own) and math.prod(native.shape) <= LARGEST_GRID_VOXELS:
        affine = native.affine @ nib.orientations.inv_ornt_aff(turned, native.shape)
        i, j, k = (native.shape[n] for n in order)
        return Grid((i, j, k), _exactly_aligned(affine)), ""
    return _covering(native, wanted, forced=bool(spacing))


def normalisation(image: Volume, modality: str) -> tuple[float, float]:
    """(centre, scale) of the intensities: CT by HU, MR by median and robust sigma deep in the body (series.FED)."""
    if modality == "ct":
        return CT_CENTRE_HU, CT_SCALE_HU
    i, j, k = (max(1, round(COARSE_MM / s)) for s in image.grid.spacing_mm)
    values = image.data[::i, ::j, ::k]
    # In a noisy image single voxels of the air are as bright as some of the body; their mean over COARSE_MM is not.
    mean = ndimage.uniform_filter(image.data.astype(np.float32), (i, j, k))[::i, ::j, ::k]
    body = np.minimum(values, mean) > _darkest_body(mean)
    deep = _deep(body, tuple(s * n for s, n in zip(image.grid.spacing_mm, (i, j, k), strict=True)))
    typical = values[deep if np.count_nonzero(deep) > LEAST_DEEP * np.count_nonzero(body) else body]
    if typical.size < 10:
        typical = values.ravel()
    first, middle, third = np.percentile(typical, (25, 50, 75))
    sigma = float(third - first) / IQR_PER_SIGMA
    return float(middle), SIGMAS_PER_UNIT * (sigma if sigma > 0 else max(float(typical.std()), 1e-6))


def _deep(body: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> npt.NDArray[np.bool_]:
    """The voxels of the body more than DEEP_MM under its surface; where the image ends is no surface."""
    sides = [(1 + int(DEEP_MM / s),) * 2 for s in spacing_mm]
    wide = np.pad(ndimage.binary_opening(body, np.ones((3, 3, 1))), sides, mode="edge")  # noise in the air is no body
    closed = _distance_to(wide, spacing_mm) <= CLOSED_MM
    solid = ndimage.binary_fill_holes(_distance_to(~closed, spacing_mm) > CLOSED_MM)
    depth = _distance_to(~solid, spacing_mm)[tuple(slice(a, -b) for a, b in sides)]
    return body & (depth > DEEP_MM)


def _distance_to(mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> FloatArray:
    """mm from each voxel to the nearest of ``mask``; infinitely far from an empty one."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    distance: FloatArray = ndimage.distance_transform_edt(~mask, spacing_mm)
    return distance


def _darkest_body(values: FloatVolume) -> float:
    """The intensity above which a voxel is body; air may be noisy, or lie above blank slices and signal voids."""
    low, high = np.percentile(values, (0.5, 99))
    threshold = float(low + BODY_SHARE * (high - low))
    lowest = values == values.min()
    above = float(low + AIR_BELOW * (high - low))
    dark = values[(values < above) & ~lowest]
    if not dark.size or np.count_nonzero(lowest) > AIR_DARKER * values.size:  # blank around the body: that is air
        return threshold
    counts, edges = np.histogram(dark, 128)
    n = int(counts.argmax())
    air = float(edges[n] + edges[n + 1]) / 2
    below = air - dark[dark < air].astype(np.float64)  # the half of the noise that no tissue mixes into
    spread = float(np.median(below)) / MEDIAN_PER_SIGMA if below.size else 0.0
    darker = np.count_nonzero(values < air - AIR_SIGMAS * spread)  # then this is muscle, say, and air lies below
    is_air = spread <= AIR_VARIES * (high - low) and darker <= AIR_DARKER * values.size
    return max(threshold, min(air + AIR_SIGMAS * spread, above)) if is_air else threshold


def body_mask(image: FloatVolume) -> npt.NDArray[np.bool_]:
    """(I, J, K): the body, brighter than the air around it, with the dark places inside it."""
    return np.asarray(ndimage.binary_fill_holes(image > _darkest_body(image)), dtype=bool)


# ---- small steps ----


def _anchor(visit: Visit, reference: Visit) -> str:
    shared = [m for m in ANCHOR_ORDER if m in visit.images and m in reference.images]
    return shared[0] if shared else next(m for m in ANCHOR_ORDER if m in visit.images)


def _lay(visit: Visit, reference: Visit, wanted: bool, note: str) -> Registration:
    """Registration of a visit, or the headers' own alignment when the person wants that."""
    anchor = _anchor(visit, reference)
    fixed = reference.images[anchor if anchor in reference.images else _anchor(reference, reference)]
    if wanted:
        found = register(visit.images[anchor], fixed, same_modality=anchor in reference.images)
    elif anchor in reference.images:
        found = judged(np.eye(4), agreement(visit.images[anchor], fixed, np.eye(4)), "not registered, as asked")
    else:
        found = Registration(np.eye(4), float("nan"), False, "not registered, as asked")
    return replace(found, note="; ".join(n for n in (found.note, note) if n))


def _itself(note: str) -> Registration:
    return Registration(np.eye(4), 1.0, True, note)


def _empty(series: Series, grid: Grid, reference: int) -> AlignedSeries:
    t, c = len(series.visits), len(series.modalities)
    return AlignedSeries(
        patient=series.patient,
        data=np.zeros((t, c, *grid.shape), dtype=np.float32),
        present=np.array([[m in v.images for m in series.modalities] for v in series.visits]),
        inside=np.zeros((t, *grid.shape), dtype=bool),
        modalities=series.modalities,
        days=series.days,
        dated=series.dated,
        grid=grid,
        centre=np.zeros((t, c), dtype=np.float32),
        scale=np.ones((t, c), dtype=np.float32),
        masks=(None,) * t,
        registrations=(),
        native_grids=tuple(v.images[_anchor(v, series.visits[reference])].grid for v in series.visits),
        reference=reference,
    )


def _fill(aligned: AlignedSeries, t: int, visit: Visit, registration: Registration) -> None:
    """Write one visit's images into the preallocated arrays."""
    for modalities in _on_the_same_voxels(visit):
        images = [visit.images[m] for m in modalities]
        reached = covered(images[0].grid, aligned.grid, registration.ref_to_visit)
        aligned.inside[t] |= reached
        laid = resample_all(images, aligned.grid, registration.ref_to_visit)
        for modality, image, moved in zip(modalities, images, laid, strict=True):
            c = aligned.modalities.index(modality)
            centre, scale = normalisation(image, modality)
            darkest = (float(image.data.min()) - centre) / scale
            aligned.data[t, c] = np.where(reached, _normalised(moved, centre, scale), np.float32(darkest))
            aligned.centre[t, c], aligned.scale[t, c] = centre, scale


def _on_the_same_voxels(visit: Visit) -> list[list[str]]:
    """The modalities of a visit, together where their images lie on the very same voxels."""
    together: list[list[str]] = []
    for modality, image in visit.images.items():
        for group in together:
            if visit.images[group[0]].grid.matches(image.grid, tolerance_mm=0):
                group.append(modality)
                break
        else:
            together.append([modality])
    return together


def _normalised(image: FloatVolume, centre: float, scale: float) -> FloatVolume:
    array: FloatVolume = np.asarray(NormalizeIntensity(subtrahend=centre, divisor=scale)(image), dtype=np.float32)
    return array


def _exactly_aligned(affine: FloatArray) -> FloatArray:
    """The affine with its last traces of rotation (below the tolerance of Grid.is_axis_aligned) set to zero."""
    exact = np.eye(4)
    exact[:3, :3] = np.diag(np.linalg.norm(affine[:3, :3], axis=0))
    exact[:3, 3] = affine[:3, 3]
    return exact


def _covering(native: Grid, spacing: npt.NDArray[np.float64], forced: bool) -> tuple[Grid, str]:
    """An axis-aligned grid of this spacing around all voxels of ``native``, coarser when it would be too large."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in native.shape])).reshape(3, -1).T
    low, high = native.to_mm(corners).min(axis=0), native.to_mm(corners).max(axis=0)
    wanted = spacing.copy()
    while math.prod(np.maximum(np.round((high - low) / spacing), 1)) > LARGEST_GRID_VOXELS:
        spacing = np.maximum(spacing, min(spacing) * COARSENING)
    i, j, k = (max(1, int(n)) for n in np.round((high - low) / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (low + high) / 2 - (np.array([i, j, k]) - 1) / 2 * spacing
    note = ""
    if not np.allclose(spacing, wanted):
        shown = " x ".join(f"{s:.2f}" for s in spacing)
        note = (
            f"the common grid was made coarser ({shown} mm) to stay below {LARGEST_GRID_VOXELS // 10**6} million voxels"
        )
        if forced:
            note += "; the spacing asked for does not fit"
    return Grid((i, j, k), affine), note
