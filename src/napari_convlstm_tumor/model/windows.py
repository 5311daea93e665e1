"""What part of the common grid goes through the network at once, and how the parts become one answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.series import AlignedSeries, FloatVolume

# A pass holds about 600 bytes a voxel in bf16 and 700 in float32, so this keeps it near 5 GB; larger bodies go through
# windows.
LARGEST_PASS_VOXELS = 7_000_000
WINDOW_OVERLAP_VOXELS = 32
# A plane belongs to the body when this share of its voxels is clearly brighter than the background.
BODY_SHARE = 0.005
BODY_MARGIN_VOXELS = 4
BODY_SAMPLE_STEP = 4
Box = tuple[slice, slice, slice]


def body_box(aligned: AlignedSeries) -> Box:
    """The part of the common grid where any image shows more than background."""
    body = np.zeros(aligned.grid.shape, dtype=bool)
    for visit in range(len(aligned.days)):
        for c in np.flatnonzero(aligned.present[visit]):
            image, inside = aligned.data[visit, c], aligned.inside[visit]
            thinned = (slice(None, None, BODY_SAMPLE_STEP), slice(None, None, BODY_SAMPLE_STEP))
            sample = image[thinned][inside[thinned]]
            if not sample.size:
                continue
            low, high = np.percentile(sample, (1, 99))
            body |= aligned.inside[visit] & (image > low + 0.1 * (high - low))
    for mask in aligned.masks:
        if mask is not None:
            body |= mask > 0
    box = []
    for axis in range(3):
        share = body.mean(axis=tuple(a for a in range(3) if a != axis))
        planes = np.flatnonzero(share > BODY_SHARE)
        first, last = (planes[0], planes[-1]) if len(planes) else (0, body.shape[axis] - 1)
        start, stop = max(0, first - BODY_MARGIN_VOXELS), min(body.shape[axis], last + 1 + BODY_MARGIN_VOXELS)
        box.append(slice(int(start), int(stop)))
    return box[0], box[1], box[2]


def plan_windows(box: Box, stride: tuple[int, int, int], largest: int = LARGEST_PASS_VOXELS) -> list[Box]:
    """The box whole when it fits, else cut along its longest axes into overlapping windows that start on the stride."""
    starts = [b.start // s * s for b, s in zip(box, stride, strict=True)]
    whole = tuple(slice(a, b.stop) for a, b in zip(starts, box, strict=True))
    pieces: list[list[slice]] = [[w] for w in whole]
    can_shrink = [True] * 3
    while math.prod(max(p.stop - p.start for p in axis) for axis in pieces) > largest and any(can_shrink):
        lengths = [max(p.stop - p.start for p in axis) * can for axis, can in zip(pieces, can_shrink, strict=True)]
        axis = int(np.argmax(lengths))
        finer = _cut(whole[axis], len(pieces[axis]) + 1, stride[axis])
        can_shrink[axis] = max(p.stop - p.start for p in finer) < lengths[axis]
        pieces[axis] = finer if can_shrink[axis] else pieces[axis]
    return [(a, b, c) for a in pieces[0] for b in pieces[1] for c in pieces[2]]


def _cut(whole: slice, count: int, stride: int) -> list[slice]:
    """``count`` pieces of equal length that overlap, each starting on a multiple of the stride."""
    length = whole.stop - whole.start
    overlap = math.ceil(WINDOW_OVERLAP_VOXELS / stride) * stride
    step = math.ceil((length - overlap) / count / stride) * stride
    starts = [whole.start + n * step for n in range(count) if n * step + overlap < length or n == 0]
    return [slice(s, min(s + step + overlap, whole.stop)) for s in starts]


def window_weight(window: Box, windows: list[Box]) -> FloatVolume:
    """1 where a window stands alone, falling to its edges where it overlaps another."""
    weights = []
    for axis, w in enumerate(window):
        length = w.stop - w.start
        ramp = np.ones(length, dtype=np.float32)
        inner = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)) / WINDOW_OVERLAP_VOXELS
        if any(other[axis] != w for other in windows):
            ramp = np.minimum(inner, 1).astype(np.float32)
        weights.append(ramp)
    weight: FloatVolume = weights[0][:, None, None] * weights[1][None, :, None] * weights[2][None, None, :]
    return weight


@dataclass
class Canvas:
    """Sums of window answers: probability (T, I, J, K), weight (I, J, K), features of the last visit at level 1."""

    probability: FloatVolume
    weight: FloatVolume
    features: npt.NDArray[np.float16]
    stride: tuple[int, int, int]
    weighed: set[tuple[int, ...]] = field(default_factory=set)

    @classmethod
    def empty(cls, aligned: AlignedSeries, feature_channels: int, stride: tuple[int, int, int]) -> Canvas:
        """All zeros, for the visits of ``aligned``."""
        sizes = [math.ceil(n / s) for n, s in zip(aligned.grid.shape, stride, strict=True)]
        return cls(
            np.zeros((len(aligned.days), *aligned.grid.shape), dtype=np.float32),
            np.zeros(aligned.grid.shape, dtype=np.float32),
            np.zeros((feature_channels, *sizes), dtype=np.float16),
            stride,
        )

    def add(
        self,
        visit: int,
        window: Box,
        part: tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]],
        weight: FloatVolume,
        keep_features: bool,
    ) -> None:
        """One window's answer for one visit; later windows replace features where they overlap."""
        probability, features = part
        self.probability[visit][window] += probability * weight
        corner = tuple(w.start for w in window)
        if corner not in self.weighed:
            self.weighed.add(corner)
            self.weight[window] += weight
        if keep_features:
            begin = [w.start // s for w, s in zip(window, self.stride, strict=True)]
            room = [n - b for n, b in zip(self.features.shape[1:], begin, strict=True)]
            size = [min(n, r) for n, r in zip(features.shape[1:], room, strict=True)]
            target = tuple(slice(b, b + n) for b, n in zip(begin, size, strict=True))
            self.features[:, *target] = features[:, : size[0], : size[1], : size[2]]
