"""Deforming: the map of the log-Jacobian rate, from a deformable registration of every visit with the one before."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.measure.jacobian import inverse_error_voxels, jacobian_determinant, log_jacobian
from napari_convlstm_tumor.prepare.deform import deform
from napari_convlstm_tumor.prepare.preprocess import ANCHOR_ORDER, body_mask
from napari_convlstm_tumor.prepare.resample import resample
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume
from napari_convlstm_tumor.volume import Volume


@dataclass(frozen=True, eq=False)
class Expansion:
    """Log-Jacobian rate (T, I, J, K) and where it can be trusted; nothing at the first visit. See Analysis."""

    rate: FloatVolume
    reliable: npt.NDArray[np.bool_]


def expansion(aligned: AlignedSeries) -> Generator[float, None, Expansion]:
    """Every visit registered with the one before; yields the fraction done. Masks do not enter.

    Two visits without an image of one kind cannot be registered: their map is empty.
    """
    count = len(aligned.days)
    rate = np.full((count, *aligned.grid.shape), np.nan, dtype=np.float32)
    reliable = np.zeros(rate.shape, dtype=bool)
    for t in range(1, count):
        yield (t - 1) / (count - 1)
        channel = shared_channel(aligned, t - 1, t)
        if channel is not None:
            rate[t], reliable[t] = _expansion_of_pair(aligned, t, channel)
    return Expansion(rate, reliable)


def _expansion_of_pair(aligned: AlignedSeries, t: int, channel: int) -> tuple[FloatVolume, npt.NDArray[np.bool_]]:
    """The map (I, J, K) of visit t, on the common grid. It is measured on the coarser voxels of the registration."""
    before, after = (Volume(aligned.data[v, channel], aligned.grid) for v in (t - 1, t))
    found = deform(before, after)
    error = inverse_error_voxels(found.to_before_mm, found.to_after_mm, found.grid.spacing_mm)
    determinant = jacobian_determinant(found.to_before_mm, found.grid.spacing_mm)
    days = aligned.days[t] - aligned.days[t - 1]
    return log_jacobian(
        resample(Volume(determinant, found.grid), aligned.grid, np.eye(4)),
        resample(Volume(error, found.grid), aligned.grid, np.eye(4)),
        body_mask(after.data) & aligned.inside[t - 1] & aligned.inside[t],
        days / DAYS_PER_MONTH if aligned.dated else days,
        registered=aligned.registrations[t - 1].good and aligned.registrations[t].good,
    )


def shared_channel(aligned: AlignedSeries, one: int, other: int) -> int | None:
    """The channel that two visits are registered by: the first of ANCHOR_ORDER that both have; None without any."""
    both = aligned.present[one] & aligned.present[other]
    shared = [m for m, there in zip(aligned.modalities, both, strict=True) if there]
    return next((aligned.modalities.index(m) for m in ANCHOR_ORDER if m in shared), None)
