"""What has no memory, to compare with: a MONAI U-Net per visit, and the network itself with its state thrown away.

Each takes and gives what GrowthNet does, so that the same loop trains it and ``predict.segment`` runs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from monai.networks.nets import BasicUNet
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from napari_convlstm_tumor.errors import ModelError
from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.model.convlstm import State
from napari_convlstm_tumor.model.network import INTENSITY_LIMIT, GrowthNet, NetworkConfig
from napari_convlstm_tumor.model.prompts import PROMPT_CHANNELS

# Channels of the encoder's levels as multiples of GrowthNet's: about as many parameters (3.02 million against 2.97 at
# the usual size). Level 1 has the same, as model/predict keeps it for the forecast.
WIDER = (1.5, 1.0, 1.0, 1.5, 1.92)
# Rescales channel 2 of the forecast's geometry, the region's mean speed, to mm per month (model/network).
MEAN_SPEED_SCALE = 5.0


class VisitUNet(nn.Module):
    """MONAI's BasicUNet on one visit: images, their similarity to the prompted tissue, and the prompt as channels.

    Absent images are zeros. Its poolings follow the voxel size as in GrowthNet. Its normalisation is over all of a map:
    with GrowthNet's, over the channels of a voxel, it learned far more slowly, as it has no residual connections, and
    MONAI's default (instance) refuses maps of one voxel. It has no forecast: its front moves at the region's mean
    speed.
    """

    remembers = False

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = [round(n * more) for n, more in zip(config.channels, WIDER, strict=True)]
        features = (*widths, widths[0])  # BasicUNet asks for the last decoder level, too
        self.config, self.levels = config, len(features) - 1
        inputs = 2 * len(config.modalities) + PROMPT_CHANNELS
        norm = ("group", {"num_groups": 1})
        self.unet = BasicUNet(3, inputs, 1, features, norm=norm, upsample="nontrainable")
        self.coarse_logits = nn.Conv3d(features[1], 1, 1)
        for head in (self.unet.final_conv, self.coarse_logits):
            nn.init.constant_(head.bias, -2.0)  # type: ignore[arg-type]

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
        """As GrowthNet.forward; the state is empty and the days are not asked."""
        there = torch.tensor(list(present), device=images.device).reshape(1, -1, 1, 1, 1)
        images = images.clamp(-INTENSITY_LIMIT, INTENSITY_LIMIT) * there
        x = self.unet.conv_0(torch.cat([images, alike * there, prompt], dim=1))
        skips = [x]
        for level in range(1, self.levels):
            x = getattr(self.unet, f"down_{level}").convs(F.max_pool3d(x, strides[level - 1], strides[level - 1]))
            skips.append(x)
        features = coarse = x
        for level in range(self.levels - 1, 0, -1):
            up = getattr(self.unet, f"upcat_{level}")
            scale = [float(s) for s in strides[level - 1]]
            x = getattr(up.upsample, "preconv", nn.Identity())(x)  # MONAI leaves it out where nothing is to be halved
            x = F.interpolate(x, scale_factor=scale, mode="nearest")
            x = up.convs(torch.cat([skips[level - 1], x], dim=1))
            if level == 2:
                features, coarse = x, self.coarse_logits(x)
        return self.unet.final_conv(x), coarse, features, []

    def speed(self, features: Tensor, geometry: Tensor, strides: tuple[int, int, int]) -> Tensor:
        """The region's mean front speed (B, 1, I, J, K) in mm per month, everywhere."""
        return geometry[:, 2:3] * MEAN_SPEED_SCALE


class ForgetfulNet(GrowthNet):
    """The network whose state is zeroed before every visit."""

    remembers = False

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
        """As GrowthNet.forward without what came before; the state is empty."""
        logits, coarse, features, _ = super().forward(images, alike, present, prompt, strides)
        return logits, coarse, features, []


def forgetful(model: Model) -> Model:
    """The same weights with the state zeroed before every visit."""
    network = ForgetfulNet(model.network.config)
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=network.eval(), name=f"{model.name}, state zeroed")


def load_baseline(path: Path) -> Model:
    """A VisitUNet that training/train exported (FILE.safetensors with its card FILE.json beside it).

    Raises ModelError: not there, other weights than the card describes, another network.
    """
    card_path = path.with_suffix(".json")
    if not path.is_file() or not card_path.is_file():
        raise ModelError(f"The baseline {path.name} or its card {card_path.name} is not there.")
    card: dict[str, Any] = json.loads(card_path.read_text(encoding="utf-8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card.get("sha256"):
        raise ModelError(f"The weights {path.name} are not those their card describes. Export both again.")
    network = VisitUNet(NetworkConfig.from_dict(card["network"]))
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except RuntimeError as error:
        raise ModelError(f"The weights {path.name} are not those of a per-visit U-Net (training/baseline).") from error
    return Model(cast(GrowthNet, network.eval()), path.stem, digest, card)
