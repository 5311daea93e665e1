"""One patient's folders as they lie on disk: names only, each folder listed once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from napari_convlstm_tumor.io.names import VOLUME_ENDINGS

DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
# A DICOM file has these four letters after a preamble of 128 bytes (DICOM PS3.10, 7.1).
DICOM_MAGIC, DICOM_PREAMBLE = b"DICM", 128
# Endings that are surely no DICOM, so that the file need not be opened.
# fmt: off
OTHER_ENDINGS = frozenset([
    ".txt", ".json", ".csv", ".tsv", ".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".html", ".xml",
    ".yaml", ".yml", ".py", ".m", ".log", ".bval", ".bvec", ".mat", ".npy", ".npz", ".raw", ".zraw",
    ".h5", ".hdf5", ".pkl", ".xlsx", ".xls", ".docx", ".zip", ".tar", ".gz", ".tfm", ".lta", ".xfm",
    ".ini", ".toml", ".bak", ".tmp", ".safetensors",
])
# fmt: on
# Images that would need another reader: said, not passed over.
UNREAD_ENDINGS = frozenset((".hdr", ".img", ".mgz", ".mgh", ".mnc", ".par", ".rec"))
# Deeper than any archive we know; ends a tree that is not meant to be listed (a home folder, a disk).
DEEPEST = 12
RESULT_FILE = "run.json"
# Names of folders and files that are none of a person's images: hidden ones, and what macOS puts into archives.
HIDDEN = (".", "__MACOSX")
UNREADABLE = "the folder cannot be read"


@dataclass(frozen=True)
class Folder:
    """A folder: volumes and DICOM files by name, folders inside, and what could not be used with the
    reason.

    linked: a link to a folder that is listed at its own place, and therefore empty here.
    """

    name: str
    path: Path
    volumes: tuple[str, ...] = ()
    dicom: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    folders: tuple[Folder, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    linked: bool = False
    has_images: bool = field(init=False)
    has_dicom: bool = field(init=False)

    def __post_init__(self) -> None:
        inside = any(f.has_dicom for f in self.folders)
        object.__setattr__(self, "has_dicom", bool(self.dicom) or inside)
        images = bool(self.volumes) or self.has_dicom or any(f.has_images for f in self.folders)
        object.__setattr__(self, "has_images", images)

    def walk(self) -> Iterator[Folder]:
        """This folder and every folder inside it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


@dataclass(frozen=True)
class _Walk:
    """Where a listing began, and every folder it has been in."""

    root: Path
    seen: set[tuple[int, int]]


def scan(path: Path) -> Folder:
    """List a folder and everything inside. A symbolic link into the tree, or to a folder around it, is not followed."""
    root = path.resolve()
    return _scan(str(path), root.name, _Walk(root, set()), 0)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key: visit-2 before visit-10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.lower()) if part
    ]


def _scan(path: str, name: str, walk: _Walk, depth: int) -> Folder:
    here = Path(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - a path string is four times faster over thousands of folders
        with os.scandir(path) as listing:
            entries = [e for e in listing if not e.name.startswith(HIDDEN)]
    except OSError:
        return Folder(name, here, left_out=((name, UNREADABLE),))
    key = (status.st_dev, status.st_ino)
    if key in walk.seen:
        return Folder(name, here, linked=True)
    walk.seen.add(key)
    if depth and any(e.name == RESULT_FILE for e in entries):
        return Folder(name, here, left_out=((name, "results of an earlier run"),))
    if depth > DEEPEST:
        return Folder(name, here, left_out=((name, f"more than {DEEPEST} folders deep"),))
    return _listed(name, here, entries, walk, depth)


def _listed(name: str, here: Path, entries: list[os.DirEntry[str]], walk: _Walk, depth: int) -> Folder:
    files: dict[str, list[str]] = {"volume": [], "dicom": [], "text": [], "unread": []}
    folders = []
    # Real folders before links to them, so that the name of the real one counts.
    for entry in sorted(entries, key=lambda e: (e.is_symlink(), natural(e.name))):
        if not _is_folder(entry):
            files[_file_kind(entry)].append(entry.name)
        elif entry.is_symlink() and _is_listed(Path(entry.path).resolve(), walk.root):
            folders.append(Folder(entry.name, Path(entry.path), linked=True))
        else:
            folders.append(_scan(entry.path, entry.name, walk, depth + 1))
    return Folder(
        name=name,
        path=here,
        volumes=tuple(files["volume"]),
        dicom=tuple(files["dicom"]),
        texts=frozenset(files["text"]),
        folders=tuple(f for f in folders if f.has_images or f.left_out or f.texts or f.folders or f.linked),
        left_out=tuple((n, "this kind of file is not read; convert it to NIfTI") for n in files["unread"]),
    )


def _is_listed(target: Path, root: Path) -> bool:
    """True for a folder that the listing comes to without a link, and for those around its beginning."""
    if root.is_relative_to(target):
        return True
    return target.is_relative_to(root) and not any(p.startswith(HIDDEN) for p in target.relative_to(root).parts)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _file_kind(entry: os.DirEntry[str]) -> str:
    lowered = entry.name.lower()
    if lowered.endswith(VOLUME_ENDINGS):
        return "volume"
    if lowered.endswith(DICOM_ENDINGS):
        return "dicom"
    ending = os.path.splitext(lowered)[1]  # noqa: PTH122 - see above
    if ending in UNREAD_ENDINGS:
        return "unread"
    if ending in OTHER_ENDINGS or lowered == "dicomdir":
        return "text"
    return "dicom" if entry.is_file() and has_dicom_magic(entry.path) else "text"


def has_dicom_magic(path: str) -> bool:
    """True when the file begins as a DICOM file does; False also when it cannot be read."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - see above
            return stream.read(DICOM_PREAMBLE + 4)[DICOM_PREAMBLE:] == DICOM_MAGIC
    except OSError:
        return False
