"""A real patient's two visits from DICOM to DICOM: registered, measured, written, read back."""

import csv
import json
import shutil
import subprocess
from pathlib import Path
from runpy import run_path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from napari_convlstm_tumor.cli import main

make = run_path(str(Path(__file__).parents[1] / "io" / "make_dicom.py"))
DAYS = 157  # 1996-08-13 to 1997-01-17
WRITTEN = [
    "growth-visit-02.dcm", "log-growth-visit-02.dcm", "measurements.dcm", "seg-visit-01.dcm", "seg-visit-02.dcm"
]  # fmt: skip
pytestmark = pytest.mark.slow


def write_visit(visit, folder):
    """One visit of NIfTI images as a DICOM series and the SEG of its mask."""
    image = nib.load(visit / "t1c.nii.gz")
    data = np.asarray(image.dataobj, dtype=float)
    affine, spacing = np.diag([-1, -1, 1, 1]) @ image.affine, image.header.get_zooms()
    places = [(affine @ [0, 0, k, 1])[:3] for k in range(data.shape[2])]

    def change(k, dataset):
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = visit.name.replace("-", "")
        dataset.StudyInstanceUID = make["generate_uid"](entropy_srcs=["study", visit.name])
        dataset.SeriesDescription = "T1 post contrast"

    paths = make["write_series"](
        folder / "t1c", np.round(data / data.max() * 4000).astype("<i2"), places, modality="MR", spacing=spacing[:2],
        orientation=np.r_[affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]],
        series=f"series {visit.name}", frame=f"frame {visit.name}", change=change,
    )  # fmt: skip
    images = sorted((pydicom.dcmread(path) for path in paths), key=lambda dataset: dataset.InstanceNumber)
    tumor = np.asarray(nib.load(visit / "tumor.nii.gz").dataobj).T > 0
    kind = hd.seg.SegmentAlgorithmTypeValues.MANUAL
    segment = hd.seg.SegmentDescription(1, "tumor", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Mass, kind)
    uids = make["generate_uid"](), make["generate_uid"]()
    binary = hd.seg.SegmentationTypeValues.BINARY
    mask = hd.seg.Segmentation(images, tumor, binary, [segment], uids[0], 9, uids[1], 1, "maker", "model", "1", "1")
    (folder / "seg").mkdir()
    mask.save_as(folder / "seg" / "seg.dcm")


@pytest.fixture(scope="module")
def result(shared_data, tmp_path_factory):
    """The pair as it came, and the folder of its result."""
    pair = sorted((shared_data / "glioblastoma" / "GBM-01").iterdir())
    folder = tmp_path_factory.mktemp("pair")
    for n, visit in enumerate(pair):
        write_visit(visit, folder / "CASE" / f"study{n}")
    arguments = ["--device", "cpu", "--dicom", "--log-growth", "--quiet"]
    assert main(["run", str(folder / "CASE"), "-o", str(folder / "out"), *arguments]) == 0
    return pair, folder / "out" / "CASE"


def rows(result, name):
    return list(csv.DictReader((result[1] / name).read_text().splitlines()))


def test_every_object_is_there_and_valid(result):
    objects = sorted((result[1] / "dicom").iterdir())
    assert [path.name for path in objects] == WRITTEN
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (apt-get install dicom3tools)")
    for path in objects:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, errors="replace")
        assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


def test_the_masks_come_back_voxel_for_voxel(result):
    pair, out = result
    assert [int(row["day"]) for row in rows(result, "visits.csv")] == [0, DAYS]
    for n, visit in enumerate(pair):
        tumor = np.asarray(nib.load(visit / "tumor.nii.gz").dataobj) > 0
        frames = pydicom.dcmread(out / "dicom" / f"seg-visit-0{n + 1}.dcm")
        voxels = sum(int(np.count_nonzero(frame)) for frame in frames.pixel_array)
        assert voxels == np.count_nonzero(tumor)
        native = nib.load(out / "native" / f"visit-0{n + 1}" / "mask.nii.gz")
        volume = np.count_nonzero(native.dataobj) * abs(np.linalg.det(native.affine[:3, :3]))
        assert float(rows(result, "visits.csv")[n]["volume_mm3"]) == pytest.approx(volume, abs=0.1)


def test_a_seg_without_its_empty_frames_does_not_end_the_field_of_view(result):
    """The tumor touches the last frame of the SEG, never the end of the images."""
    later = rows(result, "visits.csv")[1]
    assert "edge" not in later["warnings"]
    assert later["front_speed_low_mm_per_month"] and later["volume_change_low_percent"]
    (answers,) = json.loads((result[1] / "report.json").read_text())["responses"].values()
    assert [row["category"] for row in answers] == ["baseline", "SD"]


@pytest.mark.parametrize(
    ("name", "stem"), [("growth", "growth_mm_per_month"), ("log-growth", "log_growth_per_month")]
)  # fmt: skip
def test_a_map_has_the_reliable_voxels_of_the_series_and_no_other(result, name, stem):
    reliable = stem.split("_mm_")[0].split("_per_")[0] + "_reliable"
    image = nib.load(result[1] / "series" / f"{stem}.nii.gz")
    values = np.asarray(image.dataobj)[..., 1]
    expected = np.isfinite(values) & (
        np.asarray(nib.load(result[1] / "series" / f"{reliable}.nii.gz").dataobj)[..., 1] > 0
    )
    volume = hd.imread(result[1] / "dicom" / f"{name}-visit-02.dcm").get_volume(apply_real_world_transform=True)
    index = np.argwhere(np.isfinite(volume.array))
    to_voxels = np.linalg.inv(image.affine) @ np.diag([-1, -1, 1, 1]) @ volume.affine
    places = np.rint(index @ to_voxels[:3, :3].T + to_voxels[:3, 3]).astype(int)
    assert len(index) == np.count_nonzero(expected) > 1000
    assert expected[tuple(places.T)].all()
    np.testing.assert_allclose(volume.array[tuple(index.T)], values[tuple(places.T)], rtol=1e-6)


def test_the_report_holds_the_numbers_of_the_rows(result):
    content = hd.sr.srread(result[1] / "dicom" / "measurements.dcm").content
    wholes = [g for g in content.get_image_measurement_groups() if g.tracking_identifier == "Whole tumor"]
    numbers = [{m.name.meaning: m.value for m in group.get_measurements()} for group in wholes]
    found = [one for one in numbers if "Volume" in one]
    visits = json.loads((result[1] / "report.json").read_text())["visits"]
    assert [one["Volume"] for one in found] == [row["volume_mm3"] for row in visits]
    assert found[1]["Speed of the tumor front"] == visits[1]["front_speed_mm_per_month"]


def test_only_a_lesion_of_both_visits_has_a_speed(result):
    """The real masks crumble: some twenty specks of the second visit lie near the tumor of the first."""
    before = {row["lesion"] for row in rows(result, "lesions.csv") if row["visit"] == "1" and row["longest_axial_mm"]}
    now = [row for row in rows(result, "lesions.csv") if row["visit"] == "2" and row["longest_axial_mm"]]
    fast = {row["lesion"] for row in now if row["front_speed_mm_per_month"]}
    assert len(now) > 20 and fast and fast <= before
