"""A CSV manifest: one row per image, for data whose folders say too little.

Columns: patient, path and, as far as known, day or date, modality, mask, visit. Comma, semicolon or tab;
UTF-8. patient: the name of the result folder. path: one volume, or the folder of one DICOM series; relative
to the CSV or absolute. day: whole number; date: year-month-day; visit: a number that gives the order when
there is neither. Rows of one patient with the same day, date or visit are one visit; mask may stand in any of
them, also in a row without a path. What is wrong in a row is a problem of its patient only, and names the
line.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.dicom_tags import group, read_header
from napari_convlstm_tumor.io.discover_draft import Candidate, Draft, Visit
from napari_convlstm_tumor.io.discover_tree import scan
from napari_convlstm_tumor.io.names import (
    VOLUME_ENDINGS,
    When,
    can_be_path,
    is_control,
    kind_of,
    shown,
    unguarded,
    without_dates,
)
from napari_convlstm_tumor.series import MODALITIES, parse_modality

REQUIRED = ("patient", "path")
COLUMNS = ("patient", "day", "date", "visit", "modality", "path", "mask")
LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class Row:
    """One line of the manifest: texts as they stand, stripped; line counts from 1, the header being line
    1. extra: cells with a text beyond the last column.
    """

    line: int
    values: dict[str, str]
    extra: int = 0

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")


def manifest_patients(path: Path) -> list[Draft]:
    """One draft per patient, in the order of the file. InputError when the file is no manifest."""
    drafts: dict[str, Draft] = {}
    starts: dict[str, int] = {}
    for row in _rows(path):
        name = row["patient"]
        if not name or name in (".", "..") or any(c in "/\\" or is_control(c) for c in name):
            raise InputError(f"{path.name}, line {row.line}: the patient is missing or is no name for a folder.")
        draft = drafts.setdefault(name, Draft(name, "CSV manifest"))
        try:
            _add(row, path.parent, draft)
            start = _start(row)
            if start is not None and starts.setdefault(name, start) != start:
                raise InputError("day and date do not fit those of the lines before. Leave one of the two columns.")
        except InputError as error:
            draft.problem(f"Manifest line {row.line}: {error}")
    if not drafts:
        raise InputError(f"{path.name} has a header but no rows. Add one row per image.")
    return list(drafts.values())


def _rows(path: Path) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read as UTF-8 text. Save it as CSV, UTF-8.") from error
    header = text[:LONGEST_HEADER].split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [n.strip().lower() for n in next(reader, [])]
        _check_names(names, path)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(reader.line_num, names, [unguarded(c.strip()) for c in cells])
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: this is no line of a CSV table ({error}).") from error


def _check_names(names: list[str], path: Path) -> None:
    missing = [c for c in REQUIRED if c not in names]
    if missing:
        raise InputError(
            f"{path.name} has no column {' and no column '.join(repr(m) for m in missing)}. A manifest "
            f"has the columns "
            f"{', '.join(COLUMNS)}; only {' and '.join(REQUIRED)} are required."
        )
    twice = [c for c in COLUMNS if names.count(c) > 1]
    if twice:
        raise InputError(f"{path.name} has the column {twice[0]!r} twice. Leave one.")


def _row(line: int, names: list[str], cells: list[str]) -> Row:
    extra = sum(map(bool, cells[len(names) :]))
    return Row(line, dict(zip(names, cells, strict=False)), extra)


def _add(row: Row, base: Path, draft: Draft) -> None:
    if row.extra:
        raise InputError("there are more cells than columns: put what holds a comma into quotes.")
    when = _when(row)
    visit = next((v for v in draft.visits if v.when == when), None)
    if visit is None:
        # A line that is wrong must not leave an empty visit behind, so the visit joins the draft last.
        visit = Visit(row["visit"] or f"line {row.line}", when)
    images, masks = _image(row, base, draft), _mask(row, base)
    if not images and not masks:
        raise InputError("neither path nor mask is given.")
    for mask in masks:
        if visit.masks and visit.masks[0].paths != mask.paths:
            raise InputError(f"a second mask ({without_dates(mask.name)}) for the same visit; give one.")
    kinds = {image.modality for image in visit.images}
    if any(image.modality in kinds for image in images):
        kind = images[0].modality or "unnamed"
        raise InputError(f"a second {kind} image for the same visit; give each visit its day, date or number.")
    visit.images += images
    visit.masks = visit.masks or masks
    if visit not in draft.visits:
        draft.visits.append(visit)


def _when(row: Row) -> When | None:
    if row["day"]:
        return When(day=_whole(row, "day"))
    if row["date"]:
        try:
            return When(date=datetime.date.fromisoformat(row["date"]))
        except ValueError as error:
            raise InputError("the date is not written year-month-day (2020-01-31).") from error
    return When(order=_whole(row, "visit"), scheme="visit") if row["visit"] else None


def _start(row: Row) -> int | None:
    """The day 0 (proleptic ordinal) of a row that gives both its day and its date: one and the same for a patient."""
    when = _when(Row(row.line, row.values | {"day": ""}))
    return when.date.toordinal() - _whole(row, "day") if row["day"] and when and when.date else None


def _whole(row: Row, column: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", row[column]):
        raise InputError(f"{column} is a whole number, got {reprlib.repr(row[column])}.")
    return int(row[column])


def _image(row: Row, base: Path, draft: Draft) -> list[Candidate]:
    if not row["path"]:
        return []
    path = _existing(row["path"], base)
    if path.is_dir():
        return [_dicom(path, row["modality"])]
    if not path.name.lower().endswith(VOLUME_ENDINGS):
        return [_dicom_file(path, row["modality"])]
    kind = kind_of(path.name, "", draft.patient)
    if kind.role == "mask" and not row["modality"]:
        raise InputError(f"{shown(path)} is a mask by its name; put it into the column mask, or say its modality.")
    modality = parse_modality(row["modality"]) if row["modality"] else kind.modality
    return [Candidate(path.name, (path,), modality)]


def _dicom(folder: Path, modality: str) -> Candidate:
    here = scan(folder)
    headers = [h for f in here.walk() for n in f.dicom if (h := read_header(f.path / n))]
    series = [s for s in group(headers) if not s.is_mask]
    if len(series) != 1:
        raise InputError(f"the folder {shown(folder)} holds {len(series)} DICOM image series; give the folder of one.")
    kind = parse_modality(modality) if modality else series[0].modality
    return Candidate(folder.name, series[0].paths, kind, "", series[0].slices, series[0].header.frame)


def _dicom_file(path: Path, modality: str) -> Candidate:
    header = read_header(path)
    if header is None:
        raise InputError(f"{shown(path)} is neither DICOM nor one of {', '.join(VOLUME_ENDINGS)}.")
    series = group([header])[0]
    kind = parse_modality(modality) if modality else series.modality
    return Candidate(path.name, (path,), kind, "", series.slices, header.frame)


def _mask(row: Row, base: Path) -> list[Candidate]:
    if not row["mask"]:
        return []
    path = _existing(row["mask"], base)
    if path.is_dir():
        raise InputError(f"the mask {shown(path)} is a folder; give one label file.")
    modality = row["modality"].lower()
    return [Candidate(path.name, (path,), modality if modality in MODALITIES else "")]


def _existing(text: str, base: Path) -> Path:
    if not can_be_path(text):
        raise InputError("the path is longer than a path can be, or has a character that none can have.")
    try:
        path = base / Path(text).expanduser()
        there = path.exists()
    except (OSError, RuntimeError) as error:  # a link in a loop, a folder one may not enter, ~nobody
        raise InputError(f"{shown(Path(text))} cannot be looked for (paths are relative to the manifest).") from error
    if not there:
        raise InputError(f"{shown(path)} does not exist (paths are relative to the manifest).")
    return path
