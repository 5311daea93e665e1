"""nnU-Net and LongiSeg datasets: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz,
patientsTr.json.

patientsTr.json (LongiSeg) maps every patient to its cases in the order of time; without it every case is a
patient with one visit. There are no dates. imagesTs with labelsTs and patientsTs.json are read in the same
way.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover_draft import Candidate, Draft, Visit
from napari_convlstm_tumor.io.discover_tree import Folder, natural
from napari_convlstm_tumor.io.names import When, modality_of, stem

_CASE = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def is_nnunet(folder: Folder) -> bool:
    """True for the folder of an nnU-Net or LongiSeg dataset."""
    return any(f.name in ("imagesTr", "imagesTs") for f in folder.folders)


def nnunet_patients(folder: Folder) -> list[Draft]:
    """One draft per patient of the dataset, training part first."""
    kinds = _channel_kinds(_json(folder, "dataset.json"))
    return [draft for part in ("Tr", "Ts") for draft in _part(folder, part, kinds)]


def _part(folder: Folder, part: str, kinds: dict[int, str]) -> list[Draft]:
    inside = {f.name: f for f in folder.folders}
    images = inside.get(f"images{part}")
    if images is None:
        return []
    labels = inside.get(f"labels{part}")
    cases = _cases(images, kinds)
    masks = {} if labels is None else {stem(n): Candidate(n, (labels.path / n,)) for n in labels.volumes}
    patients = _json(folder, f"patients{part}.json")
    layout = "LongiSeg" if patients else "nnU-Net"
    listed = (
        {str(p): [str(c) for c in c_list] for p, c_list in patients.items()} if patients else {c: [c] for c in cases}
    )
    return [_draft(patient, names, layout, cases, masks) for patient, names in listed.items()]


def _draft(
    patient: str,
    names: list[str],
    layout: str,
    cases: dict[str, list[Candidate]],
    masks: dict[str, Candidate],
) -> Draft:
    if patient in ("", ".", "..") or any(c in patient for c in "/\\\0"):
        raise InputError("The patients file names a patient that is no name for a folder. Rename that patient.")
    draft = Draft(patient, layout)
    for order, name in enumerate(names):
        if name not in cases:
            draft.problem(
                f"Case {order + 1} of the patient has no image in the dataset, though the patients file lists it."
            )
            continue
        mask = [masks[name]] if name in masks else []
        when = When(order=order, scheme="case") if len(names) > 1 else None
        draft.visits.append(Visit(name, when, list(cases[name]), mask))
    return draft


def _cases(images: Folder, kinds: dict[int, str]) -> dict[str, list[Candidate]]:
    cases: dict[str, list[Candidate]] = defaultdict(list)
    for name in sorted(images.volumes, key=natural):
        match = _CASE.match(stem(name))
        if match:
            modality = kinds.get(int(match["channel"]), "")
            cases[match["case"]].append(Candidate(name, (images.path / name,), modality))
    return cases


def _channel_kinds(dataset: dict[str, Any]) -> dict[int, str]:
    """nnU-Net 2 calls it channel_names, nnU-Net 1 modality: {"0": "T1", "1": "FLAIR"}."""
    names = dataset.get("channel_names") or dataset.get("modality") or {}
    if not isinstance(names, dict):
        raise InputError('dataset.json: channel_names is a mapping such as {"0": "T1"}.')
    return {int(number): modality_of(str(name))[0] for number, name in names.items() if str(number).isdecimal()}


def _json(folder: Folder, name: str) -> dict[str, Any]:
    if name not in folder.texts:
        return {}
    try:
        content = json.loads(Path(folder.path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{name} cannot be read as JSON. Repair it or remove it.") from error
    wrong = name.startswith("patients") and isinstance(content, dict)
    if not isinstance(content, dict) or (wrong and not all(isinstance(c, list) for c in content.values())):
        raise InputError(f"{name} is not a mapping from patients to lists of cases, or from names to values.")
    return content
