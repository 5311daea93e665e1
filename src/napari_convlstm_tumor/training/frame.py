"""How an image grid looks at the 1 mm head: voxel size, thick slices, and the head's motion between visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from napari_convlstm_tumor.training.crops import sample_at

LARGEST_TURN_DEGREES = 3.0
LARGEST_SHIFT_MM = 3.0
Motion = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """An image grid over the head. thin: points averaged along k for a thick slice."""

    sizes: tuple[int, int, int]
    spacing: tuple[float, ...]
    thin: int

    @classmethod
    def make(cls, head: torch.Size | tuple[int, ...], spacing: tuple[float, ...]) -> Frame:
        """The grid of this spacing (mm) over a head (I, J, K) of 1 mm voxels."""
        i, j, k = (max(1, int(n // s)) for n, s in zip(head, spacing, strict=True))
        return cls((i, j, k), spacing, max(1, round(spacing[2])))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing))

    def read(self, volume: Tensor, motion: Motion) -> Tensor:
        """The 1 mm volume as this grid sees it after the head moved; thick slices average what lies in them."""
        i, j, k = self.sizes
        values = sample_at(volume[None], self._points(motion, self.thin))[0]
        return values.reshape(i, j, k, self.thin).mean(-1)

    def pick(self, volume: npt.NDArray[np.generic], motion: Motion) -> npt.NDArray[np.generic]:
        """The nearest 1 mm voxel at every voxel of this grid: for labels, and for maps with holes."""
        nearest = self._points(motion, 1).round().long().numpy()
        i, j, k = (np.clip(nearest[..., axis], 0, n - 1) for axis, n in enumerate(volume.shape))
        return volume[i, j, k]

    def _points(self, motion: Motion, thin: int) -> Tensor:
        """(I, J, K * thin, 3) places in the head, mm."""
        i, j, k = self.sizes
        steps = (self.spacing[0], self.spacing[1], self.spacing[2] / thin)
        axes = [torch.arange(n).float() * float(s) for n, s in zip((i, j, k * thin), steps, strict=True)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        points[..., 2] -= (thin - 1) / 2 * steps[2]
        return points @ torch.from_numpy(motion[:3, :3]).float().T + torch.from_numpy(motion[:3, 3]).float()


def draw_motion(rng: np.random.Generator, frame: Frame, moved: bool) -> Motion:
    """Rigid motion of the head (4, 4), image mm -> head mm, about the image's centre."""
    turn = rng.uniform(-LARGEST_TURN_DEGREES, LARGEST_TURN_DEGREES, 3)
    shift = rng.uniform(-LARGEST_SHIFT_MM, LARGEST_SHIFT_MM, 3)
    motion = np.eye(4)
    if moved:
        centre = np.array([n * s / 2 for n, s in zip(frame.sizes, frame.spacing, strict=True)])
        motion[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        motion[:3, 3] = centre + shift - motion[:3, :3] @ centre
    return motion
