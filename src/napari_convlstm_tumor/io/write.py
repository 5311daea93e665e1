"""Files written whole or not at all: a temporary file in the same folder, flushed to the disk, then moved
into place.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.names import guarded, unguarded
from napari_convlstm_tumor.volume import Grid

# The fastest level: a float volume is 5 % larger than at the usual level 6 and several times quicker to
# write.
GZIP_LEVEL = 1
# NIfTI code of scanner-based coordinates: every grid of this package lies in the scanner space of a visit.
SCANNER_CODE = 1
STORED_TYPES = (np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.uint16))


def write_nifti(path: Path, array: npt.NDArray[Any], grid: Grid, last_axis_visits: bool = False) -> None:
    """Write float32, uint8, uint16 or bool (as uint8) as .nii or .nii.gz, in mm, with sform and qform of code 1
    (scanner).

    array: (I, J, K) on ``grid``; with last_axis_visits (T, I, J, K), stored with the visit last: (I, J, K,
    T), step 1 without a unit. Raises GeometryError for another shape, InputError for another type or when it
    cannot be written.
    """
    data = np.moveaxis(array, 0, -1) if last_axis_visits else array  # (T, I, J, K) -> (I, J, K, T)
    if data.shape[:3] != grid.shape or data.ndim != (4 if last_axis_visits else 3):
        raise GeometryError(f"{path.name}: the array has shape {array.shape}, its grid {grid.shape}.")
    if data.dtype == bool:
        data = data.astype(np.uint8)
    if data.dtype not in STORED_TYPES:
        raise InputError(f"{path.name}: float32, uint8 or uint16 can be written, got {data.dtype}.")
    image = nib.Nifti1Image(data, grid.affine)
    image.set_sform(grid.affine, code=SCANNER_CODE)
    image.set_qform(grid.affine, code=SCANNER_CODE)
    image.header.set_xyzt_units("mm")
    with _replacing(path) as stream:
        if path.name.endswith(".gz"):
            # no name and time inside, so that the same array gives the same bytes
            with gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, line ends as given."""
    with _replacing(path) as stream:
        stream.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write as JSON: numpy values as plain ones, paths as text, NaN and infinity as null (JSON has none)."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the keys of the first as header; None and NaN as empty. Raises ValueError for a key
    only later.

    A text that a spreadsheet would compute (a patient called =HYPERLINK(...)) gets an apostrophe before it.
    """
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    write_text(path, buffer.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as text, keyed by its header; empty cells as '', what ``write_csv`` put before a text
    taken off. Raises InputError when it is no table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} cannot be read as a CSV table in UTF-8.") from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise InputError(f"{path.name}: row {number} has not as many cells as the header.")
    return [{key: unguarded(value) for key, value in row.items()} for row in rows]


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream to a temporary file that takes the place of ``path`` at the end, or vanishes on any error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the function the promise rests on, and tests replace
    except OSError as error:
        raise InputError(f"{path.name} cannot be written: {error.strerror or 'unknown reason'}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return guarded(value)
    return "" if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)) else value


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
