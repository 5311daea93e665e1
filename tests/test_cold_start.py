"""The program answers soon; benchmarks/cold_start.py gives the figures. Processor seconds, with slack: CI is busy."""

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

# On an idle laptop core --help took 0.17 s and a patient of ``info`` 2 ms.
HELP_S, INFO_S = 0.8, 3.0
PATIENTS = 200

resource = pytest.importorskip("resource", reason="processor seconds of a child are not told on Windows")


def processor_s(arguments):
    """User seconds of one convlstm-tumor command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([sys.executable, "-m", "napari_convlstm_tumor", *arguments], check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def test_help_is_quick():
    assert min(processor_s(["--help"]) for _ in range(2)) < HELP_S


def test_info_on_many_patients_is_quick(tmp_path):
    one = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)), one)
    for n in range(PATIENTS):
        for day in ("day-000", "day-060", "day-130"):
            visit = tmp_path / "all" / f"patient-{n:03d}" / day
            visit.mkdir(parents=True)
            for modality in ("t1c", "flair"):
                os.link(one, visit / f"{modality}.nii.gz")
    assert processor_s(["info", str(tmp_path / "all")]) < INFO_S
