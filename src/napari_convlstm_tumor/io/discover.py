"""From a path to patients: which visits, images and masks there are. Reads names and DICOM headers, never
pixels.

A patient is a folder that holds images, or visit folders, or folders by kind of image; any other folder is a
folder of patients, at any depth. A CSV file is a manifest. DICOM folders without telling names belong to one
patient when their headers carry one patient ID or one study.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover_dicom import (
    PLACEHOLDER_IDS,
    Located,
    add_dicom,
    image_patients,
    peek,
    read_headers,
)
from napari_convlstm_tumor.io.discover_draft import Draft
from napari_convlstm_tumor.io.discover_finish import finish
from napari_convlstm_tumor.io.discover_nnunet import is_nnunet, nnunet_patients
from napari_convlstm_tumor.io.discover_tree import RESULT_FILE, UNREADABLE, Folder, natural, scan
from napari_convlstm_tumor.io.layouts import (
    DERIVATIVES,
    add_derivative_masks,
    collect,
    is_neutral,
    visit_folder,
)
from napari_convlstm_tumor.io.manifest import manifest_patients
from napari_convlstm_tumor.io.names import (
    VOLUME_ENDINGS,
    ambiguous_date,
    brats_patient,
    kind_of,
    printable,
    shown,
    without_dates,
)
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings

# Folders of a dataset that hold no patients: BIDS keeps other things under these names.
NOT_PATIENTS = frozenset((DERIVATIVES, "sourcedata", "code", "stimuli", "phenotype"))
# Folders without images, or images without a patient, that are named in a warning.
MOST_NAMED = 5
# 40 bits: two of 10,000 patients in one folder share them with a chance of 1 in 20,000, and then get -2 behind it.
HASH_DIGITS = 10

_log = logging.getLogger(__name__)


def find_patient(path: str | Path, settings: Settings | None = None) -> PatientFiles:
    """The one patient in a folder or CSV manifest.

    Raises InputError when the path does not exist, holds no image, or holds several patients. What makes the
    one patient unusable stands in ``problems``.
    """
    settings = settings or Settings()
    drafts = _drafts(Path(path), numbers_are_visits=True)
    if len(drafts) > 1:
        raise InputError(
            f"{_shown(Path(path))} holds {len(drafts)} patients, one is needed. Give the folder of one "
            f"patient, or use batch. "
            "If its folders are visits, name them by date (2020-01-31) or number (visit-1)."
        )
    return finish(drafts[0], settings)


def find_patients(path: str | Path, settings: Settings | None = None) -> list[PatientFiles]:
    """Every patient in a folder or CSV manifest, in natural order of names.

    Raises InputError when the path does not exist or holds no image. Each patient's trouble stands in its
    ``problems``.
    """
    settings = settings or Settings()
    return [finish(draft, settings) for draft in _drafts(Path(path), numbers_are_visits=False)]


def _drafts(path: Path, numbers_are_visits: bool) -> list[Draft]:
    drafts = _found(path, numbers_are_visits)
    _refuse_look_alikes(drafts)
    return drafts


def _found(path: Path, numbers_are_visits: bool) -> list[Draft]:
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv"):
            raise InputError(
                f"{_shown(path)} is a file. Give the folder of a patient, a folder of patients, or a CSV manifest."
            )
        return manifest_patients(path)
    if not path.is_dir():
        raise InputError(f"{_shown(path)} does not exist.")
    folder = scan(path)
    if RESULT_FILE in folder.texts:
        raise InputError(
            f"{_shown(path)} is a result folder of an earlier run. Give the folder with the patient's images."
        )
    if (folder.name, UNREADABLE) in folder.left_out:
        raise InputError(f"{_shown(path)} cannot be read. Ask for the permission to look into it.")
    if not folder.has_images:
        raise InputError(
            f"No image in {_shown(path)}. Looked for {', '.join(VOLUME_ENDINGS)} and DICOM files, in all folders."
        )
    if is_nnunet(folder):
        drafts = nnunet_patients(folder)
        _refuse_odd_names(drafts)
        return drafts
    patients = _patients_in(folder, numbers_are_visits)
    if len(patients) != 1 or patients[0].path != folder.path:
        _tell_passed_over(folder)
    drafts = [draft for patient in patients for draft in _draft_patient(patient, numbers_are_visits)]
    _refuse_odd_names(drafts)
    _make_names_unique(drafts, patients)
    return drafts


def _tell_passed_over(folder: Folder) -> None:
    """A patient whose copy failed, or that is a link to another one, must not be missing in silence."""
    there = {path.name for path in folder.path.iterdir() if path.is_dir() and not path.name.startswith(".")}
    empty = sorted(there - NOT_PATIENTS - {f.name for f in folder.folders if f.has_images}, key=natural)
    if empty:
        _log.warning("Passed over, for they hold no image of their own or cannot be read: %s.", _first_of(empty))


def _tell_beside(folder: Folder) -> None:
    """Images that lie beside folders of patients are nobody's."""
    if stray := sorted((*folder.volumes, *folder.dicom), key=natural):
        _log.warning("Passed over, for they lie beside the patients' folders: %s.", _first_of(stray))


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(printable(without_dates(name)) for name in names[:MOST_NAMED]) + more


def _refuse_odd_names(drafts: list[Draft]) -> None:
    """Such a name could be written to no table, and to a terminal it might be a command."""
    for draft in drafts:
        name = printable(draft.patient)
        if name != draft.patient:
            draft.patient = name
            draft.problem("The name has characters that are no text (another alphabet's bytes, a line end). Rename it.")


def _refuse_look_alikes(drafts: list[Draft]) -> None:
    """One patient named in two ways would be two with half the visits; on many disks their results are one folder."""
    alike: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        alike[unicodedata.normalize("NFC", draft.patient).casefold()].append(draft)
    for same in alike.values():
        for draft in same if len(same) > 1 else ():
            draft.problem("Another patient is called the same but for capitals or accents. Write one name, or rename.")


def _shown(path: Path) -> str:
    return f"'{shown(path)}'"


# ---- which folders are patients ----


def _patients_in(folder: Folder, numbers_are_visits: bool) -> list[Folder]:
    children = [f for f in folder.folders if f.has_images and f.name not in NOT_PATIENTS]
    if _is_patient(folder, children, numbers_are_visits):
        return [_brats_named(folder)]
    _tell_beside(folder)
    patients: list[Folder] = []
    by_brats: dict[str, list[Folder]] = defaultdict(list)
    for child in sorted(children, key=lambda f: natural(f.name)):
        if brats := brats_patient(child.name):
            by_brats[brats].append(child)
        else:
            patients += _patients_in(child, numbers_are_visits)
    together = [Folder(name, folder.path, folders=tuple(visits)) for name, visits in by_brats.items()]
    return sorted(patients + together, key=lambda f: natural(f.name))


def _brats_named(folder: Folder) -> Folder:
    """BraTS-GLI-00001-000 given alone is a visit of BraTS-GLI-00001."""
    return replace_name(folder, brats_patient(folder.name) or folder.name)


def replace_name(folder: Folder, name: str) -> Folder:
    """The same folder under another name."""
    return Folder(name, folder.path, folder.volumes, folder.dicom, folder.texts, folder.folders, folder.left_out)


def _is_patient(folder: Folder, children: Sequence[Folder], numbers_are_visits: bool) -> bool:
    if not children:
        return True
    if folder.name.startswith("sub-"):  # BIDS says so
        return True
    brats = {brats_patient(c.name) for c in children} - {None}
    if brats:
        return len(brats) == 1 and all(brats_patient(c.name) for c in children)
    if any(visit_folder(c.name, numbers_are_visits) or ambiguous_date(c.name) for c in children):
        return not any(c.name.startswith("sub-") for c in children)
    if all(is_neutral(c.name) for c in children):
        return not any(_has_visits(c) and not is_neutral(c.name) for c in children)
    if any(_has_visits(c) for c in children):  # patients: a stray image beside them must not make them one
        return False
    if folder.dicom or any(kind_of(n).role == "image" and kind_of(n).modality for n in folder.volumes):
        return True
    return folder.has_dicom and _one_dicom_patient(folder, children)


def _has_visits(folder: Folder) -> bool:
    return any(visit_folder(f.name, numbers_are_visits=False) for f in folder.folders)


def _one_dicom_patient(folder: Folder, children: Sequence[Folder]) -> bool:
    if not all(c.has_dicom for c in children) or any(_has_visits(c) for c in children):
        return False
    ids, studies = peek(folder)
    return len(studies) == 1 or (len(ids) == 1 and next(iter(ids)).lower() not in PLACEHOLDER_IDS)


# ---- one patient ----


def _draft_patient(folder: Folder, numbers_are_visits: bool) -> list[Draft]:
    located, unreadable = read_headers(folder, folder.name) if folder.has_dicom else ([], [])
    ids = image_patients(located)
    named = any(visit_folder(f.name, numbers_are_visits) for f in folder.folders)
    if len(ids) > 1 and not named:
        return [_one(folder, own, unreadable, _hashed_name(own)) for own in (_of_patient(located, i) for i in ids)]
    draft = _one(folder, located, unreadable, folder.name)
    if len(ids) > 1:
        draft.problem(
            f"The DICOM headers carry {len(ids)} patient IDs, so these may be different patients. "
            f"Separate them into one folder "
            "each; if they are one patient, say so with a CSV manifest."
        )
    for visit, other in _patients_beside_visits(folder, numbers_are_visits):
        draft.problem(
            f"'{draft.shown(visit)}' is named as a visit, while '{draft.shown(other)}' holds visits of its own: one "
            "patient or several? Move away what does not belong here, or list the visits in a CSV manifest."
        )
    if _nobody_knows_whose(folder, located, ids):
        draft.problem(
            "DICOM files lie in the folder itself and in folders inside it, and no patient ID says that they are of "
            "one patient. Separate them into one folder each; if they are one patient, say so with a CSV manifest."
        )
    return [draft]


def _patients_beside_visits(folder: Folder, numbers_are_visits: bool) -> Iterator[tuple[str, str]]:
    """At most one pair: a folder named as a visit (a backup), and one beside it that may be a patient."""
    visits = [f for f in folder.folders if f.has_images and visit_folder(f.name, numbers_are_visits)]
    others = [f for f in folder.folders if f not in visits and _has_visits(f) and not is_neutral(f.name)]
    yield from ((visit.name, other.name) for visit, other in zip(visits[:1], others[:1], strict=False))


def _nobody_knows_whose(folder: Folder, located: list[Located], ids: list[str]) -> bool:
    """Loose slices beside folders that may be patients, all without a patient ID: nothing tells one from several."""
    unnamed = [f for f in folder.folders if f.has_dicom and not (is_neutral(f.name) or visit_folder(f.name))]
    return bool(folder.dicom and unnamed) and ids == [""] and len({h.study for h, _ in located}) > 1


def _of_patient(located: list[Located], patient_id: str) -> list[Located]:
    def own(text: str) -> str:
        return "" if text.lower() in PLACEHOLDER_IDS else text

    return [(h, p) for h, p in located if own(h.patient_id) == patient_id]


def _hashed_name(located: list[Located]) -> str:
    """A patient of a folder of several is called by a hash: the ID stays private, and a later run gives the same name.

    The salt is the UID of the first study, which only those have who have the images; without it short IDs could be
    guessed from their hash.
    """
    first = min((h for h, _ in located), key=lambda h: (h.date or datetime.date.max, h.study))
    digest = hashlib.sha256(f"{first.study}\0{first.patient_id}".encode())
    return f"patient-{digest.hexdigest()[:HASH_DIGITS]}"


def _one(folder: Folder, located: list[Located], unreadable: list[str], name: str) -> Draft:
    draft = Draft(name, "folders")
    collect(folder, draft)
    _add_derivatives(folder, draft)
    if located:
        draft.layout = "DICOM"
        add_dicom(draft, located)
    for file in unreadable:
        draft.leave_out(file, "not readable as DICOM")
    if located and unreadable:
        draft.warn(
            f"{len(unreadable)} DICOM file{'s are' if len(unreadable) > 1 else ' is'} damaged and left out (first: "
            f"{draft.shown(unreadable[0])}). Its series may lack slices at an end: copy it again."
        )
    if draft.layout == "folders" and all(v.when and v.when.scheme == "PatientID-NNN-TTT" for v in draft.visits):
        draft.layout = "BraTS"
    return draft


def _add_derivatives(folder: Folder, draft: Draft) -> None:
    if draft.layout != "BIDS":
        return
    dataset = folder.path.parent
    found = [scan(path) for path in sorted(dataset.glob(f"{DERIVATIVES}/*/{folder.name}")) if path.is_dir()]
    if found:
        add_derivative_masks(draft, dataset, found)


def _make_names_unique(drafts: list[Draft], patients: list[Folder]) -> None:
    """Patients of the same name in different folders (two sites) take the name of the folder above in
    front."""
    counts = Counter(d.patient for d in drafts)
    above = (
        {id(d): p.path.parent.name for d, p in zip(drafts, patients, strict=False)}
        if len(drafts) == len(patients)
        else {}
    )
    taken: Counter[str] = Counter()
    for draft in drafts:
        name = draft.patient
        if counts[name] > 1:
            draft.patient = f"{above[id(draft)]}-{name}" if id(draft) in above else name
        taken[draft.patient] += 1
        if taken[draft.patient] > 1:
            draft.patient = f"{draft.patient}-{taken[draft.patient]}"


# ---- said to a person ----


def describe(patients: Sequence[PatientFiles]) -> dict[str, Any]:
    """What was found, as plain JSON values for ``info --json``: no full paths, no dates."""
    rows = [_describe(patient) for patient in patients]
    return {"patients": rows, "found": len(rows), "usable": sum(row["usable"] for row in rows)}


def _describe(patient: PatientFiles) -> dict[str, Any]:
    return {
        "patient": patient.patient,
        "layout": patient.layout,
        "usable": not patient.problems and bool(patient.visits),
        "dated": patient.dated,
        "modalities": list(patient.modalities),
        "visits": [
            {
                "visit": number,
                "day": visit.day,
                "modalities": {modality: len(paths) for modality, paths in visit.images.items()},
                "has_mask": visit.mask is not None,
                "notes": list(visit.notes),
            }
            for number, visit in enumerate(patient.visits, start=1)
        ],
        "warnings": list(patient.warnings),
        "problems": list(patient.problems),
        "left_out": [{"name": name, "reason": reason} for name, reason in patient.left_out],
    }
