"""At which of the network's probabilities people's outlines lie: what `outline_at` in a model's card was chosen by.

    OMP_NUM_THREADS=1 python benchmarks/outline_level.py --data ../shared/data --keep runs/development \
        --brats DeepBrainSeg/sample_volume/brats

Dice (and the median of outlined by true volume) for outlines at several levels, of every patient with a truth that may
be looked at: sarcomas and glioblastoma pairs of --data, most of them trained on; the development set's brains
(benchmarks/development_set.py); of the gliomas of --brats (benchmarks/real_gliomas.py) the half that was looked at.
About 20 minutes on one core.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import development_set
import real_gliomas
from napari_convlstm_tumor.model.card import Model, load_model
from napari_convlstm_tumor.model.outline import outline_moved
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods, testsets
from napari_convlstm_tumor.training.scores import dice
from napari_convlstm_tumor.training.testsets import Case

LEVELS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
GLIOMAS = ("FLAIR", "T2", "T1c", "T1c and T1")


def cases(data: Path, brats: Path | None, brains: int, keep: Path) -> Iterator[Case]:
    """All patients, one set after another."""
    sources = testsets.Sources(data=data, patients=0, cache=keep)
    for name in ("sarcoma", "glioblastoma"):
        yield from testsets.SETS[name](sources)
    yield from development_set.cases(data, 0, brains, keep)
    looked_at = real_gliomas.half_of(list(real_gliomas.brats_gliomas(brats)), "looked-at") if brats else []
    for shown in GLIOMAS:
        yield from (real_gliomas.case_of(glioma, shown) for glioma in looked_at)


def at_levels(case: Case, prompt: str, model: Model) -> list[tuple[float, float]]:
    """(Dice, outlined / true volume) at each of LEVELS, over the visits whose outline is the network's."""
    given, prompts = case.shown[prompt]
    prediction = methods.segmented(case.aligned, given, prompts, Settings(), model)
    visits = [t for t in case.scored if given[t] is None]
    true = sum(int(case.truths[t].sum()) for t in visits)
    found = []
    for level in LEVELS:
        moved = outline_moved(prediction.probability.copy(), level, case.aligned.grid.spacing_mm)
        masks = [case.scored_mask((moved[t] >= 0.5).astype(np.uint8), t) for t in visits]
        dices = [dice(mask, case.truths[t]) for mask, t in zip(masks, visits, strict=True)]
        found.append((float(np.mean(dices)), sum(int(mask.sum()) for mask in masks) / true))
    return found


def row(name: str, prompt: str, found: Sequence[Sequence[tuple[float, float]]]) -> str:
    """A row of the table: means of Dice and medians of the volume ratio over patients."""
    dices, ratios = np.moveaxis(np.array(found), -1, 0)
    cells = [f"{d:.3f} ({r:.2f})" for d, r in zip(dices.mean(0), np.median(ratios, 0), strict=True)]
    return f"| {name} | {prompt} | {' | '.join(cells)} | {len(found)} |"


def main() -> None:
    """The table, a row for every set and prompt."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder with sarcoma/, glioblastoma/ and brains/")
    parser.add_argument("--brats", type=Path, help="a folder of BraTS patients")
    parser.add_argument("--model", default="default")
    parser.add_argument("--brains", type=int, default=12, help="of each kind")
    parser.add_argument("--keep", type=Path, required=True, help="folder that keeps the simulated patients")
    options = parser.parse_args()
    model = load_model(options.model)
    model = replace(model, card={**model.card, "outline_at": {}})
    found = defaultdict(list)
    for case in cases(options.data, options.brats, options.brains, options.keep):
        if any(case.truths[t].any() for t in case.scored):
            for prompt in case.shown:
                found[case.set, prompt].append(at_levels(case, prompt, model))
    print(f"| set | prompt | {' | '.join(f'{level:g}' for level in LEVELS)} | n |\n|{'---|' * (len(LEVELS) + 3)}")
    for (name, prompt), values in found.items():
        print(row(name, prompt, values))


if __name__ == "__main__":
    main()
