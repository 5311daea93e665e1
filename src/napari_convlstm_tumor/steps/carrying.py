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

from napari_convlstm_tumor.measure.distance import box_around, signed_distance_mm, soft_mask
from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.model.cautions import follows_in_part
from napari_convlstm_tumor.model.device import cached_model, pick_device
from napari_convlstm_tumor.model.drawing import visits_pointed_at
from napari_convlstm_tumor.model.segmenters import Segmenter, is_bundle
from napari_convlstm_tumor.prepare.deform import carried
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps.deforming import shared_channel
from napari_convlstm_tumor.steps.progress import relayed
from napari_convlstm_tumor.volume import Grid, Volume

# The registration sees this much around the outlines.
MARGIN_MM = 30.0
# Of the time, the network's; the rest goes to the registrations.
NETWORK_SHARE = 0.5


def outline(
    segmenter: Segmenter, aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
) -> Generator[float, None, Prediction]:
    """The segmenter's answer, with what is carried taken in where that is done; yields the fraction done.

    Only what our own network outlined is changed. Raises what the segmenter raises.
    """
    sources = _sources(aligned, prompts) if is_carried(aligned, prompts, settings) else {}
    share = NETWORK_SHARE if sources else 1.0
    prediction = yield from relayed(segmenter(aligned, prompts, settings), lambda part: share * part)
    if not sources or prediction.model != _model(settings).id:
        return prediction
    probability, moved = prediction.probability.copy(), []
    for n, (visit, source) in enumerate(sources.items()):
        moved += [visit] if _halfway(probability, aligned, source, visit) else []
        yield share + (1 - share) * (n + 1) / len(sources)
    if not moved:
        return prediction
    return replace(prediction, probability=probability, warnings=(*prediction.warnings, _told(moved)))


def is_carried(aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings) -> bool:
    """Whether there is an outline to carry on, a visit to carry it to, and a network of ours that needs it."""
    ours = bool(_sources(aligned, prompts)) and not is_bundle(settings.model)
    return ours and follows_in_part(_model(settings), aligned)


def _model(settings: Settings) -> Model:
    return cached_model(settings.model, pick_device(settings.device))


def _sources(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> dict[int, int]:
    """0-based visit that nobody pointed at -> the visit whose outline is carried there.

    As the network's memory goes: from the last visit with a mask or box before it, else from the first after it. A
    click does not say where the outline is, so it is no source.
    """
    drawn = visits_pointed_at(aligned, tuple(p for p in prompts if p.type in ("mask", "box")))
    told = visits_pointed_at(aligned, prompts)
    free = [visit for visit, mask in enumerate(aligned.masks) if mask is None and visit not in told]
    return {v: max((d for d in drawn if d < v), default=drawn[0]) for v in free} if drawn else {}


def _halfway(probability: FloatVolume, aligned: AlignedSeries, source: int, visit: int) -> bool:
    """Put the front of ``visit`` in ``probability`` (T, I, J, K) halfway to the one carried there from ``source``.

    False, and nothing changed, where there is no outline at one of them or nothing arrives.
    """
    before, now = probability[source] >= 0.5, probability[visit] >= 0.5
    if not (before.any() and now.any()):
        return False
    spacing = aligned.grid.spacing_mm
    box = box_around(before | now, spacing, MARGIN_MM)
    there = arrived(before, aligned, source, visit, box)
    if there is None:
        return False
    front = np.float32(0.5) * (signed_distance_mm(there, spacing) + signed_distance_mm(now[box], spacing))
    probability[visit][box] = soft_mask(front) * aligned.inside[visit][box]
    return True


def arrived(
    outlined: npt.NDArray[np.bool_], aligned: AlignedSeries, source: int, visit: int, box: tuple[slice, ...]
) -> npt.NDArray[np.bool_] | None:
    """What is outlined (I, J, K) at ``source`` as registration within the box carries it to ``visit``: bool, the box.

    None where the two visits share no kind of image, could not be aligned, or nothing arrives.
    """
    channel = shared_channel(aligned, source, visit)
    if channel is None or not (aligned.registrations[source].good and aligned.registrations[visit].good):
        return None
    grid = Grid(outlined[box].shape, np.diag([*aligned.grid.spacing_mm, 1.0]))
    images = [Volume(aligned.data[v, channel][box], grid) for v in (source, visit)]
    there: npt.NDArray[np.bool_] = carried(Volume(outlined[box].astype(np.float32), grid), *images) >= 0.5
    return there if there.any() else None


def _told(visits: list[int]) -> str:
    named = ", ".join(str(visit + 1) for visit in visits)
    return (
        f"At visit {named} the outline lies halfway between the network's and the one given at another visit, carried "
        "there by deformable registration. Tumor that grows without moving the tissue around it is understated."
    )
