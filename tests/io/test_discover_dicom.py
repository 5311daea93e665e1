"""DICOM trees made of headers only: grouping, what is left out and why, frames, masks."""

import re
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.dicom_tags import modality_by_times
from napari_convlstm_tumor.io.discover import describe, find_patient, find_patients
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings


def write(path: Path, **tags: Any) -> Path:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return path


def series(folder: Path, uid: str, date: str = "20190301", slices: int = 4, ending: str = ".dcm", **tags: Any) -> str:
    base = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "Modality": "MR",
        "PatientID": "P-1",
        "StudyDate": date,
        "StudyInstanceUID": f"1.2.{date or 9}",
        "SeriesInstanceUID": uid,
        "FrameOfReferenceUID": f"1.9.{date or 9}",
        "SeriesNumber": int(uid.rsplit(".", 1)[1]),
        "SeriesDescription": "t1_mprage",
        "ImageType": ["ORIGINAL", "PRIMARY"],
    }
    for n in range(slices):
        write(folder / f"{n:03d}{ending}", SOPInstanceUID=f"{uid}.{n}", **{**base, **tags})
    return uid


def contour(path: Path, refers_to: str = "", **tags: Any) -> None:
    item, study, frame = Dataset(), Dataset(), Dataset()
    item.SeriesInstanceUID = refers_to
    study.RTReferencedSeriesSequence = Sequence([item])
    frame.RTReferencedStudySequence = Sequence([study])
    base = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3",
        "SOPInstanceUID": f"1.7.{len(path.name)}",
        "Modality": "RTSTRUCT",
        "PatientID": "P-1",
        "StudyInstanceUID": "1.2.none",
        "SeriesInstanceUID": "1.7",
    }
    if refers_to:
        base["ReferencedFrameOfReferenceSequence"] = Sequence([frame])
    write(path, **{**base, **tags})


def table(patient: PatientFiles) -> list[tuple[int | None, dict[str, int], str | None]]:
    return [(v.day, {m: len(p) for m, p in v.images.items()}, v.mask.name if v.mask else None) for v in patient.visits]


def test_any_nesting_any_ending_and_masks_by_what_they_refer_to(tmp_path: Path) -> None:
    first = series(tmp_path / "P" / "A" / "0001", "1.5.1", ending="")
    series(tmp_path / "P" / "B" / "deep" / "er", "1.5.2", date="20190411", ending=".IMA")
    series(tmp_path / "P" / "B" / "x", "1.5.3", date="20190411", SeriesDescription="t2_flair", ending=".1.2.84")
    contour(tmp_path / "P" / "B" / "rs1.dcm", first)
    contour(tmp_path / "P" / "B" / "rs22.dcm", FrameOfReferenceUID="1.9.20190411")
    contour(tmp_path / "P" / "B" / "rs333.dcm")
    patient = find_patient(tmp_path / "P", Settings())
    assert table(patient) == [(0, {"t1": 4}, "rs1.dcm"), (41, {"t1": 4, "flair": 4}, "rs22.dcm")]
    assert patient.layout == "DICOM" and not patient.problems
    assert ("RTSTRUCT series ? (rs333.dcm)", "refers to no image used here") in patient.left_out
    assert "2019" not in str(describe([patient]))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SeriesDescription": "AAHead_Scout"}, "a localiser"),
        ({"SeriesDescription": "localizer"}, "a localiser"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localiser"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE"]}, "a projection (MIP)"),
        ({"SeriesDescription": "t1 MIP tra"}, "a projection (MIP)"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, "reformatted from another series"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "derived from other images, not acquired"),
        ({"SeriesDescription": "ep2d_diff_ADC"}, "derived from other images, not acquired"),
        ({"SeriesDescription": "ep2d_bold"}, "not one of t1, t1c, t2, flair, ct"),
        ({"SamplesPerPixel": 3}, "a screenshot or colour image, not a volume of intensities"),
        ({"Modality": "OT"}, "DICOM modality OT is not MR or CT"),
        ({"Modality": "PT"}, "DICOM modality PT is not MR or CT"),
        ({"slices": 2}, "only 2 slices, at least 3 are needed"),
    ],
)
def test_what_is_left_out_and_why(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    series(tmp_path / "P" / "good", "1.5.1")
    series(tmp_path / "P" / "junk", "1.5.2", **tags)
    patient = find_patient(tmp_path / "P", Settings())
    assert table(patient) == [(0, {"t1": 4}, None)]
    assert [r for _, r in patient.left_out] == [reason]


def test_derived_but_primary_is_kept(tmp_path: Path) -> None:
    # Re-sampled or scaled by the publisher (TCIA's sarcoma MR says so): still the only image there is.
    series(tmp_path / "P", "1.5.1", ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    assert table(find_patient(tmp_path / "P"))[0][1] == {"t1": 4}


@pytest.mark.parametrize(
    ("tags", "modality"),
    [
        ({"Modality": "CT", "SeriesDescription": "T1 vertebra"}, "ct"),
        ({"ContrastBolusAgent": "Gadovist"}, "t1c"),
        ({"ContrastBolusAgent": "NONE"}, "t1"),
        ({"ContrastBolusAgent": "Gadovist", "SeriesDescription": "t1 pre"}, "t1"),
        ({"SeriesDescription": "t2_flair", "ContrastBolusAgent": "Gadovist"}, "flair"),
        ({"SeriesDescription": "", "ProtocolName": "AX T2 FSE"}, "t2"),
        (
            {"SeriesDescription": "Head", "RepetitionTime": 9000, "EchoTime": 90, "InversionTime": 2500},
            "flair",
        ),
        ({"SeriesDescription": "Head"}, "other"),
    ],
)
def test_kinds(tmp_path: Path, tags: dict[str, Any], modality: str) -> None:
    series(tmp_path / "P", "1.5.1", **tags)
    assert find_patient(tmp_path / "P").modalities == (modality,)


@pytest.mark.parametrize(
    ("times", "modality"),
    [
        ((500, 12, None), "t1"),
        ((8.9, 3.2, 900), "t1"),
        ((2200, 2.5, 900), "t1"),
        ((3000, 90, None), "t2"),
        ((9000, 90, 2500), "flair"),
        ((4000, 194, 1400), "flair"),
        ((3000, 15, None), ""),  # proton density: none of ours
        ((None, 90, None), ""),
    ],
)
def test_kinds_by_times(times: tuple[float | None, ...], modality: str) -> None:
    assert modality_by_times(*times) == modality


def test_ct_and_mr_of_one_day_in_different_frames_are_not_mixed(tmp_path: Path) -> None:
    mr = series(tmp_path / "P" / "mr", "1.5.1")
    series(tmp_path / "P" / "mr2", "1.5.2", SeriesDescription="t2_tse")
    ct = series(tmp_path / "P" / "ct", "1.5.3", Modality="CT", FrameOfReferenceUID="1.9.7")
    contour(tmp_path / "P" / "rs_mr.dcm", mr, FrameOfReferenceUID="1.9.20190301")
    contour(tmp_path / "P" / "rs_ct_.dcm", ct, FrameOfReferenceUID="1.9.7")
    patient = find_patient(tmp_path / "P", Settings())
    assert table(patient) == [(0, {"t1": 4, "t2": 4}, "rs_mr.dcm")]
    assert any(
        "cannot be assumed aligned; used: t1, t2, left out: ct (choose with --modality)" in w for w in patient.warnings
    )
    other = find_patient(tmp_path / "P", Settings(modality=("ct",)))
    assert table(other) == [(0, {"ct": 4}, "rs_ct_.dcm")]


def test_the_series_with_most_slices_is_used(tmp_path: Path) -> None:
    series(tmp_path / "P" / "a", "1.5.1", slices=3)
    series(tmp_path / "P" / "b", "1.5.2", slices=9)
    patient = find_patient(tmp_path / "P", Settings())
    assert table(patient)[0][1] == {"t1": 9}
    assert "There are several t1 images; the one with most slices is used (visit 1)." in patient.warnings


def test_copies_of_one_file_count_once(tmp_path: Path) -> None:
    for copy in ("a", "b"):
        series(tmp_path / "P" / copy, "1.5.1")
    assert table(find_patient(tmp_path / "P"))[0][1] == {"t1": 4}


def test_folder_names_count_where_the_headers_carry_one_date_or_none(tmp_path: Path) -> None:
    for date, name in (("19000101", "set"), ("", "none")):
        for number, visit in enumerate(("day-000", "day-041"), start=1):
            series(tmp_path / name / visit / "T1", f"1.5.{number}", date=date)
            series(tmp_path / name / visit / "0001", f"1.5.{number + 5}", date=date, SeriesDescription="flair")
        patient = find_patient(tmp_path / name, Settings())
        assert table(patient) == [(0, {"t1": 4, "flair": 4}, None), (41, {"t1": 4, "flair": 4}, None)]
        assert any("one date for several visit folders" in w for w in patient.warnings) == (name == "set")


def test_numbered_series_folders_of_one_study_are_one_visit(tmp_path: Path) -> None:
    for date in ("20190301", ""):
        folder = tmp_path / f"P{date}"
        for number, kind in enumerate(("t1", "t2", "flair"), start=1):
            series(folder / f"000{number}", f"1.5.{number}", date=date, SeriesDescription=kind)
        for find in (find_patient, lambda path: find_patients(path)[0]):
            assert [m for _, m, _ in table(find(folder))] == [{"t1": 4, "t2": 4, "flair": 4}]


def test_odd_values_are_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    series(tmp_path / "P", "1.5.1", StudyInstanceUID="Jane Doe")
    caplog.clear()
    recwarn.clear()
    find_patient(tmp_path / "P", Settings())
    assert not caplog.records and not recwarn.list


def test_a_label_volume_beside_the_series_is_its_mask(tmp_path: Path) -> None:
    for number, date in enumerate(("20190301", "20190411"), start=1):
        series(tmp_path / "P" / f"visit-{number}" / "dicom", f"1.5.{number}", date=date)
        (tmp_path / "P" / f"visit-{number}" / "tumor.nii.gz").touch()
        (tmp_path / "P" / f"visit-{number}" / "t1.nii.gz").touch()
    patient = find_patient(tmp_path / "P", Settings())
    assert table(patient) == [(0, {"t1": 4}, "tumor.nii.gz"), (41, {"t1": 4}, "tumor.nii.gz")]
    assert [n for n, r in patient.left_out if "beside DICOM" in r] == ["t1.nii.gz", "t1.nii.gz"]


def test_patients_by_folder_by_id_and_never_mixed(tmp_path: Path) -> None:
    one = tmp_path / "one"
    for number, date in enumerate(("20190301", "20190411"), start=1):
        series(one / f"ST0000{number}" / "SE1", f"1.5.{number}", date=date)
    assert [len(p.visits) for p in find_patients(one, Settings())] == [2]  # one patient ID: one patient
    flat = tmp_path / "flat"
    series(flat, "1.5.1", PatientID="P/1")
    series(flat, "1.5.2", PatientID="P2", ending=".ima")
    names = [p.patient for p in find_patients(flat, Settings())]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"patient-[0-9a-f]{10}", name) for name in names)  # never the ID
    assert names == [p.patient for p in find_patients(flat, Settings())]  # the same in every run
    with pytest.raises(InputError, match="holds 2 patients"):
        find_patient(flat, Settings())
    blank = tmp_path / "blank"
    for name in ("A", "B"):
        series(
            blank / name / "SE1",
            f"1.5.{ord(name)}",
            PatientID="ANONYMOUS",
            StudyInstanceUID=f"1.2.{ord(name)}",
        )
    assert [p.patient for p in find_patients(blank, Settings())] == ["A", "B"]
    series(blank, "1.5.9", PatientID="ANONYMOUS", StudyInstanceUID="1.2.9")  # loose beside them: whose is it?
    [patient] = find_patients(blank, Settings())
    assert any("no patient ID says that they are of one patient" in p for p in patient.problems)
    mixed = tmp_path / "mixed"
    series(mixed / "visit-1", "1.5.1", PatientID="P1")
    series(mixed / "visit-2", "1.5.2", PatientID="P2", date="20190411")
    assert any("2 patient IDs" in p for p in find_patient(mixed, Settings()).problems)


def test_damaged_files_are_named_and_left_out(tmp_path: Path) -> None:
    series(tmp_path / "P", "1.5.1")
    (tmp_path / "P" / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    (tmp_path / "P" / "empty.dcm").touch()
    (tmp_path / "P" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    patient = find_patient(tmp_path / "P", Settings())
    assert table(patient)[0][1] == {"t1": 4}
    assert sorted(patient.left_out) == [
        ("bad.dcm", "not readable as DICOM"),
        ("empty.dcm", "not readable as DICOM"),
    ]
    assert any("2 DICOM files are damaged and left out (first: bad.dcm)" in w for w in patient.warnings)


def test_a_dicom_folder_in_a_manifest(tmp_path: Path) -> None:
    series(tmp_path / "s1", "1.5.1", SeriesDescription="Head")
    series(tmp_path / "s2" / "a", "1.5.2")
    series(tmp_path / "s2" / "b", "1.5.3")
    path = tmp_path / "list.csv"
    path.write_text("patient,day,modality,path\nP,0,t1c,s1\nP,9,t1c,s2\n")
    patient = find_patient(path, Settings())
    assert table(patient) == [(0, {"t1c": 4}, None)]
    assert any("line 3: the folder s2 holds 2 DICOM image series" in p for p in patient.problems)


def test_the_real_sarcoma_tree(shared_data: Path) -> None:
    tree = shared_data / "dicom" / "sarcoma-STS-001"
    for modality, folder in (((), "MR_T1"), (("t1",), "MR_T1"), (("ct",), "CT")):
        visit = find_patient(tree, Settings(modality=modality)).visits[0]
        assert visit.mask is not None and visit.mask.parent.parent.name == folder
    both = find_patients(tree, Settings())
    assert len(both) == 1 and table(both[0]) == [(0, {"t1": 59, "ct": 59}, "RS.dcm")]


def test_the_other_real_series(shared_data: Path) -> None:
    found = {p.patient: p for p in find_patients(shared_data / "dicom", Settings())}
    kinds = {name: p.modalities for name, p in found.items() if p.visits}
    assert kinds == {
        "enhanced-multiframe": ("other",),
        "gantry-tilt": ("ct",),
        "ge": ("t1",),
        "hyperfine": ("flair",),
        "jpeg-lossless": ("flair",),
        "missing-slice": ("ct",),
        "mixed-orientation": ("t2",),
        "rle": ("flair",),
        "sarcoma-STS-001": ("t1", "ct"),
        "siemens-implicit": ("flair",),
    }
    assert all(found[n].problems for n in ("rgb", "rtstruct-mock", "seg", "too-few-slices"))
