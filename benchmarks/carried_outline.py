"""A mask of visit 1 carried on by registration alone, beside the network: carried_outline.py --data ../shared/data

For the five real glioblastoma pairs (three of them trained on: the network's row leans to the good side there) and the
warped sarcomas of `evaluate`. Dice at the later visits, and how much of the change is followed, as in
followed_change.py, of the given mask left as it is, carried by registration, of the network, and halfway between both
fronts (steps/carrying, which the program does on CT and T1 alone). About 4 minutes on one core.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from followed_change import changes, row
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.measure.distance import box_around, signed_distance_mm
from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps.carrying import MARGIN_MM, arrived
from napari_convlstm_tumor.training import methods, testsets
from napari_convlstm_tumor.training.scores import dice
from napari_convlstm_tumor.training.testsets import AnyMask, Case

REGISTERED, HALFWAY = "carried by registration alone", "halfway"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = defaultdict(list)
    overlaps: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case in _cases(options.data):
        for method, masks in _outlines(case).items():
            scored = [case.scored_mask(mask, t) for t, mask in enumerate(masks)]
            overlaps[case.set, method].append(float(np.mean([dice(scored[t], case.truths[t]) for t in case.scored])))
            found[case.set, method] += changes(case.truths, scored)
    print(
        "| set | mask of visit 1 | Dice | slope | growth | shrinkage | median error of ln V | n |\n" + "|---" * 8 + "|"
    )
    for (name, method), values in overlaps.items():
        pairs = np.array(found[name, method])
        print(f"| {name} | {method} | {np.mean(values):.3f} | {row(pairs)} | {len(values)} |")


def _cases(data: Path) -> Iterator[Case]:
    for folder in sorted((data / "glioblastoma").glob("GBM-*")):
        series = read_series(find_patient(folder), Settings())
        yield testsets.pair_case(series, testsets.result_of(align(series, Settings())))
    yield from testsets.cases("warped", testsets.Sources(data, (load_model("default").card,)))


def _outlines(case: Case) -> dict[str, Sequence[AnyMask]]:
    """Method -> mask per visit on the common grid."""
    given, prompts = case.shown[testsets.MASK_FIRST]
    first, visits = given[0], range(1, len(given))
    assert first is not None
    network = methods.segmented(case.aligned, given, prompts, Settings())
    outlined = [network.mask(t) for t in range(len(given))]
    registered, between = [first], [first]
    for t in visits:
        moved, half = first, outlined[t]  # where the program carries nothing
        box = box_around(first | outlined[t], case.aligned.grid.spacing_mm, MARGIN_MM)
        there = arrived(first > 0, case.aligned, 0, t, box)
        if there is not None:
            moved = np.zeros_like(first)
            moved[box] = there
            half = np.zeros_like(first)
            fronts = [signed_distance_mm(mask, case.aligned.grid.spacing_mm) for mask in (moved, outlined[t])]
            half[np.mean(fronts, axis=0) <= 0] = 1  # at least 0.5 of steps/carrying
        registered.append(moved)
        between.append(half)
    return {
        methods.PERSISTENCE: [first] * len(given),
        REGISTERED: registered,
        methods.NETWORK: outlined,
        HALFWAY: between,
    }


if __name__ == "__main__":
    main()
