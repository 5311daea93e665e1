"""Where an outline lies: people draw it further out, or further in, than where the network is half sure of tumor."""

from __future__ import annotations

from collections.abc import Sequence

from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.model.follow import widened
from napari_convlstm_tumor.series import FloatVolume

HALF_SURE = 0.5


def outline_at(model: Model, kinds: Sequence[str]) -> float:
    """The network's probability at which people's outlines lie on images of these kinds.

    By the card (`outline_at`: kind of image -> probability, the first that is there decides), a half if it is silent.
    """
    known: dict[str, float] = model.card.get("outline_at", {})
    return next((float(level) for kind, level in known.items() if kind in kinds), HALF_SURE)


def outline_moved(probability: FloatVolume, level: float, spacing_mm: Sequence[float]) -> FloatVolume:
    """Probability (T, I, J, K) changed so that what was at ``level`` (0 to 1) is at a half, where outlines are drawn.

    In place, in and within a few mm of what was outlined: no other thing is. The odds change by one factor everywhere.
    """
    for frame in probability if level != HALF_SURE else ():
        near = widened(frame >= HALF_SURE, spacing_mm)
        tumor, none = frame[near] * (1 - level), (1 - frame[near]) * level
        frame[near] = tumor / (tumor + none)
    return probability
