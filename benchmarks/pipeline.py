"""From folder to results, step by step: pipeline.py [--before CHECKOUT] [--patient FOLDER --click X,Y,Z].

Without --patient it simulates one of 4 visits x t1, t1c, t2, flair and brings it to 240 x 240 x 155 voxels of 1 mm.
Each run is a fresh process on --threads threads. With --before, another checkout of the project runs at the same time,
so that both meet the same load: compare processor seconds, which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (240, 240, 155)
HERE = Path(__file__).parents[1]
MODALITIES = ("t1", "t1c", "t2", "flair")
SIMULATE = ["--course", "growing", "--spacing", "1,1,1", "--visits", "4", "--patients", "1", "--seed", "11"]


def main() -> None:
    """Print the table; as the worker of one run, its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--patient", type=Path, help="patient folder (default: simulated)")
    parser.add_argument(
        "--click", default="", help="X,Y,Z RAS mm in visit 1 (default: the middle of the simulated tumor)"
    )
    parser.add_argument("--visits", default="4", help="numbers of visits, comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.patient, [float(x) for x in options.click.split(",")], options.worker)
        return
    with tempfile.TemporaryDirectory() as scratch:
        patient, click = options.patient, options.click
        if patient is None:
            patient, click = simulated(Path(scratch))
        checkouts = {"before": options.before, "now": HERE} if options.before else {"now": HERE}
        for visits in (int(n) for n in options.visits.split(",")):
            compare(checkouts, patient, click, visits, options.threads)


def compare(checkouts: dict[str, Path], patient: Path, click: str, visits: int, threads: int) -> None:
    """One run of every checkout at the same time, and their table."""
    running = {}
    for name, folder in checkouts.items():
        surroundings = os.environ | {"PYTHONPATH": str(folder.resolve() / "src"), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--patient", str(patient)]
        command += [f"--click={click}", "--worker", str(visits)]
        running[name] = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True)
    results = {}
    for name, process in running.items():
        answer, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"The run '{name}' failed.")
        results[name] = json.loads(answer.splitlines()[-1])
    print_table(results, visits)


def print_table(results: dict[str, dict[str, dict[str, float]]], visits: int) -> None:
    """Wall and processor seconds of each step."""
    names = list(results)
    print(f"\n| {visits} visits | " + " | ".join(f"{n}, s | {n}, processor s" for n in names) + " |")
    print("|---" * (2 * len(names) + 1) + "|")
    for step in next(iter(results.values()))["wall"]:
        cells = [f"{results[n]['wall'].get(step, 0):.1f} | {results[n]['cpu'].get(step, 0):.1f}" for n in names]
        print(f"| {step} | " + " | ".join(cells) + " |")
    totals = [f"{sum(r['wall'].values()):.1f} | {sum(r['cpu'].values()):.1f}" for r in results.values()]
    print("| all | " + " | ".join(totals) + " |")
    print("| peak memory, MB | " + " | ".join(f"{r['memory']['peak_mb']:.0f} | " for r in results.values()) + " |")


def simulated(folder: Path) -> tuple[Path, str]:
    """A progressing patient at full size, and a click in the tumor of visit 1."""
    command = [sys.executable, "-m", "napari_convlstm_tumor", "simulate", str(folder)]
    command += [*SIMULATE, "--modalities", ",".join(MODALITIES)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    patient = next(p for p in folder.iterdir() if p.is_dir())
    first = sorted(patient.glob("day-*"))[0].name
    mask = nib.load(patient / "derivatives" / "truth" / first / "mask.nii.gz")
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    middle = inside[np.argmin(np.linalg.norm(inside - inside.mean(axis=0), axis=1))]
    click = ",".join(f"{x:.1f}" for x in nib.affines.apply_affine(mask.affine, middle))
    target = folder / "full"
    for path in patient.glob("day-*/*.nii.gz"):
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        nib.save(full_size(nib.load(path)), target / path.parent.name / path.name)
    return target, click


def full_size(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Cut or padded with its darkest value to SHAPE, around its middle."""
    data, affine = np.asarray(image.dataobj), image.affine.copy()
    for axis, size in enumerate(SHAPE):
        start = (data.shape[axis] - size) // 2
        affine[:3, 3] += affine[:3, axis] * start
        if start >= 0:
            data = np.take(data, range(start, start + size), axis)
        else:
            pads = [(0, 0)] * 3
            pads[axis] = (-start, size - data.shape[axis] + start)
            data = np.pad(data, pads, constant_values=data.min())
    return nib.Nifti1Image(data, affine)


def work(patient: Path, click: list[float], visits: int) -> None:
    """One run in this process: seconds of every step, then JSON on the last line."""
    from dataclasses import replace

    from napari_convlstm_tumor.io.discover import find_patient
    from napari_convlstm_tumor.pipeline import analyse, save
    from napari_convlstm_tumor.series import Prompt
    from napari_convlstm_tumor.settings import Settings

    files = find_patient(patient, Settings())
    files = replace(files, visits=files.visits[:visits])
    wall: dict[str, float] = {}
    cpu: dict[str, float] = {}
    now, name, analysis = (time.perf_counter(), time.process_time()), "", None
    for step in analyse(files, Settings(), prompts=(Prompt(1, "point", np.array(click)),)):
        now = lap(wall, cpu, name, now)
        name, analysis = step.name, step.analysis
    assert analysis is not None
    with tempfile.TemporaryDirectory() as out:
        save(analysis, Path(out) / "result")
        lap(wall, cpu, "Writing the results", now)
    wall.pop("", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": {"peak_mb": peak}}))


def lap(wall: dict[str, float], cpu: dict[str, float], name: str, before: tuple[float, float]) -> tuple[float, float]:
    """Add what passed since ``before`` to a step; answers the time now."""
    now = time.perf_counter(), time.process_time()
    if name:
        wall[name] = wall.get(name, 0.0) + now[0] - before[0]
        cpu[name] = cpu.get(name, 0.0) + now[1] - before[1]
    return now


if __name__ == "__main__":
    main()
