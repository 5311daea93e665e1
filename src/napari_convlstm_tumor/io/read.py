"""Pixels: one image, one mask, one visit, one patient. Every error says which visit and which file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import GeometryError, InputError, SeriesError
from napari_convlstm_tumor.io.dicom import read_dicom
from napari_convlstm_tumor.io.dicom_masks import belongs_to_series, read_dicom_mask
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.io.nifti import finite, is_single_file, read_single
from napari_convlstm_tumor.series import MODALITIES, PatientFiles, Series, Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid, Volume

# Fewer slices are a picture or a localiser: registration and volumes need three axes.
FEWEST_SLICES = 3
# Arbitrary units stay far within these; beyond them squares leave float32, and a file with them is mostly misread.
SMALLEST_VALUE, LARGEST_VALUE = 1e-12, 1e12
# Of an image far from zero float32 keeps fewer different values than the scanner gave.
FEWEST_STEPS = 100
# Every CT of a body shows fat (-100 HU) or air (-1000 HU) somewhere.
LOWEST_CT_HU = -50.0
# A label volume names a few tissues or lesions; more values than this is an image by mistake.
MOST_LABELS = 100
# No tumor fills more of its image, cropped as it may be (at most 23 % of 62 real ones): the mask of something else, or
# one that is inside out.
LARGEST_SHARE = 0.5
# So many labels are named in a warning.
MOST_SHOWN = 6
# A map of probabilities is nearly decided: it reaches 0.9 somewhere, and of the voxels above 0.1 fewer than
# half lie between 0.25 and 0.75. An image scaled to 0..1 is not like that, and a cut at 0.5 through it would
# be no tumor.
PROBABILITY_THRESHOLD = 0.5
PROBABILITY_REACHES = 0.9
PROBABILITY_BACKGROUND = 0.1
PROBABILITY_UNDECIDED = (0.25, 0.75)

_log = logging.getLogger(__name__)


def read_volume(paths: Sequence[Path], resample_uneven: bool = False) -> Volume:
    """One image as float32 (I, J, K): a NIfTI, NRRD, MHA or MHD file, or the files of one DICOM series.

    resample_uneven: interpolate missing or uneven DICOM slices instead of refusing them. Up to 0.1 % NaN or
    infinite voxels become background, more are refused. Raises InputError or GeometryError that names the
    file.
    """
    if not paths:
        raise InputError("No image files were given.")
    with about(shown(paths[0]) if len(paths) == 1 else f"{shown(paths[0])} and {len(paths) - 1} more"):
        singles = [path for path in paths if is_single_file(path)]
        if singles and len(paths) > 1:
            raise InputError(f"{len(paths)} files were given for one image. Give one file, or one DICOM series.")
        volume = read_single(paths[0]) if singles else read_dicom(paths, resample_uneven)
        _refuse_flat(volume)
        return Volume(finite(volume.data, shown(paths[0])), volume.grid)


def read_mask(path: Path, image_grid: Grid, image_paths: Sequence[Path] = ()) -> Volume:
    """A tumor mask as uint8 0/1 on its own grid; a label volume (every label above 0 is tumor), DICOM SEG or
    RTSTRUCT.

    image_grid: of the image it belongs to; contours are drawn on it, and a mask elsewhere in space is
    refused. image_paths: the files of that image; a DICOM mask is checked against them. An empty mask is a
    zero volume.
    """
    with about(shown(path)):
        if is_single_file(path):
            stored = read_single(path, dtype=None)
            labels = finite(stored.data, shown(path), fill=0)
            mask = Volume(_binary(labels), stored.grid)
            _warn_labels(labels)
        else:
            dicom_images = [p for p in image_paths if not is_single_file(p)]
            mask = read_dicom_mask(path, image_grid, dicom_images)
        _refuse_elsewhere(mask, image_grid, shown(path))
        _warn_large(mask, shown(path))
        return mask


def read_series(files: PatientFiles, settings: Settings) -> Series:
    """All visits of a patient. Raises InputError (or a child of it) with the number of the visit and the
    file.
    """
    if files.problems:
        raise SeriesError(" ".join(files.problems))
    visits = tuple(read_visit(files, index, settings) for index in range(len(files.visits)))
    _warn_copies(visits)
    return Series(files.patient, visits, dated=files.dated)


def read_visit(files: PatientFiles, index: int, settings: Settings) -> Visit:
    """Visit ``index`` (0-based, in the order of time): the images that settings.modality asks for, and the
    mask.
    """
    found = files.visits[index]
    with about(f"Visit {index + 1}"):
        chosen = _choose_modalities(found.images, settings.modality)
        images = {name: read_volume(paths, settings.resample_uneven) for name, paths in chosen.items()}
        for name, volume in images.items():
            file = shown(chosen[name][0])
            _refuse_constant(volume, file)
            _warn_two_values(volume, file)
            _warn_no_hounsfield(volume, name, file)
        mask = None
        if found.mask is not None and settings.masks != "ignore":
            owner = _owner(found.mask, chosen)
            mask = read_mask(found.mask, images[owner].grid, chosen[owner])
        return Visit(found.label, files.days[index], images, mask)


@contextmanager
def about(what: str) -> Iterator[None]:
    """Put what an error is about in front of its sentence; the kind of error stays."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{what}: {error}") from error


def _choose_modalities(images: Mapping[str, tuple[Path, ...]], wanted: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The images wanted (all when nothing is), in the order of MODALITIES; an unknown one counts as the only
    wanted.
    """
    chosen = {name: images[name] for name in MODALITIES if name in images and (not wanted or name in wanted)}
    if not chosen and len(wanted) == 1 and "other" in images:
        chosen = {wanted[0]: images["other"]}
    if not chosen:
        raise SeriesError(
            f"It has no image of the kind {' or '.join(wanted) or 'known'}; found: "
            f"{', '.join(images) or 'nothing'}. "
            "Choose another --modality or leave the visit out."
        )
    return chosen


def _owner(mask: Path, images: Mapping[str, tuple[Path, ...]]) -> str:
    """The modality whose DICOM series a DICOM mask names; else the first."""
    if not is_single_file(mask):
        for name, paths in images.items():
            if not is_single_file(paths[0]) and belongs_to_series(mask, paths[0]):
                return name
    return next(iter(images))


def _refuse_flat(volume: Volume) -> None:
    if min(volume.data.shape) < FEWEST_SLICES:
        raise GeometryError(
            f"The shape is {volume.data.shape}; at least {FEWEST_SLICES} slices are needed along every axis to measure "
            "a volume. Give the whole 3-D image."
        )


def _refuse_constant(volume: Volume, name: str) -> None:
    low, high = float(volume.data.min()), float(volume.data.max())
    if low == high:
        raise InputError(f"{name}: Every voxel has the value {low:g}; there is nothing to see. Export it again.")
    largest = max(-low, high)
    if not SMALLEST_VALUE <= largest <= LARGEST_VALUE or high - low < FEWEST_STEPS * float(
        np.spacing(np.float32(largest))
    ):
        raise InputError(
            f"{name}: The values run from {low:g} to {high:g}, which no scanner gives and float32 cannot hold well. "
            "Export it again with the values of the scanner."
        )


def _warn_two_values(volume: Volume, name: str) -> None:
    low, high = float(volume.data.min()), float(volume.data.max())
    if np.all((volume.data == low) | (volume.data == high)):
        _log.warning("%s: no values but %g and %g: a mask in place of an image?", name, low, high)


def _warn_no_hounsfield(volume: Volume, modality: str, name: str) -> None:
    low, high = float(volume.data.min()), float(volume.data.max())
    if modality == "ct" and low >= LOWEST_CT_HU:
        _log.warning(
            "%s: a CT without air or fat (values %g to %g); are these Hounsfield units? The network expects them.",
            name,
            low,
            high,
        )


def _warn_copies(visits: Sequence[Visit]) -> None:
    """Two scans never agree voxel for voxel, nor do two outlines: the one is a copy, and no growth means nothing."""
    for number, visit in enumerate(visits, start=1):
        for before, other in enumerate(visits[: number - 1], start=1):
            for modality in visit.images.keys() & other.images.keys():
                if np.array_equal(visit.images[modality].data, other.images[modality].data):
                    _log.warning(
                        "Visit %d has the very image (%s) of visit %d: growth between them means nothing: a copy?",
                        number,
                        modality,
                        before,
                    )
            if _same_tumor(visit.mask, other.mask):
                _log.warning("Visit %d has the very mask of visit %d: no change was measured: a copy?", number, before)


def _same_tumor(mask: Volume | None, other: Volume | None) -> bool:
    if mask is None or other is None or not mask.data.any():
        return False
    return np.array_equal(mask.data, other.data)


def _binary(data: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0/1 from labels (I, J, K), or from probabilities that are clearly so; anything else is refused."""
    low, high = (float(data.min()), float(data.max()))
    if low < 0:
        raise InputError(f"The mask has negative values (down to {low:g}). Give labels: 0 outside, 1 or more in tumor.")
    positive = data[data > 0]
    if positive.dtype.kind == "f" and np.any(positive != np.rint(positive)):
        _refuse_unclear(positive, high)
        return (data >= PROBABILITY_THRESHOLD).astype(np.uint8)
    labels = len(np.unique(positive))
    if labels > MOST_LABELS:
        raise InputError(
            f"The mask has {labels} different values; a label volume has at most {MOST_LABELS}. "
            "It looks like an image: give the mask."
        )
    return (data > 0).astype(np.uint8)


def _warn_large(mask: Volume, name: str) -> None:
    share = float(mask.data.mean())
    if share > LARGEST_SHARE:
        _log.warning("%s: it covers %.0f %% of its image: inside out, or not of a tumor?", name, 100 * share)


def _warn_labels(data: npt.NDArray[Any]) -> None:
    """Labels may be kinds of tissue: what counts must not go unsaid. Without the file's name: said once for all."""
    found = np.unique(data[data > 0])
    if len(found) < 2 or np.any(found != np.rint(found)):
        return
    shown = ", ".join(f"{label:g}" for label in found[:MOST_SHOWN]) + (", ..." if len(found) > MOST_SHOWN else "")
    _log.warning(
        "The mask has the labels %s: all of them count as tumor, in volumes and response too, also if one stands for "
        "edema, necrosis or a cavity. Give a mask of what is to be measured.",
        shown,
    )


def _refuse_unclear(positive: npt.NDArray[Any], high: float) -> None:
    likely = positive[positive > PROBABILITY_BACKGROUND]
    low_cut, high_cut = PROBABILITY_UNDECIDED
    undecided = np.count_nonzero((likely > low_cut) & (likely < high_cut)) / max(1, likely.size)
    if high > 1 or high < PROBABILITY_REACHES or undecided >= 0.5:
        raise InputError(
            f"The mask has values between whole numbers (up to {high:g}, {100 * undecided:.0f} % "
            "undecided) and is "
            "not clearly a map of probabilities. Threshold it first: 0 outside, 1 in the tumor."
        )


def _refuse_elsewhere(mask: Volume, image: Grid, name: str) -> None:
    """A mask must lie on its image; one that was saved without its position is told apart."""
    if mask.grid.matches(image):
        return
    if mask.grid.shape == image.shape and _is_unplaced(mask.grid) and not _is_unplaced(image):
        raise GeometryError(
            "The mask has the size of its image but no position (its affine is only a voxel size). "
            "Save it with the affine of the image."
        )
    if not _overlap(mask.grid, image):
        raise GeometryError("The mask lies outside its image in space. Give the mask drawn on this visit's image.")
    _warn_cut(mask, image, name)


def _overlap(a: Grid, b: Grid) -> bool:
    """False when the boxes of two grids surely have no point in common, seen along the axes of either."""
    return reaches(corners_mm(a), b) and reaches(corners_mm(b), a)


def corners_mm(grid: Grid) -> npt.NDArray[np.float64]:
    """(8, 3) RAS+ mm: the outer corners of the outermost voxels."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T
    return grid.to_mm(corners)


def reaches(points_mm: npt.NDArray[np.float64], grid: Grid) -> bool:
    """True when the box around points (n, 3) in RAS+ mm, drawn along the axes of the grid, meets the grid."""
    index = grid.to_index(points_mm)
    return bool(np.all(index.max(axis=0) > -0.5) and np.all(index.min(axis=0) < np.array(grid.shape) - 0.5))


def _is_unplaced(grid: Grid) -> bool:
    """An affine that only scales (or flips, as ITK's default does in RAS) and starts at the origin."""
    linear = grid.affine[:3, :3]
    return bool(np.allclose(grid.affine[:3, 3], 0) and np.allclose(linear, np.diag(np.diag(linear))))


def _warn_cut(mask: Volume, image: Grid, name: str) -> None:
    """Tumor voxels outside the image are not seen by the analysis: say how many; refuse when it is all of
    them.
    """
    voxels = np.argwhere(mask.data)
    if not len(voxels):
        return
    index = image.to_index(mask.grid.to_mm(voxels))
    outside = np.any((index < -0.5) | (index > np.array(image.shape) - 0.5), axis=1)
    if outside.all():
        raise GeometryError("The mask's tumor lies outside the image. Give the mask drawn on this visit's image.")
    if outside.any():
        _log.warning("%s: %.1f %% of the tumor lies outside the image.", name, 100 * outside.mean())
