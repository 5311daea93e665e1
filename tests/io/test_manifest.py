"""The CSV manifest: what is wrong in a row names the line and hurts only its patient."""

from pathlib import Path

import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover import find_patient, find_patients
from napari_convlstm_tumor.settings import Settings

HEADER = "patient,day,modality,path,mask\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz", "m.nii.gz", "n.nii.gz", "tumor.nii.gz"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8-sig")  # as Excel writes it
    return path


def test_days_modalities_and_masks(folder: Path) -> None:
    path = write(
        folder,
        HEADER + f"P1,97,flair,b.nii.gz,\nP1,10,t1c,a.nii.gz,m.nii.gz\nP2,0,CT,{folder / 'c.nii.gz'},\n",
    )
    one, two = find_patients(path, Settings())
    assert (one.patient, one.days, one.layout) == ("P1", (0, 87), "CSV manifest")
    assert [tuple(v.images) for v in one.visits] == [("t1c",), ("flair",)]
    assert one.visits[0].mask == folder / "m.nii.gz" and one.visits[1].mask is None
    assert two.modalities == ("ct",) and not one.problems and not two.problems


def test_an_apostrophe_that_guards_a_spreadsheet_is_no_part_of_a_name(folder: Path) -> None:
    """As tables of this program have it."""
    path = write(folder, HEADER + "'=cmd(),0,t1c,a.nii.gz,\n'=cmd(),97,t1c,b.nii.gz,\n'P,0,t1c,c.nii.gz,\n")
    assert [(p.patient, p.days) for p in find_patients(path, Settings())] == [("=cmd()", (0, 97)), ("'P", (0,))]


def test_several_rows_of_one_visit_and_a_mask_in_a_row_of_its_own(folder: Path) -> None:
    path = write(folder, HEADER + "P,0,t1,a.nii.gz,\nP,0,flair,b.nii.gz,\nP,0,,,m.nii.gz\nP,9,t1,c.nii.gz,\n")
    patient = find_patient(path, Settings())
    assert tuple(patient.visits[0].images) == ("t1", "flair") and patient.visits[0].mask == folder / "m.nii.gz"
    assert patient.days == (0, 9)


def test_dates_semicolons_and_paths_above_the_manifest(folder: Path) -> None:
    (folder / "lists").mkdir()
    path = write(
        folder / "lists",
        "Patient;Date;Modality;Path\nP;2019-04-11;t1;../b.nii.gz\nP;2019-03-01;t1;../a.nii.gz\n",
    )
    assert find_patient(path, Settings()).days == (0, 41)


def test_numbers_alone_give_an_order(folder: Path) -> None:
    path = write(folder, "patient,visit,modality,path\nP,2,t1,b.nii.gz\nP,1,t1,a.nii.gz\n")
    patient = find_patient(path, Settings())
    assert [v.images["t1"][0].name for v in patient.visits] == ["a.nii.gz", "b.nii.gz"] and not patient.dated


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("P,9,t1,gone.nii.gz,", "line 3: gone.nii.gz does not exist"),
        ("P,9,t1,b.nii.gz,gone.nii.gz", "line 3: gone.nii.gz does not exist"),
        ("P,soon,t1,b.nii.gz,", "line 3: day is a whole number, got 'soon'"),
        ("P,9,t7,b.nii.gz,", "line 3: Unknown modality 't7'"),
        ("P,9,,tumor.nii.gz,", "line 3: tumor.nii.gz is a mask by its name"),
        ("P,0,t1,b.nii.gz,n.nii.gz", "line 3: a second mask (n.nii.gz)"),
        ("P,0,t1,b.nii.gz,", "line 3: a second t1 image for the same visit"),
        ("P,9,t1,,", "line 3: neither path nor mask"),
    ],
)
def test_a_wrong_row_is_a_problem_of_its_patient_only(folder: Path, row: str, words: str) -> None:
    path = write(folder, HEADER + f"P,0,t1,a.nii.gz,m.nii.gz\n{row}\nQ,0,t1,c.nii.gz,\n")
    bad, good = find_patients(path, Settings())
    assert any(words in p for p in bad.problems), bad.problems
    assert str(folder) not in str(bad.problems)
    assert not good.problems


def test_a_date_is_refused_without_being_repeated(folder: Path) -> None:
    path = write(folder, "patient,date,path\nP,03/04/2019,a.nii.gz\n")
    patient = find_patient(path, Settings())
    assert any("year-month-day" in p for p in patient.problems) and "2019" not in str(patient.problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,file\nP,a.nii.gz\n", "no column 'patient' and no column 'path'"),
        (HEADER, "no rows"),
        (HEADER + "../P,0,t1,a.nii.gz,\n", "line 2: the patient is missing or is no name"),
        (HEADER + ",0,t1,a.nii.gz,\n", "line 2: the patient is missing"),
    ],
)
def test_no_manifest(folder: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_patients(write(folder, text), Settings())


@pytest.mark.parametrize(
    ("one", "other", "alike"), [("P1", "p1", True), ("Zoé", "Zoe\u0301", True), ("P1", "P2", False)]
)
def test_one_patient_typed_in_two_ways_is_not_two(folder: Path, one: str, other: str, alike: bool) -> None:
    path = write(folder, HEADER + f"{one},0,t1,a.nii.gz,\n{other},9,t1,b.nii.gz,\n")
    patients = find_patients(path, Settings())
    assert [any("the same but for capitals" in p for p in patient.problems) for patient in patients] == [alike] * 2
