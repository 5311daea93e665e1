"""Real gliomas that nobody trained on: FLAIR or T2, whole tumor; T1c alone or with others, core.

    git clone --depth 1 https://github.com/koriavinash1/DeepBrainSeg
    OMP_NUM_THREADS=1 python benchmarks/real_gliomas.py --brats DeepBrainSeg/sample_volume/brats
    git clone --depth 1 https://github.com/BrainLesion/tutorials
    OMP_NUM_THREADS=1 python benchmarks/real_gliomas.py --toolkit tutorials/BraTS-Toolkit/data

--brats: a folder of patients as the BraTS challenge gives them (before 2023), outlined by people; the repository above
has 20 of its training patients of 2018 (Menze et al. 2015, doi 10.1109/TMI.2014.2377694; Bakas et al. 2017, doi
10.1038/sdata.2017.117). --toolkit: TCGA-FG-6692 and TCGA-DU-7294 (TCGA-LGG, CC BY 3.0); the reference is what five
BraTS networks that saw all four images agreed on (Kofler et al. 2020, doi 10.3389/fnins.2020.00125). All are
registered and skull-stripped. About 40 s a patient on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods
from napari_convlstm_tumor.training.evaluate import Score, table, to_markdown
from napari_convlstm_tumor.training.scores import dice
from napari_convlstm_tumor.training.testsets import CLICK, NO_PROMPT, Case, one_visit_case

CORE_LABELS = (1, 4)  # necrosis or solid core without contrast, enhancing; 2 is oedema
SHOWN = {
    "FLAIR": ("flair",),
    "T1c": ("t1c",),
    "T2": ("t2",),
    "T1c and T1": ("t1", "t1c"),
    "T1c and FLAIR": ("t1c", "flair"),
    "all four": ("t1", "t1c", "t2", "flair"),
}
WHOLE = ("FLAIR", "T2")
HALVES = ("looked-at", "unseen")  # while growthnet-7 to -10 were made (docs/training-log.md, from run 22 on)
BRATS_NAMES = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}
TOOLKIT_NAMES = {"t1": "t1", "t1c": "t1c", "t2": "t2", "flair": "fla"}
TOOLKIT_FOLDERS = {"TCGA-FG-6692": "OtherEXampleFromTCIA", "TCGA-DU-7294": "TCGA-DU-7294"}


@dataclass(frozen=True)
class Glioma:
    """One patient, one visit: the files of the four images and of the labels."""

    name: str
    images: dict[str, Path]
    labels: Path


def brats_gliomas(folder: Path) -> Iterator[Glioma]:
    """Every patient of a folder of BraTS patients."""
    for labels in sorted(folder.glob("*/*_seg.nii.gz")):
        patient = labels.parent
        images = {kind: patient / f"{patient.name}_{name}.nii.gz" for kind, name in BRATS_NAMES.items()}
        yield Glioma(patient.name, images, labels)


def half_of(gliomas: list[Glioma], half: str) -> list[Glioma]:
    """One of HALVES of the patients of a folder, which are sorted by name: every second was looked at."""
    return gliomas[half == "unseen" :: 2]


def toolkit_gliomas(folder: Path) -> Iterator[Glioma]:
    """The two patients of BraTS Toolkit's example data."""
    for name, stem in TOOLKIT_FOLDERS.items():
        base = folder / stem / f"{stem}_brainles"
        images = {kind: base / "raw_bet" / f"{stem}_{end}_bet.nii.gz" for kind, end in TOOLKIT_NAMES.items()}
        yield Glioma(name, images, base / "fusion" / "simple.nii.gz")


def case_of(glioma: Glioma, shown: str) -> Case:
    """The visit with these images alone, scored on the reference's voxels; without a prompt and with a click."""
    with tempfile.TemporaryDirectory() as scratch:
        visit = Path(scratch) / glioma.name / "day-000"
        visit.mkdir(parents=True)
        for kind in SHOWN[shown]:
            (visit / f"{kind}.nii.gz").symlink_to(glioma.images[kind].resolve())
        reference = nib.load(glioma.labels)
        labels = np.asarray(reference.dataobj)
        truth = (labels > 0 if shown in WHOLE else np.isin(labels, CORE_LABELS)).astype(np.uint8)
        nib.save(nib.Nifti1Image(truth, reference.affine), visit / "mask.nii.gz")
        what = f"{shown}, {'whole tumor' if shown in WHOLE else 'core'}"
        case = one_visit_case(visit.parent, what, Settings())
    return replace(case, shown={NO_PROMPT: ((None,), ()), CLICK: case.shown[CLICK]})


def main() -> None:
    """A line a patient, kind of image and prompt, then the mean of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--brats", type=Path, help="a folder of BraTS patients")
    parser.add_argument("--toolkit", type=Path, help="BraTS-Toolkit/data of a clone of BrainLesion/tutorials")
    parser.add_argument("--shown", nargs="+", choices=SHOWN, default=list(SHOWN))
    parser.add_argument("--half", choices=HALVES, help="of the patients, by name: every second was looked at")
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    gliomas = list(brats_gliomas(options.brats)) if options.brats else []
    gliomas += toolkit_gliomas(options.toolkit) if options.toolkit else []
    if options.half is not None:
        gliomas = half_of(gliomas, options.half)
    if not gliomas:
        parser.error("no patients: name a folder that holds some with --brats or --toolkit")
    networks = methods.Networks(Settings(model=options.model))
    found: list[Score] = []
    for shown in options.shown:
        for glioma in gliomas:
            case = case_of(glioma, shown)
            for prompt in case.shown:
                method, masks = next(iter(methods.answers(case, prompt, networks)))
                mask, truth = case.scored_mask(masks[0], 0), case.truths[0]
                outlined, true = np.count_nonzero(mask), np.count_nonzero(truth)
                blank = Score(case.set, prompt, method, "Dice", case.patient, dice(mask, truth))
                found += [blank, replace(blank, measure="volume ratio", value=outlined / true)]
                volumes = f"{outlined / 1000:.1f} mL for {true / 1000:.1f}"  # 1 mm cubes
                print(f"{case.set}, {prompt}: {glioma.name} {blank.value:.3f} ({volumes})", flush=True)
    print(to_markdown(table(found)))


if __name__ == "__main__":
    main()
