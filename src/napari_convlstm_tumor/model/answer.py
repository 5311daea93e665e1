"""What the looks at a patient gave, and how those of one place, or of several, are put together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.model.cautions import Doubts
from napari_convlstm_tumor.series import FloatVolume, Look


@dataclass(frozen=True, eq=False)
class Answer:
    """Probability (T, I, J, K) on the common grid, and what is doubtful about it.

    features, look: of the last visit, for the forecast. found_mm3: what that look found, at all visits. outlined: the
    probability before only what continues the lesions was kept; None where nobody asked for it (Workplace.unfollowed).
    """

    probability: FloatVolume
    features: npt.NDArray[np.float16]
    look: Look
    found_mm3: float = 0.0
    doubts: Doubts = Doubts()
    outlined: FloatVolume | None = None


# One look's answer, and what it found (T, *look.shape).
Seen = tuple[Answer, npt.NDArray[np.bool_]]


def mean_of(finer: Answer, own: Answer) -> Answer:
    """Of a look on finer voxels and one on the grid's own at the same place.

    The first sees more of a small lesion, the second was what training showed (docs/training-log.md).
    """
    outlined = None
    if finer.outlined is not None and own.outlined is not None:
        outlined = _mean(finer.outlined, own.outlined)
    return replace(finer, probability=_mean(finer.probability, own.probability), outlined=outlined)


def _mean(a: FloatVolume, b: FloatVolume) -> FloatVolume:
    return (a + b) / np.float32(2)


def together(one: Answer, other: Answer) -> Answer:
    """Of lesions looked at one after the other: all that was outlined, all doubts, and the features of the larger.

    In place, as each holds all visits: the probabilities of ``one``.
    """
    larger = one if one.found_mm3 >= other.found_mm3 else other
    outlined = None
    if one.outlined is not None and other.outlined is not None:
        outlined = np.maximum(one.outlined, other.outlined)
    doubts = (_either(getattr(one.doubts, kind.name), getattr(other.doubts, kind.name)) for kind in fields(Doubts))
    return replace(
        larger,
        probability=np.maximum(one.probability, other.probability, out=one.probability),
        outlined=outlined,
        doubts=Doubts(*doubts),
    )


def _either(visits: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*visits, *others}))
