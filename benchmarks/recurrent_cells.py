"""Time and memory of each cell on volumes, as a markdown table of ratios. `python benchmarks/recurrent_cells.py`.

16 channels in and hidden, float32, eager. Time: median processor seconds of a visit on one thread, the cells in turns.
Memory: growth of a fresh process's peak while three visits pass, without gradients (streaming) and with them (training,
where it grows with the visits).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_convlstm_tumor.model.convlstm import CELLS

CHANNELS, VISITS, ROUNDS = 16, 3, 5
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ConvLSTM": ("lstm", {}),
    "ConvLSTM, peepholes": ("lstm", {"peephole": True}),
    "ConvGRU": ("gru", {}),
    "attention, 4 earlier states": ("attention", {}),
    "attention over ConvGRU": ("attention", {"inner": "gru"}),
}
KIB_A_MIB = 1024


def make(kind: str) -> nn.Module:
    """The cell."""
    name, options = KINDS[kind]
    return CELLS[name](CHANNELS, CHANNELS, **options)


def visit(cell: nn.Module, size: int, gradients: bool) -> float:
    """Processor seconds a visit on size ** 3 voxels."""
    x, state = torch.randn(1, CHANNELS, size, size, size), None
    start = time.process_time()
    with torch.set_grad_enabled(gradients):
        for _ in range(VISITS):
            output, state = cell(x, state, torch.tensor([30.0]))
        if gradients:
            output.sum().backward()
    return (time.process_time() - start) / VISITS


def times(size: int, gradients: bool) -> list[float]:
    """Seconds a visit of each kind."""
    cells = [make(kind) for kind in KINDS]
    rounds = [[visit(cell, size, gradients) for cell in cells] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def peak_mib() -> float:
    """Largest resident size of this process so far (Linux). getrusage would begin with that of the parent process."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / KIB_A_MIB


def memory(kind: str, size: int, gradients: bool) -> float:
    """MiB, in a process of its own."""
    command = [sys.executable, __file__, "--memory", kind, str(int(gradients)), "--size", str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; ratios to the first row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="voxels a side")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if chosen.memory:
        cell, before = make(chosen.memory[0]), peak_mib()
        visit(cell, chosen.size, chosen.memory[1] == "1")
        print(peak_mib() - before)
        return
    columns = [f(chosen.size, g) for g in (False, True) for f in (times, lambda n, g: [memory(k, n, g) for k in KINDS])]
    print("| cell | parameters | time | memory | time, training | memory, training |\n|---|---|---|---|---|---|")
    for kind, *numbers in zip(KINDS, *columns, strict=True):
        ratios = (f"{number / column[0]:.2f}" for number, column in zip(numbers, columns, strict=True))
        print(f"| {kind} | {sum(p.numel() for p in make(kind).parameters()):,} | {' | '.join(ratios)} |")
    first = zip(columns, ("s", "MiB", "s", "MiB"), strict=True)
    print(f"\n1.00 is {', '.join(f'{c[0]:.2f} {unit}' for c, unit in first)} at {chosen.size} voxels a side.")


if __name__ == "__main__":
    main()
