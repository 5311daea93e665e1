"""What is known of a simulated patient: which tumor is which lesion, what befell it, how fast its front moved.

The same meaning as measure/lesions has, found in another way: in the head's own frame, without registration and without
tolerance, so that the one can be checked against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training.scene import bounds

Labels = npt.NDArray[np.uint16]
# Components smaller than a sphere of 3 mm are not in the truth: no reader would outline them.
SMALLEST_MM3 = 14.0
# A component continues a lesion when this share of the smaller of the two lies in the other.
SAME_SHARE = 0.25
# Tumor that comes back within this of a vanished lesion is that lesion: a recurrence at the wall of a cavity.
RECURRENCE_MM = 3
# Front speed is given this near the front, before or now. A level flatter than this has no direction.
FRONT_BAND_MM, LEAST_SLOPE = 3.0, 0.2


@dataclass(frozen=True)
class TrueEvent:
    """visit: 1-based, where it is first seen. kind: new, vanished, reappeared, split, merged, resection.

    lesions: ids; of a merge, the one that carries on comes first.
    """

    visit: int
    kind: str
    lesions: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """For events.json."""
        return {"visit": self.visit, "kind": self.kind, "lesions": list(self.lesions)}


def without_specks(mask: npt.NDArray[np.bool_], voxel_mm3: float) -> npt.NDArray[np.bool_]:
    """A mask (I, J, K) without components (26-connected) below SMALLEST_MM3."""
    threshold = max(2, int(np.ceil(SMALLEST_MM3 / voxel_mm3)))
    kept: npt.NDArray[np.bool_] = cc3d.dust(mask, threshold=threshold, connectivity=26, in_place=False) > 0
    return kept


def follow(masks: npt.NDArray[np.bool_]) -> tuple[Labels, tuple[TrueEvent, ...]]:
    """Lesion ids (T, I, J, K), 0 outside, and events of masks (T, I, J, K) on 1 mm voxels that lie still.

    Ids count from 1 by first appearance, then size. Pieces of a split keep the lesion's id; after a merge the id of the
    lesion with most tumor before goes on; tumor where a vanished lesion was is that lesion again.
    """
    labels = np.zeros(masks.shape, np.uint16)
    box = bounds(torch.from_numpy(masks.any(axis=0)))
    if box is None:
        return labels, ()
    inside = labels[:, *box]
    last = np.zeros(inside.shape[1:], np.uint16)  # the latest lesion at every voxel, gone ones too
    events: list[TrueEvent] = []
    used = 0  # ids are not used again, also when a merge has left no voxel of one
    for t, mask in enumerate(masks[:, *box]):
        components = _components(mask)
        before = inside[t - 1] if t else last
        owners = _owners(components, before, last, used)
        used = max([used, *owners])
        inside[t] = np.array([0, *owners], np.uint16)[components]
        if t:
            events += _events(t + 1, components, owners, before, inside[t], last)
        last = np.where(inside[t] > 0, inside[t], last)
    return labels, tuple(events)


def _components(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Components (26-connected) of a mask, 1 = the largest."""
    found = cc3d.connected_components(mask, connectivity=26).astype(np.int64)
    sizes = np.bincount(found.ravel())
    order = np.argsort(-sizes[1:], kind="stable")
    rank = np.zeros(len(sizes), np.int64)
    rank[order + 1] = np.arange(1, len(sizes))
    ranked: npt.NDArray[np.int64] = rank[found]
    return ranked


def _owners(components: npt.NDArray[np.int64], before: Labels, last: Labels, used: int) -> list[int]:
    """Lesion of every component, largest component first; used: the highest id so far."""
    sizes = np.bincount(before.ravel(), minlength=1)
    free = used + 1
    owners = []
    for n in range(1, int(components.max()) + 1):
        held = _held(components == n, before) or _gone_there(components == n, before, last)
        owner = max(held, key=lambda i: (sizes[i] if i < len(sizes) else 0, -i)) if held else free
        free = max(free, owner + 1)
        owners.append(owner)
    return owners


def _gone_there(inside: npt.NDArray[np.bool_], before: Labels, last: Labels) -> list[int]:
    """Lesions, absent at the visit before, in whose last place (or beside it) a component lies."""
    near = ndimage.binary_dilation(inside, iterations=RECURRENCE_MM)
    absent = set(np.unique(last[near])) - set(np.unique(before)) - {0}
    return sorted(int(i) for i in absent)


def _held(inside: npt.NDArray[np.bool_], labels: Labels) -> list[int]:
    """Lesions of ``labels`` that a component continues."""
    overlap = np.bincount(labels[inside])
    whole = np.bincount(labels.ravel(), minlength=len(overlap))
    size = int(inside.sum())
    return [i for i in range(1, len(overlap)) if overlap[i] > 0 and overlap[i] >= SAME_SHARE * min(size, whole[i])]


def _events(
    visit: int,
    components: npt.NDArray[np.int64],
    owners: Sequence[int],
    before: Labels,
    now: Labels,
    last: Labels,
) -> list[TrueEvent]:
    """What happened between the visit before and this one (1-based)."""
    known, earlier = set(np.unique(before)) - {0}, set(np.unique(last)) - {0}
    found: list[TrueEvent] = []
    gone = known - set(owners)
    for n, owner in enumerate(owners, start=1):
        held = _held(components == n, before)
        others = sorted(i for i in held if i != owner)
        if others:
            found.append(TrueEvent(visit, "merged", (owner, *others)))
            gone -= set(others)
    found += [TrueEvent(visit, "vanished", (int(i),)) for i in sorted(gone)]
    for owner in sorted(set(owners)):
        if owner not in known:
            found.append(TrueEvent(visit, "reappeared" if owner in earlier else "new", (owner,)))
        elif _pieces(now, owner) > _pieces(before, owner):
            found.append(TrueEvent(visit, "split", (owner,)))
    return found


def _pieces(labels: Labels, lesion: int) -> int:
    return int(cc3d.connected_components(labels == lesion, connectivity=26).max())


def front_speeds(levels: Tensor, days: Sequence[int], spacing_mm: tuple[float, float, float]) -> Tensor:
    """(T, I, J, K) mm per month, outward positive, since the visit before; NaN away from the front and at visit 1.

    The front {level = 0} moves by -(dL/dt) / |grad L|: exact where the level is known everywhere, as here.
    """
    speeds = torch.full_like(levels, float("nan"))
    box = _around((levels < 0).any(dim=0), spacing_mm)
    if box is None:
        return speeds
    for t in range(1, len(days)):
        before, now = levels[t - 1][box], levels[t][box]
        slope = 0.5 * (_slope(before, spacing_mm) + _slope(now, spacing_mm))
        months = (days[t] - days[t - 1]) / DAYS_PER_MONTH
        near = _band(before < 0, now < 0, spacing_mm)
        speeds[t][box] = torch.where(near, (before - now) / slope / months, torch.nan)
    return speeds


def _around(inside: Tensor, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice, slice] | None:
    """The box of a mask and of the band around it."""
    box = bounds(inside)
    if box is None:
        return None
    margins = [round(FRONT_BAND_MM / s) + 2 for s in spacing_mm]
    i, j, k = (slice(max(0, b.start - m), b.stop + m) for b, m in zip(box, margins, strict=True))
    return i, j, k


def _band(before: Tensor, now: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Voxels within FRONT_BAND_MM of either front or between the two, (I, J, K) bool; none where nothing was before."""
    if not bool(before.any()):
        return torch.zeros_like(before)
    size = [2 * round(FRONT_BAND_MM / s) + 1 for s in spacing_mm]
    return _wider(before | now, size) & _wider(~(before & now), size)


def _wider(mask: Tensor, size: list[int]) -> Tensor:
    """A mask (I, J, K) grown by half of size (voxels) along each axis."""
    return F.max_pool3d(mask.float()[None, None], size, 1, [n // 2 for n in size])[0, 0] > 0


def _slope(level: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    gradient = torch.stack(torch.gradient(level, spacing=list(spacing_mm)))
    return gradient.norm(dim=0).clamp(min=LEAST_SLOPE)
