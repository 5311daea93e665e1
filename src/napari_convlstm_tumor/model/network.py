"""The network: a U-Net over space whose levels remember over visits.

Per visit: a stem for each kind of image (averaged over those present), a stem for prompts, five resolution levels,
recurrent cells at levels 1-4 (on the skips and the deepest level), a decoder to tumor logits, and a forecast head.

Spacing-aware pooling: an axis is halved at a level only while its voxels are not already much longer than the finest,
so the same weights serve 1 mm cubes and 0.9 x 0.9 x 6.5 mm slices (the idea of nnU-Net's plans, doi
10.1038/s41592-020-01008-z, decided at run time).

Normalisation is over channels at each voxel: a crop and the whole volume give the same answer (with group norm they
did not: Dice 0.51 against 0.62 for the same click).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks import ResidualUnit
from monai.networks.layers.factories import Norm
from torch import Tensor, nn
from torch.nn import functional as F

from napari_convlstm_tumor.model.convlstm import CELLS, State
from napari_convlstm_tumor.model.prompts import PROMPT_CHANNELS
from napari_convlstm_tumor.series import MODALITIES

# An axis is pooled while its spacing is at most this many times the finest spacing of the level.
POOL_RATIO = 1.5
# Normalised intensities beyond this say no more about tissue (CT: -360..440 HU; vessels and fat in MR).
INTENSITY_LIMIT = 4.0
# The forecast may correct the region's mean front speed by at most this much, mm per month.
LARGEST_CORRECTION_MM_PER_MONTH = 6.0
# Channels of the forecast head's geometry: signed distance, pointwise speed, mean speed, horizon.
GEOMETRY_CHANNELS = 4


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel, input (B, C, *space)."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, input: Tensor) -> Tensor:
        """Channels go last for torch's kernel and back; a view when the memory is channels_last."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


@Norm.factory_function("channel")  # type: ignore[untyped-decorator]
def _channel_norm(dimensions: int) -> type[ChannelNorm]:
    return ChannelNorm


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network. hidden[0] belongs to level 1: the finest level has no memory (it would cost most)."""

    modalities: tuple[str, ...] = MODALITIES
    channels: tuple[int, ...] = (16, 32, 48, 64, 96)
    hidden: tuple[int, ...] = (16, 24, 32, 48)
    cell: str = "lstm"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """From the model card."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """For the model card."""
        return asdict(self)


def pool_strides(spacing_mm: Sequence[float], levels: int) -> list[tuple[int, int, int]]:
    """Stride of each of ``levels`` poolings for voxels of this size: 2 along an axis, or 1 where it is already long."""
    spacing = list(spacing_mm)
    strides: list[tuple[int, int, int]] = []
    for _ in range(levels):
        finest = min(spacing)
        i, j, k = (2 if s <= POOL_RATIO * finest else 1 for s in spacing)
        strides.append((i, j, k))
        spacing = [s * n for s, n in zip(spacing, (i, j, k), strict=True)]
    return strides


def total_stride(spacing_mm: Sequence[float], levels: int) -> tuple[int, int, int]:
    """Product of pool_strides: a volume's sizes are padded to multiples of this."""
    i = j = k = 1
    for a, b, c in pool_strides(spacing_mm, levels):
        i, j, k = i * a, j * b, k * c
    return i, j, k


def _unit(in_channels: int, out_channels: int, subunits: int = 2) -> nn.Module:
    unit: nn.Module = ResidualUnit(3, in_channels, out_channels, subunits=subunits, norm="channel", act="leakyrelu")
    return unit


class GrowthNet(nn.Module):
    """See the module's docstring. One call is one visit; ``state`` carries the memory to the next."""

    remembers = True  # what another visit showed; not so in the networks to compare with (training/baseline)

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        c, h = config.channels, config.hidden
        self.levels = len(c)
        self.stems = nn.ModuleDict({m: nn.Conv3d(2, c[0], 3, padding=1) for m in config.modalities})
        self.prompt_stem = nn.Conv3d(PROMPT_CHANNELS, c[0], 3, padding=1)
        self.encoder = nn.ModuleList([_unit(c[0], c[0], 1)] + [_unit(a, b) for a, b in pairwise(c)])
        self.memory = nn.ModuleList(CELLS[config.cell](a, b) for a, b in zip(c[1:], h, strict=True))
        self.up = nn.ModuleList(
            nn.Conv3d(b + (h[-1] if n == self.levels - 2 else 0), a, 1) for n, (a, b) in enumerate(pairwise(c))
        )
        self.decoder = nn.ModuleList(
            [_unit(2 * c[0], c[0], 1)] + [_unit(2 * a + b, a) for a, b in zip(c[1:-1], h, strict=False)]
        )
        self.logits = nn.Conv3d(c[0], 1, 1)
        self.coarse_logits = nn.Conv3d(c[1], 1, 1)
        self.forecast = nn.Sequential(
            nn.Conv3d(c[1] + GEOMETRY_CHANNELS, 32, 3, padding=1),
            nn.LeakyReLU(),
            _unit(32, 32),
            nn.Conv3d(32, 1, 1),
        )
        self._start()

    def _start(self) -> None:
        """Few voxels are tumor, and the forecast starts as its baseline."""
        for head in (self.logits, self.coarse_logits):
            nn.init.constant_(head.bias, -2.0)  # type: ignore[arg-type]
        last = self.forecast[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def stem(self, images: Tensor, alike: Tensor, present: Sequence[bool], prompt: Tensor) -> Tensor:
        """images, alike (B, C, I, J, K) in the order of config.modalities -> features (B, c0, I, J, K)."""
        images = images.clamp(-INTENSITY_LIMIT, INTENSITY_LIMIT)
        total = self.prompt_stem(prompt)
        count = max(sum(present), 1)
        for n, name in enumerate(self.config.modalities):
            if present[n]:
                pair = torch.stack([images[:, n], alike[:, n]], dim=1)
                total = total + self.stems[name](pair) / count
        return total

    def forward(
        self,
        images: Tensor,
        alike: Tensor,
        present: Sequence[bool],
        prompt: Tensor,
        strides: Sequence[tuple[int, int, int]],
        state: list[State] | None = None,
        gap_days: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, list[State]]:
        """One visit.

        images, alike: (B, C, I, J, K), normalised intensities and similarity to the prompted tissue; present: (C,);
        prompt: (B, PROMPT_CHANNELS, I, J, K); strides: of pool_strides; gap_days: (B,) since the visit before.
        Returns logits (B, 1, I, J, K), coarse logits and features at level 1, and the new state.
        """
        x = self.stem(images, alike, present, prompt)
        x = self.encoder[0](x.contiguous(memory_format=torch.channels_last_3d))
        skips, states = [x], []
        for level in range(1, self.levels):
            x = self.encoder[level](F.max_pool3d(x, strides[level - 1], strides[level - 1]))
            old = None if state is None else state[level - 1]
            hidden, new = self.memory[level - 1](x, old, gap_days)
            states.append(new)
            x_and_memory = torch.cat([x, hidden], dim=1)
            skips.append(x_and_memory)
        x = skips[-1]
        features = coarse = x
        for level in range(self.levels - 2, -1, -1):
            x = F.interpolate(self.up[level](x), scale_factor=[float(s) for s in strides[level]], mode="nearest")
            x = self.decoder[level](torch.cat([x, skips[level]], dim=1))
            if level == 1:
                features, coarse = x, self.coarse_logits(x)
        return self.logits(x), coarse, features, states

    def speed(self, features: Tensor, geometry: Tensor, strides: tuple[int, int, int]) -> Tensor:
        """Front speed (B, 1, I, J, K) in mm per month that the forecast expects.

        features: level 1 of the last visit; geometry (B, GEOMETRY_CHANNELS, I, J, K): of forecast_geometry. The answer
        is the region's mean speed plus a bounded correction.
        """
        small = F.avg_pool3d(geometry, strides, strides)
        correction = self.forecast(torch.cat([features, small.to(features.dtype)], dim=1)).float()
        correction = F.interpolate(correction, size=geometry.shape[2:], mode="trilinear", align_corners=False)
        return geometry[:, 2:3] * 5.0 + LARGEST_CORRECTION_MM_PER_MONTH * torch.tanh(correction)


def forecast_geometry(
    phi: Tensor, phi_before: Tensor | None, months: Tensor, mean_speed: Tensor, horizon: Tensor
) -> Tensor:
    """What the forecast head is told besides features, (B, GEOMETRY_CHANNELS, I, J, K).

    phi, phi_before: signed distance mm (B, I, J, K), ``months`` apart; mean_speed (B,) mm per month; horizon (B,) days.
    """
    pointwise = torch.zeros_like(phi) if phi_before is None else ((phi_before - phi) / months).clamp(-10, 10)
    mean = mean_speed.reshape(-1, 1, 1, 1).expand_as(phi)
    ahead = horizon.reshape(-1, 1, 1, 1).expand_as(phi)
    return torch.stack([phi.clamp(-20, 20) / 10, pointwise / 5, mean / 5, ahead / 100], dim=1)
