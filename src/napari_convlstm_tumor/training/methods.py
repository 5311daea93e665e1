"""What answers a Case: the network, the network without its memory, the per-visit U-Net, and what needs no network."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.measure.forecast import forecasts
from napari_convlstm_tumor.measure.growth import front_speed, mean_front_speed
from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.pipeline import is_carried, outline
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import AIR
from napari_convlstm_tumor.training.scores import arrival_months
from napari_convlstm_tumor.training.testsets import CLICK_EVERY, AnyMask, Case, Given, ellipsoid, result_of
from napari_convlstm_tumor.volume import Volume

NETWORK, CLEARED, UNET = "network", "memory cleared", "U-Net per visit"
UNFOLLOWED = ", nothing followed"  # the outlines before only what continues the lesion of the visit before was kept
# What the program shows of CT and T1: halfway to the given outline, carried on by registration (steps/carrying).
CARRIED = "network, halfway to the outline carried by registration"
PERSISTENCE, ELLIPSOID = "persistence", "ellipsoid in the box"
ZERO_SPEED, MEAN_SPEED, POINTWISE = "zero speed", "linear, mean speed", "linear, pointwise"
# Names of measure/forecast in the table.
BASELINE_NAMES = {"linear": MEAN_SPEED, "linear pointwise": POINTWISE}
# How often, and how many days apart, a tumor that does not change is scanned again.
AGAIN_VISITS, AGAIN_GAP_DAYS = 4, 60
AGAIN_STRENGTH = 0.5  # of simulate.scanner: bias field, contrast and noise as between the visits of a simulated patient


@dataclass(frozen=True, eq=False)
class Networks:
    """The model named in settings, its forgetful twin (or None) and the per-visit U-Net (or None)."""

    settings: Settings
    cleared: Model | None = None
    unet: Model | None = None


def segmented(
    aligned: AlignedSeries,
    given: Given,
    prompts: tuple[Prompt, ...],
    settings: Settings,
    model: Model | None = None,
    unfollowed: bool = False,
) -> Prediction:
    """The prediction of the model named in settings, or of ``model``."""
    return result_of(predict.segment(replace(aligned, masks=given), prompts, settings, model, unfollowed))


def as_shown(
    prediction: Prediction, aligned: AlignedSeries, given: Given, prompts: tuple[Prompt, ...], settings: Settings
) -> Prediction | None:
    """What the program makes of the network's prediction where given outlines are carried on too; None elsewhere.

    The prediction itself where that was to be done and could not be.
    """

    def ready(
        aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
    ) -> Generator[float, None, Prediction]:
        del aligned, prompts, settings
        yield 1.0
        return prediction

    known = replace(aligned, masks=given)
    return result_of(outline(ready, known, prompts, settings)) if is_carried(known, prompts, settings) else None


def answers(case: Case, prompt: str, networks: Networks) -> Iterator[tuple[str, list[AnyMask]]]:
    """(method, masks on the common grid per visit) of everything that answers this prompt.

    The network has no feedback of the previous mask: its state is the only way from visit to visit. The program then
    keeps of the outlines what continues the lesion of the visit before, by the same rule for all methods; that is
    feedback of a mask, so the rows "nothing followed", without it, say what the memory alone is worth.
    """
    given, prompts = case.shown[prompt]
    visits = len(given)
    both = networks.cleared is not None and visits > 1
    models = {NETWORK: None, CLEARED: networks.cleared if visits > 1 else None, UNET: networks.unet}
    for name, model in models.items():
        if model is None and name != NETWORK:
            continue
        prediction = segmented(case.aligned, given, prompts, networks.settings, model, unfollowed=both)
        yield name, _masks(prediction)
        if name == NETWORK:
            carried = as_shown(prediction, case.aligned, given, prompts, networks.settings)
            if carried is not None:
                yield CARRIED, _masks(carried)
        if prediction.unfollowed is not None:
            yield f"{name}{UNFOLLOWED}", [(frame >= 0.5).astype(np.uint8) for frame in prediction.unfollowed]
    if given[0] is not None and visits > 1:
        yield PERSISTENCE, [given[0]] * visits
    boxes = [p for p in prompts if p.type == "box"]
    if boxes and visits == 1:
        yield ELLIPSOID, [ellipsoid(boxes[0], case.aligned.grid).astype(np.uint8)]


def again(case: Case, rng: np.random.Generator) -> Case:
    """The first visit scanned AGAIN_VISITS times: the same tumor in new noise, contrast and bias, clicked each time.

    A click is a point drawn from the inner half of the tumor, as different people click.
    """
    times, truth = AGAIN_VISITS, case.common_truths[0]
    same = repeated(case.aligned, times, AGAIN_GAP_DAYS)
    frames = [[_scanned(channel, rng) for channel in visit] for visit in same.data]
    aligned = replace(same, data=np.stack([np.stack(channels) for channels in frames]))
    clicks = tuple(_drawn_click(Volume(truth, aligned.grid), t + 1, rng) for t in range(times))
    shown = {CLICK_EVERY: ((None,) * times, clicks)}
    return replace(case, aligned=aligned, truths=(truth,) * times, shown=shown, common_truths=(truth,) * times)


def repeated(aligned: AlignedSeries, times: int, gap_days: int) -> AlignedSeries:
    """The first visit ``times`` times, ``gap_days`` apart, without masks."""
    first = visit_alone(aligned, 0)
    return replace(
        first,
        data=np.repeat(first.data, times, axis=0),
        present=np.repeat(first.present, times, axis=0),
        inside=np.repeat(first.inside, times, axis=0),
        days=tuple(gap_days * t for t in range(times)),
        centre=np.repeat(first.centre, times, axis=0),
        scale=np.repeat(first.scale, times, axis=0),
        masks=(None,) * times,
        registrations=first.registrations * times,
        native_grids=first.native_grids * times,
    )


def _scanned(channel: FloatVolume, rng: np.random.Generator) -> FloatVolume:
    """One more acquisition of a normalised image; what was air stays air."""
    image = torch.from_numpy(channel)
    moved = simulate.scanner(image, rng, AGAIN_STRENGTH)
    scanned: FloatVolume = torch.where(image > max(AIR, float(image.min())), moved, image).numpy()
    return scanned


def _drawn_click(mask: Volume, visit: int, rng: np.random.Generator) -> Prompt:
    phi = signed_distance_mm(mask.data, mask.grid.spacing_mm)
    deep = np.argwhere(phi <= phi.min() / 2)
    return Prompt(visit, "point", mask.grid.to_mm(deep[int(rng.integers(len(deep)))]))


def _masks(prediction: Prediction) -> list[AnyMask]:
    return [prediction.mask(t) for t in range(len(prediction.days))]


def visits_of(aligned: AlignedSeries, chosen: slice) -> AlignedSeries:
    """Some of the visits as a series of their own; the first of them becomes the reference."""
    return replace(
        aligned,
        data=aligned.data[chosen],
        present=aligned.present[chosen],
        inside=aligned.inside[chosen],
        days=aligned.days[chosen],
        centre=aligned.centre[chosen],
        scale=aligned.scale[chosen],
        masks=aligned.masks[chosen],
        registrations=aligned.registrations[chosen],
        native_grids=aligned.native_grids[chosen],
        reference=0,
    )


def visit_alone(aligned: AlignedSeries, visit: int) -> AlignedSeries:
    """One 0-based visit as a series of its own."""
    return visits_of(aligned, slice(visit, visit + 1))


# ---- forecasts from true masks ----


@dataclass(frozen=True, eq=False)
class Forecast:
    """What each method expects at the last visit from the true masks before it, all (I, J, K).

    masks: method -> mask. orders: method -> numbers that rise with the time of arrival. speeds: method -> mm/month.
    """

    masks: Mapping[str, AnyMask]
    orders: Mapping[str, npt.NDArray[Any]]
    speeds: Mapping[str, FloatVolume | float]


def forecast_last(case: Case, settings: Settings) -> Forecast | None:
    """Forecasts of the last visit, or None when the tumor is missing or its front was not followed before it."""
    truths, spacing = case.common_truths, case.aligned.grid.spacing_mm
    if len(truths) < 3 or not all(m.any() for m in truths[-3:]):
        return None
    known = visits_of(case.aligned, slice(0, len(truths) - 1))
    days, horizon = known.days, case.aligned.days[-1] - known.days[-1]
    before, last, gap = truths[-3], truths[-2], days[-1] - days[-2]
    mean = mean_front_speed(front_speed(before, last, spacing, gap), last, spacing)
    if mean is None:
        return None
    phi, phi_before = signed_distance_mm(last, spacing), signed_distance_mm(before, spacing)
    prediction = segmented(known, truths[:-1], (), settings)
    expected = predict.expected_speed(prediction, phi, phi_before, mean, gap, horizon, settings)
    pointwise = (phi_before - phi) / (gap / DAYS_PER_MONTH)
    made = forecasts(list(truths[:-1]), days, spacing, horizon).made
    masks: dict[str, AnyMask] = {NETWORK: phi - expected * (horizon / DAYS_PER_MONTH) < 0}
    return Forecast(
        masks={**masks, **{BASELINE_NAMES.get(name, name): found.mask for name, found in made.items()}},
        orders={
            NETWORK: arrival_months(phi, expected),
            POINTWISE: arrival_months(phi, pointwise),
            "nearest first (any even front)": phi,
        },
        speeds={NETWORK: expected, ZERO_SPEED: 0.0, MEAN_SPEED: mean, POINTWISE: pointwise},
    )
