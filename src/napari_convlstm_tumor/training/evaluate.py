"""Accuracy on patients the network was not trained on, beside the baselines; one command makes the whole table.

Sets: ``simulated`` (ICBM152 heads of seeds no training run uses, 4 visits), ``sarcoma`` (held-out tumors, one visit, CT
and T1), ``glioblastoma`` (pairs of T1c visits, scored at visit 2 on its native grid with holes filled slice by slice).
A row is a set, a prompt and a measure: mean over patients with a bootstrap 95 % interval, and n.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.measure.forecast import forecast_masks
from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.pipeline import network_forecast
from napari_convlstm_tumor.prepare.native import to_native
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.series import AlignedSeries, Prediction, Prompt, Series, Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training.patients import PatientPlan, simulate_patient
from napari_convlstm_tumor.training.train import HELD_OUT_SARCOMAS
from napari_convlstm_tumor.volume import Grid, Volume

Mask = npt.NDArray[np.bool_]
Answer = TypeVar("Answer")
FIRST_SIMULATED_SEED = 5000  # training draws from its own generators; these patients are never among them
BOOTSTRAP_DRAWS = 1000
BASELINE_NAMES = {"linear_mean": "linear, mean speed", "linear_pointwise": "linear, pointwise"}


@dataclass(frozen=True)
class Score:
    """One number of one patient."""

    set: str
    prompt: str
    method: str
    measure: str
    patient: str
    value: float


def evaluate(sets: Sequence[str], data: Path | None, model: str, patients: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of mean, interval and n for every (set, prompt, method, measure). ``data``: folder of ../shared/data."""
    settings = Settings(model=model)
    scores: list[Score] = []
    for name in sets:
        scores += list(_set(name.strip())(settings, data, patients))
    keys = dict.fromkeys((s.set, s.prompt, s.method, s.measure) for s in scores)
    rng = np.random.default_rng(seed)
    return [_row(key, [s.value for s in scores if (s.set, s.prompt, s.method, s.measure) == key], rng) for key in keys]


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["| set | prompt | method | measure | mean (95 % interval) | n |", "|---|---|---|---|---|---|"]
    for r in rows:
        shown = f"{r['mean']:.3f} ({r['low']:.3f} to {r['high']:.3f})"
        lines.append(f"| {r['set']} | {r['prompt']} | {r['method']} | {r['measure']} | {shown} | {r['n']} |")
    return "\n".join(lines)


def dice(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Overlap of two masks in 0..1; two empty masks agree."""
    a, b = a > 0, b > 0
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else float(2 * np.count_nonzero(a & b) / total)


def filled(mask: npt.NDArray[Any]) -> Mask:
    """Holes filled in every slice along the last axis, as a reader closes a rim."""
    return np.stack([ndimage.binary_fill_holes(mask[..., k] > 0) for k in range(mask.shape[-1])], axis=-1)


# ---- the sets ----


def _set(name: str) -> Callable[[Settings, Path | None, int], Iterator[Score]]:
    known = {"simulated": _simulated, "sarcoma": _sarcoma, "glioblastoma": _glioblastoma}
    if name not in known:
        raise SettingsError(f"Unknown set '{name}'. Choose of: {', '.join(known)}.")
    return known[name]


def _sarcoma(settings: Settings, data: Path | None, patients: int) -> Iterator[Score]:
    del patients
    for case in HELD_OUT_SARCOMAS:
        for modality in ("ct", "t1"):
            chosen = replace(settings, modality=(modality,))
            series = read_series(find_patient(_needed(data) / "sarcoma" / case, chosen), chosen)
            truth = series.visits[0].mask
            assert truth is not None
            aligned = replace(result_of(align(series, chosen)), masks=(None,))
            for kind in ("click", "box"):
                prompt = _prompt(kind, truth, 1)
                prediction = result_of(predict.segment(aligned, (prompt,), chosen))
                guess = to_native(prediction.mask(0), aligned, 0, truth.grid)
                yield Score(f"sarcoma {modality}", kind, "network", "Dice", case, dice(guess, truth.data))
            ellipsoid = _ellipsoid(_prompt("box", truth, 1), truth.grid)
            yield Score(
                f"sarcoma {modality}",
                "box",
                "ellipsoid in the box",
                "Dice",
                case,
                dice(ellipsoid, truth.data),
            )


def _glioblastoma(settings: Settings, data: Path | None, patients: int) -> Iterator[Score]:
    del patients
    for folder in sorted((_needed(data) / "glioblastoma").glob("GBM-*")):
        series = read_series(find_patient(folder, settings), settings)
        aligned = result_of(align(series, settings))
        truths = [filled(v.mask.data) for v in series.visits if v.mask is not None]
        given = aligned.masks[0]
        assert given is not None
        grid = series.visits[1].images["t1c"].grid
        blank = replace(aligned, masks=(None, None))
        clicks = tuple(
            _in_common(_prompt("click", Volume(t.astype(np.uint8), v.images["t1c"].grid), n + 1), aligned)
            for n, (t, v) in enumerate(zip(truths, series.visits, strict=True))
        )
        runs = {
            "click at visit 1": (blank, clicks[:1]),
            "mask at visit 1": (replace(aligned, masks=(filled(given).astype(np.uint8), None)), ()),
            "click at both": (blank, clicks),
        }
        for prompt, (there, prompts) in runs.items():
            prediction = result_of(predict.segment(there, prompts, settings))
            guess = filled(to_native(prediction.mask(1), aligned, 1, grid))
            yield Score("glioblastoma", prompt, "network", "Dice at visit 2", folder.name, dice(guess, truths[1]))
        persistence = to_native(filled(given).astype(np.uint8), aligned, 1, grid)
        score = dice(filled(persistence), truths[1])
        yield Score("glioblastoma", "mask at visit 1", "persistence", "Dice at visit 2", folder.name, score)


def _simulated(settings: Settings, data: Path | None, patients: int) -> Iterator[Score]:
    del data
    for seed in range(FIRST_SIMULATED_SEED, FIRST_SIMULATED_SEED + patients):
        modality = ("t1c", "flair")[seed % 2]
        plan = PatientPlan(seed, 4, "any", (modality,), (1.5, 1.5, 1.5), motion=False)
        series = _series_of(plan)
        aligned = result_of(align(series, replace(settings, register=False)))
        truths = np.stack([m for m in aligned.masks if m is not None])
        blank = replace(aligned, masks=(None,) * len(truths))
        name = f"simulated {modality}"
        for prompt, prompts in _simulated_prompts(truths, aligned.grid).items():
            prediction = result_of(predict.segment(blank, prompts, settings))
            alone = _memory_cleared(blank, prompts, settings)
            for method, guess in (("network", prediction.probability), ("memory cleared", alone)):
                value = float(np.mean([dice(guess[t] >= 0.5, truths[t]) for t in range(1, len(truths))]))
                yield Score(name, prompt, method, "Dice at visits 2-4", plan_name(plan), value)
        yield from _forecast_scores(plan_name(plan), aligned, truths, settings)


def plan_name(plan: PatientPlan) -> str:
    """sim-5000 and so on."""
    return f"sim-{plan.seed}"


def _simulated_prompts(truths: npt.NDArray[np.uint8], grid: Grid) -> dict[str, tuple[Prompt, ...]]:
    found: dict[str, tuple[Prompt, ...]] = {"none": ()}
    clicks = tuple(_prompt("click", Volume(m, grid), t + 1) for t, m in enumerate(truths) if m.any())
    if clicks and clicks[0].visit == 1:
        found["click at visit 1"] = clicks[:1]
        found["click at every visit"] = clicks
    return found


def _memory_cleared(aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings) -> npt.NDArray[np.float32]:
    """The same network with nothing remembered: every visit as a series of its own."""
    visits = []
    for t in range(len(aligned.days)):
        here = tuple(replace(p, visit=1) for p in prompts if p.visit == t + 1)
        if not here and prompts:
            visits.append(np.zeros(aligned.grid.shape, np.float32))  # nothing shows it what to outline
            continue
        visits.append(result_of(predict.segment(_one_visit(aligned, t), here, settings)).probability[0])
    return np.stack(visits)


def _one_visit(aligned: AlignedSeries, t: int) -> AlignedSeries:
    return replace(
        aligned,
        data=aligned.data[t : t + 1],
        present=aligned.present[t : t + 1],
        inside=aligned.inside[t : t + 1],
        days=aligned.days[t : t + 1],
        centre=aligned.centre[t : t + 1],
        scale=aligned.scale[t : t + 1],
        masks=(None,),
        registrations=aligned.registrations[t : t + 1],
        native_grids=aligned.native_grids[t : t + 1],
        reference=0,
    )


def _forecast_scores(
    patient: str, aligned: AlignedSeries, truths: npt.NDArray[np.uint8], settings: Settings
) -> Iterator[Score]:
    """Dice of the last visit forecast from the true masks before it: the network's and the baselines'."""
    if not truths[-3:].any(axis=(1, 2, 3)).all():
        return
    known = replace(
        aligned,
        data=aligned.data[:-1],
        present=aligned.present[:-1],
        inside=aligned.inside[:-1],
        days=aligned.days[:-1],
        masks=aligned.masks[:-1],
        registrations=aligned.registrations[:-1],
        native_grids=aligned.native_grids[:-1],
    )
    horizon = aligned.days[-1] - known.days[-1]
    prediction: Prediction = result_of(predict.segment(known, (), settings))
    forecast = network_forecast(known, prediction, horizon, settings)
    if forecast is None:
        return
    answers = {"network": forecast >= 0.5}
    baselines = forecast_masks(list(truths[:-1]), known.days, aligned.grid.spacing_mm, horizon)
    answers |= {BASELINE_NAMES.get(name, name): mask > 0 for name, mask in baselines.items()}
    for method, mask in answers.items():
        yield Score("simulated", "true masks", method, "forecast Dice", patient, dice(mask, truths[-1]))


# ---- small steps ----


def result_of(work: Generator[Any, None, Answer]) -> Answer:
    """What a generator returns, its progress unseen."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            answer: Answer = finished.value
            return answer


def _series_of(plan: PatientPlan) -> Series:
    patient = simulate_patient(plan)
    i, j, k = patient.masks.shape[1:]
    grid = Grid((i, j, k), patient.affine)
    visits = tuple(
        Visit(
            f"visit-{t + 1}",
            day,
            {m: Volume(frames[t], grid) for m, frames in patient.images.items()},
            Volume(patient.masks[t], grid),
        )
        for t, day in enumerate(patient.days)
    )
    return Series(plan_name(plan), visits)


def _prompt(kind: str, mask: Volume, visit: int) -> Prompt:
    """A click at the deepest point of a mask, or the box around it, in the mask's own space."""
    if kind == "click":
        depth = ndimage.distance_transform_edt(mask.data > 0, mask.grid.spacing_mm)
        where = np.unravel_index(int(np.argmax(depth)), depth.shape)
        return Prompt(visit, "point", mask.grid.to_mm(where))
    inside = np.argwhere(mask.data > 0)
    return Prompt(visit, "box", mask.grid.to_mm(np.stack([inside.min(0) - 0.5, inside.max(0) + 0.5])))


def _in_common(prompt: Prompt, aligned: AlignedSeries) -> Prompt:
    from napari_convlstm_tumor.prepare.native import to_common_mm

    assert prompt.ras_mm is not None
    return replace(prompt, ras_mm=to_common_mm(prompt.ras_mm, aligned.registrations[prompt.visit - 1].ref_to_visit))


def _ellipsoid(box: Prompt, grid: Grid) -> Mask:
    """The ellipsoid that touches all sides of a box: what a box prompt gives without any network."""
    assert box.ras_mm is not None
    low, high = np.sort(grid.to_index(box.ras_mm), axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.5)
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    inside: Mask = sum(((x - m) / h) ** 2 for x, m, h in zip(axes, middle, half, strict=True)) <= 1
    return inside


def _needed(data: Path | None) -> Path:
    if data is None:
        raise SettingsError("This set needs --data, the folder that holds sarcoma/ and glioblastoma/.")
    return data


def _row(key: tuple[str, ...], values: Sequence[float], rng: np.random.Generator) -> dict[str, Any]:
    draws = rng.choice(np.array(values), size=(BOOTSTRAP_DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    names = dict(zip(("set", "prompt", "method", "measure"), key, strict=True))
    return {**names, "mean": float(np.mean(values)), "low": float(low), "high": float(high), "n": len(values)}
