"""Dice on simulated patients that neither trained the network nor score it: where choices in model/ are made.

    OMP_NUM_THREADS=1 python benchmarks/development_set.py --data ../shared/data --keep runs/development

Patients as `evaluate` has them, of seeds of their own: simulated heads with 4 visits, and the real brains of --data
with small tumors, with gliomas, and with none. Change model/, run it again, compare patient by patient. 12 heads and 6
brains of each kind take about 12 minutes on one core when they are made, 5 minutes later.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np

from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods, testsets
from napari_convlstm_tumor.training.anatomy import real_brains
from napari_convlstm_tumor.training.scores import dice
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


def main() -> None:
    """A line a patient and prompt, then the mean of every set and prompt."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder with brains/")
    parser.add_argument("--model", default="default")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--brains", type=int, default=6, help="of each kind")
    parser.add_argument("--keep", type=Path, required=True, help="folder that keeps the patients")
    options = parser.parse_args()
    networks = methods.Networks(Settings(model=options.model))
    found = defaultdict(list)
    for case in cases(options.data, options.heads, options.brains, options.keep):
        for prompt in case.shown:
            _, masks = next(iter(methods.answers(case, prompt, networks)))
            at_visits = [dice(case.scored_mask(masks[t], t), case.truths[t]) for t in case.scored]
            found[case.set, prompt].append(float(np.mean(at_visits)))
            told = " ".join(f"{d:.2f}" for d in at_visits)
            print(f"{case.set}, {prompt}: {case.patient} {found[case.set, prompt][-1]:.3f} ({told})", flush=True)
    print("\n| set | prompt | Dice | n |\n|---|---|---|---|")
    for (name, prompt), values in found.items():
        print(f"| {name} | {prompt} | {np.mean(values):.3f} | {len(values)} |")


if __name__ == "__main__":
    main()
