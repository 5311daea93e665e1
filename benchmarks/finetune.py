"""Fine-tuning on five patients helps five others of the same kind: finetune.py --data ../shared/data.

The kind is one that no training run saw: CT of sarcomas outlined with a margin of 10 mm of soft tissue, as a target of
radiotherapy, where training had the tumor itself. The five patients tuned on are of the training set, in this new
convention; the five tested are among those that no run saw at all. The weights of --start go on for some steps on the
five alone, exactly as by `convlstm-tumor train --start MODEL --patients FOLDER --own-share 1`; the others are scored
before and after.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods
from napari_convlstm_tumor.training.evaluate import Score, finite, mask_scores, table, to_markdown
from napari_convlstm_tumor.training.material import HELD_OUT_SARCOMAS
from napari_convlstm_tumor.training.testsets import one_visit_case
from napari_convlstm_tumor.training.train import TrainOptions, export, train

TUNED_ON = ("STS-001", "STS-011", "STS-021", "STS-033", "STS-043")
BEFORE, AFTER = "before tuning", "network"  # "network" is what evaluate compares the others with
MEASURES = ("dice", "volume")
MARGIN_MM, SOFT_TISSUE_HU = 10.0, -200.0


def main() -> None:
    """Score, tune, score again, print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shutil.rmtree(options.run, ignore_errors=True)
    tested = HELD_OUT_SARCOMAS[: options.test_patients]
    for name in (*TUNED_ON, *tested):
        _widen(options.data / "sarcoma" / name, options.run / ("tuned-on" if name in TUNED_ON else "tested") / name)
    found = _scores(options, tested, BEFORE, options.start)
    started = time.perf_counter()
    tuned = _tune(options)
    seconds = time.perf_counter() - started
    found += _scores(options, tested, AFTER, str(tuned))
    print(to_markdown(table(found)))
    for score in found:
        if score.measure == "Dice":
            print(f"{score.patient} {score.prompt}, {score.method}: {score.value:.3f}")
    print(f"\n{options.steps} steps on {', '.join(TUNED_ON)}: {seconds:.0f} s; tested on {', '.join(tested)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, default=Path("runs/finetune"), help="made anew")
    parser.add_argument("--start", default="default", help="model to begin with")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate")
    parser.add_argument("--test-patients", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _widen(source: Path, target: Path) -> None:
    """The CT of a patient and its outline widened by the margin within soft tissue, as a folder for the reader."""
    image, outline = nib.load(source / "ct.nii.gz"), nib.load(source / "ct_tumor.nii.gz")
    tumor = np.asarray(outline.dataobj) > 0
    near = ndimage.distance_transform_edt(~tumor, image.header.get_zooms()[:3]) <= MARGIN_MM
    wide = tumor | (near & (np.asarray(image.dataobj) > SOFT_TISSUE_HU))
    visit = target / "day-000"
    visit.mkdir(parents=True)
    shutil.copyfile(source / "ct.nii.gz", visit / "ct.nii.gz")
    nib.save(nib.Nifti1Image(wide.astype(np.uint8), outline.affine), visit / "mask.nii.gz")


def _tune(options: argparse.Namespace) -> Path:
    """Weights after the tuning, FILE.safetensors."""
    plan = TrainOptions(
        run=options.run / "run",
        steps=options.steps,
        learning_rate=options.rate,
        start=options.start,
        threads=options.threads,
        patients=options.run / "tuned-on",
        own_share=1.0,
        averaging=1 - 10 / max(options.steps, 20),  # over the last tenth of the steps: 0.998 would keep the start
    )
    for record in train(plan):
        print("  ".join(f"{name} {value:.3g}" for name, value in record.items()), flush=True)
    target = options.run / "tuned.safetensors"
    export(plan.run, target)
    return target


def _scores(options: argparse.Namespace, patients: tuple[str, ...], method: str, model: str) -> list[Score]:
    """Dice and volume of every patient with a click and with a box."""
    found: list[Score] = []
    for name in patients:
        case = one_visit_case(options.run / "tested" / name, "sarcoma ct, margin of 10 mm", Settings(modality=("ct",)))
        for prompt, (given, prompts) in case.shown.items():
            mask = methods.segmented(case.aligned, given, prompts, Settings(model=model)).mask(0)
            blank = Score(case.set, prompt, method, "", case.patient, 0.0)
            found += finite(mask_scores(case, [case.scored_mask(mask, 0)], MEASURES, blank))
    return found


if __name__ == "__main__":
    main()
