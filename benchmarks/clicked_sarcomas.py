"""Clicks and boxes on all sarcomas, those trained on and those held out: Dice, and how often the volume is far off.

    OMP_NUM_THREADS=1 python benchmarks/clicked_sarcomas.py --data ../shared/data

A network that is no better on the patients it was trained on than on others has not learned them by heart: what is
wrong with it is wrong everywhere. About a minute.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import methods
from napari_convlstm_tumor.training.material import HELD_OUT_SARCOMAS
from napari_convlstm_tumor.training.scores import dice
from napari_convlstm_tumor.training.testsets import BOX, CLICK, one_visit_case

FAR_OFF = 1.5  # a volume that is so many times too large or too small


def main() -> None:
    """A line a patient, then a row a group, kind of image and prompt."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="folder with sarcoma/")
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    networks = methods.Networks(Settings(model=options.model))
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for folder in sorted(f for f in (options.data / "sarcoma").iterdir() if f.is_dir()):
        group = "held out" if folder.name in HELD_OUT_SARCOMAS else "trained on"
        for kind in ("ct", "t1"):
            case = one_visit_case(folder, "", Settings(modality=(kind,)))
            for prompt in (CLICK, BOX):
                _, masks = next(iter(methods.answers(case, prompt, networks)))
                mask, truth = case.scored_mask(masks[0], 0), case.truths[0]
                found[group, kind, prompt].append((dice(mask, truth), mask.sum() / truth.sum()))
                overlap, ratio = found[group, kind, prompt][-1]
                print(f"{folder.name}, {kind}, {prompt}: Dice {overlap:.3f}, volume x {ratio:.2f}", flush=True)
    print(f"\n| sarcomas | image | prompt | Dice | volume over x {FAR_OFF} | under 1 / {FAR_OFF} | n |\n{'|---' * 7}|")
    for (group, kind, prompt), values in sorted(found.items()):
        overlaps, ratios = np.array(values).T
        over, under = (ratios > FAR_OFF).sum(), (ratios < 1 / FAR_OFF).sum()
        print(f"| {group} | {kind} | {prompt} | {overlaps.mean():.3f} | {over} | {under} | {len(ratios)} |")


if __name__ == "__main__":
    main()
