"""The slices of a DICOM file from its tags: where each lies, which frame holds it, how its values are rescaled."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.dicom_stack import FloatArray
from napari_convlstm_tumor.io.headers import is_readable_dicom
from napari_convlstm_tumor.io.names import shown

# Values longer than this stay on the disk until they are asked for.
LONGEST_TAG = 4096
HEADER_TAGS = [
    "Modality", "SeriesInstanceUID", "Rows", "Columns", "PhotometricInterpretation", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip
PIXELS = "PixelData"


@dataclass(frozen=True)
class Plane:
    """One slice: where it lies (LPS mm), which frame of which file holds it, and its rescale when that is per
    frame.
    """

    path: Path
    frame: int
    series: str
    position: FloatArray
    orientation: FloatArray
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    rescale: tuple[float, float] | None = None


def read_header(path: Path, tags: Sequence[str] | None = None, with_pixels: bool = False) -> Any:
    """The DICOM tags of a file; the pixels left on the disk, and listed only when ``with_pixels``.

    The library's own warnings, which may quote private values, are silenced.
    """
    try:
        if not is_readable_dicom(path):
            raise ValueError("no file, or packed as a whole")
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(
                path,
                stop_before_pixels=not with_pixels,
                defer_size=LONGEST_TAG,
                force=True,
                specific_tags=tags,
            )
            _convert(header)
    except Exception as error:  # a damaged header can raise nearly anything (OverflowError, struct.error, ...)
        raise InputError(f"{shown(path)} is not a readable DICOM file. Copy or export it again.") from error
    return header


def _convert(header: Any) -> None:
    """Every value but the pixels now, while warnings are silenced."""
    pixels = header.get_item(PIXELS, keep_deferred=True) if PIXELS in header else None
    if pixels is not None:
        del header[PIXELS]
    header.walk(lambda *_: None)
    if pixels is not None:
        header[PIXELS] = pixels


def read_planes(path: Path) -> list[Plane]:
    """The slices of one file: a plain image, or the frames of an enhanced one."""
    return planes_of(path, read_header(path, HEADER_TAGS))


def planes_of(path: Path, header: Any) -> list[Plane]:
    """The same, of a header with at least HEADER_TAGS."""
    if "Rows" not in header or "Columns" not in header:
        kind = f"it is {header.Modality}" if header.get("Modality") else "it is not a DICOM image"
        raise InputError(f"{shown(path)} holds no image ({kind}).")
    if header.get("PhotometricInterpretation") != "MONOCHROME2":
        raise InputError(
            f"{shown(path)} has the colour model {header.get('PhotometricInterpretation')}, only "
            "grey-value images "
            "(MONOCHROME2) can be used. Give the original series, not a derived or screen-saved one."
        )
    if header.get("ModalityLUTSequence"):
        raise InputError(f"{shown(path)} needs a look-up table for its values (Modality LUT), which is not supported.")
    try:
        return [_plane(path, n, *groups) for n, groups in enumerate(_frame_groups(header))]
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise GeometryError(
            f"{shown(path)} lacks its position, orientation or pixel spacing. Give the original series, "
            "not a derived or screen-saved one."
        ) from error


def _frame_groups(header: Any) -> list[tuple[Any, Any, Any]]:
    """Per frame the datasets to look in: its own functional groups, the shared ones, the file itself."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames:
        shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
        return [(frame, shared[0], header) for frame in frames]
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ValueError("multi-frame without functional groups")
    return [(pydicom.Dataset(), pydicom.Dataset(), header)]


def _plane(path: Path, frame: int, own: Any, shared: Any, header: Any) -> Plane:
    def value(group: str, tag: str) -> Any:
        for place in (own, shared):
            if group in place:
                return place[group].value[0].get(tag)
        return header.get(tag)

    transform = "PixelValueTransformationSequence"
    slope, intercept = value(transform, "RescaleSlope"), value(transform, "RescaleIntercept")
    if slope is None and intercept is not None:
        slope = 1.0  # a step of 1 when only the shift is said, as GDCM takes it
    row_mm, column_mm = (float(s) for s in value("PixelMeasuresSequence", "PixelSpacing"))
    _refuse_odd_numbers(path, (row_mm, column_mm), slope, intercept)
    return Plane(
        path=path,
        frame=frame,
        series=str(header.get("SeriesInstanceUID", "")),
        position=_numbers(value("PlanePositionSequence", "ImagePositionPatient"), 3),
        orientation=_numbers(value("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        spacing_mm=(column_mm, row_mm),  # along i (next column), along j (next row)
        size=(int(header.Columns), int(header.Rows)),
        rescale=None if slope is None else (float(slope), float(intercept or 0)),
    )


def _refuse_odd_numbers(path: Path, spacing_mm: tuple[float, float], slope: Any, intercept: Any) -> None:
    """What decoders would pass over: GDCM reads on without a slope of 0, a slope below 0 makes bright dark, and a
    negative spacing mirrors the image.
    """
    if min(spacing_mm) <= 0:
        raise GeometryError(f"{shown(path)} has a pixel spacing of {spacing_mm} mm. Export the series again.")
    if slope is not None and not (0 < float(slope) < math.inf and math.isfinite(float(intercept or 0))):
        raise InputError(
            f"{shown(path)} has a rescale slope of {slope} and an intercept of {intercept}. Export the series again."
        )


def _numbers(values: Any, count: int) -> FloatArray:
    array = np.array([float(v) for v in values])
    if array.shape != (count,) or not np.all(np.isfinite(array)):
        raise ValueError(f"expected {count} finite numbers")
    return array
