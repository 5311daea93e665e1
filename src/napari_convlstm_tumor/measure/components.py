"""The pieces of tumor of every visit: components (26-connected) in a frame that holds the tumor of all visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """Components of one visit in a frame: labels (P,) flat, 0 outside, component n as n + 1, largest first.

    index: flat positions of all tumor voxels, grouped by component; starts: where each group begins, and the end.
    """

    labels: npt.NDArray[np.uint32]
    index: IntArray
    starts: IntArray

    @property
    def sizes(self) -> IntArray:
        """Voxels of every component."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def voxels(self, component: int) -> IntArray:
        """Flat positions of one component."""
        return self.index[self.starts[component] : self.starts[component + 1]]


@dataclass(frozen=True)
class Frame:
    """The box around all tumor of all visits, with a rim of healthy voxels so wide that no move leaves it."""

    shape: tuple[int, int, int]
    corner: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def move(self, voxels: npt.ArrayLike) -> int:
        """A move by whole voxels along i, j, k as a step in flat positions."""
        return int(np.dot(np.asarray(voxels), (self.shape[1] * self.shape[2], self.shape[2], 1)))

    def ijk(self, index: IntArray) -> IntArray:
        """Flat positions (N,) as voxels (N, 3) of the whole grid."""
        return np.stack(np.unravel_index(index, self.shape), axis=1) + np.array(self.corner)

    def label_at(self, components: Components, ijk: Sequence[int]) -> int:
        """Label of a voxel of the whole grid, 0 where there is no tumor."""
        place = np.array(ijk) - self.corner
        inside = bool(np.all(place >= 0) and np.all(place < self.shape))
        return int(components.labels[self.move(place)]) if inside else 0


def find_components(
    masks: npt.NDArray[Any], spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> tuple[Frame, tuple[Components, ...]]:
    """Components of every visit of masks (T, I, J, K), non-zero = tumor, in one frame."""
    # Widest step ever looked at: the move between two visits (2 x tolerance) and the error beyond it (1 x), rounded up.
    rim = [int(np.ceil(3 * tolerance_mm / s)) + 2 for s in spacing_mm]
    box = _box(masks)
    low, high = (
        [s.start - r for s, r in zip(box, rim, strict=True)],
        [s.stop + r for s, r in zip(box, rim, strict=True)],
    )
    frame = Frame(_triple(b - a for a, b in zip(low, high, strict=True)), _triple(low), spacing_mm)
    inner = tuple(slice(r, -r) for r in rim)
    found = []
    for mask in masks:
        padded = np.zeros(frame.shape, dtype=np.uint8)
        padded[inner] = mask[box] != 0
        found.append(_sorted_components(padded))
    return frame, tuple(found)


def _sorted_components(mask: npt.NDArray[np.uint8]) -> Components:
    """Components, largest first; of equal ones the first in index order."""
    raw, count = cc3d.connected_components(mask, connectivity=26, return_N=True, out_dtype=np.uint32, binary_image=True)
    flat = np.ascontiguousarray(raw).reshape(-1)
    index = np.flatnonzero(flat)
    sizes = np.bincount(flat[index], minlength=count + 1)[1:]
    first = np.full(count + 1, flat.size)
    np.minimum.at(first, flat[index], index)
    order = np.lexsort((first[1:], -sizes))
    rank = np.zeros(count + 1, dtype=np.uint32)
    rank[order + 1] = np.arange(1, count + 1)
    labels = rank[flat]
    index = index[np.argsort(labels[index], kind="stable")]
    return Components(labels, index, np.concatenate(([0], np.cumsum(sizes[order]))))


def _box(masks: npt.NDArray[Any]) -> tuple[slice, slice, slice]:
    """Slices of the smallest box with all tumor of all visits; one voxel when there is none."""
    tumor = np.any(masks != 0, axis=0)
    spans = [np.flatnonzero(tumor.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    i, j, k = (slice(int(s[0]), int(s[-1]) + 1) if len(s) else slice(0, 1) for s in spans)
    return i, j, k


def _triple(values: Any) -> tuple[int, int, int]:
    i, j, k = (int(v) for v in values)
    return i, j, k
