"""Tumor masks in DICOM: SEG (through highdicom, on its own grid) and RTSTRUCT contours (drawn on the image's
grid).
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.errors import InvalidDicomError

from napari_convlstm_tumor.errors import GeometryError, InputError, MissingDependency
from napari_convlstm_tumor.io.dicom_planes import read_header
from napari_convlstm_tumor.io.dicom_stack import FloatArray
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.volume import Grid, Volume

Mask = npt.NDArray[np.uint8]

TUMOR_NAME = re.compile(r"gtv|tumou?r|lesion|neoplasm|metasta|\bmets?\b", re.IGNORECASE)
# "GTV 1", "GTV_2" and "GTV3" are lesions of one kind; "GTV_Mass" and "GTV_Edema" are not.
NUMBER_AT_END = re.compile(r"[\s_\-.#]*\d+$")
# A contour may lie this far from the middle of its slice, in slices; further off it was drawn on another
# image.
SLICE_TOLERANCE = 0.25
# Contours may pass the outermost voxel centres by this many voxels: drawn along the border of the image.
BORDER_VOXELS = 1.0
FEWEST_POINTS = 3
# Share of a contour's voxels that neighbours may have in common (their border voxels) without crossing.
TOUCHING = 0.1
FRACTION_THRESHOLD = 0.5
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
REFERENCE_TAGS = [
    "Modality", "FrameOfReferenceUID", "SeriesInstanceUID", "ReferencedFrameOfReferenceSequence",
    "ReferencedSeriesSequence", "StructureSetROISequence",
]  # fmt: skip

_log = logging.getLogger(__name__)


def read_dicom_mask(path: Path, image_grid: Grid, image_paths: Sequence[Path] = ()) -> Volume:
    """The tumor in a DICOM SEG or RTSTRUCT as 0/1 uint8.

    ``image_paths``: the DICOM files of the image it belongs to, when known; a mask of another series in
    another frame of reference is then refused.
    """
    header = read_header(path, REFERENCE_TAGS)
    if header.get("Modality") not in ("SEG", "RTSTRUCT"):
        kind = header.get("Modality") or "no DICOM file"
        raise InputError(f"A DICOM mask is a SEG or an RTSTRUCT, this is {kind}.")
    if image_paths and not _belongs(header, read_header(image_paths[0], REFERENCE_TAGS)):
        raise InputError(
            "The mask was made on another image: neither its series nor its frame of reference is "
            "that of the image "
            f"{shown(image_paths[0])}. Give the mask of this visit."
        )
    if header.Modality == "SEG":
        return _read_seg(path)
    return Volume(_read_rtstruct(path, image_grid), image_grid)


def belongs_to_series(mask: Path, image: Path) -> bool:
    """True when a DICOM mask names the series of this image file (or one in the same series)."""
    series = read_header(image, REFERENCE_TAGS).get("SeriesInstanceUID")
    return series in _references(read_header(mask, REFERENCE_TAGS))[0]


def _belongs(mask: Any, image: Any) -> bool:
    series, frames = _references(mask)
    return image.get("SeriesInstanceUID") in series or image.get("FrameOfReferenceUID") in frames


def _references(header: Any) -> tuple[set[Any], set[Any]]:
    """Series and frames of reference that a SEG or RTSTRUCT names."""
    series = {item.get("SeriesInstanceUID") for item in header.get("ReferencedSeriesSequence") or ()}
    frames = {header.get("FrameOfReferenceUID")}
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(frame.get("FrameOfReferenceUID"))
        for study in frame.get("RTReferencedStudySequence") or ():
            series |= {item.get("SeriesInstanceUID") for item in study.get("RTReferencedSeriesSequence") or ()}
    frames |= {roi.get("ReferencedFrameOfReferenceUID") for roi in header.get("StructureSetROISequence") or ()}
    return series - {None}, frames - {None}


# ---- SEG ----


def _read_seg(path: Path) -> Volume:
    try:
        import highdicom
    except ImportError as error:
        raise MissingDependency("A DICOM SEG mask", "highdicom", "dicom") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seg = highdicom.seg.segread(path)
            numbers = _tumor_segments(seg)
            fractions = seg.get_volume(segment_numbers=numbers, rescale_fractional=True)
    except (RuntimeError, ValueError, AttributeError, KeyError, OSError, InvalidDicomError) as error:
        raise InputError("The DICOM SEG cannot be read as a regular volume: damaged, or uneven slices.") from error
    data = np.any(np.asarray(fractions.array) >= FRACTION_THRESHOLD, axis=-1)  # (slice, row, column, segment)
    # highdicom's first index runs along its affine's first column; the order stays, LPS becomes RAS
    return Volume(data.astype(np.uint8), Grid(data.shape, LPS_TO_RAS @ fractions.affine))


def _tumor_segments(seg: Any) -> list[int]:
    """The only segment; of several, those whose label or type says tumor."""
    labels = {}
    for number in seg.segment_numbers:
        description = seg.get_segment_description(number)
        labels[number] = f"{description.segment_label} {description.segmented_property_type.meaning}"
    chosen = [n for n, label in labels.items() if len(labels) == 1 or TUMOR_NAME.search(label)]
    if not chosen:
        raise InputError(f"None of its {len(labels)} segments is named as a tumor. {_RENAME}")
    return chosen


# ---- RTSTRUCT ----

# Regions and segments are told by number: their names are free text, in which a patient's name may stand.
_RENAME = "Rename the one that is the tumor to 'GTV', or export it alone."


def _read_rtstruct(path: Path, grid: Grid) -> Mask:
    """(I, J, K) 0/1: the chosen contours filled, a contour inside another being a hole (even-odd rule)."""
    contours = _tumor_contours(read_header(path), shown(path))
    mask = np.zeros(grid.shape, np.uint8, order="F")
    if not contours:
        return mask
    indices = [grid.to_index(points * (-1, -1, 1)) for points in contours]  # LPS -> RAS -> voxel index
    axis = int(np.argmin(np.max([np.ptp(points, axis=0) for points in indices], axis=0)))
    outlines: dict[int, list[FloatArray]] = defaultdict(list)
    for points in indices:
        outlines[_slice_of(points, axis, grid)].append(np.delete(points, axis, axis=1))
    _warn_gaps(sorted(outlines), shown(path))
    for number, polygons in outlines.items():
        plane = np.moveaxis(mask, axis, 0)[number]
        plane[...] = _fill(plane.shape, polygons)
    return mask


def _tumor_contours(structure: Any, name: str) -> list[FloatArray]:
    """The contours of the tumor, each (points, 3) in LPS mm."""
    try:
        numbers = _tumor_rois(structure)
        regions = [r for r in structure.get("ROIContourSequence") or () if int(r.ReferencedROINumber) in numbers]
        return [contour for region in regions for contour in _roi_contours(region, name)]
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            "The RTSTRUCT lacks numbers of its regions or contours, or has texts in their place. Export it again."
        ) from error


def _tumor_rois(structure: Any) -> set[int]:
    """ROI numbers of the tumor: by interpreted type GTV or by name; several only when they differ by a number
    alone.
    """
    names = {int(r.ROINumber): str(r.get("ROIName", "")) for r in structure.get("StructureSetROISequence") or ()}
    types = {
        int(o.ReferencedROINumber): str(o.get("RTROIInterpretedType") or "")
        for o in structure.get("RTROIObservationsSequence") or ()
    }
    if not names:
        raise InputError("The RTSTRUCT has no regions (ROI).")
    chosen = {n for n, name in names.items() if TUMOR_NAME.search(name) or types.get(n) == "GTV"}
    chosen = chosen or (set(names) if len(names) == 1 else set())
    if not chosen:
        raise InputError(f"None of its {len(names)} regions is named as a tumor. {_RENAME}")
    if len({NUMBER_AT_END.sub("", names[n]).lower() for n in chosen}) > 1:
        listed = ", ".join(map(str, sorted(chosen)))
        raise InputError(f"Several regions may be the tumor: those with the numbers {listed}. {_RENAME}")
    return chosen


def _roi_contours(roi: Any, name: str) -> list[FloatArray]:
    """Closed contours of one region, each (points, 3) in LPS mm."""
    found = []
    for number, contour in enumerate(roi.get("ContourSequence") or (), start=1):
        kind = contour.get("ContourGeometricType")
        if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            raise InputError(f"Contour {number} is of the kind {kind}; only closed planar contours enclose a tumor.")
        values = np.array([float(v) for v in contour.get("ContourData") or ()])
        stated = int(contour.get("NumberOfContourPoints") or len(values) // 3)
        if len(values) != 3 * stated or not np.all(np.isfinite(values)):
            raise InputError(
                f"Contour {number} is broken: {stated} points stated, {len(values)} coordinates found "
                f"({3 * stated} expected, all finite). Export the RTSTRUCT again."
            )
        if stated < FEWEST_POINTS:
            _log.warning("%s: contour %d has %d point(s) and encloses nothing; left out.", name, number, stated)
            continue
        found.append(values.reshape(-1, 3))
    return found


def _slice_of(points: FloatArray, axis: int, grid: Grid) -> int:
    """The slice of the grid on which a contour (points, 3) in voxel indices lies, or GeometryError."""
    number = round(float(np.mean(points[:, axis])))
    off = float(np.max(np.abs(points[:, axis] - number)))
    if off > SLICE_TOLERANCE:
        raise GeometryError(
            f"A contour lies {off * grid.spacing_mm[axis]:.2f} mm off the nearest image slice (slices are "
            f"{grid.spacing_mm[axis]:.2f} mm apart): it was drawn on another image. Give the image "
            "it was drawn on."
        )
    beyond = np.maximum(-points, points - (np.array(grid.shape) - 1)) - BORDER_VOXELS
    beyond[:, axis] = max(-number, number - grid.shape[axis] + 1)
    outside = float(np.max(np.max(beyond, axis=0) * grid.spacing_mm))
    if outside > 0:
        raise GeometryError(
            f"A contour reaches {outside:.1f} mm outside the image: it was drawn on another image "
            "or the image is "
            "cropped. Give the image it was drawn on."
        )
    return number


def _warn_gaps(slices: Sequence[int], name: str) -> None:
    missing = slices[-1] - slices[0] + 1 - len(slices)
    if missing:
        _log.warning("%s: %d slice(s) between the first and the last contour have none.", name, missing)


def _fill(shape: tuple[int, ...], polygons: Sequence[FloatArray]) -> npt.NDArray[np.bool_]:
    """(A, B) inside an odd number of the nested polygons (points, 2), in pixel indices.

    Polygons side by side are joined; one stored twice counts once; polygons that cross are refused.
    """
    try:
        from skimage.draw import polygon2mask
    except ImportError as error:
        raise MissingDependency("An RTSTRUCT mask", "scikit-image", "dicom") from error
    filled = {mask.tobytes(): mask for mask in (polygon2mask(shape, polygon) for polygon in polygons) if mask.any()}
    inside, outlines = np.zeros(shape, bool), np.zeros(shape, bool)
    for mask in sorted(filled.values(), key=np.count_nonzero, reverse=True):
        covered = np.count_nonzero(mask & outlines) / np.count_nonzero(mask)
        if TOUCHING < covered < 1 - TOUCHING:
            raise InputError(
                "Two contours of the tumor cross each other on one slice, so what is inside is unclear. "
                "Mend them in the program they were drawn with."
            )
        inside = inside | mask if covered <= TOUCHING else inside ^ mask
        outlines |= mask
    return inside
