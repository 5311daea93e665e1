"""A piece of anatomy on some grid, ready to be grown in and painted, and the smooth noise all is made of."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.training.anatomy import Anatomy


@dataclass(frozen=True, eq=False)
class Scene:
    """An anatomy sampled on some grid, ready to be painted; all tensors (..., I, J, K) float32.

    arrival: (L, ...) mm. tissue: (3, ...) 0..1 or None. outside: (...) mm or None. images: modality -> (...).
    """

    arrival: Tensor
    tissue: Tensor | None
    outside: Tensor | None
    images: dict[str, Tensor]
    spacing_mm: tuple[float, float, float]

    @cached_property
    def number(self) -> int:
        """A number of this scene's own: what is drawn from it is the same in every modality of one patient."""
        thinned = self.arrival[..., ::7, ::7, ::7].clamp(max=60).round().to(torch.int16)
        return zlib.crc32(thinned.contiguous().numpy().tobytes() + np.array(self.spacing_mm).tobytes())


def scene_of(anatomy: Anatomy, arrival: npt.NDArray[np.float16], window: tuple[slice, ...]) -> Scene:
    """An anatomy cut to a window (its own voxels), with arrival (L, ...) already on that window."""
    return Scene(
        arrival=torch.from_numpy(arrival.astype(np.float32)),
        tissue=None if anatomy.tissue is None else _float(anatomy.tissue[:, *window]) / 255,
        outside=None if anatomy.outside is None else _float(anatomy.outside[window]),
        images={m: _float(image[window]) for m, image in anatomy.images.items()},
        spacing_mm=anatomy.spacing_mm,
    )


def smooth_noise(shape: tuple[int, ...] | torch.Size, scale_voxels: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise (I, J, K), mean 0 and spread about 1, smooth over scale_voxels."""
    coarse = [max(2, round(n / max(scale_voxels, 1)) + 1) for n in shape]
    noise = torch.from_numpy(rng.standard_normal(coarse, dtype=np.float32))
    return F.interpolate(noise[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def soft(level: Tensor, width_mm: float) -> Tensor:
    """1 where level (mm) is below 0, 0 above, over a width that blurs the edge as a voxel does."""
    return torch.sigmoid(level * (-2 / width_mm))


def coarsen(volume: Tensor, factors: tuple[int, ...]) -> Tensor:
    """(I, J, K) averaged over blocks of these sizes; a last, incomplete block counts what it has."""
    pooled = F.avg_pool3d(volume[None, None], factors, factors, ceil_mode=True, count_include_pad=False)
    return pooled[0, 0]


def spread(coarse: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """A coarse map (I', J', K') laid smoothly over a shape (I, J, K)."""
    return F.interpolate(coarse[None, None], size=tuple(shape), mode="trilinear")[0, 0]


def blocks(spacing_mm: tuple[float, ...], block_mm: float, shape: tuple[int, ...] | torch.Size) -> tuple[int, ...]:
    """Voxels per block of about block_mm along each axis, at least 1."""
    return tuple(max(1, min(n, round(block_mm / s))) for s, n in zip(spacing_mm, shape, strict=True))


def bounds(inside: Tensor) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds a mask (I, J, K), None for an empty one."""
    spans = []
    for others in ((1, 2), (0, 2), (0, 1)):
        planes = torch.nonzero(inside.any(dim=others[1]).any(dim=others[0])).ravel()
        if not len(planes):
            return None
        spans.append(slice(int(planes[0]), int(planes[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _float(array: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
