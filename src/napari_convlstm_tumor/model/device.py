"""Where the network runs: the device, the precision, the model on it, and what gives way when a GPU is too small."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field, replace

import torch

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.model.card import Model, load_model
from napari_convlstm_tumor.model.windows import LARGEST_PASS_VOXELS

# A window on the GPU is halved down to this; below, its edges would be most of it and the CPU takes over.
SMALLEST_PASS_VOXELS = 400_000


def pick_device(name: str) -> torch.device:
    """auto: the GPU when there is one. Raises SettingsError when cuda is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is 'cuda', but torch finds no CUDA GPU here. Use --device auto or cpu.")
    use_gpu = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")


def computes_bf16(kind: str) -> bool:
    """Whether a device of this kind ("cpu", "cuda") has instructions for bf16.

    torch imitates them where there are none: on a CPU with AVX2 alone, as most laptops are, the network took 100 times
    as long in bf16 as in float32 (docs/performance.md).
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tell = getattr(torch.cpu, "get_capabilities", None)  # an older torch does not say
    known = {} if tell is None else tell()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def precision_of(device: torch.device) -> str:
    """What the network computes in there, in words."""
    return "bf16" if computes_bf16(device.type) else "float32"


def fast_precision(device: torch.device) -> torch.autocast:
    """Computing in bf16 where the device can, else in float32: the same outlines but for rounding."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16(device.type))


@functools.lru_cache(maxsize=2)
def cached_model(name: str, device: torch.device) -> Model:
    """The model on its device, loaded once for all patients of a batch."""
    model = load_model(name)
    model.network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model


@dataclass
class Workplace:
    """The model, its device and the voxels of one pass, for one patient; ``notes`` say in words what gave way.

    carried: how much the likeness to what was pointed at at one visit counts at those that nobody pointed at.
    finer: small lesions are also looked at on voxels finer than the grid's. Not without memory, unless every visit is
    pointed at: with so little around it such a network does not know where to look (memory cleared, click at visit 1,
    31 simulated heads: Dice 0.66 to 0.58). unfollowed: what was outlined is also kept as it was before only what
    continues the lesions was.
    """

    model: Model
    device: torch.device
    carried: float = 0.0
    finer: bool = True
    unfollowed: bool = False
    largest_voxels: int = LARGEST_PASS_VOXELS
    notes: list[str] = field(default_factory=list)

    def give_way(self, voxels: int) -> None:
        """After a pass of so many voxels ran out of the GPU's memory: windows of half of it, then the CPU."""
        torch.cuda.empty_cache()
        half = min(voxels, self.largest_voxels) // 2  # windows cannot always be cut as small as asked for
        if half >= SMALLEST_PASS_VOXELS:
            self.largest_voxels = half
            size = f"{self.largest_voxels / 1e6:.1f} million voxels"
            self.notes.append(f"The GPU's memory was too small: the network went on in windows of {size}.")
        else:
            self.device, self.largest_voxels = torch.device("cpu"), LARGEST_PASS_VOXELS
            self.model = replace(self.model, network=copy.deepcopy(self.model.network).to(self.device))
            self.notes.append("The GPU's memory was too small for small windows too: the network went on on the CPU.")
