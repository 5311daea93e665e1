"""The pixels of DICOM slices in real values (HU): plain ones straight from the file, the others decoded by GDCM.

GDCM, through SimpleITK, knows the compressed transfer syntaxes; what it cannot decode goes to pydicom.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.dicom_planes import PIXELS, Plane
from napari_convlstm_tumor.io.dicom_stack import Image
from napari_convlstm_tumor.io.headers import check_bytes, check_size
from napari_convlstm_tumor.io.names import shown

# Whole numbers up to here, and 16 bits more, are exact in float32.
LARGEST_EXACT = 1 << 23
PIXEL_TAGS = [
    PIXELS, "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "SOPClassUID",
    "RealWorldValueMappingSequence",
]  # fmt: skip
# Compressed slices that GDCM decodes in one call: the call costs little then, and holds few slices twice.
FILES_AT_A_TIME = 32


def read_pixels(planes: Sequence[Plane], headers: Mapping[Path, Any]) -> Image:
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
