"""The visits found in a folder as a table to correct, and the corrections as a manifest. No Qt, no pixels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings

COLUMNS = ("patient", "day", "visit", "modality", "path", "mask")
SIZE_UNKNOWN = "–"
NIFTI_ENDINGS = (".nii", ".nii.gz")


@dataclass(frozen=True)
class ImageRow:
    """One image of a 0-based visit. day: None without dates. size: voxels, in words. note: about the visit."""

    visit: int
    day: int | None
    modality: str
    name: str
    size: str
    paths: tuple[Path, ...]
    mask: Path | None
    note: str


@dataclass(frozen=True)
class Found:
    """A patient as found, and a row per image."""

    files: PatientFiles
    rows: tuple[ImageRow, ...]


def find_steps(place: Path, settings: Settings) -> Iterator[Found]:
    """The visits in a folder or manifest, with the sizes of their images: one answer, nothing computed."""
    from napari_convlstm_tumor.io.discover import find_patient

    files = find_patient(place, settings)
    yield Found(files, tuple(rows_of(files)))


def rows_of(files: PatientFiles) -> Iterator[ImageRow]:
    """A row per visit and image, in the order of time."""
    for number, visit in enumerate(files.visits):
        note = " ".join(visit.notes)
        for (modality, paths), name in zip(visit.images.items(), _names(list(visit.images.values())), strict=True):
            yield ImageRow(number, visit.day, modality, name, size_of(paths), tuple(paths), visit.mask, note)


def _names(images: Sequence[Sequence[Path]]) -> list[str]:
    """The file of every image, or its folder of DICOM slices; with the folder above where they would read alike."""
    places = [paths[0] if len(paths) == 1 else paths[0].parent for paths in images]
    alike = len({place.name for place in places}) < len(places)
    return [f"{place.parent.name}/{place.name}" if alike else place.name for place in places]


def size_of(paths: Sequence[Path]) -> str:
    """'256 x 256 x 24', or the number of DICOM slices; headers only."""
    import nibabel as nib

    if not paths[0].name.lower().endswith(NIFTI_ENDINGS):
        return f"{len(paths)} slices" if len(paths) > 1 else SIZE_UNKNOWN
    try:
        return " x ".join(str(n) for n in nib.load(paths[0]).shape[:3])  # type: ignore[attr-defined]
    except (OSError, ValueError, nib.filebasedimages.ImageFileError):
        return "cannot be read"


def manifest_text(rows: Sequence[ImageRow], patient: str) -> str:
    """The rows as a manifest CSV, the program's own way to say what is what. InputError for a mixed DICOM folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        day = "" if row.day is None else str(row.day)
        visit = str(row.visit + 1) if row.day is None else ""
        mask = "" if row.mask is None else str(row.mask)
        writer.writerow((patient, day, visit, row.modality, str(_place(row)), mask))
    return text.getvalue()


def _place(row: ImageRow) -> Path:
    """The file, or the folder of a DICOM series."""
    if len(row.paths) == 1:
        return row.paths[0].absolute()
    folder = row.paths[0].parent
    if sum(place.is_file() for place in folder.iterdir()) != len(row.paths):
        raise InputError(
            f"The folder {folder.name} holds more than one DICOM series, so this visit cannot be corrected here. "
            "Move the series into a folder of its own."
        )
    return folder.absolute()
