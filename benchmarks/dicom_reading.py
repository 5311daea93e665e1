"""How fast one DICOM series is read, checked slice by slice, beside SimpleITK's own series reader on the same files.

    python benchmarks/dicom_reading.py [--slices 200] [--rounds 7]

Five series of 512 x 512 pixels with 100 further tags a file: CT as most scanners write it, CT in implicit VR, CT in
RLE and in lossless JPEG, and MR with a rescale slope. The two readers take turns; a ratio is of one round, so what else
the machine does meets both. Below 1: ours is faster. The voxels of both must be equal.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from napari_convlstm_tumor.io.dicom import read_dicom

SIZE, FURTHER_TAGS = 512, 100
SERIES = {
    "CT": ("CT", ExplicitVRLittleEndian),
    "CT, implicit VR": ("CT", ImplicitVRLittleEndian),
    "CT, RLE": ("CT", RLELossless),
    "CT, lossless JPEG": ("CT", JPEGLosslessSV1),
    "MR, rescaled": ("MR", ExplicitVRLittleEndian),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print("| series | ours / SimpleITK's, wall | processor |\n|---|---|---|")
    for name, (modality, syntax) in SERIES.items():
        with tempfile.TemporaryDirectory() as scratch:
            write_series(Path(scratch), options.slices, modality, syntax)
            ratios = compare(Path(scratch), options.rounds)
        wall, processor = (f"{statistics.median(r):.2f} ({min(r):.2f}-{max(r):.2f})" for r in ratios)
        print(f"| {name} | {wall} | {processor} |", flush=True)


def compare(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Ratios ours / SimpleITK's of each round: wall and processor seconds."""

    def theirs() -> np.ndarray:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        return sitk.GetArrayFromImage(sitk.ReadImage(names, sitk.sitkFloat32)).T

    def ours() -> np.ndarray:
        return read_dicom(sorted(folder.iterdir())).data

    if not np.array_equal(ours(), theirs()):
        raise SystemExit("The two readers disagree.")
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    return [a[0] / b[0] for a, b in pairs], [a[1] / b[1] for a, b in pairs]


def timed(read: Callable[[], np.ndarray]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - wall, time.process_time() - cpu


def write_series(folder: Path, slices: int, modality: str, syntax: UID) -> None:
    """A round body with noise; four slices of pixels, packed once, under many headers."""
    stored = [body(seed) for seed in range(4)]
    packed = [pack(pixels, syntax) for pixels in stored]
    series = generate_uid()
    for k in range(slices):
        data = header(modality, series, k)
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = packed[k % len(packed)]
        data["PixelData"].VR = "OW"
        data["PixelData"].is_undefined_length = syntax.is_compressed
        data.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def header(modality: str, series: UID, k: int) -> pydicom.Dataset:
    """The tags of slice k."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    kind = CTImageStorage if modality == "CT" else MRImageStorage
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = kind
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = modality, series, series
    data.PatientName = data.PatientID = "BENCH"
    data.Rows = data.Columns = SIZE
    data.PixelSpacing, data.SliceThickness = [0.8, 0.8], 1.5
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 1.5 * k]
    data.RescaleSlope, data.RescaleIntercept = (1, -1024) if modality == "CT" else ("1.67521367521", 0)
    data.InstanceNumber, data.SamplesPerPixel, data.PhotometricInterpretation = k + 1, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    private = data.private_block(0x0019, "BENCHMARK", create=True)
    for n in range(FURTHER_TAGS):
        private.add_new(n, "LO", f"value {n}")
    return data


def body(seed: int) -> np.ndarray:
    """(SIZE, SIZE) of stored values: air, and a disc of soft tissue with noise."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    values = np.where(x**2 + y**2 < 0.7, 1060, 24) + np.random.default_rng(seed).normal(0, 12, (SIZE, SIZE))
    return values.astype(np.uint16)


def pack(pixels: np.ndarray, syntax: UID) -> bytes:
    """The value of PixelData in a transfer syntax; lossless JPEG is written by GDCM, for pydicom cannot."""
    if syntax == RLELossless:
        data = header("CT", generate_uid(), 0)
        data.compress(RLELossless, pixels)
        return bytes(data.PixelData)
    if syntax != JPEGLosslessSV1:
        return pixels.tobytes()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "packed.dcm"
        image = sitk.GetImageFromArray(pixels[None])
        sitk.WriteImage(image, str(path), useCompression=True, compressor="JPEG")
        return bytes(pydicom.dcmread(path).PixelData)


if __name__ == "__main__":
    main()
