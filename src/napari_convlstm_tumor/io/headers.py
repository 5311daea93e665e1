"""Is what a file's header promises possible, before a reader believes it and takes the memory for it?"""

from __future__ import annotations

import gzip
import logging
import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.names import shown

# 1,000 x 1,000 x 1,000: four times the largest CT in use; as float32 it takes 4 GB.
LARGEST_IMAGE_VOXELS = 1_000_000_000
# Deflate shrinks zeros to 1/1032; beyond a gigabyte an image packed better than 1/300 is a trap, not a scan.
TIGHTEST_PACKING, TIGHTEST_PACKING_LARGE = 1032, 300
LARGE_BYTES = 2**30
# Room for the largest extensions that are written (DICOM headers, histories) between a NIfTI header and its image.
LATEST_IMAGE_BYTE = 2**26
GZIP_MAGIC = b"\x1f\x8b"
MOST_DIMENSIONS = 7
# Bytes behind an image that are read to come to the checksum at the end of a packed file.
LONGEST_TAIL = 2**24
# The transfer syntax (PS3.5 A.5) of DICOM files that must be unpacked whole before one tag of them can be read, and how
# many bytes from the beginning of a file it is named in.
DEFLATED_DICOM, META_BYTES = b"1.2.840.10008.1.2.1.99", 4096
# A header of a MetaImage or NRRD that is longer than this is none.
LONGEST_TEXT_HEADER = 2**16
# Fields of a NRRD or MetaImage header that say where its axes point; the size of its voxels; what a NRRD calls no unit.
POSITION_FIELDS = ("space", "space dimension", "transformmatrix", "rotation", "orientation")
VOXEL_SIZE_FIELDS = ("space directions", "spacings", "elementspacing")
NO_UNITS = frozenset(("", "none", "???"))
# What a damaged packed file raises while it is unpacked.
UNPACKING_ERRORS = (OSError, EOFError, zlib.error)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Layout:
    """Where the fields of a NIfTI header stand: (offset, struct format)."""

    length: int
    dim: tuple[int, str]
    bits: tuple[int, str]
    first_byte: tuple[int, str]
    scale: tuple[int, str]


NIFTI_1 = _Layout(348, (40, "8h"), (72, "h"), (108, "f"), (112, "2f"))
NIFTI_2 = _Layout(540, (16, "8q"), (14, "h"), (168, "q"), (176, "2d"))


def open_packed(path: Path) -> IO[bytes]:
    """The file, unpacked when its first bytes say gzip, whatever its name says."""
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def read_to_the_end(stream: IO[bytes]) -> int:
    """Read what is left, so that a packed file checks its checksum; raises what a damaged one raises.

    Answers how many bytes that were, of LONGEST_TAIL at most.
    """
    read = 0
    while read < LONGEST_TAIL and (found := stream.read(2**20)):
        read += len(found)
    return read


def check_nifti(path: Path) -> bool:
    """Refuse a NIfTI file whose header cannot be true, with InputError; True for NIfTI-2.

    An impossible number of dimensions, a size below 1, more voxels than any scan has, an image that begins where none
    can, a scale that is not finite, and fewer bytes in the file than the image needs. UNPACKING_ERRORS pass through.
    """
    with open_packed(path) as stream:
        raw = stream.read(NIFTI_2.length)
        packed = isinstance(stream, gzip.GzipFile)
    layout, order = _layout(raw)

    def field(place: tuple[int, str]) -> tuple[float, ...]:
        return struct.unpack_from(order + place[1], raw, place[0])

    count, *dims = (int(n) for n in field(layout.dim))
    if not 1 <= count <= MOST_DIMENSIONS:
        raise InputError(f"The header says {count} dimensions. It is damaged: export the image again.")
    voxels = check_size(dims[:count])
    first, (slope, shift) = field(layout.first_byte)[0], field(layout.scale)
    if not (first == 0 or layout.length <= first <= LATEST_IMAGE_BYTE):
        raise InputError(f"The header says that the image begins at byte {first:.0f}. It is damaged: export it again.")
    # a slope of 0 or NaN means: not scaled; with one below 0 bright is dark
    if math.isinf(slope) or math.isinf(shift) or slope < 0 or (slope > 0 and math.isnan(shift)):
        raise InputError(f"The header says that values are scaled by {slope:g} and {shift:g}. Export the image again.")
    check_bytes(int(first) + voxels * int(field(layout.bits)[0]) // 8, path, packed)
    return layout is NIFTI_2


def check_size(sizes: Sequence[int]) -> int:
    """Number of voxels; InputError when a size is below 1 or no image has so many."""
    if min(sizes, default=0) < 1:
        raise GeometryError(f"The header says the size {tuple(sizes)}; every size is at least 1. Export it again.")
    voxels = math.prod(sizes)
    if voxels > LARGEST_IMAGE_VOXELS:
        raise InputError(
            f"The header says the size {tuple(sizes)}: {voxels:.3g} voxels, at most {LARGEST_IMAGE_VOXELS:.0g} are "
            "read. Crop or downsample the image, or export it again if the size is wrong."
        )
    return voxels


def check_bytes(needed: int, path: Path, packed: bool) -> None:
    """InputError when a file cannot hold so many bytes of image, packed or not."""
    there = path.stat().st_size
    if not packed and there < needed:
        raise InputError(
            f"{there} of {needed} bytes of the image are there: it is truncated, or its header is damaged. Copy or "
            "export it again."
        )
    if packed and needed > there * (TIGHTEST_PACKING if needed < LARGE_BYTES else TIGHTEST_PACKING_LARGE):
        raise InputError(
            f"A packed file of {there} bytes cannot hold the {needed:.3g} bytes that its header promises: it is "
            "damaged or made to fill the memory. Copy or export it again."
        )


def is_readable_dicom(path: Path) -> bool:
    """False for what must not be opened as DICOM: a pipe or device, and a file that is packed as a whole."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return DEFLATED_DICOM not in stream.read(META_BYTES)


def check_text_header(path: Path) -> tuple[Path, bool]:
    """(the file with the pixels of a NRRD or MetaImage, packed?); InputError when they lie elsewhere or in several, and
    when the header says what ITK passes over: no voxel size, another unit than mm, values that are to be rescaled.
    """
    fields = _text_fields(path)
    _refuse_unsaid(fields)
    if not any(name in fields for name in POSITION_FIELDS):
        _log.warning("%s: the header gives no position; left and right may be swapped.", shown(path))
    named = fields.get("elementdatafile") or fields.get("data file") or fields.get("datafile") or "LOCAL"
    encoding = fields.get("encoding", "").lower()
    packed = encoding not in ("", "raw") or fields.get("compresseddata", "").lower() == "true"
    if named.upper() == "LOCAL":
        return path, packed
    if named.upper().startswith("LIST") or "%" in named or len(named.split()) > 1:
        raise InputError("Its pixels lie in several files. Save the image as one file.")
    data = path.parent / named
    if not data.resolve().is_relative_to(path.parent.resolve()):
        raise InputError("Its pixels lie in another folder, which is not read. Put the header and its pixels together.")
    if not data.is_file():
        raise InputError(f"The file with its pixels ({shown(data)}) is missing. Copy it beside the header.")
    return data, packed


def _refuse_unsaid(fields: Mapping[str, str]) -> None:
    """ITK takes voxels of 1 mm when none are given, any unit for mm, and values as they are stored."""
    sizes = next((fields[name] for name in VOXEL_SIZE_FIELDS if name in fields), "")
    if not fields:
        return  # no header at all: the reader says so
    if not sizes or min(map(_number, fields.get("elementspacing", "1").split())) < 0:
        raise GeometryError(f"The header says the voxel size '{sizes}'. Export the image again, with its voxel size.")
    units = set(re.findall(r'"(.*?)"', fields.get("space units", "") + fields.get("units", ""))) - NO_UNITS
    if units - {"mm"}:
        raise GeometryError(f"The header says lengths in {', '.join(sorted(units))}. Export the image again, in mm.")
    slope, shift = (fields.get(f"elementtointensityfunction{n}", unit) for n, unit in (("slope", "1"), ("offset", "0")))
    if (_number(slope), _number(shift)) != (1.0, 0.0):
        raise InputError(
            f"The header says that values are scaled by {slope} and {shift}, which is not done here. Save the image "
            "with its values as they are."
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _text_fields(path: Path) -> dict[str, str]:
    """Names in lower case and values of a NRRD ("name: value") or MetaImage ("Name = value") header."""
    with path.open("rb") as stream:
        text = stream.read(LONGEST_TEXT_HEADER).decode("latin-1")
    separator = ":" if text.startswith("NRRD") else "="
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.partition(separator)
        if not line.strip():
            break
        if found:
            fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            break  # what follows are pixels
    return fields


def _layout(raw: bytes) -> tuple[_Layout, str]:
    """The kind of NIfTI header and its byte order, by the length that the header says it has."""
    for order in "<>":
        for layout in (NIFTI_1, NIFTI_2):
            if len(raw) >= layout.length and struct.unpack_from(order + "i", raw)[0] == layout.length:
                return layout, order
    raise ValueError("no NIfTI header")


def overflow_ignored() -> np.errstate:
    """While values are cast: what does not fit becomes infinite, which is counted and refused afterwards."""
    return np.errstate(over="ignore", invalid="ignore")
