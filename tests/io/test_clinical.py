"""The clinical CSV: what is entered lands on its visit, what is wrong names the line, what is empty is not known."""

from pathlib import Path

import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.clinical import ClinicalInputs, ClinicalState, read_clinical

DAYS = (0, 41, 97)


def write(folder: Path, text: str) -> Path:
    path = folder / "clinical.csv"
    path.write_text(text, encoding="utf-8-sig")  # as Excel writes it
    return path


def read(folder: Path, text: str, dated: bool = True) -> ClinicalInputs:
    return read_clinical(write(folder, text), "P1", DAYS, dated)


def test_visits_days_and_the_end_of_radiotherapy(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "visit,day,steroid_mg_per_day,status,non_target_progression,event\n"
        "1,,4,stable,,\n,97,0,Better,No,\n,-20,,,,radiotherapy end\n",
    )
    assert found.radiotherapy_end_day == -20
    assert found.visits == (ClinicalState(4.0, "stable"), None, ClinicalState(0.0, "better", False))


def test_an_empty_cell_is_not_known(tmp_path: Path) -> None:
    found = read(tmp_path, "visit,steroid_mg_per_day,status\n2,,worse\n3,0\n")
    assert found.visits == (None, ClinicalState(None, "worse"), ClinicalState(0.0))


def test_only_the_rows_of_the_patient(tmp_path: Path) -> None:
    found = read(tmp_path, "Patient;Visit;Steroid_mg_per_day\nP2;1;8\nP1;1;2\nP2;7;8\n")
    assert found.visits == (ClinicalState(2.0), None, None)


def test_a_patient_without_rows_has_nothing_entered(tmp_path: Path) -> None:
    assert read(tmp_path, "patient,visit\nP2,1\n") == ClinicalInputs((None, None, None))


def test_visit_numbers_of_undated_visits(tmp_path: Path) -> None:
    assert read(tmp_path, "visit,status\n2,stable\n", dated=False).visits[1] == ClinicalState(None, "stable")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("visit,dose\n1,4\n", "column 'dose' is not known"),
        ("visit,visit\n1,1\n", "column 'visit' stands twice"),
        ("status\nstable\n", "neither a column 'visit' nor 'day'"),
        ("", "neither a column"),
        ("visit,status\n4,stable\n", "line 2: there is no visit 4; the patient has visits 1 to 3"),
        ("visit,status\n0,stable\n", "there is no visit 0"),
        ("visit,status\n1,stable\n1,worse\n", "line 3: visit 1 is entered a second time"),
        ("visit,day\n1,41\n", "visit 1 is on day 0, not 41"),
        ("day,status\n40,stable\n", r"no visit is on day 40 \(visits: 0, 41, 97\)"),
        ("visit,status\n,stable\n", "neither visit nor day is given"),
        ("visit,status\n1,good\n", "status is better or stable or worse, got 'good'"),
        ("visit,non_target_progression\n1,maybe\n", "non_target_progression is yes or no, got 'maybe'"),
        ("visit,steroid_mg_per_day\n1,four\n", "a number with a point, got 'four'"),
        ("visit,steroid_mg_per_day\n1,-1\n", "0 to 100, as dexamethasone, got -1"),
        ("visit,steroid_mg_per_day\n1,nan\n", "0 to 100"),
        ("visit,steroid_mg_per_day\n1,250\n", "convert other steroids"),
        ("visit,steroid_mg_per_day\n1,4,5\n", "line 2: 3 cells for 2 columns; write decimals with a point"),
        ("visit;steroid_mg_per_day\n1;4,5\n", "a number with a point, got '4,5'"),
        ("day,event\n3,surgery\n", "event is radiotherapy end, got 'surgery'"),
        ("day,event\n,radiotherapy end\n", "an event needs its day"),
        ("day,event\n3,radiotherapy end\n4,radiotherapy end\n", "line 3: 'radiotherapy end' is entered a second time"),
        ("patient,visit\nP1,1\n,2\n", "line 3: the patient is missing"),
    ],
)
def test_refusals_name_the_line_the_value_and_the_way_out(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"^clinical\.csv.*{words}"):
        read(tmp_path, text)


def test_a_date_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="never a date") as caught:
        read(tmp_path, "day,status\n2020-01-31,stable\n")
    assert "2020" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("row", ["day,status\n0,stable\n", "day,event\n0,radiotherapy end\n"])
def test_undated_visits_take_no_days(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match="no dates"):
        read(tmp_path, row, dated=False)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^missing\.csv cannot be read as UTF-8 text"):
        read_clinical(tmp_path / "missing.csv", "P1", DAYS)
    path = tmp_path / "latin.csv"
    path.write_bytes(b"visit,status\n1,\xe9\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_clinical(path, "P1", DAYS)
