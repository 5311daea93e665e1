"""DICOM series to visits: by study date, or by the folder's name where the headers do not tell.

The date in the headers counts. When series of several visit folders all carry one date (an anonymiser set
it), the folders' names count instead, with a warning. A mask goes to the visit of the images it refers to,
else to that of its frame of reference, else to that of its study.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from pathlib import Path

from napari_convlstm_tumor.io.dicom_tags import DicomSeries, Header, group, read_header
from napari_convlstm_tumor.io.discover_draft import Candidate, Draft, Visit
from napari_convlstm_tumor.io.discover_tree import Folder
from napari_convlstm_tumor.io.layouts import Place, places, visit_label
from napari_convlstm_tumor.io.names import When

Located = tuple[Header, Place]
# What anonymisers write in place of a patient ID: such IDs tell no patients apart.
PLACEHOLDER_IDS = frozenset(
    (
        "",
        "0",
        "anon",
        "anonymous",
        "anonymized",
        "anonymised",
        "unknown",
        "none",
        "patient",
        "deidentified",
        "removed",
        "xxx",
    )
)


def read_headers(folder: Folder, patient: str) -> tuple[list[Located], list[str]]:
    """(headers with their place, names of files that are no readable DICOM) below a folder."""
    found: list[Located] = []
    unreadable: list[str] = []
    for here, place in places(folder, patient):
        for name in here.dicom:
            header = read_header(here.path / name)
            if header is None:
                unreadable.append(name)
            else:
                found.append((header, place))
    return found, unreadable


def image_patients(located: list[Located]) -> list[str]:
    """The different patient IDs of MR and CT files, placeholders counted as one."""
    ids = {h.patient_id for h, _ in located if h.modality in ("MR", "CT")}
    return sorted({"" if i.lower() in PLACEHOLDER_IDS else i for i in ids})


def peek(folder: Folder) -> tuple[set[str], set[str]]:
    """(patient IDs, study UIDs) from one file of every folder: enough to tell a patient from a folder of
    patients."""
    ids, studies = set(), set()
    for here in folder.walk():
        header = next((h for name in here.dicom[:3] if (h := read_header(here.path / name))), None)
        if header is not None:
            ids.add(header.patient_id)
            studies.add(header.study)
    return ids, studies


def add_dicom(draft: Draft, located: list[Located]) -> None:
    """Put the series into the visits of ``draft``: new ones, or those of volumes found in the same folder."""
    place_of = {h.path: place for h, place in located}
    series = group(h for h, _ in located)
    images = [s for s in series if not s.is_mask]
    for item in images:
        if item.reason:
            draft.leave_out(item.name, item.reason)
    images = [s for s in images if not s.reason]
    whens = _folder_whens(images, place_of)
    by_folder = _one_date_for_several(images, whens)
    if by_folder:
        draft.warn("The DICOM headers give one date for several visit folders; the folders' names are used instead.")
    visits: dict[When | str, Visit] = {}
    home: dict[str, Visit] = {}
    for item in images:
        when = whens.get(item.header.series)
        if item.header.date is not None and not by_folder:
            when = When(date=item.header.date)
        visit = visits.setdefault(when or item.header.study, Visit(_label(when), when))
        home[item.header.series] = visit
        visit.images.append(_candidate(item))
    if any(s.from_times for s in images):
        draft.warn("The kind of some DICOM series was told from TR, TE and TI, because no description says it.")
    for mask in (s for s in series if s.is_mask):
        _put_mask(draft, mask, images, home)
    by_label: dict[str, list[Visit]] = defaultdict(list)
    for item in images:
        if home[item.header.series] not in by_label[place_of[item.paths[0]].label]:
            by_label[place_of[item.paths[0]].label].append(home[item.header.series])
    _join_volumes(draft, visits, by_label)


def _folder_whens(images: list[DicomSeries], place_of: dict[Path, Place]) -> dict[str, When]:
    """Series -> when its folder says it was. Numbers that differ within one study number its series."""
    by_study: dict[str, set[When | None]] = defaultdict(set)
    for item in images:
        by_study[item.header.study].add(place_of[item.paths[0]].when)
    whens = {}
    for item in images:
        when = place_of[item.paths[0]].when
        if when is not None and (when.dated or len(by_study[item.header.study]) == 1):
            whens[item.header.series] = when
    return whens


def _one_date_for_several(images: list[DicomSeries], whens: dict[str, When]) -> bool:
    """True when the headers date several visit folders alike, as some anonymisers do."""
    folders: dict[datetime.date, set[When]] = defaultdict(set)
    for item in images:
        if item.header.date is not None and (when := whens.get(item.header.series)):
            folders[item.header.date].add(when)
    return any(len(found) > 1 for found in folders.values())


def _label(when: When | None) -> str:
    return "study" if when is None else visit_label(when)


def _candidate(item: DicomSeries, modality: str | None = None) -> Candidate:
    return Candidate(
        name=item.name,
        paths=item.paths,
        modality=item.modality if modality is None else modality,
        slices=item.slices,
        frame=item.header.frame,
        series=item.header.series,
        refers_to=item.refers_to,
    )


def _put_mask(draft: Draft, mask: DicomSeries, images: list[DicomSeries], home: dict[str, Visit]) -> None:
    for test in (
        lambda s: s.header.series in mask.refers_to,
        lambda s: bool(mask.header.frame) and s.header.frame == mask.header.frame,
        lambda s: s.header.study == mask.header.study,
    ):
        drawn_on = [s for s in images if test(s)]
        places_found = {id(home[s.header.series]): home[s.header.series] for s in drawn_on}
        if len(places_found) == 1:
            modality = drawn_on[0].modality if len({s.modality for s in drawn_on}) == 1 else ""
            next(iter(places_found.values())).masks.append(_candidate(mask, modality))
            return
    draft.leave_out(mask.name, "refers to no image used here")


def _join_volumes(draft: Draft, visits: dict[When | str, Visit], by_label: dict[str, list[Visit]]) -> None:
    """A label volume beside a DICOM series belongs to its visit; an image volume beside one is a copy of
    unknown origin."""
    volumes, draft.visits = draft.visits, list(visits.values())
    for visit in volumes:
        same = by_label.get(visit.label, draft.visits if len(visits) == 1 and not visit.label else [])
        if len(same) != 1:
            draft.visits.append(visit)
            continue
        same[0].masks += visit.masks
        for image in visit.images:
            draft.leave_out(image.name, "a volume beside DICOM images of the same visit; the DICOM images are used")
