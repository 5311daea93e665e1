"""Every layout of the issue as a small tree of empty files, and every rule with the words a person reads."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover import describe, find_patient, find_patients
from napari_convlstm_tumor.series import NO_DATES, ONE_VISIT, PatientFiles
from napari_convlstm_tumor.settings import Settings


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def table(patient: PatientFiles) -> list[tuple[int | None, tuple[str, ...], str | None]]:
    return [(v.day, tuple(v.images), v.mask.name if v.mask else None) for v in patient.visits]


def only(patients: list[PatientFiles]) -> PatientFiles:
    assert len(patients) == 1
    return patients[0]


# ---- layouts ----


@pytest.mark.parametrize(
    ("folders", "days"),
    [
        (("2019-03-01", "2019-04-11"), (0, 41)),
        (("20190301", "20190411"), (0, 41)),
        (("week-012", "week-000"), (0, 84)),
        (("day-000", "day-041", "day-097"), (0, 41, 97)),
        (("day-010", "day-041"), (0, 31)),  # the first visit is day 0
        (("month-0", "month-3"), (0, 91)),
    ],
)
def test_dated_folders(tmp_path: Path, folders: tuple[str, ...], days: tuple[int, ...]) -> None:
    make(tmp_path / "P", *[f"{f}/{n}.nii.gz" for f in folders for n in ("t1c", "flair", "mask")])
    patient = find_patient(tmp_path / "P", Settings())
    assert patient.days == days and patient.dated and not patient.problems and not patient.warnings
    assert table(patient)[0] == (0, ("t1c", "flair"), "mask.nii.gz")
    assert patient.patient == "P"


@pytest.mark.parametrize(
    "folders",
    [
        ("visit-1", "visit-2", "visit-10"),
        ("ses-01", "ses-02", "ses-03"),
        ("baseline", "followup-1", "followup-2"),
        ("1", "2", "3"),
    ],
)
def test_numbered_folders_have_an_order_and_no_days(tmp_path: Path, folders: tuple[str, ...]) -> None:
    make(tmp_path / "P", *[f"{f}/t1.nii.gz" for f in reversed(folders)])
    patient = find_patient(tmp_path / "P", Settings())
    assert [v.label for v in patient.visits] == list(folders)
    assert not patient.dated and not patient.problems
    assert patient.warnings == (NO_DATES,)


def test_folders_of_plain_numbers_are_patients_unless_one_patient_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, "001/t1.nii.gz", "002/t1.nii.gz")
    assert [p.patient for p in find_patients(tmp_path, Settings())] == ["001", "002"]
    assert len(find_patient(tmp_path, Settings()).visits) == 2


def test_bids_with_times_and_derived_masks(tmp_path: Path) -> None:
    make(
        tmp_path,
        *[
            f"sub-01/ses-{s}/anat/sub-01_ses-{s}_{n}.nii.gz"
            for s in "12"
            for n in ("T1w", "ce-gadolinium_T1w", "FLAIR")
        ],
        "sub-01/ses-1/dwi/sub-01_ses-1_dwi.nii.gz",
        "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-tumor_mask.nii.gz",
        "derivatives/fmriprep/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz",
        "derivatives/fmriprep/sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    )
    (tmp_path / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\nses-1\t1909-03-01T10:00:00\nses-2\tn/a\n"
    )
    (tmp_path / "sub-01/ses-2/sub-01_ses-2_scans.tsv").write_text(
        "filename\tacq_time\nanat/sub-01_ses-2_T1w.nii.gz\t1909-04-11T09:00:00\n"
    )
    one, two = find_patients(tmp_path, Settings())
    assert (one.patient, one.layout, one.days, one.dated) == ("sub-01", "BIDS", (0, 41), True)
    assert table(one)[0] == (0, ("t1", "t1c", "flair"), "sub-01_ses-1_label-tumor_mask.nii.gz")
    assert one.visits[1].mask is None
    assert ("ses-1_dseg.nii.gz", "a derived label file that is not named as a tumor") in one.left_out
    assert table(two) == [(None, ("t1",), None)]
    assert find_patient(tmp_path / "sub-01", Settings()).visits[0].mask == one.visits[0].mask


def test_brats_siblings_are_visits_of_one_patient(tmp_path: Path) -> None:
    kinds = ("t1n", "t1c", "t2w", "t2f", "seg")
    ids = ("00001-000", "00001-001", "00002-000")
    make(tmp_path, *[f"BraTS-GLI-{i}/BraTS-GLI-{i}-{k}.nii.gz" for i in ids for k in kinds])
    one, two = find_patients(tmp_path, Settings())
    assert (one.patient, two.patient) == ("BraTS-GLI-00001", "BraTS-GLI-00002")
    assert (len(one.visits), len(two.visits), one.layout) == (2, 1, "BraTS")
    assert table(one)[1] == (None, ("t1", "t1c", "t2", "flair"), "BraTS-GLI-00001-001-seg.nii.gz")
    assert find_patient(tmp_path / "BraTS-GLI-00001-000", Settings()).patient == "BraTS-GLI-00001"


def test_lumiere_weeks_native_masks_and_two_scans_in_one_week(tmp_path: Path) -> None:
    tool = "DeepBraTumIA-segmentation"
    for week in ("week-000-1", "week-000-2", "week-013"):
        make(
            tmp_path / "Patient-001" / week,
            *[f"{n}.nii.gz" for n in ("CT1", "T1", "T2", "FLAIR")],
            f"{tool}/atlas/segmentation/seg_mask.nii.gz",
            f"{tool}/atlas/skull_strip/ct1_skull_strip.nii.gz",
            f"{tool}/native/segmentation/ct1_seg_mask.nii.gz",
            f"{tool}/native/segmentation/t1_seg_mask.nii.gz",
        )
    patient = only(find_patients(tmp_path, Settings(modality=("t1c",))))
    assert table(patient) == [(day, ("t1c",), "ct1_seg_mask.nii.gz") for day in (0, 1, 91)]
    assert any("Do not trust a growth rate between them" in w and "visit 2 was" in w for w in patient.warnings)
    assert not any("atlas" in str(v.images) for v in patient.visits)


def test_several_visits_in_one_folder(tmp_path: Path) -> None:
    names = [f"patient1_study{n}_{k}.nii.gz" for n in "12" for k in ("FLAIRreg", "T1Wreg")]
    make(
        tmp_path / "patient1",
        *names,
        "patient1_study1_mask.nii.gz",
        "patient1_gt.nii.gz",
        "patient1_brainmask.nii.gz",
    )
    patient = find_patient(tmp_path / "patient1", Settings())
    assert table(patient) == [
        (None, ("t1", "flair"), "patient1_study1_mask.nii.gz"),
        (None, ("t1", "flair"), None),
    ]
    assert dict(patient.left_out) == {
        "brainmask.nii.gz": "not a tumor mask by its name",
        "gt.nii.gz": "lies beside the visits and names none of them",
    }


def test_dated_files_in_folders_by_kind(tmp_path: Path) -> None:
    days = ("2019-03-01", "2019-04-11")
    make(tmp_path / "P", *[f"{k}/{d}.nii.gz" for k in ("FLAIR", "T1c", "masks") for d in days])
    assert table(find_patient(tmp_path / "P")) == [
        (d, ("t1c", "flair"), f"{n}.nii.gz") for d, n in zip((0, 41), days, strict=True)
    ]


def test_a_date_in_the_files_dates_a_numbered_folder(tmp_path: Path) -> None:
    make(tmp_path / "P", "visit-1/2019-03-01_t1.nii.gz", "visit-1/mask.nii.gz", "visit-2/2019-04-11_t1.nii.gz")
    assert table(find_patient(tmp_path / "P")) == [(0, ("t1",), "mask.nii.gz"), (41, ("t1",), None)]


def test_sailor_intervals(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "sub-03",
        *[
            f"ses-0{n}/{k}.nii.gz"
            for n in (1, 2, 4)
            for k in ("T1", "T1c", "Flair", "T2", "EdemaMask-CL", "ContrastEnhancedMask-CL")
        ],
        "ses-03/notes.txt",  # a session without images still counts in the intervals
        "DoseMap.nii.gz",
    )
    (folder / "intervals-days.txt").write_text("13\n15\n14\n")
    patient = find_patient(folder, Settings())
    assert (patient.layout, patient.days, patient.dated) == ("SAILOR", (0, 13, 42), True)
    assert patient.visits[0].mask is not None and patient.visits[0].mask.name == "ContrastEnhancedMask-CL.nii.gz"
    (folder / "intervals-days.txt").write_text("13\n15\n")
    assert any("is not used" in w for w in find_patient(folder).warnings) and not find_patient(folder).dated


def test_longiseg_and_nnunet(tmp_path: Path) -> None:
    make(tmp_path, *[f"imagesTr/P1_s{s}_000{c}.nii.gz" for s in "12" for c in "01"], "labelsTr/P1_s1.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "FLAIR", "1": "T1w"}}))
    assert [p.patient for p in find_patients(tmp_path)] == ["P1_s1", "P1_s2"]
    (tmp_path / "patientsTr.json").write_text(json.dumps({"P1": ["P1_s2", "P1_s1"], "P2": ["gone"]}))
    one, two = find_patients(tmp_path)
    assert one.layout == "LongiSeg" and [v.label for v in one.visits] == ["P1_s2", "P1_s1"]
    assert table(one) == [(None, ("t1", "flair"), None), (None, ("t1", "flair"), "P1_s1.nii.gz")]
    assert any("has no image in the dataset" in p for p in two.problems)
    (tmp_path / "patientsTr.json").write_text("{")
    with pytest.raises(InputError, match=r"patientsTr\.json cannot be read"):
        find_patients(tmp_path)


def test_folders_of_folders_of_patients(tmp_path: Path) -> None:
    make(tmp_path, "siteA/P1/visit-1/t1.nii", "siteB/P1/visit-1/t1.nii", "siteB/P2/t1.mha")
    assert [p.patient for p in find_patients(tmp_path)] == ["siteA-P1", "siteB-P1", "P2"]


# ---- rules ----


def test_folders_without_an_image_of_their_own_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copy that failed, a patient whose images were forgotten, a link to another patient."""
    make(tmp_path, "P1/2020-01-01/t1c.nii", "P1/2020-02-01/t1c.nii", "P2/2020-01-01/t1c.nii", "P3/2020-01-01/note.txt")
    (tmp_path / "P4").mkdir()
    (tmp_path / "P5").symlink_to(tmp_path / "P1")
    (tmp_path / "code").mkdir()
    assert [p.patient for p in find_patients(tmp_path)] == ["P1", "P2"]
    said = "Passed over, for they hold no image of their own or cannot be read: P3, P4, P5."
    assert [r.getMessage() for r in caplog.records] == [said]
    caplog.clear()
    (tmp_path / "P1" / "2020-03-01").mkdir()
    find_patient(tmp_path / "P1")
    assert not caplog.records


def test_a_visit_that_is_a_link_to_another_patients_is_told_and_that_patient_keeps_it(tmp_path: Path) -> None:
    make(tmp_path, *[f"{p}/{day}/t1c.nii" for p in ("A", "B") for day in ("day-0", "day-9")], "out/day-20/t1c.nii")
    (tmp_path / "A" / "day-30").symlink_to(tmp_path / "B" / "day-9")
    (tmp_path / "A" / "again").symlink_to(tmp_path / "A" / "day-0")
    (tmp_path / ".store").mkdir()
    (tmp_path / "out" / "day-20").rename(tmp_path / ".store" / "day-20")
    (tmp_path / "B" / "day-20").symlink_to(tmp_path / ".store" / "day-20")
    first, second = find_patients(tmp_path)
    assert [v.day for v in first.visits] == [0, 9]
    said = "'day-30' is a link to a folder that is read at its own place: its images are missing here."
    assert first.warnings == (said,)
    outside = "'{}' is a link to a folder outside the patient's: make sure that its images are this patient's."
    assert [v.day for v in second.visits] == [0, 9, 20] and second.warnings == (outside.format("day-20"),)
    alone = find_patient(tmp_path / "A")  # nobody else has it, so it is read
    assert [v.day for v in alone.visits] == [0, 9, 30] and alone.warnings == (outside.format("day-30"),)


def test_a_link_to_a_folder_around_the_patient_brings_no_other_patient(tmp_path: Path) -> None:
    make(tmp_path, "A/day-0/t1c.nii", "A/day-9/t1c.nii", "B/day-20/t1c.nii")
    (tmp_path / "A" / "all").symlink_to(tmp_path)
    assert [v.day for v in find_patient(tmp_path / "A").visits] == [0, 9]


def test_folders_that_may_not_be_looked_into_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "P/day-0/t1c.nii", "P/day-9/t1c.nii", "P/day-20/t1c.nii")
    listing = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith(closed):
            raise PermissionError
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = "day-9"
    patient = find_patient(tmp_path / "P")
    assert [v.day for v in patient.visits] == [0, 20]
    assert patient.warnings == ("The folder 'day-9' cannot be read: its images are missing here.",)
    closed = "P"
    with pytest.raises(InputError, match="'P' cannot be read"):
        find_patient(tmp_path / "P")


def test_an_image_beside_patients_does_not_make_them_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Five patients became one with ten visits when one file was copied to the wrong place."""
    dates = ("2020-01-01", "2020-02-01", "2021-01-01", "2021-03-01")
    make(tmp_path, *[f"P{1 + n // 2}/{date}/t1c.nii" for n, date in enumerate(dates)], "t1c_2019-01-01.nii", "a.dcm")
    assert [(p.patient, len(p.visits)) for p in find_patients(tmp_path)] == [("P1", 2), ("P2", 2)]
    said = "Passed over, for they lie beside the patients' folders: a.dcm, t1c_(date).nii."
    assert [r.getMessage() for r in caplog.records] == [said]
    with pytest.raises(InputError, match="holds 2 patients"):
        find_patient(tmp_path)


def test_a_visit_among_patients_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "P1/2020-01-01/t1c.nii", "P2/2021-01-01/t1c.nii", "backup 2019-01-01/t1c.nii")
    [patient] = find_patients(tmp_path)
    assert any("'backup (date)' is named as a visit, while 'P1' holds visits of its own" in p for p in patient.problems)


def test_one_visit_says_that_there_is_no_growth(tmp_path: Path) -> None:
    patient = find_patient(make(tmp_path / "P", "t1c.nii.gz", "tumor.nii.gz"))
    assert patient.warnings == (ONE_VISIT,)
    assert not patient.problems


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("2019-03-01/t1.nii", "visit-2/t1.nii"), "1 of 2 visits has only a number"),
        (
            ("visit-1/t1.nii", "visit-2/t1.nii", "extra/t1.nii"),
            "1 of 3 visits has neither a date nor a number",
        ),
        (("visit-1/t1.nii", "scan-2/t1.nii"), "numbered under different words (scan, visit)"),
        (("visit-1/t1.nii", "visit-01/t1.nii"), "Two visits have the same number"),
        (("2019-03-01/t1.nii", "20190301/t1.nii"), "Two visits fall on the same day"),
        (("2019-03-01/t1.nii", "day-30/t1.nii"), "Some visits have a date and some a day number"),
        (("03-04-2019/t1.nii", "05-06-2019/t1.nii"), "can be read in two ways"),
        (("P01_day-0_t1.nii", "P02_day-9_t1.nii"), "as if they belonged to several patients"),
        (("BraTS-GLI-00001-000-t1c.nii", "BraTS-GLI-00002-001-t1c.nii"), "belonged to several patients"),
        (("2019-03-01/P1/t1.nii", "2019-03-01/P2/t1.nii"), "which may be different visits or patients"),
    ],
)
def test_what_has_no_order_is_a_problem_with_a_way_out(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    patient = find_patient(make(tmp_path / "P", *names))
    assert any(words in p and "manifest" in p for p in patient.problems), patient.problems
    assert not describe([patient])["patients"][0]["usable"]


def test_two_folders_of_one_day_with_different_kinds_are_one_visit(tmp_path: Path) -> None:
    patient = find_patient(make(tmp_path / "P", "2019-03-01/t1.nii", "2019-03-01_b/flair.nii", "2019-04-11/t1.nii"))
    assert table(patient) == [(0, ("t1", "flair"), None), (41, ("t1",), None)]
    assert "No flair at visit 2." in patient.warnings
    assert any("taken as one visit" in w for w in patient.warnings)


def test_masks_in_a_folder_of_their_own_join_the_visits(tmp_path: Path) -> None:
    names = [f"{folder}/visit-{n}.nii.gz" for folder in ("flair", "labels") for n in (1, 2)]
    assert [v.mask is not None for v in find_patient(make(tmp_path / "P", *names)).visits] == [True, True]


def test_two_images_of_one_kind_leave_a_warning_and_a_reason(tmp_path: Path) -> None:
    patient = find_patient(make(tmp_path / "P", "day-0/Flair.nii.gz", "day-0/Flair-icor.nii.gz", "day-9/flair.nii.gz"))
    assert patient.visits[0].images["flair"][0].name == "Flair.nii.gz"
    assert "There are several flair images; the first by name is used (visit 1)." in patient.warnings
    assert patient.left_out == (("Flair-icor.nii.gz", "a second flair of the visit"),)


def test_images_of_unknown_kind(tmp_path: Path) -> None:
    make(tmp_path / "A", "day-0/image.nii", "day-9/image.nii")
    assert table(find_patient(tmp_path / "A"))[0] == (0, ("other",), None)
    patient = find_patient(tmp_path / "A", Settings(modality=("t1c",)))
    assert table(patient)[0] == (0, ("t1c",), None)
    assert any("it was taken as 't1c'" in w and "visits 1, 2" in w for w in patient.warnings)
    make(tmp_path / "B", "t1.nii", "image.nii", "adc.nii")
    assert table(find_patient(tmp_path / "B")) == [(None, ("t1",), None)]
    assert table(find_patient(tmp_path / "B", Settings(modality=("other",))))[0][1] == ("other",)
    assert find_patient(tmp_path / "B", Settings(modality=("ct",))).left_out[0][0] == "adc.nii"  # named: never the ct


def test_modality_keeps_only_what_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path / "P", "day-0/t1.nii", "day-9/flair.nii", "day-9/t1.nii", "day-20/flair.nii")
    patient = find_patient(tmp_path / "P", Settings(modality=("flair",)))
    assert table(patient) == [(0, ("flair",), None), (11, ("flair",), None)]  # the first visit kept is day 0
    assert "1 of 3 visits found has no flair image; left out." in patient.warnings
    nothing = find_patient(tmp_path / "P", Settings(modality=("ct",)))
    assert nothing.problems == ("No image can be used with --modality ct. Found: flair, t1.",)


def test_the_mask_named_after_the_modality_used(tmp_path: Path) -> None:
    make(tmp_path / "P", "ct.nii.gz", "t1.nii.gz", "ct_tumor.nii.gz", "t1_tumor.nii.gz")
    for modality, mask in (
        ((), "t1_tumor.nii.gz"),
        (("t1",), "t1_tumor.nii.gz"),
        (("ct",), "ct_tumor.nii.gz"),
    ):
        assert table(find_patient(tmp_path / "P", Settings(modality=modality)))[0][2] == mask
    assert any("share one scanner space" in w for w in find_patient(tmp_path / "P").warnings)
    (tmp_path / "P/ct_tumor.nii.gz").unlink()
    assert any("drawn on t1" in w for w in find_patient(tmp_path / "P", Settings(modality=("ct",))).warnings)


def test_several_masks_of_equal_right_leave_a_warning(tmp_path: Path) -> None:
    patient = find_patient(make(tmp_path / "P", "t1.nii", "mask_b.nii", "mask_a.nii"))
    assert table(patient)[0][2] == "mask_a.nii"
    assert any("several masks" in w for w in patient.warnings)


# ---- what lies around ----


def test_odd_things_break_nothing(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "P",
        *[f"day-{d}/{n}" for d in (0, 9) for n in ("t1.nii.gz", "._t1.nii.gz", ".DS_Store", "notes", "old.mgz")],
        "results/run.json",
        "results/native/visit-01/mask.nii.gz",
        "__MACOSX/day-0/t1.nii.gz",
    )
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "day-0" / "broken").symlink_to(folder / "gone")
    patient = find_patient(folder)
    assert table(patient) == [(0, ("t1",), None), (9, ("t1",), None)] and not patient.problems
    assert ("results", "results of an earlier run") in patient.left_out
    assert ("old.mgz", "this kind of file is not read; convert it to NIfTI") in patient.left_out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", "does not exist"),
        ("empty", "No image in 'empty'"),
        ("out", "is a result folder"),
        ("a.nii", "is a file"),
    ],
)
def test_paths_that_are_no_patient(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    make(tmp_path, "out/run.json", "out/series/mask.nii.gz", "a.nii")
    for find in (find_patient, find_patients):
        with pytest.raises(InputError, match=words) as caught:
            find(tmp_path / name, Settings())
        assert str(tmp_path) not in str(caught.value)


def test_one_patient_is_asked_for_and_several_found(tmp_path: Path) -> None:
    make(tmp_path, "P1/day-0/t1.nii", "P2/day-0/t1.nii")
    with pytest.raises(InputError, match="holds 2 patients"):
        find_patient(tmp_path, Settings())


def test_nothing_said_holds_a_date_or_a_path(tmp_path: Path) -> None:
    names = [
        "t1.nii",
        "t1_b.nii",
        "mask_a_20190301.nii",
        "mask_b_20190301.nii",
        "P1_2019-03-01_brainmask.nii",
    ]
    make(tmp_path / "P1", *[f"2019-03-01/{n}" for n in names], "2019-04-11/flair.nii", "2019-04-12_x/t1.nii")
    said = json.dumps(describe([find_patient(tmp_path / "P1")]))
    assert "2019" not in said and str(tmp_path) not in said
    assert "(date)" in said


@pytest.mark.parametrize(("other", "alike"), [("p1", True), ("P2", False)])
@pytest.mark.parametrize("layout", ["{}/day-{}/t1c.nii.gz", "{0}/{0}_day-{1}_t1c.nii.gz", "site/{}/t1c/day-{}.nii.gz"])
def test_names_that_differ_in_capitals_only_are_no_two_patients(tmp_path: Path, layout, other, alike) -> None:
    make(tmp_path, *[layout.format(name, day) for name in ("P1", other) for day in (0, 50)])
    found = find_patients(tmp_path, Settings())
    problems = [any("the same but for capitals" in p for p in patient.problems) for patient in found]
    assert problems == [alike] * 2


def test_a_thousand_patients_in_a_few_seconds(tmp_path: Path) -> None:
    names = ("t1c.nii.gz", "flair.nii.gz", "mask.nii.gz")
    make(tmp_path, *[f"P{p:04d}/day-{d:03d}/{n}" for p in range(1000) for d in (0, 41, 97) for n in names])
    began = time.perf_counter()
    patients = find_patients(tmp_path, Settings())
    assert time.perf_counter() - began < 5
    assert len(patients) == 1000 and {p.days for p in patients} == {(0, 41, 97)}


def test_the_import_is_light() -> None:
    code = (
        "import sys, napari_convlstm_tumor.io.discover;"
        "heavy = ('torch', 'monai', 'scipy', 'SimpleITK', 'nibabel', 'pydicom');"
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# ---- real patients ----


def test_real_folders(shared_data: Path) -> None:
    days = {p.patient: p.days for p in find_patients(shared_data / "glioblastoma", Settings())}
    expected = {
        "GBM-01": (0, 157),
        "GBM-03": (0, 415),
        "GBM-05": (0, 55),
        "GBM-08": (0, 58),
        "GBM-09": (0, 27),
    }
    assert days == expected
    one = find_patient(shared_data / "ms" / "MS-01", Settings())
    assert table(one) == [(None, ("t1", "t2", "flair"), None)] * 2 and not one.problems
    sarcomas = find_patients(shared_data / "sarcoma", Settings(modality=("ct",)))
    assert len(sarcomas) == 26 and all(table(p) == [(None, ("ct",), "ct_tumor.nii.gz")] for p in sarcomas)
