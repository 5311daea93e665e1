"""Seconds from a stroke to the numbers, on a 240 x 240 x 155 x 4 series made by hand. Not the forecast, not the screen.

    python benchmarks/stroke.py [--strokes 5]

Says wall and processor seconds of each stroke (they differ where other programs share the cores), the share of each
step in the last one, and the seconds of preparation and of the forecast that follow when the person pauses.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.edit.recompute import Numbers
from napari_convlstm_tumor.report.tables import build_report
from napari_convlstm_tumor.series import Prediction, Registration
from napari_convlstm_tumor.volume import Grid, Volume

SHAPE, DAYS = (240, 240, 155), (0, 60, 120, 180)
STEPS = (
    "painted_visit",
    "follow",
    "measure_visit",
    "front_speed",
    "reliable_speed",
    "front_motion",
    "together",
    "report_of",
)


def patient() -> Analysis:
    """Two lesions, a large one that grows and a small one 60 mm away; every visit turned by a degree more."""
    grid, places = Grid(SHAPE, np.eye(4)), np.indices(SHAPE, dtype=np.float32)
    chance = np.zeros((len(DAYS), *SHAPE), np.float32)
    for t in range(len(DAYS)):
        for centre, radius in (((100, 120, 80), 12 + 3 * t), ((150, 90, 60), 8 + t)):
            squared = sum((p - c) ** 2 for p, c in zip(places, centre, strict=True))
            chance[t][squared <= radius**2] = 1
        chance[t] = ndimage.gaussian_filter(chance[t], 1)
    masks = (chance >= 0.5).astype(np.uint8)
    turns = tuple(Registration(turned(t), 0.9, True) for t in range(len(DAYS)))
    report = build_report("MADE", DAYS, True, [float(m.sum()) for m in masks], [None] * len(DAYS), turns)
    growth, image = np.full(masks.shape, np.nan, np.float32), np.ones(masks.shape, np.float32)
    native = tuple(Volume(m, grid) for m in masks)
    prediction = Prediction(chance, DAYS, grid, "made by hand")
    return Analysis("MADE", DAYS, True, grid, {"t1c": image}, masks, growth, prediction, native, turns, report)


def turned(degrees: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A turn about the foot-head axis with a small shift."""
    a, matrix = np.deg2rad(degrees), np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = 0.7 * degrees
    return matrix


def timed(what: str, work: Callable[[], Any]) -> None:
    """Do the work and say how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(f"{what:24s} {time.perf_counter() - wall:7.2f} s wall {time.process_time() - cpu:7.2f} s processor")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strokes", type=int, default=5)
    strokes = parser.parse_args().strokes
    made, kept = patient(), []
    timed("reading in (once)", lambda: kept.append(Numbers(made)))
    numbers = kept[0]
    timed("measuring all (once)", lambda: numbers.update({}))
    timed("first stroke at a visit", lambda: stroke(numbers, 0))
    profile = cProfile.Profile(time.process_time)
    for n in range(1, strokes):
        if n == strokes - 1:
            profile.enable()
        timed(f"stroke {n + 1}", lambda n=n: stroke(numbers, n))
    profile.disable()
    for (file, _, name), row in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name in STEPS and "napari_convlstm_tumor" in file and "lesion_story" not in file:
            print(f"  {name:22s} {row[3]:7.2f} s processor")
    timed("forecast (on pausing)", numbers.ahead)


def stroke(numbers: Numbers, n: int) -> None:
    """A brush of 6 x 6 x 9 voxels at the rim of the large lesion, at visit 3."""
    mask = numbers.analysis.masks[2].copy()
    mask[110:116, 130 + n : 136 + n, 90:99] = 1
    numbers.update({2: mask})


if __name__ == "__main__":
    main()
