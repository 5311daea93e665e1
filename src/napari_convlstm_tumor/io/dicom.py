"""One DICOM series (many files, or enhanced multi-frame) as a Volume.

The geometry is taken from the tags through pydicom and checked slice by slice; the pixels are decoded by GDCM
through SimpleITK, which knows the compressed transfer syntaxes and applies the rescale slope and intercept of
each file (HU).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.dicom_stack import (
    COSINE_TOLERANCE,
    FloatArray,
    Image,
    affine,
    describe_uneven,
    make_even,
    refuse_crooked,
    refuse_same_positions,
    straighten,
    tilt_degrees,
)
from napari_convlstm_tumor.io.headers import check_bytes, check_size, is_readable_dicom
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.volume import Grid, Volume

# With two slices nothing shows whether one between them is missing; such series are localisers.
FEWEST_SLICES = 3
SPACING_TOLERANCE_MM = 1e-3
# Values longer than this stay on the disk until they are asked for.
LONGEST_TAG = 4096
HEADER_TAGS = [
    "Modality", "SeriesInstanceUID", "Rows", "Columns", "PhotometricInterpretation", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip
# Whole numbers up to here, and 16 bits more, are exact in float32.
LARGEST_EXACT = 1 << 23
PIXELS = "PixelData"
PIXEL_TAGS = [
    PIXELS, "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "SOPClassUID",
    "RealWorldValueMappingSequence",
]  # fmt: skip

_log = logging.getLogger(__name__)

# Compressed slices that GDCM decodes in one call: the call costs little then, and holds few slices twice.
FILES_AT_A_TIME = 32


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


def read_dicom(paths: Sequence[Path], resample_uneven: bool = False) -> Volume:
    """The volume (I, J, K) float32 of one series; i along the rows, j down the columns, k along the slice
    normal.

    A tilted gantry is undone by shifting each slice in its plane (linear interpolation; no mixing of slices).
    Missing or uneven slices are refused with their positions, or interpolated when ``resample_uneven``.
    Refused with InputError or GeometryError: colour, several series, orientations, sizes or positions twice,
    fewer than 3 slices.
    """
    headers = {path: read_header(path, HEADER_TAGS + PIXEL_TAGS, with_pixels=True) for path in paths}
    planes = [plane for path, header in headers.items() for plane in planes_of(path, header)]
    _refuse_mixed(planes)
    axes = _axes(planes[0])
    planes.sort(key=lambda plane: float(plane.position @ axes[2]))
    offsets = np.array([plane.position for plane in planes]) @ axes.T  # (K, 3): mm along row, column, normal
    refuse_same_positions(offsets[:, 2])
    refuse_crooked(offsets)
    uneven = describe_uneven(offsets[:, 2])
    if uneven and not resample_uneven:
        raise GeometryError(
            f"Slices are missing or uneven: {uneven}. Export the whole series again, "
            "or accept interpolated slices with --resample-uneven."
        )
    data = _read_pixels(planes, headers)
    if tilt := tilt_degrees(offsets):
        _log.warning("%s: a tilt of %.1f degrees was corrected by resampling.", shown(paths[0]), tilt)
        data, offsets = straighten(data, offsets, planes[0].spacing_mm)
    if uneven:
        _log.warning("%s: missing or uneven slices were interpolated: %s.", shown(paths[0]), uneven)
        data, offsets = make_even(data, offsets)
    return Volume(data, Grid(data.shape, affine(offsets, axes, planes[0].spacing_mm)))


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


# ---- tags ----


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


# ---- checks ----


def _refuse_mixed(planes: Sequence[Plane]) -> None:
    first = planes[0]
    series = {plane.series for plane in planes}
    if len(series) > 1:
        raise InputError(f"The files belong to {len(series)} DICOM series. Give the files of one series.")
    sizes = Counter(plane.size for plane in planes)
    if len(sizes) > 1:
        raise InputError(f"The slices have different sizes: {', '.join(f'{w} x {h}' for w, h in sizes)} pixels.")
    for plane in planes:
        if np.max(np.abs(plane.orientation - first.orientation)) > COSINE_TOLERANCE:
            raise GeometryError(
                "The slices have different orientations (a localiser, or several stacks in one series), "
                f"for example {shown(first.path)} and {shown(plane.path)}. Give one stack."
            )
        if np.max(np.abs(np.subtract(plane.spacing_mm, first.spacing_mm))) > SPACING_TOLERANCE_MM:
            raise GeometryError(f"The slices have different pixel sizes: {first.spacing_mm} and {plane.spacing_mm} mm.")
    if len(planes) < FEWEST_SLICES:
        raise InputError(
            f"Only {len(planes)} slice(s); at least {FEWEST_SLICES} are needed to know their spacing. "
            "Export the whole series again."
        )


def _axes(plane: Plane) -> FloatArray:
    """(3, 3) orthonormal: rows are the directions along the image row, along the column, and their normal
    (LPS).
    """
    row, column = plane.orientation[:3], plane.orientation[3:]
    faults = [abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)]
    if max(faults) > 2 * COSINE_TOLERANCE:
        raise GeometryError(f"{shown(plane.path)} has an image orientation that is no right angle.")
    row = row / np.linalg.norm(row)
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal)
    return np.array([row, np.cross(normal, row), normal])


# ---- pixels ----


def _read_pixels(planes: Sequence[Plane], headers: Mapping[Path, Any]) -> Image:
    """(I, J, K) float32 in the order of the planes."""
    columns, rows = planes[0].size
    check_size((columns, rows, len(planes)))
    places: dict[Path, list[int]] = {}
    for k, plane in enumerate(planes):
        places.setdefault(plane.path, []).append(k)
    for path, ks in places.items():  # all of them before memory is taken for the image
        _refuse_short_pixels(path, headers[path], len(ks) * rows * columns)
    data = np.empty((len(planes), rows, columns), np.float32)  # (k, j, i)
    packed: list[int] = []
    for path, ks in places.items():
        members = [planes[k] for k in ks]
        frames = _plain_pixels(path, headers[path], members)
        if frames is None and len(ks) == 1:
            packed += ks
            continue
        frames = _decode(path, members) if frames is None else frames
        if frames.shape[1:] != (rows, columns) or len(frames) < len(ks):
            raise InputError(f"{shown(path)} holds pixels of another size than its header says. Export it again.")
        for k, plane in zip(ks, members, strict=True):
            data[k] = frames[plane.frame]  # one by one: a list of indices would copy the frames first
    for start in range(0, len(packed), FILES_AT_A_TIME):
        ks = packed[start : start + FILES_AT_A_TIME]
        data[ks] = _decode_slices([planes[k] for k in ks])
    return data.transpose(2, 1, 0)  # (k, j, i) -> (i, j, k)


def _refuse_short_pixels(path: Path, header: Any, voxels: int) -> None:
    """For GDCM fills up uncompressed pixels that are too few, and searches truncated files for seconds."""
    pixels = header.get_item(PIXELS, keep_deferred=True)
    if pixels is None:
        raise InputError(f"{shown(path)} holds no whole pixel data: it is truncated. Copy or export it again.")
    needed = voxels * int(header.get("BitsAllocated") or 16) // 8
    if _is_packed(header.file_meta.get("TransferSyntaxUID"), shown(path)):
        check_bytes(needed, path, packed=True)
        return
    if pixels.length > path.stat().st_size:
        raise InputError(f"{shown(path)} holds less than the pixels it announces: it is truncated. Copy it again.")
    if pixels.length < needed:
        raise InputError(
            f"{shown(path)} holds {pixels.length} bytes of pixels, {needed} are expected: the file is damaged. "
            "Copy or export it again."
        )


def _plain_pixels(path: Path, header: Any, members: Sequence[Plane]) -> Image | None:
    """(1, J, I) in real values straight from the file, in a third of GDCM's time; None when GDCM must look at it."""
    pixels = header.get_item(PIXELS, keep_deferred=True)
    if len(members) != 1 or not isinstance(pixels, RawDataElement) or not _is_plain(header, members[0]):
        return None
    columns, rows = members[0].size
    signed, bits = bool(header.PixelRepresentation), int(header.BitsStored)
    raw = np.fromfile(path, "<i2" if signed else "<u2", rows * columns, offset=pixels.value_tell)
    lowest = -(1 << (bits - 1)) if signed else 0
    if raw.size != rows * columns or raw.min() < lowest or raw.max() >= lowest + (1 << bits):
        return None  # overlays in the unused bits
    slope, intercept = members[0].rescale or (1.0, 0.0)
    # 16 bits and a whole number that is not large fit float32; else in double, as GDCM does
    exact = slope == 1 and float(intercept).is_integer() and abs(intercept) < LARGEST_EXACT
    values: Any = raw.astype(np.float32 if exact else np.float64).reshape(1, rows, columns)
    values *= slope
    values += intercept
    real: Image = values.astype(np.float32, copy=False)
    return real


def _is_plain(header: Any, plane: Plane) -> bool:
    """16-bit grey values, uncompressed, in one frame, whose rescale every reader takes the same way."""
    kind, mapped = header.get("SOPClassUID"), "RealWorldValueMappingSequence" in header
    same_rescale = kind == CTImageStorage or (
        not mapped and (kind == MRImageStorage or plane.rescale in (None, (1.0, 0.0)))
    )
    stored = header.get("BitsStored")
    return (
        same_rescale
        and plane.frame == 0
        and header.file_meta.get("TransferSyntaxUID") in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
        and (header.get("BitsAllocated"), header.get("SamplesPerPixel")) == (16, 1)
        and header.get("PixelRepresentation") in (0, 1)
        and isinstance(stored, int)
        and 1 <= stored <= 16
        and header.get("HighBit") == stored - 1
    )


def _is_packed(syntax: Any, name: str) -> bool:
    try:
        return syntax is not None and bool(syntax.is_compressed or syntax.is_deflated)
    except ValueError as error:  # pydicom's word for a UID that is no transfer syntax
        raise InputError(
            f"{name} has a transfer syntax that is not known. Convert the series, e.g. with gdcmconv --raw."
        ) from error


def _decode_slices(planes: Sequence[Plane]) -> Image:
    """(K, J, I) of files with one slice each, by GDCM in one call: a fifth faster than one by one.

    Where GDCM cannot, or gives what does not fit, each for itself, which names the file at fault.
    """
    columns, rows = planes[0].size
    with suppress(RuntimeError), _quiet_itk():
        names = [str(plane.path) for plane in planes]
        image = sitk.ReadImage(names, sitk.sitkFloat32, imageIO="GDCMImageIO")
        if image.GetSize() == (columns, rows, len(planes)):
            together: Image = sitk.GetArrayFromImage(image)
            return together
    alone = [(plane, _decode(plane.path, [plane])) for plane in planes]
    for plane, frames in alone:
        if frames.shape != (1, rows, columns):
            raise InputError(f"{shown(plane.path)} holds pixels of another size than its header says. Export it again.")
    return np.concatenate([frames for _, frames in alone])


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Without ITK's word on uneven slices, which read_dicom has of its own."""
    shows = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shows)


def _decode(path: Path, members: Sequence[Plane]) -> Image:
    """(frames, J, I) of one file in real values: by GDCM, which knows every compression, else by pydicom.

    GDCM applies one slope and intercept to the whole file, so frames that differ in them go to pydicom.
    """
    if len({plane.rescale for plane in members}) == 1:
        with suppress(RuntimeError):
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat32, imageIO="GDCMImageIO"))
            frames: Image = array.reshape(-1, *array.shape[-2:])
            return frames
    return _decode_pydicom(path, members)


def _decode_pydicom(path: Path, members: Sequence[Plane]) -> Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = pydicom.dcmread(path, force=True).pixel_array
    except (RuntimeError, ValueError, AttributeError, NotImplementedError, OSError) as error:
        raise InputError(
            f"The pixels of {shown(path)} cannot be decoded: damaged, or a compression that is not known here. "
            "Export it again, or convert it, e.g. with gdcmconv --raw."
        ) from error
    pixels: Image = raw.astype(np.float32).reshape(-1, *raw.shape[-2:])
    for plane in members:
        slope, intercept = plane.rescale or (1.0, 0.0)
        pixels[plane.frame] = pixels[plane.frame] * slope + intercept
    return pixels
