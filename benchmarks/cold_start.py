"""How soon the program answers: cold_start.py [--patients 1000] [--slices 200] [--repeats 5].

Three rows: ``convlstm-tumor --help``; ``info`` on a folder of patients with 3 visits of 2 images each; and one DICOM
series read, checked slice by slice, against SimpleITK's own series reader in turn. Wall and processor seconds; on a
busy machine compare the second.
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
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

DAYS = (0, 60, 130)
SIZE = 512


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| what | s | processor s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        row("--help", [command(["--help"]) for _ in range(options.repeats)])
        write_patients(folder / "patients", options.patients)
        row(f"info, {options.patients} patients", [command(["info", str(folder / "patients")])])
        write_series(folder / "series", options.slices)
        compare_readers(folder / "series", options.repeats)


def row(name: str, times: list[tuple[float, float]]) -> None:
    """One line: medians of (wall, processor) seconds."""
    wall, cpu = (statistics.median(t[n] for t in times) for n in (0, 1))
    print(f"| {name} | {wall:.2f} | {cpu:.2f} |", flush=True)


def command(arguments: list[str]) -> tuple[float, float]:
    """Seconds of one convlstm-tumor command."""
    started, before = time.perf_counter(), children()
    run = [sys.executable, "-m", "napari_convlstm_tumor", *arguments]
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


def write_series(folder: Path, slices: int) -> None:
    """An uncompressed CT series of SIZE x SIZE pixels."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    rng, series = np.random.default_rng(0), generate_uid()
    for k in range(slices):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = "CT", series, series
        data.PatientName = data.PatientID = "BENCH"
        data.Rows = data.Columns = SIZE
        data.PixelSpacing, data.SliceThickness = [0.8, 0.8], 1.5
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 1.5 * k]
        data.RescaleSlope, data.RescaleIntercept, data.InstanceNumber = 1, -1024, k + 1
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = rng.integers(0, 2000, (SIZE, SIZE), dtype=np.uint16).tobytes()
        data.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def compare_readers(folder: Path, repeats: int) -> None:
    """Ours and SimpleITK's by turns on the same files; the ratio of processor seconds; both must agree."""
    import SimpleITK as sitk

    from napari_convlstm_tumor.io.dicom import read_dicom

    def theirs() -> np.ndarray:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        return sitk.GetArrayFromImage(sitk.ReadImage(names, sitk.sitkFloat32)).T

    def ours() -> np.ndarray:
        return read_dicom(sorted(folder.iterdir())).data

    if not np.array_equal(ours(), theirs()):
        raise SystemExit("The two readers disagree.")
    times: dict[str, list[tuple[float, float]]] = {"SimpleITK's reader": [], "ours": []}
    for _ in range(repeats):
        times["SimpleITK's reader"].append(timed(theirs))
        times["ours"].append(timed(ours))
    for name, found in times.items():
        row(f"DICOM series, {len(list(folder.iterdir()))} slices, {name}", found)
    ratios = [a[1] / b[1] for a, b in zip(times["ours"], times["SimpleITK's reader"], strict=True)]
    print(f"| ours / SimpleITK's, median of {repeats} | | {statistics.median(ratios):.2f} |")


def timed(read: Callable[[], np.ndarray]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
