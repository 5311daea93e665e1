"""Accuracy on patients the network was not trained on, beside the baselines; one command makes the whole table.

The sets are those of training/testsets, the methods those of training/methods, the measures those of training/scores,
what is to be reached is in training/goals; docs/accuracy.md says what each means. A patient is predicted once for all
measures. A row is a set, a prompt, a method and a measure: mean or median over patients (of each patient's own mean or
median over visits), its bootstrap 95 % interval (patients drawn with replacement), and n patients.
"""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.measure.growth import front_speed
from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.model.device import pick_device
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import leakage, methods, scores, testsets
from napari_convlstm_tumor.training.baseline import forgetful, load_baseline
from napari_convlstm_tumor.training.methods import NETWORK, UNFOLLOWED, Networks
from napari_convlstm_tumor.training.scores import dice, filled
from napari_convlstm_tumor.training.testsets import AnyMask, Case, Sources, result_of

__all__ = ["MEASURES", "Plan", "Score", "check_leakage", "dice", "filled", "result_of", "score", "table", "to_csv"]
# What --measures chooses from.
MEASURES = ("dice", "hausdorff", "volume", "change", "memory", "forecast", "consistency")
# A quick look.
QUICK_PATIENTS, QUICK_MEASURES = 8, ("dice", "change", "memory", "forecast")
DICE, FORECAST_DICE, PRECISION, SPEED = (
    "Dice",
    "forecast Dice",
    "forecast average precision",
    "front-speed error mm/month",
)
# Measures that can be infinite (a tumor missed): their median stays a number while fewer than half are.
MEDIANS = (
    "95 % Hausdorff mm",
    "volume ratio",
    "abs. ln volume ratio",
    "abs. error of ln(V2/V1)",
    "SD of ln V, unchanged",
)
BOOTSTRAP_DRAWS = 1000


# Sets that are also taken together.
POOLED = {
    "simulated t1c": "simulated brain",
    "simulated flair": "simulated brain",
    "warped sarcoma, ct": "warped sarcoma",
    "warped sarcoma, t1": "warped sarcoma",
    "simulated t1c, unchanged": "simulated brain, unchanged",
    "simulated flair, unchanged": "simulated brain, unchanged",
}


@dataclass(frozen=True)
class Plan:
    """One evaluation. data: folder of ../shared/data; patients: simulated ones; baseline: weights of a per-visit U-Net;
    cache: folder that keeps the simulated patients for the next evaluation."""

    sets: tuple[str, ...] = tuple(testsets.SETS)
    data: Path | None = None
    model: str = "default"
    patients: int = 50
    baseline: Path | None = None
    measures: tuple[str, ...] = MEASURES
    device: str = "auto"
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name, known in (("sets", tuple(testsets.SETS)), ("measures", MEASURES)):
            unknown = [value for value in getattr(self, name) if value not in known]
            if unknown:
                raise SettingsError(f"Unknown {name} '{unknown[0]}'. Choose of: {', '.join(known)}.")
        if self.patients < 1:
            raise SettingsError(f"patients is at least 1, got {self.patients}.")


@dataclass(frozen=True)
class Score:
    """One number of one patient; visit is 1-based, or 0 for a number of all visits."""

    set: str
    prompt: str
    method: str
    measure: str
    patient: str
    value: float
    visit: int = 0


def plan_of(sets: str | None, measures: str | None, quick: bool, **values: Any) -> Plan:
    """The plan of the command line: comma-separated names, and all that is possible where there are none."""
    data = values["data"]
    there = [kind for kind in testsets.IMAGES if data is not None and (data / kind).is_dir()]
    real = tuple(name for kind in there for name in testsets.MADE_OF[kind])
    if quick:
        values["patients"] = min(values["patients"], QUICK_PATIENTS)
    return Plan(
        sets=(*real, "simulated", "brains") if sets is None else _names(sets),
        measures=_names(measures) if measures else QUICK_MEASURES if quick else MEASURES,
        **values,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def check_leakage(plan: Plan) -> str:
    """A sentence on who is scored and why they are new to the network. Raises SettingsError when nobody is."""
    sources = _sources(plan)
    scored = [k for k in testsets.IMAGES if not set(testsets.MADE_OF[k]).isdisjoint(plan.sets)]
    found = {k: len(testsets.unseen_patients(k, sources)) for k in scored}
    rules = [
        f"none of their images is among the {len(card[leakage.CARD_KEY])} that the card lists"
        if leakage.CARD_KEY in card
        else "the card names them as held out (it lists no images)"
        for card in sources.cards
    ]
    who = ", ".join(f"{n} {kind}" for kind, n in found.items())
    real = f"{who} patients are scored; {'; U-Net: '.join(rules)}" if found else "no real patient is scored"
    return f"Leakage check: {real}. Simulated patients come from seeds that no training uses."


def score(plan: Plan) -> Iterator[Score]:
    """All numbers, as they are found."""
    networks, sources = _networks(plan), _sources(plan)
    for name in plan.sets:
        for case in testsets.cases(name, sources):
            yield from finite(_case_scores(case, plan, networks))


def _sources(plan: Plan) -> Sources:
    cards = [load_model(plan.model).card]
    if plan.baseline is not None:
        cards.append(load_baseline(plan.baseline).card)
    return Sources(plan.data, tuple(cards), plan.patients, plan.cache)


def _networks(plan: Plan) -> Networks:
    device = pick_device(plan.device)
    cleared = forgetful(load_model(plan.model)) if "memory" in plan.measures else None
    unet = None if plan.baseline is None else load_baseline(plan.baseline)
    for model in (cleared, unet):
        if model is not None:
            model.network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Networks(Settings(model=plan.model, device=plan.device), cleared, unet)


def finite(found: Iterable[Score]) -> Iterator[Score]:
    """Without the numbers that do not exist (NaN)."""
    return (s for s in found if not math.isnan(s.value))


# ---- the numbers of one case ----


def _case_scores(case: Case, plan: Plan, networks: Networks) -> Iterator[Score]:
    for prompt in case.shown:
        for method, masks in methods.answers(case, prompt, networks):
            native = [case.scored_mask(mask, t) for t, mask in enumerate(masks)]
            blank = Score(case.set, prompt, method, "", case.patient, 0.0)
            yield from mask_scores(case, native, plan.measures, blank)
    if "forecast" in plan.measures and case.common_truths:
        yield from _forecast_scores(case, networks.settings)
    if "consistency" in plan.measures and case.common_truths and case.common_truths[0].any():
        yield from _consistency_scores(case, networks)


def mask_scores(case: Case, masks: list[AnyMask], measures: Sequence[str], blank: Score) -> Iterator[Score]:
    """Each mask against its truth at the scored visits."""
    for t in case.scored:
        mask, truth = masks[t], case.truths[t]
        ratio = scores.log_volume_ratio(mask, truth)
        found: dict[str, float] = {}
        if "dice" in measures:
            found[DICE] = dice(mask, truth)
            found["tumor missed"] = math.nan if not truth.any() else float(not mask.any())
            found["falsely outlined"] = math.nan if truth.any() else float(mask.any())
        if "hausdorff" in measures:
            found["95 % Hausdorff mm"] = scores.hausdorff95_mm(mask, truth, case.spacing_mm[t])
        if "volume" in measures:
            found |= {"volume ratio": math.exp(ratio), "abs. ln volume ratio": abs(ratio)}
            falsely_mm3 = math.nan if truth.any() else np.count_nonzero(mask) * math.prod(case.spacing_mm[t])
            found["falsely outlined mL"] = falsely_mm3 / 1000
        if "change" in measures and t > 0:
            found["abs. error of ln(V2/V1)"] = scores.change_error(masks[t - 1 : t + 1], case.truths[t - 1 : t + 1])
        for measure, value in found.items():
            yield replace(blank, measure=measure + case.where, value=value, visit=t + 1)


def _forecast_scores(case: Case, settings: Settings) -> Iterator[Score]:
    """The last visit forecast from the true masks before it."""
    found = methods.forecast_last(case, settings)
    if found is None:
        return
    spacing, days, (before, last) = case.aligned.grid.spacing_mm, case.aligned.days, case.common_truths[-2:]
    true_speed = front_speed(before, last, spacing, days[-1] - days[-2])
    rows: dict[str, Callable[[Any], float]] = {
        FORECAST_DICE: lambda mask: dice(mask, last),
        PRECISION: lambda order: scores.average_precision(order, before, last),
        SPEED: lambda speed: scores.speed_error(speed, true_speed, before, spacing),
    }
    answers: tuple[Mapping[str, Any], ...] = (found.masks, found.orders, found.speeds)
    for (measure, judge), made in zip(rows.items(), answers, strict=True):
        for method, answer in made.items():
            yield Score(case.set, "true masks", method, measure, case.patient, judge(answer), len(days))


def _consistency_scores(case: Case, networks: Networks) -> Iterator[Score]:
    """The first visit scanned again and again: what changes from mask to mask is error."""
    repeated = methods.again(case, np.random.default_rng(zlib.crc32(case.patient.encode())))
    for prompt in repeated.shown:
        for method, masks in methods.answers(repeated, prompt, networks):
            blank = Score(f"{case.set}, unchanged", prompt, method, "", case.patient, 0.0)
            yield replace(blank, measure="Dice of neighbours, unchanged", value=scores.neighbour_dice(masks))
            yield replace(blank, measure="SD of ln V, unchanged", value=scores.volume_spread(masks))


# ---- the table ----


def table(found: Sequence[Score], seed: int = 0) -> list[dict[str, Any]]:
    """Rows of statistic, interval and n for every (set, prompt, method, measure), and the network minus the others.

    A number that is infinite, because more than half of the tumors were missed, is None (JSON knows no infinity).
    """
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
    for s in found:
        for name in filter(None, (POOLED.get(s.set), s.set)):
            groups.setdefault((name, s.prompt, s.method, s.measure), {}).setdefault(s.patient, []).append(s.value)
    patients = {key: {p: _statistic(key[3])(v) for p, v in by.items()} for key, by in groups.items()}
    rows = [_row(key, list(by.values()), rng) for key, by in patients.items()]
    others = [key for key in patients if key[2] not in (NETWORK, f"{NETWORK}{UNFOLLOWED}")]
    return rows + [row for key in others for row in _against(key, patients, rng)]


def _statistic(measure: str) -> Callable[[Any], float]:
    return np.median if measure.startswith(MEDIANS) else np.mean


def _row(key: tuple[str, str, str, str], values: Sequence[float], rng: np.random.Generator) -> dict[str, Any]:
    statistic = _statistic(key[3])
    draws = [statistic(draw) for draw in rng.choice(np.array(values), size=(BOOTSTRAP_DRAWS, len(values)))]
    return _numbers(key, statistic(values), draws, len(values), "median" if statistic is np.median else "mean")


def _numbers(
    key: tuple[str, str, str, str], value: float, draws: Sequence[float], n: int, statistic: str
) -> dict[str, Any]:
    low, high = np.percentile(draws, (2.5, 97.5), method="nearest")
    names = dict(zip(("set", "prompt", "method", "measure"), key, strict=True))
    numbers = {"mean": value, "low": low, "high": high}
    shown = {name: float(x) if math.isfinite(x) else None for name, x in numbers.items()}
    return {**names, **shown, "n": n, "statistic": statistic}


def _against(
    key: tuple[str, str, str, str],
    patients: Mapping[tuple[str, str, str, str], Mapping[str, float]],
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """The network against another method on the same patients: Dice and precision less its, speed error as share."""
    name, prompt, method, measure = key
    mine = f"{NETWORK}{UNFOLLOWED}" if method.endswith(UNFOLLOWED) else NETWORK
    ours, theirs = patients.get((name, prompt, mine, measure), {}), patients[key]
    pairs = np.array([(ours[p], theirs[p]) for p in theirs if p in ours]).reshape(-1, 2)
    if not len(pairs):
        return
    drawn = pairs[rng.integers(len(pairs), size=(BOOTSTRAP_DRAWS, len(pairs)))].mean(axis=1)
    our_mean, their_mean = pairs.mean(axis=0)
    if measure.startswith((DICE, FORECAST_DICE, PRECISION)):
        against = (name, prompt, f"network minus {method}", measure)
        yield _numbers(against, our_mean - their_mean, drawn[:, 0] - drawn[:, 1], len(pairs), "mean difference")
    elif measure == SPEED and their_mean > 0:
        against = (name, prompt, f"network against {method}", "front-speed error, share lower")
        yield _numbers(
            against, 1 - our_mean / their_mean, 1 - drawn[:, 0] / drawn[:, 1], len(pairs), "1 - ratio of means"
        )


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table per set: a line per prompt and method, a column per measure; n in a cell where it differs."""
    return "\n\n".join(_set_table(name, [r for r in rows if r["set"] == name]) for name in _once(rows, "set"))


def _set_table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    measures = _once(rows, "measure")
    kind = {r["measure"]: " (median)" for r in rows if r["statistic"] == "median"}
    heads = ["prompt", "method", "n", *(m + kind.get(m, "") for m in measures)]
    lines = [f"**{name}**", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for prompt, method in dict.fromkeys((r["prompt"], r["method"]) for r in rows):
        cells = {r["measure"]: r for r in rows if (r["prompt"], r["method"]) == (prompt, method)}
        n = max(r["n"] for r in cells.values())
        shown = [_cell(cells[m], n) if m in cells else "" for m in measures]
        lines.append("| " + " | ".join([prompt, method, str(n), *shown]) + " |")
    return "\n".join(lines)


def _once(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(r[name] for r in rows))


def _cell(row: Mapping[str, Any], n: int) -> str:
    text = f"{_shown(row['mean'])} ({_shown(row['low'])} to {_shown(row['high'])})"
    return text if row["n"] == n else f"{text}, n = {row['n']}"


def _shown(value: float | None) -> str:
    return "missed" if value is None else f"{value:.3f}"


def to_csv(found: Sequence[Score]) -> str:
    """Every number of every patient and visit; "inf" where a tumor was missed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(s) for s in found)
    return text.getvalue()
