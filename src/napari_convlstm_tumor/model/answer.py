"""What the looks at a patient gave, and how those of one place, or of several, are put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.model.cautions import Doubts
from napari_convlstm_tumor.series import FloatVolume, Look


@dataclass(frozen=True, eq=False)
class Answer:
    """Probability (T, I, J, K) on the common grid, and what is doubtful about it.

    features, look: of the last visit, for the forecast. outlined: the probability before only what continues the
    lesions was kept; None where nobody asked for it (Workplace.unfollowed).
    """

    probability: FloatVolume
    features: npt.NDArray[np.float16]
    look: Look
    doubts: Doubts = Doubts()
    outlined: FloatVolume | None = None


# One look's answer, and what it found (T, *look.shape).
Seen = tuple[Answer, npt.NDArray[np.bool_]]


def mean_of(finer: Answer, own: Answer) -> Answer:
    """Of a look on finer voxels and one on the grid's own at the same place.

    The first sees more of a small lesion, and outlines one of 2 to 6 mL too large (docs/training-log.md).
    """
    outlined = None
    if finer.outlined is not None and own.outlined is not None:
        outlined = _mean(finer.outlined, own.outlined)
    return replace(finer, probability=_mean(finer.probability, own.probability), outlined=outlined)


def _mean(a: FloatVolume, b: FloatVolume) -> FloatVolume:
    return (a + b) / np.float32(2)


def together(answers: list[Answer]) -> Answer:
    """Of lesions looked at one by one: all that was outlined, all doubts, and the features of the largest."""
    if len(answers) == 1:
        return answers[0]
    sizes = [np.count_nonzero(a.probability >= 0.5) for a in answers]
    outlined = [a.outlined for a in answers if a.outlined is not None]
    return replace(
        answers[int(np.argmax(sizes))],
        probability=np.max([a.probability for a in answers], axis=0),
        outlined=np.max(outlined, axis=0) if outlined else None,
        doubts=Doubts(*(_any_of(getattr(a.doubts, kind.name) for a in answers) for kind in fields(Doubts))),
    )


def _any_of(visits: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted({visit for some in visits for visit in some}))
