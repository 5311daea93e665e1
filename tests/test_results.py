"""What ``save`` writes of a patient read from DICOM, and what an older or unfinished result may lack."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.write import write_nifti
from napari_convlstm_tumor.results import load, save, write
from napari_convlstm_tumor.settings import Settings

make = run_path(str(Path(__file__).parent / "report" / "dicom_patient.py"))


@pytest.fixture
def analysis(tmp_path):
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    patient = make["build"]([make["write_visit"](tmp_path / f"v{t}", t) for t in range(2)])
    settings = Settings(masks="ignore", dicom=True)
    lesions = tuple({**row, "warnings": ()} for row in patient.analysis.report.lesions)
    report = replace(patient.analysis.report, lesions=lesions)
    native = tuple(patient.labels)
    return replace(patient.analysis, report=report, settings=settings, source=patient.files, native_lesions=native)


def test_dicom_objects_lie_in_the_result_and_go_with_it(analysis, tmp_path):
    import pydicom

    folder = tmp_path / "out" / "patient"
    assert save(analysis, folder) is analysis
    names = {p.name for p in (folder / "dicom").iterdir()}
    assert names == {"seg-visit-01.dcm", "seg-visit-02.dcm", "growth-visit-02.dcm", "measurements.dcm"}
    seg = pydicom.dcmread(folder / "dicom" / "seg-visit-01.dcm")
    assert int(seg.pixel_array.sum()) == np.count_nonzero(analysis.native_lesions[0].data)
    save(replace(analysis, settings=Settings(masks="ignore")), folder)
    assert not (folder / "dicom").exists()  # no numbers of an older run beside the new ones


def test_a_patient_dicom_cannot_be_made_of_has_everything_else(analysis, tmp_path):
    lost = replace(analysis.source.visits[1], images={"t1c": (tmp_path / "scan.nii.gz",)})
    source = replace(analysis.source, visits=(analysis.source.visits[0], lost))
    written = save(replace(analysis, source=source), tmp_path / "out")
    assert [w for w in written.report.warnings if w.startswith("No DICOM output: Visit 2:")]
    assert not (tmp_path / "out" / "dicom").exists()
    assert load(tmp_path / "out").report.warnings == written.report.warnings


def test_a_volume_that_cannot_be_written_leaves_nothing(analysis, tmp_path, monkeypatch):
    whole = write.write_nifti

    def full_disk(path, *given, **named):
        if path.name == "probability.nii.gz":
            raise InputError("probability.nii.gz cannot be written: No space left on device.")
        whole(path, *given, **named)

    monkeypatch.setattr(write, "write_nifti", full_disk)
    with pytest.raises(InputError, match="No space left"):
        save(analysis, tmp_path / "out" / "patient")
    assert not any((tmp_path / "out").iterdir())


def test_lesions_of_every_visit_are_read_back(analysis, tmp_path):
    save(analysis, tmp_path / "out")
    back = load(tmp_path / "out")
    for read, made_ in zip(back.native_lesions, analysis.native_lesions, strict=True):
        assert np.array_equal(read.data, made_.data)
        assert read.data.dtype == np.uint16
    assert back.source is None


@pytest.mark.parametrize("name", ["growth_reliable", "log_growth_reliable"])
def test_flags_of_another_shape_are_refused(analysis, tmp_path, name):
    sure = np.ones(analysis.growth.shape, bool)
    save(replace(analysis, reliable=sure, log_growth=analysis.growth, log_growth_reliable=sure), tmp_path / "out")
    path = tmp_path / "out" / "series" / f"{name}.nii.gz"
    write_nifti(path, sure[:1].astype(np.uint8), analysis.grid, last_axis_visits=True)
    with pytest.raises(InputError, match=r"differ in shape or visits: \(1, 14, 12, 8\)"):
        load(tmp_path / "out")


def test_a_result_without_lesions_is_read(analysis, tmp_path):
    save(replace(analysis, native_lesions=(), settings=Settings()), tmp_path / "out")
    back = load(tmp_path / "out")
    assert back.native_lesions == ()
    assert back.reliable is None
