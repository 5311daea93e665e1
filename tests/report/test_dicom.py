"""DICOM output: what is read back is what was measured, it fits its source, and a validator finds no error."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from napari_convlstm_tumor.errors import InputError, MissingDependency, TumorError
from napari_convlstm_tumor.io.read import read_mask, read_volume
from napari_convlstm_tumor.report.dicom import write_dicom
from napari_convlstm_tumor.series import VisitFiles
from napari_convlstm_tumor.volume import Volume

make = run_path(str(Path(__file__).with_name("dicom_patient.py")))
FILES = ["growth-visit-02.dcm", "measurements.dcm", "seg-visit-01.dcm", "seg-visit-02.dcm"]


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """First visit axial, second visit oblique."""
    folder = tmp_path_factory.mktemp("dicom")
    paths = [
        make["write_visit"](folder / "one", 0),
        make["write_visit"](folder / "two", 1, orientation=make["OBLIQUE"]),
    ]
    return make["build"](paths)


@pytest.fixture(scope="module")
def written(patient, tmp_path_factory):
    """(folder of the objects as filed, folder of the de-identified ones)."""
    folder = tmp_path_factory.mktemp("out")
    for name, pseudonym in (("plain", None), ("anonymous", "P-01")):
        paths = write_dicom(patient.analysis, patient.files, patient.labels, folder / name, pseudonym)
        assert sorted(p.name for p in paths) == FILES
    return folder / "plain", folder / "anonymous"


def write(patient, folder, **changes):
    arguments = {"analysis": patient.analysis, "files": patient.files, "native_labels": patient.labels} | changes
    return {path.name: path for path in write_dicom(folder=folder, **arguments)}


def source_of(patient, visit):
    paths = next(iter(patient.files.visits[visit].images.values()))
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]


def groups(path, kind):
    content = hd.sr.srread(path).content
    if kind == "regions":
        return content.get_volumetric_roi_measurement_groups()
    return content.get_image_measurement_groups()


def numbers(group):
    """meaning -> (value, unit) of a measurement group."""
    return {m.name.meaning: (m.value, m.unit.value) for m in group.get_measurements()}


def texts(group, code="121106"):
    items = group[0].ContentSequence
    return [i.TextValue for i in items if i.ValueType == "TEXT" and i.ConceptNameCodeSequence[0].CodeValue == code]


# ---- SEG ----


@pytest.mark.parametrize("visit", [0, 1])
def test_segmentation_has_the_same_voxels_and_tracking_uids(patient, written, visit):
    path = written[0] / f"seg-visit-{visit + 1:02d}.dcm"
    seg = hd.seg.segread(path)
    volume = seg.get_volume()
    for segment in seg.SegmentSequence:
        lesion = next(n for n, uid in make["UIDS"].items() if uid == segment.TrackingUID)
        assert segment.TrackingID == f"Lesion {lesion}"
        found = volume.array[..., segment.SegmentNumber - 1]
        expected = patient.labels[visit].data == lesion
        affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
        index = np.argwhere(found) @ affine[:3, :3].T + affine[:3, 3]
        index = np.rint(patient.labels[visit].grid.to_index(index)).astype(int)
        assert {tuple(i) for i in index} == {tuple(i) for i in np.argwhere(expected)}
    assert len(seg.SegmentSequence) == (2, 1)[visit]


@pytest.mark.parametrize("visit", [0, 1])
def test_our_own_reader_takes_the_segmentation_back(patient, written, visit):
    mask = patient.analysis.native_masks[visit]
    images = next(iter(patient.files.visits[visit].images.values()))
    back = read_mask(written[0] / f"seg-visit-{visit + 1:02d}.dcm", mask.grid, images)
    assert np.count_nonzero(back.data) == np.count_nonzero(mask.data)
    places = np.rint(mask.grid.to_index(back.grid.to_mm(np.argwhere(back.data)))).astype(int)
    assert mask.data[tuple(places.T)].all()


@pytest.mark.parametrize("visit", [0, 1])
def test_segmentation_is_filed_beside_its_source(patient, written, visit):
    seg, source = pydicom.dcmread(written[0] / f"seg-visit-{visit + 1:02d}.dcm"), source_of(patient, visit)
    for tag in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "AccessionNumber"):
        assert seg[tag].value == source[0][tag].value
    assert seg.SeriesInstanceUID != source[0].SeriesInstanceUID
    series = seg.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source[0].SeriesInstanceUID
    assert {i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence} == {d.SOPInstanceUID for d in source}
    positions = {d.SOPInstanceUID: d.ImagePositionPatient for d in source}
    for frame in seg.PerFrameFunctionalGroupsSequence:
        of = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert of.SpatialLocationsPreserved == "YES"
        assert frame.PlanePositionSequence[0].ImagePositionPatient == positions[of.ReferencedSOPInstanceUID]


@pytest.mark.parametrize(
    ("changes", "mask", "kind"),
    [
        ({}, None, "AUTOMATIC"),
        ({"prompts": (object(),)}, None, "SEMIAUTOMATIC"),
        ({}, Path("given.nii.gz"), "MANUAL"),  # the person's own mask of this visit
    ],
)
def test_segmentation_says_who_drew_it(patient, tmp_path, changes, mask, kind):
    visits = tuple(replace(v, mask=mask) for v in patient.files.visits)
    files = replace(patient.files, visits=visits)
    paths = write(patient, tmp_path / "out", analysis=replace(patient.analysis, **changes), files=files)
    segment = pydicom.dcmread(paths["seg-visit-01.dcm"]).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == kind
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    if kind != "MANUAL":
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == "napari-convlstm-tumor growthnet-2"
        assert "sha256 0123456789ab" in algorithm.AlgorithmParameters


def test_every_object_says_research_use(written):
    for name in FILES:
        assert "research use only" in pydicom.dcmread(written[0] / name).SeriesDescription


# ---- days ----


@pytest.mark.parametrize(
    ("name", "day"), [("seg-visit-01", 0.0), ("seg-visit-02", 40.0), ("measurements", 40.0), ("growth-visit-02", 0.0)]
)
def test_days_since_the_first_visit(written, name, day):
    for folder, modified in zip(written, ("UNMODIFIED", "MODIFIED"), strict=True):
        dataset = pydicom.dcmread(folder / f"{name}.dcm")
        assert dataset.LongitudinalTemporalOffsetFromEvent == day
        assert dataset.LongitudinalTemporalEventType == "BASELINE"
        assert dataset.LongitudinalTemporalInformationModified == modified
        assert dataset.ClinicalTrialTimePointID == ("visit-02" if day else "visit-01")


def test_what_a_trial_already_states_stays(patient, tmp_path):
    more = {"ClinicalTrialTimePointID": "WEEK 6", "LongitudinalTemporalInformationModified": "MODIFIED"}
    path = make["write_visit"](tmp_path / "one", 0, **more)
    one = make["build"]([path], days=(0,))
    dataset = pydicom.dcmread(write(one, tmp_path / "out")["seg-visit-01.dcm"])
    assert (dataset.ClinicalTrialTimePointID, dataset.LongitudinalTemporalInformationModified) == ("WEEK 6", "MODIFIED")


def test_without_dates_no_day_is_made_up(patient, tmp_path):
    paths = [next(iter(v.images.values())) for v in patient.files.visits]
    undated = make["build"](paths, days=(0, 1), dated=False)
    out = write(undated, tmp_path / "out", pseudonym="P-01")
    for path in out.values():
        dataset = pydicom.dcmread(path)
        assert "LongitudinalTemporalOffsetFromEvent" not in dataset
        assert (dataset.StudyDate, dataset.LongitudinalTemporalInformationModified) == ("", "REMOVED")
    found = [numbers(g).get("Speed of the tumor front") for g in groups(out["measurements.dcm"], "whole")]
    assert [speed for speed in found if speed] == [(1.25, "mm/{visit}")]
    mapping = pydicom.dcmread(out["growth-visit-02.dcm"]).SharedFunctionalGroupsSequence[0]
    unit = mapping.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0]
    assert unit.CodeValue == "mm/{visit}"


# ---- SR ----


def test_report_has_the_numbers_of_the_rows(patient, written):
    rows = {(r["tracking_uid"], r["visit"]): r for r in patient.analysis.report.lesions}
    found = groups(written[0] / "measurements.dcm", "regions")
    assert len(found) == 3  # lesion 1 twice, lesion 2 at the first visit
    for group in found:
        number = numbers(group)
        row = rows[group.tracking_uid, int(number["Time Point Order"][0])]
        assert number["Volume"] == (row["volume_mm3"], "mm3")
        assert number["Long axis"] == (row["longest_axial_mm"], "mm")
        assert number["Perpendicular Axis"] == (row["perpendicular_axial_mm"], "mm")
        assert number["Longitudinal Temporal Offset from Event"] == (row["day"], "d")
        assert texts(group) == ["State: persistent"]


def test_report_carries_the_interval_in_the_unit_of_the_value(patient, written):
    row = patient.analysis.report.lesions[0]
    group = groups(written[0] / "measurements.dcm", "regions")[0]
    volume = next(m for m in group.get_measurements() if m.name.meaning == "Volume")
    children = volume[0].ContentSequence
    ranges = {c.ConceptNameCodeSequence[0].CodeMeaning[0]: c for c in children if c.ValueType == "NUM"}
    assert ranges["+"].value == row["volume_high_mm3"] - row["volume_mm3"]
    assert ranges["-"].value == row["volume_mm3"] - row["volume_low_mm3"]
    assert ranges["+"].unit.value == ranges["-"].unit.value == "mm3"


def test_report_refers_to_the_segment_with_the_same_tracking_uid(written):
    segs = [pydicom.dcmread(written[0] / name) for name in FILES[2:]]
    for group in groups(written[0] / "measurements.dcm", "regions"):
        reference = group.referenced_segment.referenced_sop_instance_uid
        seg = next(s for s in segs if s.SOPInstanceUID == reference)
        number = group.referenced_segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        assert seg.SegmentSequence[number - 1].TrackingUID == group.tracking_uid


def test_report_keeps_a_vanished_lesion_without_a_region(written):
    gone = [g for g in groups(written[0] / "measurements.dcm", "whole") if g.tracking_uid == "2.25.222"]
    assert len(gone) == 1
    assert numbers(gone[0])["Volume"] == (0.0, "mm3")
    assert texts(gone[0]) == ["State: vanished"]


def test_report_leaves_out_a_lesion_that_is_yet_to_come(patient, tmp_path):
    report = patient.analysis.report
    rows = [row | {"state": "absent"} if row["state"] == "vanished" else row for row in report.lesions]
    to_come = replace(patient.analysis, report=replace(report, lesions=tuple(rows)))
    document = write(patient, tmp_path, analysis=to_come)["measurements.dcm"]
    assert "2.25.222" not in [g.tracking_uid for g in groups(document, "whole")]
    assert "Whole tumor" in [g.tracking_identifier for g in groups(document, "whole")]


def test_report_has_the_whole_tumor_of_every_visit(patient, written):
    whole = [g for g in groups(written[0] / "measurements.dcm", "whole") if g.tracking_identifier == "Whole tumor"]
    measured = [numbers(g) for g in whole if "Volume" in numbers(g)]
    for number, row in zip(measured, patient.analysis.report.visits, strict=True):
        assert number["Volume"][0] == row["volume_mm3"]
    last = patient.analysis.report.visits[-1]
    assert measured[1]["Specific growth rate"] == (last["sgr_per_day"], "/d")
    assert measured[1]["Speed of the tumor front"] == (1.25, "mm/mo")
    assert "Specific growth rate" not in measured[0]  # the first visit has no growth
    assert len({g.tracking_uid for g in whole}) == 1


def test_report_has_the_response_with_its_reason(written):
    found = [g for g in groups(written[0] / "measurements.dcm", "whole") if g.method is not None]
    assert [g.method.meaning for g in found] == ["RECIST 1.1"] * 2
    values = [e.value.meaning for g in found for e in g.get_qualitative_evaluations() if e.name.value == "112048"]
    assert values == ["baseline", "Progressive disease"]
    assert texts(found[1]) == ["PD: volume ≥ 40 % over the nadir of day 0", "steroid dose"]


def test_report_is_filed_with_the_last_visit_and_names_its_evidence(patient, written):
    report = pydicom.dcmread(written[0] / "measurements.dcm")
    first, last = source_of(patient, 0), source_of(patient, 1)
    assert report.StudyInstanceUID == last[0].StudyInstanceUID
    evidence = [*report.CurrentRequestedProcedureEvidenceSequence, *report.PertinentOtherEvidenceSequence]
    named = {
        i.ReferencedSOPInstanceUID for study in evidence for s in study.ReferencedSeriesSequence
        for i in s.ReferencedSOPSequence
    }  # fmt: skip
    segs = {pydicom.dcmread(written[0] / name).SOPInstanceUID for name in FILES[2:]}
    assert named == segs | {d.SOPInstanceUID for d in (*first, *last)}
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


# ---- growth map ----


def test_map_has_the_same_speeds_at_the_same_places(patient, written):
    dataset = pydicom.dcmread(written[0] / "growth-visit-02.dcm")
    assert dataset.FrameOfReferenceUID == source_of(patient, 0)[0].FrameOfReferenceUID
    assert np.isnan(dataset.FloatPixelPaddingValue)
    volume = hd.imread(written[0] / "growth-visit-02.dcm").get_volume(apply_real_world_transform=True)
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    index = np.argwhere(np.isfinite(volume.array))
    places = np.rint(patient.analysis.grid.to_index(index @ affine[:3, :3].T + affine[:3, 3])).astype(int)
    expected = patient.analysis.growth[1]
    assert len(index) == np.count_nonzero(np.isfinite(expected))
    np.testing.assert_array_equal(volume.array[tuple(index.T)], expected[tuple(places.T)])


def test_map_lies_on_the_slices_of_the_reference_visit(patient, written):
    dataset = pydicom.dcmread(written[0] / "growth-visit-02.dcm")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    source = source_of(patient, 0)[0]
    assert (
        shared.PlaneOrientationSequence[0].ImageOrientationPatient == pytest.approx(source.ImageOrientationPatient)
    )  # fmt: skip
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        assert frame.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "mm/mo"
    assert (mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped) == (-1, 3)  # fmt: skip  # noqa: E501


def test_no_map_where_no_speed_is_known(patient, tmp_path):
    unknown = replace(patient.analysis, growth=np.full_like(patient.analysis.growth, np.nan))
    assert "growth-visit-02.dcm" not in write(patient, tmp_path / "out", analysis=unknown)


# ---- maps on request ----

RATES = {"log-growth": ("LOG_GROWTH", "/mo"), "log-jacobian": ("LOG_JACOBIAN", "/mo")}


@pytest.fixture(scope="module")
def with_rates(patient, tmp_path_factory):
    """The analysis with all three maps, a third of whose voxels are reliable, and the paths of its objects."""
    growth = patient.analysis.growth
    sure = np.arange(growth.size).reshape(growth.shape) % 3 == 0
    analysis = replace(
        patient.analysis, reliable=sure, log_growth=growth / 8, log_growth_reliable=sure,
        log_jacobian=np.nan_to_num(growth, nan=0.25), log_jacobian_reliable=sure,
    )  # fmt: skip
    return analysis, write(patient, tmp_path_factory.mktemp("rates") / "out", analysis=analysis)


@pytest.mark.parametrize(("n", "name"), list(enumerate(("growth", *RATES))))
def test_maps_hold_what_is_reliable_and_nothing_else(with_rates, n, name):
    analysis, paths = with_rates
    volume = hd.imread(paths[f"{name}-visit-02.dcm"]).get_volume(apply_real_world_transform=True)
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    index = np.argwhere(np.isfinite(volume.array))
    places = np.rint(analysis.grid.to_index(index @ affine[:3, :3].T + affine[:3, 3])).astype(int)
    one = analysis.change_maps[n]
    known = np.isfinite(one.values[1]) & one.reliable[1]
    assert len(index) == np.count_nonzero(known) > 50
    assert known[tuple(places.T)].all()
    np.testing.assert_array_equal(volume.array[tuple(index.T)], one.values[1][tuple(places.T)])


@pytest.mark.parametrize("name", RATES)
def test_rates_say_what_they_are_in_which_unit(patient, with_rates, name):
    label, unit = RATES[name]
    dataset = pydicom.dcmread(with_rates[1][f"{name}-visit-02.dcm"])
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    code = mapping.MeasurementUnitsCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == (unit, "UCUM")
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == label == dataset.ContentLabel
    source = source_of(patient, 0)
    assert (dataset.FrameOfReferenceUID, dataset.PatientID) == (source[0].FrameOfReferenceUID, source[0].PatientID)
    named = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {i.ReferencedSOPInstanceUID for i in named} <= {d.SOPInstanceUID for d in source}
    assert "research use only" in dataset.SeriesDescription


def test_series_of_maps_have_numbers_of_their_own(with_rates):
    numbers = [int(pydicom.dcmread(p).SeriesNumber) for n, p in with_rates[1].items() if not n.startswith("seg")]
    assert len(set(numbers)) == len(numbers) == 4


def test_the_validator_finds_no_error_in_rates(with_rates):
    for name in RATES:
        assert errors_found(with_rates[1][f"{name}-visit-02.dcm"]) == []


def test_a_slow_front_has_a_valid_window(patient, tmp_path):
    slow = replace(patient.analysis, growth=patient.analysis.growth / 100)
    path = write(patient, tmp_path / "out", analysis=slow)["growth-visit-02.dcm"]
    assert errors_found(path) == []


def test_a_map_that_is_nowhere_reliable_is_not_written(patient, tmp_path):
    nowhere = replace(patient.analysis, reliable=np.zeros(patient.analysis.growth.shape, bool))
    assert "growth-visit-02.dcm" not in write(patient, tmp_path / "out", analysis=nowhere)


def test_rates_without_dates_are_per_visit(tmp_path):
    made = make["build"]([make["write_visit"](tmp_path / f"v{t}", t) for t in range(2)], days=(0, 1), dated=False)
    analysis = replace(made.analysis, log_growth=made.analysis.growth)
    path = write(made, tmp_path / "out", analysis=analysis)["log-growth-visit-02.dcm"]
    mapping = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "/{visit}"
    assert errors_found(path) == []


# ---- who and when ----


def test_nothing_private_in_deidentified_objects(patient, written):
    for name in FILES:
        data = (written[1] / name).read_bytes()
        found = [p for p in make["PRIVATE"] if p.encode() in data]
        assert found == [], f"{name} holds {found}"
        plain = (written[0] / name).read_bytes()
        assert b"PRIVATE-ID" in plain  # the search would see it
        dataset = pydicom.dcmread(written[1] / name)
        assert (dataset.PatientID, dataset.PatientName, dataset.PatientIdentityRemoved) == ("P-01", "P-01", "YES")
    shifted = [pydicom.dcmread(written[1] / name).StudyDate for name in FILES[2:]]
    assert shifted == ["20000101", "20000210"]  # 40 days apart, as the visits are


def test_a_name_with_an_umlaut_survives(tmp_path):
    path = make["write_visit"](tmp_path / "one", 0, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    one = make["build"]([path], days=(0,))
    for written in write(one, tmp_path / "out").values():
        assert str(pydicom.dcmread(written).PatientName) == "Müller^Jörg"


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("StudyID", "longer than sixteen characters"),
        ("PatientSex", "FEMALE"),
        ("StudyTime", "noon"),
        ("PatientAge", "x"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_header_is_not_passed_on(tmp_path, tag, value):
    path = make["write_visit"](tmp_path / "one", 0)
    for file in path:
        dataset = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            setattr(dataset, tag, value)
            dataset.save_as(file)
    one = make["build"]([path], days=(0,))
    out = pydicom.dcmread(write(one, tmp_path / "out")["seg-visit-01.dcm"])
    assert not out.get(tag)


def test_a_source_with_few_headers_is_enough(tmp_path):
    path = make["write_visit"](tmp_path / "one", 0)
    for file in path:
        dataset = pydicom.dcmread(file)
        for tag in ("StudyID", "AccessionNumber", "PatientSex", "PatientBirthDate", "StudyTime", "PatientName"):
            delattr(dataset, tag)
        dataset.save_as(file)
    one = make["build"]([path], days=(0,))
    assert sorted(write(one, tmp_path / "out")) == ["measurements.dcm", "seg-visit-01.dcm"]


# ---- other sources ----


def test_a_tilted_gantry_gives_a_segmentation_on_the_corrected_grid(tmp_path):
    path = make["write_visit"](tmp_path / "one", 0, step=(0, 0.6, 3.0))
    labels = np.zeros(read_volume(path).grid.shape, np.uint16)  # straightening may have made the slices taller
    labels[3:6, 4:7, 2:5] = 1
    one = make["build"]([path], labels=[labels], days=(0,))
    back = read_mask(write(one, tmp_path / "out")["seg-visit-01.dcm"], one.labels[0].grid, path)
    places = np.rint(one.labels[0].grid.to_index(back.grid.to_mm(np.argwhere(back.data)))).astype(int)
    assert {tuple(p) for p in places} == {tuple(p) for p in np.argwhere(labels)}


def test_a_missing_slice_that_was_interpolated_is_covered(tmp_path):
    path = make["write_visit"](tmp_path / "one", 0, count=9)
    lost = sorted(path, key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]))[4]
    kept = [p for p in path if p != lost]
    labels = np.zeros((*make["SHAPE"][:2], 9), np.uint16)
    labels[3:6, 4:7, 3:6] = 1
    one = make["build"]([kept], labels=[labels], days=(0,))
    back = read_mask(write(one, tmp_path / "out")["seg-visit-01.dcm"], one.labels[0].grid, kept)
    assert np.count_nonzero(back.data) == np.count_nonzero(labels)


def test_of_two_series_the_one_with_the_grid_is_the_source(patient, tmp_path):
    other = make["write_visit"](tmp_path / "other", 0, step=(0, 0, 4.0))
    right = next(iter(patient.files.visits[0].images.values()))
    visits = (VisitFiles("v", {"t1": tuple(other), "t1c": right}, day=0), patient.files.visits[1])
    images = patient.analysis.images | {"t1": patient.analysis.images["t1c"]}
    two = {"files": replace(patient.files, visits=visits), "analysis": replace(patient.analysis, images=images)}
    out = write(patient, tmp_path / "out", **two)
    seg = pydicom.dcmread(out["seg-visit-01.dcm"])
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == pydicom.dcmread(right[0]).SeriesInstanceUID


def test_a_visit_without_tumor_has_no_segmentation(patient, tmp_path):
    paths = [next(iter(v.images.values())) for v in patient.files.visits]
    gone = make["build"](paths, labels=[make["visit_labels"](0), np.zeros(make["SHAPE"], np.uint16)])
    out = write(gone, tmp_path / "out")
    assert sorted(out) == ["growth-visit-02.dcm", "measurements.dcm", "seg-visit-01.dcm"]
    vanished = [g for g in groups(out["measurements.dcm"], "whole") if g.tracking_uid in make["UIDS"].values()]
    assert [numbers(g)["Volume"] for g in vanished] == [(0.0, "mm3")] * 2


# ---- refused ----


def with_visit(patient, **changes):
    first, second = patient.files.visits
    return {"files": replace(patient.files, visits=(first, replace(second, **changes)))}


def labels_with(patient, change):
    labels = [Volume(v.data.copy(), v.grid) for v in patient.labels]
    change(labels)
    return {"native_labels": labels}


def paint(place, value):
    def change(labels):
        labels[1].data[place] = value

    return change


REFUSED = {
    "NIfTI": (lambda p: with_visit(p, images={"t1c": (Path("t1c.nii.gz"),)}), "Visit 2: Its images were not read from"),
    "another patient's files": (
        lambda p: with_visit(p, images=p.files.visits[0].images),
        "Visit 2: None of its DICOM series has the grid",
    ),
    "one visit fewer": (lambda p: {"files": replace(p.files, visits=p.files.visits[:1])}, "has 2 visits, the files 1"),
    "labels of one visit": (lambda p: {"native_labels": p.labels[:1]}, "has 2 visits, but 1 have lesion labels"),
    "label outside the mask": (lambda p: labels_with(p, paint((0, 0, 0), 1)), "Visit 2: 1 voxels have a lesion"),
    "mask without label": (lambda p: labels_with(p, paint((3, 4, 2), 0)), "Visit 2: 1 voxels .* or none inside it"),
    "unknown lesion": (lambda p: labels_with(p, paint((3, 4, 2), 9)), "Visit 2: lesion 9 has no row in the report"),
    "labels on another grid": (
        lambda p: labels_with(p, lambda labels: labels.reverse()),
        "Visit 1: the lesion labels are not unsigned integers on the grid",
    ),
    "empty pseudonym": (lambda p: {"pseudonym": " "}, "A pseudonym has 1 to 64 characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(patient, tmp_path, case):
    changes, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        write(patient, tmp_path / "out", **changes(patient))
    assert list(tmp_path.iterdir()) == []


def test_two_patients_are_not_put_in_one_report(tmp_path):
    paths = [make["write_visit"](tmp_path / f"v{t}", t, PatientID=f"SECRET{t}") for t in range(2)]
    two = make["build"](paths)
    with pytest.raises(InputError, match="different patients") as error:
        write(two, tmp_path / "out")
    assert "SECRET" not in str(error.value)
    assert len(write(two, tmp_path / "out", pseudonym="P-01")) == 4


def test_no_frame_of_reference(tmp_path):
    path = make["write_visit"](tmp_path / "one", 0)
    for file in path:
        dataset = pydicom.dcmread(file)
        del dataset.FrameOfReferenceUID
        dataset.save_as(file)
    one = make["build"]([path], days=(0,))
    with pytest.raises(InputError, match=r"Visit 1: \d+\.dcm has no FrameOfReferenceUID"):
        write(one, tmp_path / "out")


def test_without_highdicom_the_install_line_is_named(patient, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingDependency, match=r"napari-convlstm-tumor\[dicom\]"):
        write(patient, tmp_path / "out")


# ---- files ----


def test_an_earlier_output_is_replaced_whole(patient, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "seg-visit-07.dcm").write_bytes(b"old")
    write(patient, out)
    assert sorted(p.name for p in out.iterdir()) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_foreign_file_is_never_removed(patient, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that are not DICOM output"):
        write(patient, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_the_earlier_output(patient, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write(patient, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", full)
    with pytest.raises(TumorError, match="'out' cannot be written: No space left"):
        write(patient, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_library_is_loaded_before_it_is_needed():
    code = "import sys; import napari_convlstm_tumor.report.dicom; print('highdicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- a validator's view, and a real patient ----


def errors_found(path):
    """Errors by dciodvfy, the validator of DICOM's editor (Debian package dicom3tools)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (apt-get install dicom3tools)")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, errors="replace")
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("name", FILES)
def test_the_validator_finds_no_error(written, name):
    assert errors_found(written[0] / name) == []
    assert errors_found(written[1] / name) == []


def test_the_validator_would_find_an_error(written, tmp_path):
    dataset = pydicom.dcmread(written[0] / FILES[2])
    del dataset.SegmentSequence
    dataset.save_as(tmp_path / "broken.dcm")
    assert errors_found(tmp_path / "broken.dcm") != []


def test_a_real_patient_with_its_contour(shared_data, tmp_path):
    folder = shared_data / "dicom" / "sarcoma-STS-001" / "CT"
    paths = [
        p for p in sorted(folder.rglob("*.dcm")) if pydicom.dcmread(p, specific_tags=["Modality"]).Modality == "CT"
    ]
    contour = next(p for p in sorted(folder.rglob("*.dcm")) if p not in paths)
    mask = read_mask(contour, read_volume(paths).grid, paths)
    label = mask.data.astype(np.uint16)
    one = make["build"]([paths], labels=[label], days=(0,), modality="ct")
    out = write(one, tmp_path / "out")
    back = read_mask(out["seg-visit-01.dcm"], mask.grid, paths)
    places = np.rint(mask.grid.to_index(back.grid.to_mm(np.argwhere(back.data)))).astype(int)
    assert len(places) == np.count_nonzero(label) == 117145
    assert mask.data[tuple(places.T)].all()
    volume = numbers(groups(out["measurements.dcm"], "regions")[0])["Volume"]
    assert volume == (one.analysis.report.lesions[0]["volume_mm3"], "mm3")
    assert [errors_found(path) for path in out.values()] == [[], []]


@pytest.mark.parametrize(
    "name",
    ["enhanced-multiframe", "gantry-tilt", "ge", "hyperfine", "jpeg-lossless", "missing-slice", "siemens-implicit"],
)
@pytest.mark.filterwarnings("ignore")
def test_real_geometries(shared_data, tmp_path, name):
    """Sparse headers (some have lost their slice thickness); only the UIDs that were stripped are made up."""
    paths = []
    for file in sorted((shared_data / "dicom" / name).iterdir()):
        dataset = pydicom.dcmread(file, force=True)
        for tag in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(dataset, tag, dataset.get(tag) or make["make"]["generate_uid"](entropy_srcs=[name, tag]))
        dataset.SOPInstanceUID = dataset.get("SOPInstanceUID") or make["make"]["generate_uid"]()
        paths.append(tmp_path / file.name)
        dataset.save_as(paths[-1])
    grid = read_volume(paths, resample_uneven=True).grid
    labels = np.zeros(grid.shape, np.uint16)
    labels[grid.shape[0] // 3 : grid.shape[0] // 2, 9:30, 1:3] = 1
    one = make["build"]([paths], labels=[labels], days=(0,))
    for pseudonym in (None, "P-01"):
        out = write(one, tmp_path / "out", pseudonym=pseudonym)
        back = read_mask(out["seg-visit-01.dcm"], grid)
        places = np.rint(grid.to_index(back.grid.to_mm(np.argwhere(back.data)))).astype(int)
        assert {tuple(p) for p in places} == {tuple(p) for p in np.argwhere(labels)}
        assert [errors_found(path) for path in out.values()] == [[], []]
