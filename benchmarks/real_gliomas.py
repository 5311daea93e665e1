"""Two real gliomas that nobody trained on, beside what five published networks agreed on.

    git clone --depth 1 https://github.com/BrainLesion/tutorials
    python benchmarks/real_gliomas.py --tutorials tutorials

TCGA-FG-6692 and TCGA-DU-7294 (TCGA-LGG, CC BY 3.0), registered and skull-stripped by the authors of BraTS Toolkit
(Kofler et al. 2020, doi 10.3389/fnins.2020.00125); the reference is their fusion of the answers of five BraTS networks
that saw all four images. It is no outline by a person. FLAIR and T2: whole tumor; T1c and all four images: core.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods
from napari_convlstm_tumor.training.scores import dice
from napari_convlstm_tumor.training.testsets import CLICK, NO_PROMPT, Case, one_visit_case

PATIENTS = {"TCGA-FG-6692": "OtherEXampleFromTCIA", "TCGA-DU-7294": "TCGA-DU-7294"}
FILES = {"t1": "t1", "t1c": "t1c", "t2": "t2", "flair": "fla"}
CORE_LABELS = (1, 4)  # necrosis or solid core without contrast, enhancing; 2 is oedema
SHOWN = {"FLAIR": ("flair",), "T1c": ("t1c",), "T2": ("t2",), "all four": ("t1", "t1c", "t2", "flair")}
WHOLE = ("FLAIR", "T2")


def case_of(images: dict[str, Path], reference: Path, whole: bool) -> Case:
    """One visit with these images, scored on the reference's voxels; without a prompt and with a click."""
    with tempfile.TemporaryDirectory() as scratch:
        visit = Path(scratch) / "patient" / "day-000"
        visit.mkdir(parents=True)
        for kind, path in images.items():
            (visit / f"{kind}.nii.gz").symlink_to(path.resolve())
        labels = np.asarray(nib.load(reference).dataobj)
        truth = (labels > 0 if whole else np.isin(labels, CORE_LABELS)).astype(np.uint8)
        nib.save(nib.Nifti1Image(truth, nib.load(next(iter(images.values()))).affine), visit / "mask.nii.gz")
        case = one_visit_case(visit.parent, "", Settings())
    return replace(case, shown={NO_PROMPT: ((None,), ()), CLICK: case.shown[CLICK]})


def main() -> None:
    """A row a patient and kind of image."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--tutorials", type=Path, required=True, help="a clone of BrainLesion/tutorials")
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    networks = methods.Networks(Settings(model=options.model))
    heads = ("patient", "image", "outlined is", "reference mL", "Dice, no prompt (mL)", "Dice, click (mL)")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for patient, folder in PATIENTS.items():
        base = options.tutorials / "BraTS-Toolkit" / "data" / folder / f"{folder}_brainles"
        for name, kinds in SHOWN.items():
            images = {kind: base / "raw_bet" / f"{folder}_{FILES[kind]}_bet.nii.gz" for kind in kinds}
            case = case_of(images, base / "fusion" / "simple.nii.gz", name in WHOLE)
            cells = []
            for prompt in case.shown:
                _, masks = next(iter(methods.answers(case, prompt, networks)))
                found = case.scored_mask(masks[0], 0)
                cells.append(f"{dice(found, case.truths[0]):.3f} ({np.count_nonzero(found) / 1000:.1f})")
            what, volume_ml = "whole tumor" if name in WHOLE else "core", case.truths[0].sum() / 1000
            print(f"| {patient} | {name} | {what} | {volume_ml:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
