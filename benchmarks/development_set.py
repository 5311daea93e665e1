"""Dice on simulated patients that neither trained the network nor score it: where choices in model/ are made.

    OMP_NUM_THREADS=1 python benchmarks/development_set.py --data ../shared/data --keep runs/development

Patients as `evaluate` has them, of seeds of their own: simulated heads with 4 visits, and the real brains of --data
with small tumors, with gliomas, and with none. Change model/, run it again, compare patient by patient. 12 heads and 6
brains of each kind take about 12 minutes on one core when they are made, 5 minutes later.

--memory also scores the network with its memory cleared at every visit, as `evaluate` does; 92 heads and no brains take
about 40 minutes on one core when they are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import evaluate, methods, testsets
from napari_convlstm_tumor.training.anatomy import real_brains
from napari_convlstm_tumor.training.baseline import forgetful
from napari_convlstm_tumor.training.testsets import Case

FIRST_HEAD_SEED = 20_000
BRAIN_SEEDS = {"any": 21_000, "large": 22_000, "tumor-free": 23_000}


def cases(data: Path, heads: int, brains: int, keep: Path) -> Iterator[Case]:
    """The heads, then the brains of each kind, FLAIR before T1c."""
    yield from testsets.head_cases("head", FIRST_HEAD_SEED, heads, keep)
    anatomies = list(real_brains(data / "brains"))
    for modality in ("flair", "t1c"):
        for course, first in BRAIN_SEEDS.items():
            made = testsets.brain_cases(f"brain {modality} {course}", modality, course, count(first), anatomies, keep)
            yield from islice(made, brains)


def scores_of(case: Case, networks: methods.Networks) -> Iterator[evaluate.Score]:
    """Dice of every scored visit, prompt and method; prints a line for each prompt and method."""
    for prompt in case.shown:
        for method, masks in methods.answers(case, prompt, networks):
            native = [case.scored_mask(mask, t) for t, mask in enumerate(masks)]
            blank = evaluate.Score(case.set, prompt, method, "", case.patient, 0.0)
            found = [s for s in evaluate.mask_scores(case, native, ("dice",), blank) if s.measure.startswith("Dice")]
            told, mean = " ".join(f"{s.value:.2f}" for s in found), np.mean([s.value for s in found])
            print(f"{case.set}, {prompt}, {method}: {case.patient} {mean:.3f} ({told})", flush=True)
            yield from found


def main() -> None:
    """A line a patient, prompt and method, then the table of means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder with brains/")
    parser.add_argument("--model", default="default")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--brains", type=int, default=6, help="of each kind")
    parser.add_argument("--memory", action="store_true", help="also with the memory cleared at every visit")
    parser.add_argument("--keep", type=Path, required=True, help="folder that keeps the patients")
    options = parser.parse_args()
    cleared = forgetful(load_model(options.model)) if options.memory else None
    networks = methods.Networks(Settings(model=options.model), cleared)
    every = cases(options.data, options.heads, options.brains, options.keep)
    found = [score for case in every for score in scores_of(case, networks)]
    heads = [replace(s, set="heads together") for s in found if s.set.startswith("head ")]
    print("\n" + evaluate.to_markdown(evaluate.table(found + heads)))


if __name__ == "__main__":
    main()
