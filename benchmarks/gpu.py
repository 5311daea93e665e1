"""What a GPU could do and what the network does of it: gpu.py [--shape 240,240,160] [--visits 4] [--device cuda].

1. The ceilings, measured: bf16 matrix product and copying within the GPU's memory.
2. The recurrent step on the network's largest memory (level 1): its convolution as a share of the matrix product, its
   compiled gates as a share of copying. Aim: gates at 80 %.
3. A patient through the shipped network in bf16, all visits of the whole volume, t1, t1c, t2, flair. Aim: 2 s for
   4 visits of 240 x 240 x 155 (here 160: sizes are padded to the poolings).
4. A profile of the last: the operations that take longest.

The table of the recurrent core against a plain cell is ``recurrence.py --device cuda``. A dry run without a GPU, whose
numbers mean nothing: ``gpu.py --device cpu --shape 32,32,32 --visits 2``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from napari_convlstm_tumor.model import fused
from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.model.network import PROMPT_CHANNELS, GrowthNet, pool_strides

BF16 = torch.bfloat16
ROUNDS = 20
# Sides of the matrices and bytes of a copy by which a large GPU reaches its ceiling; small ones for a dry run.
MATRIX = {"cuda": 8192, "cpu": 512}
COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 24}
LONGEST_ROWS = 15


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of one call; the first, which compiles and chooses algorithms, is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if torch.get_default_device().type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def ceilings(device: str) -> tuple[float, float]:
    """Operations and bytes a second; a copy reads and writes."""
    side = MATRIX[device]
    a, b = torch.randn(2, side, side).to(BF16)
    source = torch.zeros(COPY_BYTES[device], dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * side**3 / seconds(lambda: a @ b), 2 * source.numel() / seconds(lambda: target.copy_(source))


def recurrent_step(network: GrowthNet, shape: Sequence[int]) -> tuple[float, float]:
    """Operations a second of the convolution, and bytes a second of the gates that go in and out."""
    cell = network.memory[0]
    space, hidden = [n // 2 for n in shape], cell.hidden
    x = torch.randn(1, cell.gates.in_channels - hidden, *space)
    h, c = torch.randn(2, 1, hidden, *space)
    fused.choose("on")
    with torch.inference_mode(), torch.autocast(x.device.type, BF16):
        joined = fused.joined(x, h)
        gates = cell.gates(joined)
        convolving, gating = seconds(lambda: cell.gates(joined)), seconds(lambda: fused.lstm_gates(gates, c))
    voxels, weights = math.prod(space), cell.gates.weight.numel()
    moved = gates.numel() * gates.element_size() + hidden * voxels * (2 * c.element_size() + gates.element_size())
    return 2 * voxels * weights / convolving, moved / gating


def patient(network: GrowthNet, shape: Sequence[int], visits: int) -> Callable[[], None]:
    """All visits through the network, memory and days included; the gates as the shipped commands have them."""
    names = network.config.modalities
    images, alike = torch.randn(2, 1, len(names), *shape)
    prompt = torch.zeros(1, PROMPT_CHANNELS, *shape)
    strides = pool_strides((1, 1, 1), network.levels - 1)
    gap = torch.tensor([60.0])

    def work() -> None:
        state = None
        fused.choose("off")
        with torch.inference_mode(), torch.autocast(images.device.type, BF16):
            for n in range(visits):
                *_, state = network(images, alike, [True] * len(names), prompt, strides, state, gap if n else None)

    return work


def main() -> None:
    """Print all four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="240,240,160")
    parser.add_argument("--visits", type=int, default=4)
    parser.add_argument("--device", default="cuda", choices=list(MATRIX))
    options = parser.parse_args()
    torch.set_default_device(options.device)
    shape = [int(n) for n in options.shape.split(",")]
    network = load_model("default").network.to(options.device).to(memory_format=torch.channels_last_3d)
    matrix, copying = ceilings(options.device)
    convolution, gates = recurrent_step(network, shape)
    work = patient(network, shape, options.visits)
    print(f"torch {torch.__version__}, {options.device}, {shape}, medians of {ROUNDS} rounds\n")
    print("| what | measured | share of its ceiling |\n|---|---|---|")
    print(f"| bf16 matrix product, Tflop/s | {matrix / 1e12:.1f} | |")
    print(f"| copying, GB/s | {copying / 1e9:.0f} | |")
    print(f"| recurrent convolution, Tflop/s | {convolution / 1e12:.1f} | {convolution / matrix:.0%} |")
    print(f"| recurrent gates, GB/s | {gates / 1e9:.0f} | {gates / copying:.0%} |")
    print(f"| {options.visits} visits through the network, s | {seconds(work, 5):.2f} | |\n")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.device == "cuda" else [])]
    with profile(activities=activities) as found:
        work()
    print(found.key_averages().table(sort_by=f"self_{options.device}_time_total", row_limit=LONGEST_ROWS))


if __name__ == "__main__":
    main()
