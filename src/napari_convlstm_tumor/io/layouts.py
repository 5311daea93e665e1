"""How the visits of one patient lie in folders, for volumes in one file (DICOM series join in
``dicom_tags``).

Understood, alone or mixed: visit folders (dated, by day or week, numbered; files one level inside or nested,
e.g. anat/), files of several visits in one folder (study1_FLAIR), BIDS with sessions.tsv and scans.tsv, BraTS
PatientID-NNN-TTT, LUMIERE, SAILOR's intervals-days.txt, and one folder per kind (FLAIR/2019-03-01.nii.gz).
"""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from napari_convlstm_tumor.io.discover_draft import Candidate, Draft, Visit
from napari_convlstm_tumor.io.discover_tree import UNREADABLE, Folder, natural
from napari_convlstm_tumor.io.names import (
    TUMOR_WORD,
    When,
    ambiguous_date,
    kind_of,
    modality_of,
    owner,
    parse_when,
    plain,
    plain_number,
    stem,
)

# Folders that group files of one visit (or of all visits) and say nothing about time.
_NEUTRAL = re.compile(
    r"anat|images?|imgs?|nii|nifti|nii gz|volumes?|data|raw|native|scans?|series|dicoms?|dcm|masks?"
    r"|labels?|segs?|segmentations?|annotations?|rois?|ground ?truth|gt|derivatives|preprocessed|processed"
    r"|mri?|rtstruct"
)
SAILOR_FILE = "intervals-days.txt"
DERIVATIVES = "derivatives"
# Columns in which a sessions.tsv says the day when it has no acq_time.
_DAY_COLUMNS = ("day", "days", "days_since_baseline", "days_from_baseline")


@dataclass(frozen=True)
class Place:
    """Where a file was met: the visit it belongs to and the folders in between."""

    label: str = ""
    when: When | None = None
    inside: str = ""


def is_neutral(name: str) -> bool:
    """True for folders that group files without naming a visit or a patient: anat, masks, FLAIR."""
    return bool(_NEUTRAL.fullmatch(plain(name))) or (parse_when(name) is None and modality_of(name)[1])


def visit_folder(name: str, numbers_are_visits: bool = True) -> When | None:
    """When the visit was that a folder is named after, or None."""
    return parse_when(name) or (plain_number(name) if numbers_are_visits else None)


def places(folder: Folder, patient: str, place: Place | None = None) -> Iterator[tuple[Folder, Place]]:
    """Every folder of a patient that holds files, with the place its files belong to."""
    place = place or Place()
    yield folder, place
    for child in folder.folders:
        if child.name == DERIVATIVES:
            continue
        yield from places(child, patient, _inside(place, child, patient))


def _inside(place: Place, child: Folder, patient: str) -> Place:
    name = child.name[len(patient) :] if child.name.startswith(patient + "_") else child.name
    when = visit_folder(name, numbers_are_visits=place.when is None)
    if place.when is None and when is not None:
        return Place(child.name, when, place.inside)
    if when is not None and when.dated and place.when is not None and not place.when.dated:
        return Place(place.label, when, place.inside)
    passing = is_neutral(child.name) or not (child.volumes or child.dicom)
    if place.when is None and not place.label and not passing:
        return Place(child.name, None, place.inside)
    return replace(place, inside=f"{place.inside}/{child.name}".lstrip("/"))


def collect(folder: Folder, draft: Draft) -> None:
    """Put every volume below ``folder`` into the visit of ``draft`` it belongs to."""
    visits: dict[tuple[str, When | None], Visit] = {}
    for here, place in places(folder, draft.patient):
        for name, reason in here.left_out:
            draft.leave_out(name, reason)
        _tell_doubtful(here, folder, draft)
        for name in here.volumes:
            _put(here, place, name, draft, visits)
    nowhere = visits.get(("", None))
    if nowhere is not None and len(visits) > 1:
        del visits[("", None)]
        _leave_beside(draft, nowhere)
    draft.visits += visits.values()
    for visit in draft.visits:
        _date_from_files(visit)
    _refuse_ambiguous_dates(draft)
    _refuse_several_patients(folder, draft)
    _sailor(folder, draft)
    _bids(folder, draft)


def _tell_doubtful(here: Folder, patient: Folder, draft: Draft) -> None:
    """A visit that is there by its name and cannot be had, or may be another patient's, is not so in silence."""
    if any(reason == UNREADABLE for _, reason in here.left_out):
        draft.warn(f"The folder '{draft.shown(here.name)}' cannot be read: its images are missing here.")
    if not (here.linked or here.path.is_symlink()) or here.path.resolve().is_relative_to(patient.path.resolve()):
        return
    shown = draft.shown(here.name)
    if here.linked:
        draft.warn(f"'{shown}' is a link to a folder that is read at its own place: its images are missing here.")
    else:
        draft.warn(
            f"'{shown}' is a link to a folder outside the patient's: make sure that its images are this patient's."
        )


def _put(here: Folder, place: Place, name: str, draft: Draft, visits: dict[tuple[str, When | None], Visit]) -> None:
    kind = kind_of(name, place.inside, draft.patient)
    if kind.role == "aside":
        draft.leave_out(name, kind.reason)
        return
    label, when = place.label, place.when
    if not label and (when := when_of_file(name, draft.patient)):
        label = visit_label(when)
    visit = visits.setdefault((label, when), Visit(label, when))
    candidate = Candidate(name, (here.path / name,), kind.modality, place.inside)
    (visit.masks if kind.role == "mask" else visit.images).append(candidate)


def when_of_file(name: str, patient: str) -> When | None:
    """When a file's name says its visit was; the patient's own name (study-12) says so only if nothing else
    does."""
    own = stem(name)
    rest = own[len(patient) :] if patient and own.startswith(patient) else own
    return parse_when(rest) or parse_when(own)


def _leave_beside(draft: Draft, nowhere: Visit) -> None:
    for candidate in nowhere.images + nowhere.masks:
        draft.leave_out(candidate.name, "lies beside the visits and names none of them")
    if any(image.modality for image in nowhere.images):
        draft.warn("Some images lie beside the visits and belong to none of them; they are left out.")


def _date_from_files(visit: Visit) -> None:
    """A numbered folder whose files all carry one date was that day."""
    if visit.when is not None and visit.when.dated:
        return
    found = {w for c in visit.images + visit.masks if (w := parse_when(stem(c.name))) and w.dated}
    if len(found) == 1:
        visit.when = found.pop()


def visit_label(when: When) -> str:
    """A label for a visit that no folder names."""
    if when.date is not None:
        return when.date.isoformat()
    return f"day-{when.day:03d}" if when.day is not None else f"{when.scheme}-{when.order}"


def _refuse_ambiguous_dates(draft: Draft) -> None:
    if any(v.when is None and ambiguous_date(v.label) for v in draft.visits):
        draft.problem(
            "Folders are named by dates with the year last, which can be read in two ways. Name them "
            "year-month-day "
            "(2020-01-31), or list the visits in a CSV manifest."
        )


def _refuse_several_patients(folder: Folder, draft: Draft) -> None:
    """Files of several patients in one folder would become the visits of one: the worst of mistakes."""
    owners = {owner(name) for name in folder.volumes} - {""}
    if len(owners) > 1:
        draft.problem(
            f"The names of the files in one folder begin in {len(owners)} ways before the visit, as if they "
            "belonged to several patients. Give every patient a folder, or list them in a CSV manifest."
        )


# ---- days from side files ----


def _sailor(folder: Folder, draft: Draft) -> None:
    """SAILOR: intervals-days.txt holds the days between each session folder and the next, in order."""
    if SAILOR_FILE not in folder.texts:
        return
    sessions = sorted((f.name for f in folder.folders if parse_when(f.name)), key=natural)
    gaps = _whole_numbers(folder.path / SAILOR_FILE)
    if len(gaps) != len(sessions) - 1 or any(gap < 1 for gap in gaps):
        draft.warn(
            f"{SAILOR_FILE} does not hold one whole number of days between each of the {len(sessions)} "
            f"visits and the next; "
            "it is not used."
        )
        return
    days = dict(zip(sessions, [sum(gaps[:n]) for n in range(len(sessions))], strict=True))
    _redate(draft, {name: When(day=day) for name, day in days.items()})
    draft.layout = "SAILOR"


def _whole_numbers(path: Path) -> list[int]:
    try:
        return [int(float(word)) for word in path.read_text(encoding="utf-8").replace(",", " ").split()]
    except (OSError, ValueError, OverflowError):
        return []


def _bids(folder: Folder, draft: Draft) -> None:
    if not folder.name.startswith("sub-") or draft.layout == "SAILOR":
        return
    if any(child.name.startswith("ses-") or child.name == "anat" for child in folder.folders):
        draft.layout = "BIDS"
    times = _sessions_tsv(folder)
    for session in folder.folders:
        if session.name not in times and (when := _scans_tsv(session)):
            times[session.name] = when
    _redate(draft, times)


def _redate(draft: Draft, times: dict[str, When]) -> None:
    for visit in draft.visits:
        visit.when = times.get(visit.label, visit.when)


def _sessions_tsv(folder: Folder) -> dict[str, When]:
    times = {}
    for row in _table(folder, "_sessions.tsv"):
        name = row.get("session_id") or ""
        when = _acquired(row.get("acq_time")) or next((w for c in _DAY_COLUMNS if (w := _day(row.get(c)))), None)
        if when is not None:
            times[name if name.startswith("ses-") else f"ses-{name}"] = when
    return times


def _scans_tsv(session: Folder) -> When | None:
    """The earliest acq_time of the session's anatomical images."""
    rows = [r for r in _table(session, "_scans.tsv") if "anat/" in (r.get("filename") or "")]
    dates = [w.date for r in rows if (w := _acquired(r.get("acq_time"))) and w.date]
    return When(date=min(dates)) if dates else None


def _table(folder: Folder, ending: str) -> list[dict[str, str | None]]:
    name = next((n for n in sorted(folder.texts) if n.endswith(ending)), None)
    if name is None:
        return []
    try:
        with (folder.path / name).open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    except (OSError, ValueError, csv.Error):
        return []


def _acquired(text: str | None) -> When | None:
    try:
        return When(date=datetime.datetime.fromisoformat((text or "").strip()).date())
    except ValueError:  # n/a, or a time of day only
        return None


def _day(text: str | None) -> When | None:
    try:
        return When(day=round(float(text or "")))
    except (ValueError, OverflowError):
        return None


# ---- masks in BIDS derivatives ----


def add_derivative_masks(draft: Draft, dataset: Path, scan_one: list[Folder]) -> None:
    """Masks of derivatives/*/sub-XX that are named as a tumor; tissue and brain masks of other tools are
    not."""
    by_label = {v.label: v for v in draft.visits}
    for folder in scan_one:
        pipeline = folder.path.relative_to(dataset / DERIVATIVES).parts[0]
        for here, place in places(folder, draft.patient):
            visit = by_label.get(place.label)
            for name in here.volumes if visit is not None else ():
                kind = kind_of(name, "", draft.patient)
                tumor = TUMOR_WORD.search(plain(stem(name))) or TUMOR_WORD.search(plain(pipeline))
                if kind.role == "mask" and tumor and visit is not None:
                    visit.masks.append(Candidate(name, (here.path / name,), kind.modality, f"{DERIVATIVES}/{pipeline}"))
                elif kind.role != "image":
                    draft.leave_out(name, kind.reason or "a derived label file that is not named as a tumor")
