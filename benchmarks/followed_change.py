"""How much of a known change of real tumors is followed from a prompt: followed_change.py --data ../shared/data

The set "warped" of `evaluate` (held-out sarcomas, CT and T1, whose later visits are made by a known warp). For every
prompt the slope of ln(V / V1) outlined against the truth (1: all of the change is followed, 0: none), for growth and
for shrinkage alone the share of it in the median, and the median error; where the program takes the mask or box
carried on by registration in (steps/carrying), of that and of the network alone. Then, for each tumor, the volume that
is outlined on the very same image 60 days later when the mask is given at visit 1. About 5 minutes on one core.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.series import AlignedSeries, Prompt
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods, testsets
from napari_convlstm_tumor.training.testsets import AnyMask, Given

Pairs = npt.NDArray[np.float64]
LEAST_CHANGE = 0.1  # of ln V: below, a share of it says nothing


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(model=options.model)
    sources = testsets.Sources(options.data, (load_model(options.model).card,))
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    again: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case in testsets.cases("warped", sources):
        for prompt, (given, prompts) in case.shown.items():
            for method, masks in _outlines(case.aligned, given, prompts, settings):
                found[case.set, prompt, method] += changes(case.truths, masks)
        twice = methods.repeated(case.aligned, 2, methods.AGAIN_GAP_DAYS)
        for method, masks in _outlines(twice, (case.truths[0], None), (), settings):
            again[case.set, method].append(np.count_nonzero(masks[1]) / np.count_nonzero(case.truths[0]))
    print("| set | prompt | outlined by | slope | growth | shrinkage | median error of ln V | n |\n" + "|---" * 8 + "|")
    for (name, prompt, method), pairs in found.items():
        print(f"| {name} | {prompt} | {method} | {row(np.array(pairs))} | {len(pairs)} |")
    print("\n| set | outlined by | same image again, volume / mask (lowest, mean, highest) | n |\n" + "|---" * 4 + "|")
    for (name, method), ratios in again.items():
        print(f"| {name} | {method} | {min(ratios):.2f}, {np.mean(ratios):.2f}, {max(ratios):.2f} | {len(ratios)} |")


def _outlines(
    aligned: AlignedSeries, given: Given, prompts: tuple[Prompt, ...], settings: Settings
) -> Iterator[tuple[str, list[AnyMask]]]:
    """(method, mask per visit) of the network, and of what the program makes of it where that is another."""
    network = methods.segmented(aligned, given, prompts, settings)
    both = methods.as_shown(network, aligned, given, prompts, settings)
    for name, prediction in {methods.NETWORK: network, methods.CARRIED: both}.items():
        if prediction is not None:
            yield name, [prediction.mask(t) for t in range(len(aligned.days))]


def changes(truths: Sequence[AnyMask], masks: Sequence[AnyMask]) -> list[tuple[float, float]]:
    """(true, outlined) ln(V / V1) of every later visit; a lost tumor counts as one voxel."""
    return list(zip(_logs(truths)[1:].tolist(), _logs(masks)[1:].tolist(), strict=True))


def _logs(masks: Sequence[npt.NDArray[np.generic]]) -> Pairs:
    volumes = np.log([max(np.count_nonzero(mask), 1) for mask in masks])
    return np.asarray(volumes - volumes[0])


def row(pairs: Pairs) -> str:
    """Cells: slope, shares of growth and shrinkage, median error of (true, outlined) pairs (N, 2)."""
    true, outlined = pairs.T
    slope = np.polyfit(true, outlined, 1)[0]
    shares = []
    for side in (1, -1):
        there = side * true > LEAST_CHANGE
        share = f"{np.median(outlined[there] / true[there]):.2f}" if there.any() else "-"
        shares.append(f"{share} (n = {np.count_nonzero(there)})")
    return f"{slope:.2f} | {' | '.join(shares)} | {np.median(np.abs(outlined - true)):.3f}"


if __name__ == "__main__":
    main()
