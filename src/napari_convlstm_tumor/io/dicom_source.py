"""The DICOM series a result was made from: the headers that a derived DICOM object refers to and is filed by."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, config
from pydicom.valuerep import validate_value

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.dicom_planes import Plane, read_header, read_planes
from napari_convlstm_tumor.io.dicom_stack import COSINE_TOLERANCE
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.io.nifti import is_single_file
from napari_convlstm_tumor.volume import FloatArray, Grid

# A frame this near (in voxels) to a slice of the grid is that slice; readers call a stack regular within as much.
SAME_SLICE = 0.01
# Attributes (type 2) that every object must state and many research files lack: unknown is written as empty.
IDENTITY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
# What a derived object needs of a source image; nothing else of it passes into a de-identified object.
GEOMETRY = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "NumberOfFrames",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
# Day 0 of every de-identified patient: one shift for all visits, so that intervals stay true (PS3.15 E.3.6).
FIRST_DATE = datetime.date(2000, 1, 1)
SEXES = ("M", "F", "O", "")
# Texts whose form the standard fixes: one of another form would make every object derived from it invalid.
CHECKED_VRS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM")


@dataclass(frozen=True, eq=False)
class DicomSource:
    """One DICOM series.

    headers: a dataset per file, without pixels. slices: which slice of the grid each frame is, in the order of the
    headers and their frames; None when the image was resampled as it was read (tilt, uneven slices).
    """

    headers: tuple[Any, ...]
    slices: tuple[int, ...] | None

    @property
    def first(self) -> Any:
        """The header that stands for all."""
        return self.headers[0]


def find_source(images: Mapping[str, tuple[Path, ...]], grid: Grid, order: Iterable[str]) -> DicomSource:
    """The series among a visit's ``images`` whose slices make up ``grid``; of several, the first in ``order``.

    Raises InputError when no image is DICOM, none has this grid, or its headers lack what a derived object needs.
    """
    series = [images[m] for m in order if m in images and not is_single_file(images[m][0])]
    if not series:
        raise InputError("Its images were not read from DICOM files: DICOM objects can only be made of DICOM images.")
    planes = [[plane for path in paths for plane in read_planes(path)] for paths in series]
    for test in (_slices, _covers):
        for paths, stack in zip(series, planes, strict=True):
            if test(stack, grid):
                return DicomSource(tuple(_header(path, grid.spacing_mm[2]) for path in paths), _slices(stack, grid))
    raise InputError("None of its DICOM series has the grid of the result. Give the files the analysis was made from.")


def deidentified(source: DicomSource, pseudonym: str, day: int | None) -> DicomSource:
    """The source with nothing of the patient but geometry and UIDs; dated by ``day`` alone (none when None)."""
    headers = tuple(_stripped(header, pseudonym, day) for header in source.headers)
    return replace(source, headers=headers)


# ---- geometry ----


def _slices(planes: list[Plane], grid: Grid) -> tuple[int, ...] | None:
    """The slice of the grid that each plane is, or None when they are not one to one."""
    if len(planes) != grid.shape[2] or not _same_planes(planes, grid):
        return None
    index = _first_voxels(planes, grid)
    numbers = np.rint(index[:, 2]).astype(int)
    off = np.abs(index - np.stack([np.zeros_like(numbers), np.zeros_like(numbers), numbers], axis=1))
    whole = np.array_equal(np.sort(numbers), np.arange(grid.shape[2]))
    return tuple(int(n) for n in numbers) if whole and off.max() <= SAME_SLICE else None


def _covers(planes: list[Plane], grid: Grid) -> bool:
    """True when parallel planes of the same pixels begin and end with the grid: it was resampled from them."""
    along = _first_voxels(planes, grid)[:, 2]
    ends = abs(float(along.min())) < 0.5 and abs(float(along.max()) - (grid.shape[2] - 1)) < 0.5
    return _same_planes(planes, grid) and ends


def _same_planes(planes: list[Plane], grid: Grid) -> bool:
    plane = planes[0]
    axes = grid.affine[:3, :2] / np.array(grid.spacing_mm[:2]) * np.array([[-1], [-1], [1]])  # RAS -> LPS
    turned = np.abs(axes - plane.orientation.reshape(2, 3).T).max() > COSINE_TOLERANCE
    return not turned and np.allclose(plane.spacing_mm, grid.spacing_mm[:2], rtol=1e-3)


def _first_voxels(planes: list[Plane], grid: Grid) -> FloatArray:
    """(n, 3) index in the grid of the first voxel of each plane."""
    return grid.to_index(np.array([plane.position for plane in planes]) * (-1, -1, 1))


# ---- headers ----


def _header(path: Path, spacing_mm: float) -> Any:
    header = read_header(path)
    for tag in ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not header.get(tag):
            raise InputError(f"{shown(path)} has no {tag}: no DICOM object can refer to it. Export the series again.")
    for element in list(header):
        if element.VR in CHECKED_VRS and element.keyword not in (*GEOMETRY, "PatientID") and not _sound(element):
            del header[element.tag]
    for tag in IDENTITY:
        if header.get(tag) is None:
            setattr(header, tag, "")
    header.PatientSex = header.PatientSex if header.PatientSex in SEXES else ""
    _state_measures(header, spacing_mm)
    return header


def _state_measures(header: Any, spacing_mm: float) -> None:
    """What all frames share where it is looked for, and a slice that does not say so as thick as slices are apart."""
    place = header
    if frames := header.get("PerFrameFunctionalGroupsSequence"):
        shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        for tag in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            if tag not in shared:
                shared[tag] = frames[0][tag]
        header.SharedFunctionalGroupsSequence = [shared]
        place = shared.PixelMeasuresSequence[0]
    if not place.get("SliceThickness"):
        place.SliceThickness = f"{spacing_mm:.6g}"


def _sound(element: Any) -> bool:
    """True when the values have the length and the form of their kind."""
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value or ""), config.RAISE)
    except ValueError:
        return False
    return True


def _stripped(header: Any, pseudonym: str, day: int | None) -> Any:
    kept = Dataset()
    for tag in GEOMETRY:
        if tag in header:
            kept[tag] = copy.copy(header[tag])
    for tag in IDENTITY:
        setattr(kept, tag, "")
    kept.PatientID = kept.PatientName = pseudonym
    if day is not None:
        kept.StudyDate = (FIRST_DATE + datetime.timedelta(days=day)).strftime("%Y%m%d")
    kept.LongitudinalTemporalInformationModified = "MODIFIED" if day is not None else "REMOVED"
    return kept
