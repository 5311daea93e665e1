"""The recurrent core beside a plain ConvLSTM and beside its convolutions alone. `make bench`.

The same work for all, in turns, so that other load falls on all alike: a batch of visits in, all outputs out. Printed:
median time, ratio to a plain cell in float32 (a step a visit, convolution on cat[x, h], written below as it is usually
written), share of the limit (the time of the convolutions alone at the same precision, channels last), and by how much
a fresh process's peak memory grew. Keras' ConvLSTM2D/3D joins when it is installed, and with --peer the class ConvLSTM
(input_dim, hidden_dim, kernel_size, num_layers, batch_first) of PATH/convlstm.py (2-D, forward).

At a first visit ours leaves out the half of the convolution that would see zeros; the limit does not. "Going on" is
ours from the memory of earlier visits, where nothing can be left out: its share of the limit is the stricter one.

On a busy machine: --shared takes one thread and its processor time instead of all threads and the clock. --device cuda
is the same on a GPU, with the peak of its memory.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_convlstm_tumor.cli.allocator import ENVIRONMENT, keep_memory_flat
from napari_convlstm_tumor.model import fused
from napari_convlstm_tumor.model.convlstm import VISITS_A_CHECKPOINT, ConvRecurrent

CONVOLUTIONS = {2: (nn.Conv2d, F.conv2d), 3: (nn.Conv3d, F.conv3d)}
KIB_A_MIB = 1024
Work = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Case:
    """Sizes of the work: samples, visits, channels in and hidden, voxels; with the backward pass or without."""

    batch: int
    visits: int
    channels: int
    hidden: int
    space: tuple[int, ...]
    training: bool = False

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.space)


CASES = {
    "3-D forward": Case(1, 4, 16, 16, (32, 64, 64)),
    "2-D forward": Case(4, 10, 16, 32, (64, 64)),
    "3-D forward + backward": Case(1, 4, 16, 16, (32, 64, 64), training=True),
}


# ---- what is compared: x (B, T, C, *space) -> (B, T, H, *space) ----


class PlainConvLSTM(nn.Module):
    """The usual implementation: nothing but the equations."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.hidden = case.hidden
        self.conv = CONVOLUTIONS[case.dimensions][0](case.channels + case.hidden, 4 * case.hidden, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """All visits."""
        h = c = x.new_zeros(x.shape[0], self.hidden, *x.shape[3:])
        outputs = []
        for t in range(x.shape[1]):
            i, f, o, g = torch.split(self.conv(torch.cat([x[:, t], h], dim=1)), self.hidden, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


class Convolutions(nn.Module):
    """The limit: as many convolutions of the same size, on an input that is there already."""

    def __init__(self, case: Case, kind: torch.dtype) -> None:
        super().__init__()
        layout = fused.CHANNELS_LAST[2 + case.dimensions]
        shape = (case.batch, case.channels + case.hidden, *case.space)
        self.input = torch.randn(shape).to(kind).contiguous(memory_format=layout).requires_grad_(case.training)
        made, self.apply_ = CONVOLUTIONS[case.dimensions]
        self.conv = made(shape[1], 4 * case.hidden, 3, padding=1).to(kind).to(memory_format=layout)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x only says how many."""
        return [self.conv(self.input) for _ in range(x.shape[1])]


class FirstOutput(nn.Module):
    """Of a module that returns more than its output."""

    def __init__(self, inner: Callable[[Tensor], Any], dig: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.inner, self.dig = inner, dig

    def forward(self, x: Tensor) -> Tensor:
        """All visits."""
        return self.dig(self.inner(x))


def ours(case: Case) -> nn.Module:
    """The package's."""
    return FirstOutput(ConvRecurrent(case.channels, (case.hidden,), dimensions=case.dimensions), lambda o: o[0])


def going_on(case: Case) -> nn.Module:
    """The package's, after a visit that is not counted."""
    stack = ConvRecurrent(case.channels, (case.hidden,), dimensions=case.dimensions)
    memories: list[Any] = []

    def work(x: Tensor) -> Tensor:
        memories or memories.append(stack(x[:, :1])[1])
        return stack(x, None, memories[0])[0]

    return FirstOutput(work, lambda output: output)


def keras_layer(case: Case) -> nn.Module:
    """Keras' own; channels first as all others."""
    os.environ["KERAS_BACKEND"] = "torch"
    from keras import layers

    kind = {2: layers.ConvLSTM2D, 3: layers.ConvLSTM3D}[case.dimensions]
    options = {"padding": "same", "return_sequences": True, "data_format": "channels_first"}
    layer = kind(case.hidden, 3, **options)
    layer.build((case.batch, case.visits, case.channels, *case.space))
    return layer


def peer_layer(case: Case, path: Path) -> nn.Module:
    """ConvLSTM of another checkout."""
    spec = importlib.util.spec_from_file_location("peer", path / "convlstm.py" if path.is_dir() else path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return FirstOutput(module.ConvLSTM(case.channels, case.hidden, (3, 3), 1, batch_first=True), lambda o: o[0][0])


def contenders(case: Case, peer: Path | None) -> dict[str, Callable[[], Work]]:
    """{name: how it is made}; made only where it is run."""
    bf16 = torch.bfloat16
    made = {
        "plain cell, float32": lambda: in_precision(PlainConvLSTM(case), None, "off"),
        "plain cell, bf16": lambda: in_precision(PlainConvLSTM(case), bf16, "off"),
        "ours, float32": lambda: in_precision(ours(case), None, "on"),
        "ours, bf16": lambda: in_precision(ours(case), bf16, "on"),
        "ours, bf16, going on": lambda: in_precision(going_on(case), bf16, "on"),
        "ours, bf16, not compiled": lambda: in_precision(ours(case), bf16, "off"),
        "convolutions alone, float32": lambda: in_precision(Convolutions(case, torch.float32), None, "off"),
        "convolutions alone, bf16": lambda: in_precision(Convolutions(case, bf16), None, "off"),
    }
    if case.training:  # what went before a training's first visit would be part of its way back
        del made["ours, bf16, going on"]
    if importlib.util.find_spec("keras"):
        made["Keras, float32"] = lambda: in_precision(keras_layer(case), None, "off")
    if peer and case.dimensions == 2 and not case.training:
        made["peer, float32"] = lambda: in_precision(peer_layer(case, peer), None, "off")
    return made


def in_precision(module: nn.Module, kind: torch.dtype | None, mode: fused.Mode) -> Work:
    """The module under autocast, or not; compiled gates or not."""

    def work(x: Tensor) -> Any:
        fused.choose(mode)
        with torch.autocast(x.device.type, kind or torch.bfloat16, enabled=kind is not None):
            return module(x)

    return work


# ---- measuring ----


def once(work: Work, case: Case, x: Tensor) -> None:
    """One pass, and back."""
    with torch.set_grad_enabled(case.training):
        output = work(x)
        if case.training:
            output = output if isinstance(output, list) else [output]
            torch.autograd.backward(output, [torch.ones_like(o) for o in output])


def times(case: Case, made: dict[str, Callable[[], Work]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Median seconds of each, in turns; what is compiled is compiled before."""
    x = torch.randn(case.batch, case.visits, case.channels, *case.space)
    works = [make() for make in made.values()]
    taken: list[list[float]] = [[] for _ in works]
    for n in range(rounds + 1):
        for work, seconds in zip(works, taken, strict=True):
            start = clock()
            once(work, case, x)
            if n:
                seconds.append(clock() - start)
    return [statistics.median(seconds) for seconds in taken]


def clock_of(shared: bool) -> Callable[[], float]:
    """Seconds: of the processor, or on the wall when the GPU, if it is one, has done its work."""

    def gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    on_gpu = torch.get_default_device().type == "cuda"
    return gpu if on_gpu else (time.process_time if shared else time.perf_counter)


def status_kib(key: str) -> int:
    """VmRSS or VmHWM of this process (Linux)."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


def growth_mib(work: Callable[[], object]) -> float:
    """By how much the peak grows over what is resident before; the peak is reset first. On a GPU: of its memory."""
    if torch.get_default_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / KIB_A_MIB**2
    Path("/proc/self/clear_refs").write_text("5")
    before = status_kib("VmRSS")
    work()
    return (status_kib("VmHWM") - before) / KIB_A_MIB


def peak_of(case: Case, name: str, peer: Path | None) -> float:
    """MiB of one pass; a pass of a smaller one of its kind before brings in the libraries and compiles."""
    for size in (replace(case, visits=1, space=tuple(s // 2 for s in case.space)), case):
        work = contenders(size, peer)[name]()
        x = torch.randn(size.batch, size.visits, size.channels, *size.space)
        grown = growth_mib(functools.partial(once, work, size, x))
    return grown


def over_visits(visits: int, checkpoint: bool | None) -> float:
    """MiB for one series of the 3-D case: streaming (None), or training with or without checkpoints."""
    case = CASES["3-D forward"]
    stack = ConvRecurrent(case.channels, (case.hidden,), checkpoint=bool(checkpoint))
    at_once = VISITS_A_CHECKPOINT if checkpoint else 1
    x = torch.randn(1, case.channels, *case.space)

    def work() -> None:
        states = memory = None
        total = torch.zeros(())
        with torch.set_grad_enabled(checkpoint is not None):
            for first in range(0, visits, at_once):
                if checkpoint:
                    series = x[None].expand(1, min(at_once, visits - first), *x.shape[1:])
                    output, memory = stack(series, memory=memory)
                else:
                    output, states = stack.step(x, states)
                total = total + output.sum()
        if checkpoint is not None:
            total.backward()

    return growth_mib(work)


def in_fresh_process(*arguments: str) -> float:
    """MiB, from this script started again; it sets its allocator itself."""
    command = [sys.executable, __file__, *arguments]
    around = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=around)
    return float(done.stdout.split()[-1])


# ---- tables ----


def table(title: str, case: Case, arguments: argparse.Namespace) -> None:
    """One table of the work."""
    made = contenders(case, arguments.peer)
    taken = times(case, made, arguments.rounds, clock_of(arguments.shared))
    seconds = dict(zip(made, taken, strict=True))
    plain = seconds["plain cell, float32"]
    passed_on = ["--device", arguments.device, "--allocator", arguments.allocator]
    passed_on += ["--peer", str(arguments.peer)] if arguments.peer else []
    print(f"\n{title}\n\n| | ms | ratio | share of the limit | peak memory, MiB |\n|---|---|---|---|---|")
    for name, taken in seconds.items():
        limit = seconds["convolutions alone, " + ("bf16" if "bf16" in name else "float32")]
        peak = "-" if arguments.quick else f"{in_fresh_process('--peak', title, name, *passed_on):.0f}"
        print(f"| {name} | {1000 * taken:.0f} | {plain / taken:.2f} | {limit / taken:.0%} | {peak} |", flush=True)


def memory_table(device: str) -> None:
    """Peaks over the number of visits, of the allocator as the program sets it and as the system has it."""
    print("\nPeak memory, MiB, 3-D, 16 channels, 32 x 64 x 64, float32\n")
    print("| | visits | MiB | MiB, --allocator system |\n|---|---|---|---|")
    rows = {"streaming": (5, 200), "training": (6, 16), "training, checkpoints": (6, 16)}
    for name, counts in rows.items():
        for visits in counts:
            asked = ("--visits", name, str(visits), "--device", device)
            peaks = [in_fresh_process(*asked, "--allocator", kind) for kind in ("ours", "system")]
            print(f"| {name} | {visits} | {peaks[0]:.0f} | {peaks[1]:.0f} |", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options; --peak and --visits are for the processes that this one starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", type=Path, help="another implementation: a folder with convlstm.py")
    parser.add_argument("--shared", action="store_true", help="one thread, processor time: for a busy machine")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--allocator", choices=["ours", "system"], default="ours", help="ours: as the program sets it")
    parser.add_argument("--only", choices=[*CASES, "memory"], help="one table")
    parser.add_argument("--quick", action="store_true", help="no memory")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--visits", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    chosen = parse(arguments)
    if chosen.allocator == "ours":
        keep_memory_flat()
    torch.set_default_device(chosen.device)
    if chosen.shared:
        torch.set_num_threads(1)
    if chosen.peak:
        print(peak_of(CASES[chosen.peak[0]], chosen.peak[1], chosen.peer))
    elif chosen.visits:
        checkpoint = {"streaming": None, "training": False, "training, checkpoints": True}[chosen.visits[0]]
        print(over_visits(int(chosen.visits[1]), checkpoint))
    else:
        clock = "processor time of one thread" if chosen.shared else f"{torch.get_num_threads()} threads"
        clock = torch.cuda.get_device_name() if chosen.device == "cuda" else clock
        keras = "" if importlib.util.find_spec("keras") else "; Keras is not installed: left out"
        print(f"torch {torch.__version__}, {clock}, medians of {chosen.rounds} rounds{keras}")
        for title, case in CASES.items():
            if chosen.only in (None, title):
                table(title, case, chosen)
        if not chosen.quick and chosen.only in (None, "memory"):
            memory_table(chosen.device)


if __name__ == "__main__":
    main()
