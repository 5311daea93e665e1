"""Calibrates the bands of the forecasts and measures what they cover: one command, 12 minutes on one core.

    OMP_NUM_THREADS=1 nice python benchmarks/calibrate_forecast.py

Simulated patients from growth fields of a seed that no training uses; the first half of the fields calibrates, the
second half tests. Each field gives several patients: its own course, look, visits (3 to 5, the last is forecast) and
voxels (1.6 mm cubes, or 1.3 x 1.3 x 4 mm). Masks are the true ones. Fields are kept in --fields (made on the first run,
about 2 s each). --courses 4 --network 2 is half the work, but coverage is then known to 2 or 3 %, not to 2. Writes the
calibration and prints the tables of docs/forecast.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.measure.conformal import (
    CALIBRATION_FILE,
    LEVEL,
    Calibration,
    Limits,
    abstain,
    band_scale_mm,
    front_errors,
    limits,
    log_volume_error,
    to_json,
    volume_scale,
)
from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.measure.forecast import NETWORK, MaskForecast, expected_front, forecasts
from napari_convlstm_tumor.measure.growth import front_speed, mean_front_speed
from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import Anatomy, template_brain
from napari_convlstm_tumor.training.dataset import GrowthField, make_fields
from napari_convlstm_tumor.training.evaluate import dice, result_of
from napari_convlstm_tumor.volume import Grid

SEED = 9000  # training's fields are of seed 1 unless a run says otherwise, evaluate's patients of seeds 5000 and up
# Voxel counts of the 128 mm window: cubes, and thick slices for a third of the patients.
GRIDS, THICK_SHARE = ((80, 80, 80), (100, 100, 32)), 1 / 3
WINDOW_MM = 128.0
MARGIN_MM = 20.0  # kept around all of a patient's masks: further than nearly any forecast reaches
# The longest horizon calibrated is the one that this many calibration patients reach.
ENOUGH_PATIENTS = 10
BOOTSTRAP_DRAWS = 2000
SLOWER = {"linear, 0.5 of the speed": 0.5, "linear, 0.8 of the speed": 0.8}  # shown in the table, not shipped

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Case:
    """One simulated patient: masks (T + 1, I, J, K) with the truth last, images (T, I, J, K) or None."""

    days: tuple[int, ...]
    masks: Mask
    spacing_mm: tuple[float, float, float]
    modality: str
    images: npt.NDArray[np.float32] | None

    @property
    def horizon(self) -> int:
        """Days from the last visit known to the one forecast."""
        return self.days[-1] - self.days[-2]

    @property
    def steps(self) -> float:
        """The horizon in units of the gap before it."""
        return self.horizon / (self.days[-2] - self.days[-3])


@dataclass(frozen=True, eq=False)
class Scored:
    """What one forecast of one patient missed."""

    patient: tuple[int, int]
    case: str
    front: npt.NDArray[np.float64]
    log_volume: float
    scales: tuple[float, float]
    dice: float
    log_ratio: float


def main() -> None:
    """Simulate, score, calibrate, test, write."""
    options = _options()
    torch.set_num_threads(1)
    started = time.perf_counter()
    brain = template_brain()
    fields = make_fields([brain], 2 * options.fields_per_side, SEED, options.fields)
    model = load_model(options.model)
    print(f"{len(fields)} fields ready after {time.perf_counter() - started:.0f} s")
    sides = [_score(side, fields, brain, options) for side in (0, 1)]
    names = list(dict.fromkeys(name for name in sides[0].scores if name not in SLOWER))
    found = {name: _limits(sides[0].scores[name], sides[1].scores[name]) for name in names}
    reach = [sorted(values)[-ENOUGH_PATIENTS] for values in (sides[0].horizons, sides[0].steps)]
    calibration = Calibration(LEVEL, float(reach[0]), round(float(reach[1]), 2), model.id, found)
    extra = {
        "simulated": {
            "seed": SEED,
            "calibration_fields": [0, options.fields_per_side - 1],
            "test_fields": [options.fields_per_side, 2 * options.fields_per_side - 1],
            "patients_per_field": options.courses,
            "abstained": [side.abstained for side in sides],
        },
        "weights_sha256": model.sha256,
        "made_by": "benchmarks/calibrate_forecast.py; research use only",
    }
    options.out.write_text(json.dumps({**to_json(calibration), **extra}, indent=1) + "\n", encoding="utf-8")
    print(_tables(calibration, sides))
    print(f"\n{time.perf_counter() - started:.0f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CALIBRATION_FILE)
    parser.add_argument("--fields", type=Path, default=Path("runs/calibration"), help="folder that keeps growth fields")
    parser.add_argument("--fields-per-side", type=int, default=100, help="fields to calibrate on, and as many to test")
    parser.add_argument("--courses", type=int, default=8, help="patients made from each field")
    parser.add_argument("--network", type=int, default=4, help="of these, how many the network forecasts, too")
    parser.add_argument("--model", default="default", help="weights of the network")
    return parser.parse_args()


# ---- patients ----


class _Scenes:
    """One growth field on the grids of GRIDS, read once."""

    def __init__(self, brain: Anatomy, field: GrowthField) -> None:
        self.full = simulate.scene_of(brain, field.arrival, field.window)

    @functools.cache  # noqa: B019 - lives as long as one field
    def on(self, grid: int) -> simulate.Scene:
        size = GRIDS[grid]
        spacing = tuple(WINDOW_MM / n for n in size)
        assert self.full.tissue is not None and self.full.outside is not None
        outside = _shrunk(self.full.outside[None], size)[0]
        return simulate.Scene(
            _shrunk(self.full.arrival, size),
            _shrunk(self.full.tissue, size),
            outside,
            {},
            spacing,  # type: ignore[arg-type]
        )


def _shrunk(volumes: Tensor, size: tuple[int, int, int]) -> Tensor:
    """(C, I, J, K) averaged to coarser voxels."""
    return F.adaptive_avg_pool3d(volumes[None], size)[0]


def make_case(scenes: _Scenes, patient: tuple[int, int], painted: bool) -> Case:
    """The patient (field, course); same numbers, same patient, painted or not."""
    rng, brush = (np.random.default_rng([SEED, *patient, stream]) for stream in (0, 1))
    visits, modality = int(rng.integers(3, 6)), ("t1c", "flair")[int(rng.integers(2))]
    scene = scenes.on(int(rng.random() < THICK_SHARE))
    course = simulate.draw_course(rng, visits, len(scene.arrival))
    look = simulate.draw_look(rng)
    levels = simulate.level_fields(scene, course, rng)
    masks = torch.stack([simulate.target_mask(level, scene, look, (modality,)) for level in levels]).numpy()
    box = _box(masks.any(axis=0), scene.spacing_mm)
    images = None
    if painted:
        background = simulate.head_background(scene, modality, brush, scalp=True)
        texture = simulate.smooth_noise(background.shape, 3, brush)
        frames = [simulate.paint(background, level, scene, look, modality, texture) for level in levels[:-1]]
        images = np.stack([simulate.scanner(frame, brush, strength=0.5).numpy()[box] for frame in frames])
    return Case(tuple(course.days), masks[:, *box], scene.spacing_mm, modality, images)


def _box(mask: npt.NDArray[Any], spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    where = np.argwhere(mask)
    pads = [round(MARGIN_MM / s) for s in spacing_mm]
    spans = zip(where.min(0), where.max(0), pads, strict=True)
    return tuple(slice(max(int(low) - pad, 0), int(high) + pad + 1) for low, high, pad in spans)


# ---- forecasts ----


@dataclass(frozen=True, eq=False)
class _Side:
    """All patients of one side: model -> scores, and what the patients were like."""

    scores: dict[str, list[Scored]]
    horizons: list[int]
    steps: list[float]
    abstained: int


def _score(side: int, fields: Sequence[GrowthField], brain: Anatomy, options: argparse.Namespace) -> _Side:
    scores: dict[str, list[Scored]] = {}
    horizons, steps, abstained = [], [], 0
    for n in range(side * options.fields_per_side, (side + 1) * options.fields_per_side):
        scenes = _Scenes(brain, fields[n])
        for course in range(options.courses):
            case = make_case(scenes, (n, course), painted=course < options.network)
            made = dict(_forecasts(case, options.model))
            if not made:
                abstained += 1
                continue
            horizons.append(case.horizon)
            steps.append(case.steps)
            for name, forecast in made.items():
                scores.setdefault(name, []).append(_missed(forecast, case, (n, course)))
    return _Side(scores, horizons, steps, abstained)


def _forecasts(case: Case, model: str) -> Iterator[tuple[str, MaskForecast]]:
    """All models' forecasts; none where the program would abstain or the front was not followed."""
    known, days = case.masks[:-1], case.days[:-1]
    volumes = [float(np.count_nonzero(m)) for m in known]
    made = forecasts(list(known), days, case.spacing_mm, case.horizon).made
    before = made["persistence"]
    if abstain(days, True, volumes, [True] * len(days)) or before.motion_mm is None:
        return
    yield from made.items()
    speed = before.motion_mm / case.horizon * DAYS_PER_MONTH
    for name, share in SLOWER.items():
        yield name, expected_front(before.phi, share * speed, case.spacing_mm, case.horizon, speed, name)
    by_network = None if case.images is None else _by_network(case, model)
    if by_network is not None:
        yield NETWORK, by_network


def _by_network(case: Case, model: str) -> MaskForecast | None:
    """The network's forecast from true masks, as pipeline.network_forecast makes it."""
    aligned, settings, spacing = _aligned(case), Settings(model=model, device="cpu"), case.spacing_mm
    prediction = result_of(predict.segment(aligned, (), settings))
    before, mask = case.masks[-3], case.masks[-2]
    gap = case.days[-2] - case.days[-3]
    mean = mean_front_speed(front_speed(before, mask, spacing, gap), mask, spacing)
    if mean is None:
        return None
    phi, phi_before = signed_distance_mm(mask, spacing), signed_distance_mm(before, spacing)
    speed = predict.expected_speed(prediction, phi, phi_before, mean, gap, case.horizon, settings)
    return expected_front(phi, speed, spacing, case.horizon, mean)


def _aligned(case: Case) -> AlignedSeries:
    assert case.images is not None
    visits, *shape = case.images.shape
    grid = Grid((shape[0], shape[1], shape[2]), np.diag([*case.spacing_mm, 1.0]))
    return AlignedSeries(
        patient="simulated",
        data=case.images[:, None],
        present=np.ones((visits, 1), dtype=bool),
        inside=np.ones((visits, *shape), dtype=bool),
        modalities=(case.modality,),
        days=case.days[:-1],
        dated=True,
        grid=grid,
        centre=np.zeros((visits, 1), np.float32),
        scale=np.ones((visits, 1), np.float32),
        masks=tuple(m.astype(np.uint8) for m in case.masks[:-1]),
        registrations=(Registration(np.eye(4), 1.0, True),) * visits,
        native_grids=(grid,) * visits,
    )


def _missed(forecast: MaskForecast, case: Case, patient: tuple[int, int]) -> Scored:
    truth, scales = case.masks[-1], (band_scale_mm(forecast), volume_scale(forecast))
    voxel = float(np.prod(case.spacing_mm))
    true_mm3 = float(np.count_nonzero(truth)) * voxel
    motion = forecast.motion_mm or 0.0
    course = "grows" if motion > 0.5 else "shrinks" if motion < -0.5 else "stands still"
    return Scored(
        patient=patient,
        case=f"{course}|{'thick slices' if case.spacing_mm[2] > 2 else 'cubes'}|{_third(case.horizon)}",
        front=front_errors(forecast, case.masks[-2], truth) / scales[0],
        log_volume=log_volume_error(forecast, true_mm3) / scales[1],
        scales=scales,
        dice=dice(forecast.mask, truth),
        log_ratio=abs(float(np.log((true_mm3 + voxel) / (forecast.volume_mm3 + voxel)))),
    )


def _third(horizon: int) -> str:
    return "under 45 days" if horizon < 45 else "45 to 80 days" if horizon < 80 else "over 80 days"


# ---- tables ----


def _limits(first: Sequence[Scored], second: Sequence[Scored]) -> Limits:
    fronts = [np.stack([s.front for s in side]) for side in (first, second)]
    volumes = [np.array([s.log_volume for s in side]) for side in (first, second)]
    return limits(fronts, volumes, list(np.array([s.scales for s in second]).T))


def _tables(calibration: Calibration, sides: Sequence[_Side]) -> str:
    rng = np.random.default_rng(0)
    both = {name: [s for side in sides for s in side.scores[name]] for name in sides[0].scores}
    lines = ["| model | n | forecast Dice (95 % interval) | median abs. ln V ratio |", "|---|---|---|---|"]
    for name, scores in both.items():
        lines.append(f"| {name} | {len(scores)} | {_mean([s.dice for s in scores], rng)} | {_median(scores):.3f} |")
    lines += ["", "| model | minus linear, same patients: Dice (95 % interval) | n |", "|---|---|---|"]
    linear = {s.patient: s.dice for s in both["linear"]}
    for name, scores in both.items():
        pairs = [s.dice - linear[s.patient] for s in scores if s.patient in linear]
        if name != "linear":
            lines.append(f"| {name} | {_mean(pairs, rng)} | {len(pairs)} |")
    lines += [
        "",
        "| band of | calibrated on | tested on | front covered | volume covered | width mm | volume, high / low "
        "| 90 % of the front |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, b in calibration.models.items():
        lines.append(
            f"| {name} | {b.calibrated_on} | {b.tested_on} | {b.front_coverage:.1%} | {b.volume_coverage:.1%} "
            f"| {b.width_mm:.1f} | {b.volume_ratio:.1f} | {b.whole_front:.0%} |"
        )
    return "\n".join([*lines, "", *_groups(calibration, sides[1])])


def _groups(calibration: Calibration, tested: _Side) -> list[str]:
    """Coverage of the linear and the network's band in groups of test patients."""
    lines = [
        "| band of | test patients whose tumor or horizon | n | front covered | volume covered |",
        "|---|---|---|---|---|",
    ]
    for name in ("linear", NETWORK):
        if name not in calibration.models:
            continue
        b, scores = calibration.models[name], tested.scores[name]
        for group in sorted({part for s in scores for part in s.case.split("|")}):
            of = [s for s in scores if group in s.case.split("|")]
            front = np.mean([np.mean((s.front >= -b.inner) & (s.front <= b.outer)) for s in of])
            volume = np.mean([-b.shrink <= s.log_volume <= b.grow for s in of])
            lines.append(f"| {name} | {group} | {len(of)} | {front:.1%} | {volume:.1%} |")
    return lines


def _mean(values: Sequence[float], rng: np.random.Generator) -> str:
    draws = rng.choice(np.array(values), size=(BOOTSTRAP_DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})"


def _median(scores: Sequence[Scored]) -> float:
    return float(np.median([s.log_ratio for s in scores]))


if __name__ == "__main__":
    main()
