"""No patient on both sides: images are told by the sha256 of their files, which names nobody.

A run keeps in trained_images.json what it was trained on; the export writes it into the card; the evaluation leaves out
every patient of whom an image is there. Weights older than this name their held-out patients in the card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.series import PatientFiles

TRAINED_FILE = "trained_images.json"
CARD_KEY = "trained_images"
# Prefix of the names of the patients of each kind in ../shared/data.
KINDS = {"sarcoma": "STS-", "glioblastoma": "GBM-"}
DIGITS = 16  # of the sha256: a chance of 1 in 10^7 that two of a million images share them


def fingerprint(path: Path) -> str:
    """First DIGITS hex digits of the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def fingerprints(paths: Iterable[Path]) -> frozenset[str]:
    """Of every file that is there."""
    return frozenset(fingerprint(path) for path in paths if path.is_file())


def of_patient(files: PatientFiles) -> frozenset[str]:
    """Of all images of all visits (masks are not asked: an empty one is the same for anybody)."""
    return fingerprints(path for visit in files.visits for paths in visit.images.values() for path in paths)


def anatomy_files(names: Iterable[str], data: Path) -> list[Path]:
    """Image files behind the names of training/anatomy (STS-001-ct, GBM-01-2, BRAIN-01) in ../shared/data."""
    files: list[Path] = []
    for name in names:
        case, _, modality = name.rpartition("-")
        if name.startswith("STS"):
            files.append(data / "sarcoma" / case / f"{modality}.nii.gz")
        elif name.startswith("GBM"):  # modality is the number of the visit
            visits = sorted(p for p in (data / "glioblastoma" / case).iterdir() if p.is_dir())
            files.append(visits[int(modality) - 1] / "t1c.nii.gz")
        elif (data / "brains" / name).is_dir():
            files += sorted((data / "brains" / name).glob("*.nii.gz"))
    return files


def record(run: Path, images: Collection[str], start: Mapping[str, Any] | None = None) -> None:
    """Add to what a run was trained on; ``start``: card of the weights it began with, whose images count as well."""
    known = recorded(run) | frozenset(images) | frozenset((start or {}).get(CARD_KEY, ()))
    run.mkdir(parents=True, exist_ok=True)
    (run / TRAINED_FILE).write_text(json.dumps(sorted(known)) + "\n", encoding="utf-8")


def recorded(run: Path) -> frozenset[str]:
    """What a run was trained on so far."""
    path = run / TRAINED_FILE
    return frozenset(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else frozenset()


def unseen(patients: Mapping[str, Sequence[Path]], card: Mapping[str, Any]) -> frozenset[str]:
    """The names of those patients (name -> image files) whom the network of this card was not trained on.

    A patient of whom an image is among those that the card lists is known; so is, where the card has ``held_out``, one
    whom it does not name there ("STS-003", or "all glioblastoma patients"). Raises SettingsError: it has neither.
    """
    listed, held_out = card.get(CARD_KEY), str(card.get("held_out", ""))
    if listed is None and not held_out:
        raise SettingsError(
            f"The card of {card.get('name', 'this model')} says neither which images it was trained on nor who was "
            "held out, so real patients cannot be scored. Export the weights again with convlstm-tumor train --export."
        )
    known = frozenset(listed or ())
    prefixes = tuple(prefix for kind, prefix in KINDS.items() if f"all {kind} patients" in held_out)
    named = frozenset(n for n in patients if not held_out or n in held_out or n.startswith(prefixes))
    return frozenset(n for n in named if not known or not fingerprints(patients[n]) & known)
