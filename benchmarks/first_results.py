"""Run the main job on real patients and write docs/first-results.md: python benchmarks/first_results.py

Each patient is a process of its own (`convlstm-tumor run`), so that its peak memory is its own. Sarcoma: the DICOM
tree of STS-001, with a second visit made by re-dating a copy of the CT (same pixels: the true growth is zero).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from scipy import ndimage

from napari_convlstm_tumor.io.prompts import write_prompts
from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.model.device import pick_device, precision_of
from napari_convlstm_tumor.series import Prompt
from napari_convlstm_tumor.training.evaluate import filled

RESULT_HEADER = (
    "| patient | run | visits | status | volumes, mL | registration | s | peak MB |\n|---|---|---|---|---|---|---|---|"
)


def redated_tree(source: Path, target: Path) -> Path:
    """The tree as visit 1, and its CT again 60 days later under new UIDs."""
    uids: dict[str, str] = {}
    for path in sorted(source.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for name, date in (("first", "20200101"), ("second", "20200301")):
            if name == "second" and dataset.Modality != "CT":
                continue
            dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = date
            if name == "second":
                for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
                    setattr(dataset, tag, uids.setdefault(getattr(dataset, tag), generate_uid()))
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            place = target / name / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(place)
    return target


def write_click(patient: Path, target: Path) -> Path:
    """A prompts file with a click at the deepest point of the first visit's (hole-filled) mask."""
    mask = read_volume([min(patient.iterdir()) / "tumor.nii.gz"])
    depth = ndimage.distance_transform_edt(filled(mask.data), mask.grid.spacing_mm)
    place = mask.grid.to_mm(np.unravel_index(int(np.argmax(depth)), depth.shape))
    write_prompts(target, [Prompt(1, "point", place)])
    return target


def run_row(patient: Path, label: str, options: list[str], out: Path) -> str:
    """One line of the table: run the command, read what it wrote."""
    command = [sys.executable, "-m", "napari_convlstm_tumor", "run", str(patient), "-o", str(out), "--quiet", *options]
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    seconds = time.perf_counter() - started
    name = f"| {patient.name} | {label} "
    if done.returncode != 0:
        return f"{name}| - | failed: {' '.join(done.stderr.split())} | - | - | {seconds:.0f} | - |"
    record = json.loads((out / patient.name / "run.json").read_text())
    report = json.loads((out / patient.name / "report.json").read_text())
    volumes = ", ".join(f"{v['volume_mm3'] / 1000:.1f}" for v in report["visits"])
    qualities = ", ".join(f"{r['quality']:.2f}" for r in record["registration"][1:])
    return f"{name}| {record['visits']} | done | {volumes} | {qualities} | {seconds:.0f} | {record['peak_memory_mb']} |"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--page", type=Path, default=Path("docs/first-results.md"))
    options = parser.parse_args()
    data = options.data.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        rows = []
        for patient in sorted((data / "glioblastoma").glob("GBM-*")):
            rows.append(run_row(patient, "masks given", ["--masks", "use"], out / "use"))
            click = write_click(patient, out / f"{patient.name}.json")
            options_click = ["--masks", "ignore", "--prompts", str(click)]
            rows.append(run_row(patient, "network, click at visit 1", options_click, out / "network"))
        tree = redated_tree(data / "dicom" / "sarcoma-STS-001", out / "STS-001-redated")
        rows.append(run_row(tree, "DICOM CT, RTSTRUCT at visit 1", ["--modality", "ct"], out / "dicom"))
        rows.append(run_row(tree, "DICOM CT, no prompt", ["--modality", "ct", "--masks", "ignore"], out / "blind"))
        rows.append(run_row(data / "ms" / "MS-01", "network, no prompt, undated", [], out / "ms"))
    command = [sys.executable, "-W", "ignore", "benchmarks/registration.py", "--data", str(data)]
    registration = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ms, gbm = registration.split("\n\n")
    precision = precision_of(pick_device("auto"))
    page = PAGE.format(precision=precision, rows="\n".join([RESULT_HEADER, *rows]), ms=ms, gbm=gbm)
    options.page.write_text(page, encoding="utf-8")
    print(page)


PAGE = """# First results on real patients

Made by `python benchmarks/first_results.py` on 2 CPU cores ({precision}). Wall time includes starting Python (5 s).
Other work may have shared the two cores: the times are upper bounds. Peak memory is each process's own.

{rows}

Volumes of "masks given" are exact; those of the network are its outlines, whose accuracy stands in docs/accuracy.md.
The second CT of STS-001 is the first with another date: its true growth is zero, and what the network finds is its
error. MS-01 has no tumor: whatever the network outlines there is false.

## Registration

Multiple sclerosis, FLAIR, correlation of the two visits on the published common grid. The data do not say how their
brain mask was made, so two of ours are shown, the same for every row (benchmarks/registration.py).

{ms}

Glioblastoma, T1c, 6.5 mm slices, treated between the visits (the tumor itself changes). Dice is of the hole-filled
masks of the two visits; round trip is the second visit's mask to the common grid and back.

{gbm}
"""


if __name__ == "__main__":
    main()
