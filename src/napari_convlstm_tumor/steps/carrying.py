"""Carrying: where the network follows change only in part, a given outline is also carried on by registration.

On CT and T1 alone the network, given a mask or box at one visit, follows growth in part and shrinkage hardly
(docs/accuracy.md, warped sarcomas). There the outline goes from that visit to every other one a second time, by
deformable registration of the images, and what is shown is halfway between both fronts: the mean of two estimates is
often better than either (Bates and Granger 1969). On glioblastomas, which the network follows, it loses: not done.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.model.cautions import follows_in_part
from napari_convlstm_tumor.model.device import cached_model, pick_device
from napari_convlstm_tumor.model.segmenters import Segmenter, is_bundle
from napari_convlstm_tumor.prepare.deform import carried
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps.deforming import shared_channel
from napari_convlstm_tumor.volume import Grid, Volume

# The registration sees this much around the outlines.
MARGIN_MM = 30.0
# A distance of this many mm turns a front into probability 0.27, as in forecasts.
SOFTNESS_MM = 1.0
# Of the time, the network's; the rest goes to the registrations.
NETWORK_SHARE = 0.5


def outline(
    segmenter: Segmenter, aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
) -> Generator[float, None, Prediction]:
    """The segmenter's answer, with what is carried taken in where that is done; yields the fraction done.

    Only what our own network outlined is changed. Raises what the segmenter raises.
    """
    sources = _sources(aligned, prompts) if _is_needed(aligned, settings) else {}
    share = NETWORK_SHARE if sources else 1.0
    prediction = yield from _scaled(segmenter(aligned, prompts, settings), share)
    if not sources or prediction.model != _model(settings).id:
        return prediction
    probability, moved = prediction.probability.copy(), []
    for n, (visit, source) in enumerate(sources.items()):
        if prediction.mask(source).any() and prediction.mask(visit).any():
            moved += [visit] if _halfway(probability, aligned, source, visit) else []
        yield share + (1 - share) * (n + 1) / len(sources)
    if not moved:
        return prediction
    return replace(prediction, probability=probability, warnings=(*prediction.warnings, _told(moved)))


def _is_needed(aligned: AlignedSeries, settings: Settings) -> bool:
    open_visits = any(mask is None for mask in aligned.masks)  # else the network would be loaded for nothing
    return open_visits and not is_bundle(settings.model) and follows_in_part(_model(settings), aligned)


def _model(settings: Settings) -> Model:
    return cached_model(settings.model, pick_device(settings.device))


def _sources(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> dict[int, int]:
    """0-based visit that nobody pointed at -> the visit whose outline is carried there.

    As the network's memory goes: from the last visit with a mask or box before it, else from the first after it. A
    click does not say where the outline is, so it is no source.
    """
    drawn = {visit for visit, mask in enumerate(aligned.masks) if mask is not None and mask.any()}
    drawn |= {p.visit - 1 for p in prompts if p.type in ("mask", "box")}
    told = drawn | {p.visit - 1 for p in prompts}
    free = [visit for visit, mask in enumerate(aligned.masks) if mask is None and visit not in told]
    return {v: max((d for d in drawn if d < v), default=min(drawn)) for v in free} if drawn else {}


def _halfway(probability: FloatVolume, aligned: AlignedSeries, source: int, visit: int) -> bool:
    """Put the front of ``visit`` in ``probability`` (T, I, J, K) halfway to the one carried there from ``source``.

    False, and nothing changed, where the two visits share no kind of image, could not be aligned, or nothing arrives.
    """
    channel = shared_channel(aligned, source, visit)
    if channel is None or not (aligned.registrations[source].good and aligned.registrations[visit].good):
        return False
    spacing = aligned.grid.spacing_mm
    before, now = probability[source] >= 0.5, probability[visit] >= 0.5
    box = _around(before | now, spacing)
    grid = Grid(before[box].shape, np.diag([*spacing, 1.0]))
    images = [Volume(aligned.data[v, channel][box], grid) for v in (source, visit)]
    there = carried(Volume(before[box].astype(np.float32), grid), *images) >= 0.5
    if not there.any():
        return False
    front = (signed_distance_mm(there, spacing) + signed_distance_mm(now[box], spacing)) / 2
    chance = 1 / (1 + np.exp(np.clip(front / SOFTNESS_MM, -30, 30)))
    probability[visit][box] = chance * aligned.inside[visit][box]
    return True


def _around(mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> tuple[slice, ...]:
    places = np.argwhere(mask)
    margin = np.ceil(MARGIN_MM / np.array(spacing_mm)).astype(int)
    low, high = np.maximum(places.min(axis=0) - margin, 0), places.max(axis=0) + margin + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _scaled(work: Generator[float, None, Prediction], share: float) -> Generator[float, None, Prediction]:
    """The same work, whose end is at ``share``."""
    while True:
        try:
            fraction = next(work)
        except StopIteration as finished:
            prediction: Prediction = finished.value
            return prediction
        yield share * fraction


def _told(visits: list[int]) -> str:
    named = ", ".join(str(visit + 1) for visit in visits)
    return (
        f"At visit {named} the outline lies halfway between the network's and the one given at another visit, carried "
        "there by deformable registration. Tumor that grows without moving the tissue around it is understated."
    )
