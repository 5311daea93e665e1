"""`batch --jobs 2` against `run` in a loop over the same patients, as a markdown table. `python benchmarks/batch.py`.

Simulated patients of three visits at 2 mm, a mask given at the first visit: every step runs, registration and network
included. The two take turns, so that what else the machine does falls on both; wall time, and the processor time of all
processes, which other work on the machine changes far less. Both get the OMP_NUM_THREADS of this command.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SET_CHILD_SUBREAPER = 36  # of prctl
Times = tuple[float, float]


def adopt_orphans() -> None:
    """Let processes whose parent ends first count as children of this one (Linux): the workers of a batch do."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def program(*arguments: str | Path) -> None:
    """One command of the program, in a process of its own."""
    subprocess.run([sys.executable, "-m", "napari_convlstm_tumor", *map(str, arguments)], check=True)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def processor_s() -> float:
    """Processor seconds of every child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clocked(commands: Sequence[Sequence[str | Path]]) -> Times:
    """(wall, processor) seconds of these commands, one after the other."""
    wall, processor = time.perf_counter(), processor_s()
    for command in commands:
        program(*command, "--quiet")
    return time.perf_counter() - wall, processor_s() - processor


def simulated(folder: Path, count: int) -> Path:
    """Patients to work on."""
    program("simulate", folder, "--patients", str(count), "--visits", "3", "--spacing", "2,2,2", "--given", "first")
    return folder


def one_round(patients: Path, out: Path, jobs: int, batch_first: bool) -> tuple[Times, Times]:
    """(the loop, the batch) over the same patients, everything computed anew."""
    loop = [("run", folder, "-o", out / "loop") for folder in sorted(patients.iterdir())]
    batch = [("batch", patients, "-o", out / "batch", "--jobs", str(jobs), "--overwrite")]
    if batch_first:
        second = clocked(batch)
        return clocked(loop), second
    return clocked(loop), clocked(batch)


def main() -> None:
    """Print a line per round and the medians of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=6, help="how many to simulate")
    parser.add_argument("--data", type=Path, help="take the patients of this folder instead")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    adopt_orphans()
    print("| round | loop wall s | batch wall s | ratio | loop CPU s | batch CPU s | ratio | load before |")
    print("|---|---|---|---|---|---|---|---|")
    ratios: list[Times] = []
    with tempfile.TemporaryDirectory() as name:
        patients, out = options.data or simulated(Path(name) / "in", options.patients), Path(name) / "out"
        for n in range(options.rounds):
            load = os.getloadavg()[0]
            loop, batch = one_round(patients, out, options.jobs, batch_first=bool(n % 2))
            ratios.append((loop[0] / batch[0], loop[1] / batch[1]))
            wall, processor = ((f"{a:.0f} | {b:.0f} | {a / b:.2f}") for a, b in zip(loop, batch, strict=True))
            print(f"| {n + 1} | {wall} | {processor} | {load:.1f} |", flush=True)
    wall_ratio, processor_ratio = (statistics.median(r) for r in zip(*ratios, strict=True))
    print(f"\nMedian ratio: wall {wall_ratio:.2f}, processor {processor_ratio:.2f}; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
