"""bf16 against float32 on this machine's CPU: seconds a visit through the shipped network, and how far answers differ.

    python benchmarks/precision.py

Also says which of them the program takes here (model/device). Where the CPU has no bf16 a pass of 32^3 voxels takes
half a minute and more; elsewhere take larger ones (--side 96).
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.model.device import precision_of
from napari_convlstm_tumor.model.network import GrowthNet, pool_strides
from napari_convlstm_tumor.model.prompts import add_point, empty_prompt

SPACING_MM = (1.5, 1.5, 1.5)


def clicked_ball(side: int) -> tuple[Tensor, Tensor]:
    """A bright ball in noise (side, side, side), and a click in its middle as prompt channels."""
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.arange(side) - side / 2] * 3, indexing="ij")
    ball = sum(a.square() for a in axes).sqrt() < side / 5
    prompt = empty_prompt((side,) * 3)
    add_point(prompt, [side / 2] * 3, SPACING_MM)
    return 0.2 * torch.randn(side, side, side) + 2.0 * ball, prompt


def one_visit(network: GrowthNet, image: Tensor, prompt: Tensor, bf16: bool) -> tuple[float, Tensor]:
    """Seconds, and the probability of tumor."""
    names = network.config.modalities
    images = torch.stack([image if name == "flair" else torch.zeros_like(image) for name in names])[None]
    strides = pool_strides(SPACING_MM, network.levels - 1)
    start = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = network(images, torch.zeros_like(images), [n == "flair" for n in names], prompt[None], strides)[0]
    return time.perf_counter() - start, torch.sigmoid(logits.float())


def main() -> None:
    """Both precisions in turns, after a pass of each that is not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    network = load_model("default").network.to(memory_format=torch.channels_last_3d)
    image, prompt = clicked_ball(options.side)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    answer: dict[bool, Tensor] = {}
    for _ in range(1 + options.rounds):
        for bf16 in seconds:
            took, answer[bf16] = one_visit(network, image, prompt, bf16)
            seconds[bf16].append(took)
    in_bf16, in_float32 = (statistics.median(seconds[bf16][1:]) for bf16 in (True, False))
    print(f"torch {torch.__version__}, {options.side}^3 voxels, {torch.get_num_threads()} threads")
    print(f"bf16 takes {in_bf16 / in_float32:.2f} times as long as float32 ({in_bf16:.2f} s, {in_float32:.2f} s)")
    print(f"largest difference of a probability: {float((answer[True] - answer[False]).abs().max()):.4f}")
    print(f"the program takes {precision_of(torch.device('cpu'))} here")


if __name__ == "__main__":
    main()
