"""How soon the program answers: cold_start.py [--patients 1000] [--repeats 5].

A bare ``python -c pass``; ``convlstm-tumor --help``; ``info`` on a folder of patients with 3 visits of 2 images each.
Wall and processor seconds, and the processor seconds over those of the bare Python of the same run, which is what a
busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

DAYS = (0, 60, 130)
PROGRAM = ["-m", "napari_convlstm_tumor"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| what | s | processor s | over a bare Python |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_patients(folder / "patients", options.patients)
        commands = {
            "python -c pass": ["-c", "pass"],
            "--help": [*PROGRAM, "--help"],
            f"info, {options.patients} patients": [*PROGRAM, "info", str(folder / "patients")],
        }
        rounds = [[timed(command) for command in commands.values()] for _ in range(options.repeats)]
    for n, name in enumerate(commands):
        wall, cpu = (statistics.median(times[n][k] for times in rounds) for k in (0, 1))
        ratio = statistics.median(times[n][1] / times[0][1] for times in rounds)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {ratio:.1f} |")


def timed(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one Python."""
    started, before = time.perf_counter(), children()
    run = [sys.executable, *arguments]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, children() - before


def children() -> float:
    """Processor seconds of the processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_patients(folder: Path, count: int) -> None:
    """Patients of three visits with two images each; every image is one small file under many names."""
    folder.mkdir()
    one = folder.parent / "image.nii.gz"
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 16), dtype=np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), one)
    for n in range(count):
        for day in DAYS:
            visit = folder / f"patient-{n:04d}" / f"day-{day:03d}"
            visit.mkdir(parents=True)
            for modality in ("t1c", "flair"):
                os.link(one, visit / f"{modality}.nii.gz")


if __name__ == "__main__":
    main()
