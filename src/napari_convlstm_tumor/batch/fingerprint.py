"""What a result was made from: files, settings, weights, version. Only a result of the very same is taken as done.

The record holds digests only, so that neither a name nor a date can be read from it. Files are compared by name, size
and time of change; where only times differ (a copied folder), by content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_convlstm_tumor import __version__
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.model.segmenters import model_sha256
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import PATHS, Settings

KEY = "fingerprint"  # in run.json
PIECE = 1 << 20


def fingerprint(files: PatientFiles, settings: Settings) -> dict[str, str | None]:
    """The record to keep with a result. InputError: a file cannot be read; ModelError: bad weights."""
    return {**quick(files, settings), "content": content(files)}


def quick(files: PatientFiles, settings: Settings) -> dict[str, str | None]:
    """The record without the content of the images: nothing but their names, sizes and times is looked at."""
    return {
        "version": __version__,
        "files": _digest(_structure(files)),
        "times": _digest([_size_and_time(path) for path in _paths(files)]),
        "settings": _digest(_settings(settings)),
        "model": model_sha256(settings.model) if needs_network(files, settings) else None,
    }


def same(record: Any, files: PatientFiles, settings: Settings) -> bool:
    """True when a result with this record would come out again."""
    if not isinstance(record, dict):
        return False
    now = quick(files, settings)
    if any(record.get(key) != value for key, value in now.items() if key != "times"):
        return False
    return record.get("times") == now["times"] or record.get("content") == content(files)


def needs_network(files: PatientFiles, settings: Settings) -> bool:
    """False when every visit has a mask that is taken as it is."""
    return settings.masks != "use" or any(visit.mask is None for visit in files.visits)


def content(files: PatientFiles) -> str:
    """sha256 over the bytes of every file, in the order of visits."""
    digest = hashlib.sha256()
    for path in _paths(files):
        digest.update(_file_digest(path))
    return digest.hexdigest()


# ---- what goes into the digests ----


def _structure(files: PatientFiles) -> list[Any]:
    """Which file is which image of which visit, with names relative to the patient: the folder may be moved."""
    paths = [str(path.parent) for path in _paths(files)]
    root = os.path.commonpath(paths) if paths else ""

    def name(path: Path) -> str:
        return os.path.relpath(path, root)

    visits = [
        [v.day, {m: [name(p) for p in v.images[m]] for m in sorted(v.images)}, name(v.mask) if v.mask else None]
        for v in files.visits
    ]
    return [files.patient, files.dated, list(files.days), visits]


def _paths(files: PatientFiles) -> Iterator[Path]:
    for visit in files.visits:
        for modality in sorted(visit.images):
            yield from visit.images[modality]
        if visit.mask is not None:
            yield visit.mask


def _size_and_time(path: Path) -> tuple[int, int]:
    with _named(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns


def _settings(settings: Settings) -> dict[str, Any]:
    """Settings as plain values; a file that is named counts by its content, weights by their own sha256."""
    values = settings.to_dict() | {"model": None}
    for name in PATHS:
        path = getattr(settings, name)
        values[name] = None if path is None else [_file_digest(p).hex() for p in (path, *_named_in(path))]
    assert set(values) == {f.name for f in dataclasses.fields(settings)}
    return values


def _named_in(path: Path) -> list[Path]:
    """Files that a prompts file names: masks, relative to it."""
    if path.suffix.lower() != ".json":
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []  # its reader says what is wrong with it
    if not isinstance(entries, list):
        return []
    named = [e["path"] for e in entries if isinstance(e, dict) and isinstance(e.get("path"), str)]
    return [found for name in named if (found := path.parent / name).is_file()]


def _file_digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    if path.exists() and not path.is_file():  # would be waited for, or read, without end
        raise InputError(f"{shown(path)} is no file (a folder, pipe or device). Put the image itself in its place.")
    with _named(path), path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.digest()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read: {error.strerror or 'unknown reason'}.") from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
