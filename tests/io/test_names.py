"""What names say: known answers for dates, days, numbers and kinds of image."""

import datetime

import pytest

from napari_convlstm_tumor.io.names import (
    ambiguous_date,
    brats_patient,
    kind_of,
    modality_of,
    owner,
    parse_when,
    plain_number,
    stem,
    without_dates,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2019-03-01", "2019-03-01"),
        ("20190301", "2019-03-01"),
        ("2019_3_1", "2019-03-01"),
        ("20190301123000", "2019-03-01"),  # a time stamp of 14 digits
        ("ses-20190301", "2019-03-01"),
        ("visit-2_2019-03-01", "2019-03-01"),  # the date wins over the number
        ("GBM-01_1996-08-13_t1c.nii.gz", "1996-08-13"),
    ],
)
def test_dates(name: str, expected: str) -> None:
    when = parse_when(name)
    assert when is not None and when.date == datetime.date.fromisoformat(expected)


@pytest.mark.parametrize(
    ("name", "day", "repeat"),
    [
        ("day-041", 41, 0),
        ("Day 7", 7, 0),
        ("week-012", 84, 0),
        ("week-000-2", 0, 2),  # LUMIERE: the second scan of the week
        ("week-000-1_CT1", 0, 1),
        ("month-3", 91, 0),  # 3 x 30.44
        ("6months", 183, 0),
        ("followup-6-months", 183, 0),
        ("year1", 365, 0),
        ("ses-week12", 84, 0),
    ],
)
def test_days(name: str, day: int, repeat: int) -> None:
    when = parse_when(name)
    assert when is not None and (when.day, when.repeat) == (day, repeat)


@pytest.mark.parametrize(
    ("name", "order", "scheme"),
    [
        ("visit-2", 2, "visit"),
        ("ses-02", 2, "session"),
        ("baseline", 0, "baseline"),
        ("followup-1", 1, "followup"),
        ("follow-up_12", 12, "followup"),
        ("study2_FLAIR", 2, "study"),
        ("Timepoint_5", 5, "timepoint"),
        ("time01", 1, "timepoint"),
        ("BraTS-GLI-00001-003", 3, "PatientID-NNN-TTT"),
        ("BraTS-GLI-00001-003-t1c", 3, "PatientID-NNN-TTT"),
    ],
)
def test_numbers(name: str, order: int, scheme: str) -> None:
    when = parse_when(name)
    assert when is not None and (when.order, when.scheme) == (order, scheme)


@pytest.mark.parametrize(
    "name",
    [
        "MS-01",
        "GBM-05",
        "Patient-001",
        "STS-027",
        "sub-01",
        "anat",
        "T1",
        "T2",
        "20191301",  # month 13: no date
        "03-04-2019",  # March or April
        "Monday",
        "1.2.840.113619.2.405.3",
    ],
)
def test_no_visit(name: str) -> None:
    assert parse_when(name) is None


def test_plain_numbers_are_visits_only_when_asked() -> None:
    assert parse_when("02") is None
    assert plain_number("02") is not None
    assert plain_number("20190301") is None


def test_day_first_dates_are_ambiguous() -> None:
    assert ambiguous_date("03-04-2019")
    assert not ambiguous_date("2019-04-03")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P01_2019-03-01_t1.nii.gz", "p01"),
        ("100001_time1_t1ce.nii.gz", "100001"),
        ("BraTS-GLI-00001-000-t1c.nii.gz", "brats-gli-00001"),
        ("T1_2019-03-01.nii.gz", ""),  # a kind of image, no patient
        ("study1_FLAIR.nii.gz", ""),
        ("t1.nii.gz", ""),
    ],
)
def test_the_patient_before_the_visit(name: str, expected: str) -> None:
    assert owner(name) == expected


def test_brats_patient() -> None:
    assert brats_patient("BraTS-GLI-00001-000") == "BraTS-GLI-00001"
    assert brats_patient("week-000-1") is None
    assert brats_patient("STS-027") is None


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("t1", "t1"),
        ("T1w", "t1"),
        ("BraTS-GLI-00001-000-t1n", "t1"),
        ("t1_mprage_sag", "t1"),
        ("AX T1 FLAIR", "t1"),  # GE: a T1 with inversion
        ("T1 pre contrast", "t1"),
        ("T1 w/o contrast", "t1"),
        ("T1_nativ", "t1"),
        ("patient1_study1_T1Wreg", "t1"),
        ("t1c", "t1c"),
        ("T1Gd", "t1c"),
        ("t1ce", "t1c"),
        ("T1_post", "t1c"),
        ("T1post", "t1c"),
        ("CT1", "t1c"),
        ("t1+c", "t1c"),
        ("T1 + C", "t1c"),
        ("t1km", "t1c"),
        ("mprage+gd", "t1c"),
        ("sub-01_ses-1_ce-gadolinium_T1w", "t1c"),
        ("t1_tse_tra_KM", "t1c"),
        ("AX T1 FLAIR POST", "t1c"),
        ("t2", "t2"),
        ("T2w", "t2"),
        ("t2_tse_tra", "t2"),
        ("t2f", "flair"),
        ("T2_FLAIR", "flair"),
        ("Flair-icor", "flair"),
        ("t2_tirm_tra_dark-fluid", "flair"),
        ("patient1_study2_FLAIRreg", "flair"),
        ("flair_to_t1", "flair"),
        ("sub-01_space-T1w_FLAIR", "flair"),
        ("ct", "ct"),
        ("CECT", "ct"),
        ("adc", "other"),
        ("t2star", "other"),
        ("t1map", "other"),
        ("DoseMap", "other"),
        ("PET_suv", "other"),
    ],
)
def test_modalities(name: str, modality: str) -> None:
    assert modality_of(name) == (modality, True)


@pytest.mark.parametrize("name", ["image", "change_in_common_space", "t1_t2_ratio", "act", "brain", "visit1", "direct"])
def test_unknown_modalities_are_not_guessed(name: str) -> None:
    assert modality_of(name) == ("", False)


@pytest.mark.parametrize(
    ("name", "folders", "role", "modality"),
    [
        ("t1c.nii.gz", "", "image", "t1c"),
        ("001.nii.gz", "FLAIR", "image", "flair"),  # the folder says the kind
        ("tumor.nii.gz", "", "mask", ""),
        ("t1_tumor.nii.gz", "", "mask", "t1"),
        ("ct_tumor.nii.gz", "", "mask", "ct"),
        ("BraTS-GLI-00001-000-seg.nii.gz", "", "mask", ""),
        ("ms_lesions.nii.gz", "", "mask", ""),
        ("GTVp.nrrd", "", "mask", ""),
        ("sub-01_ses-1_label-lesion_roi.nii.gz", "", "mask", ""),
        ("EdemaMask-CL.nii.gz", "", "mask", "flair"),
        ("ContrastEnhancedMask-CL.nii.gz", "", "mask", "t1c"),
        ("segmentation_CT1_origspace.nii.gz", "HD-GLIO-AUTO-segmentation/native", "mask", "t1c"),
        (
            "ct1_skull_strip.nii.gz",
            "HD-GLIO-AUTO-segmentation/native",
            "image",
            "t1c",
        ),  # an image, whatever the folder
        ("case.nii.gz", "masks", "mask", ""),
        ("brain_mask.nii.gz", "", "aside", ""),
        ("brainmask.nii.gz", "", "aside", ""),
        ("brain_tumor_mask.nii.gz", "", "mask", ""),
        ("seg_mask.nii.gz", "DeepBraTumIA-segmentation/atlas/segmentation", "aside", ""),
    ],
)
def test_kinds(name: str, folders: str, role: str, modality: str) -> None:
    kind = kind_of(name, folders)
    assert (kind.role, kind.modality) == (role, modality)


def test_the_name_of_the_patient_is_no_mask_word() -> None:
    assert kind_of("Tumor-07_t1c.nii.gz", patient="Tumor-07").role == "image"
    assert kind_of("BRAIN-26_mask.nii.gz", patient="BRAIN-26").role == "mask"


def test_stem_and_dates() -> None:
    assert stem("a.b.NII.GZ") == "a.b"
    assert without_dates("P1_20190301_t1c.nii.gz") == "P1_(date)_t1c.nii.gz"
    assert without_dates("03-04-2019") == "(date)"
