"""Which criterion, from which baseline, and what is said of the choice."""

from pathlib import Path
from runpy import run_path

import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.clinical import ClinicalInputs, ClinicalState
from napari_convlstm_tumor.series import PatientFiles, VisitFiles
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps.measuring import measure
from napari_convlstm_tumor.steps.responding import (
    check_baseline,
    choose_baseline,
    choose_criterion,
    describe_response,
    respond,
)

make = run_path(str(Path(__file__).with_name("patient.py")))
GRID, ball, patient, returned = (make[n] for n in ("GRID", "ball", "patient", "returned"))
MIDDLE = (40.0, 36.0, 30.0)


@pytest.mark.parametrize(
    ("asked", "modalities", "key", "words"),
    [
        ("auto", ("t1c", "flair"), "rano-2.0-volume", "all images are MR"),
        ("auto", ("t1",), "rano-2.0-volume", "For another disease choose another"),
        ("auto", ("ct",), "recist-1.1", "there is CT"),
        ("auto", ("t1", "ct"), "recist-1.1", "there is CT"),
        ("auto", ("other",), "recist-1.1", "unknown kind"),
        ("rano-bm", ("t1c",), "rano-bm", "as asked"),
        ("none", ("t1c",), "", "No response was asked for"),
    ],
)
def test_the_choice_of_a_criterion_is_never_silent(asked, modalities, key, words):
    found, why = choose_criterion(Settings(criterion=asked), modalities)
    assert found == key
    assert words in why
    assert describe_response(found, why)["why"] == why


@pytest.mark.parametrize(
    ("baseline", "criterion", "radiotherapy", "expected"),
    [
        (None, "rano-2.0-volume", None, 0),
        (None, "rano-2.0-volume", 30, 1),  # RANO 2.0: the first visit after radiotherapy
        (None, "recist-1.1", 30, 0),
        (3, "rano-2.0-volume", 30, 2),
        (2, "", None, 1),
        (None, "lung-volume", None, 0),
    ],
)
def test_one_baseline_for_changes_and_response(baseline, criterion, radiotherapy, expected):
    clinical = ClinicalInputs((None,) * 3, radiotherapy)
    assert choose_baseline(Settings(baseline=baseline), criterion, (0, 60, 120), clinical) == expected


def test_a_baseline_that_is_no_visit_is_refused():
    files = PatientFiles("P", (VisitFiles("a", {}), VisitFiles("b", {})))
    check_baseline(files, Settings(baseline=2))
    with pytest.raises(InputError, match=r"no visit 3 for a baseline: 2 visits"):
        check_baseline(files, Settings(baseline=3))


def measured(radii, **extra):
    return returned(measure(*patient([ball(GRID, MIDDLE, r) for r in radii], **extra)))


@pytest.mark.parametrize(
    ("radii", "category"),
    [((12, 14), "PD"), ((12, 12), "SD"), ((12, 7), "PR"), ((12, 0), "CR")],  # 14/12: volume +59 %, 7/12: -80 %
)
def test_the_response_follows_from_the_measured_lesions(radii, category):
    rows, trouble = respond(measured(radii), (0, 60), True, Settings(), "rano-2.0-volume", None)
    assert trouble == ""
    assert [r["category"] for r in rows["rano-2.0-volume"]] == ["baseline", category]


def test_what_a_person_entered_counts():
    clinical = ClinicalInputs((ClinicalState(2.0), ClinicalState(6.0)), None)
    rows, _ = respond(measured((12, 7)), (0, 60), True, Settings(), "rano-2.0-volume", clinical)
    assert rows["rano-2.0-volume"][1]["category"] == "SD"
    assert "steroids were raised (2.00 -> 6.00 mg/day)" in rows["rano-2.0-volume"][1]["reason"]


def test_one_visit_has_no_response():
    assert respond(measured((12,)), (0,), True, Settings(), "rano-2.0-volume", None) == ({}, "")


def test_a_contradiction_is_a_sentence_and_no_response():
    clinical = ClinicalInputs((None,) * 2, 30)
    rows, trouble = respond(measured((12, 7)), (0, 1), False, Settings(), "rano-2.0-volume", clinical)
    assert rows == {}
    assert trouble.startswith("No response: The end of radiotherapy is a day")


def test_the_interval_of_the_response_is_that_of_the_report():
    from napari_convlstm_tumor.measure.uncertainty import change_percent

    found = measured((12, 13.3))  # +36 %: the threshold of +40 % lies in the interval
    change = change_percent(*found.totals)
    rows, _ = respond(found, (0, 60), True, Settings(), "rano-2.0-volume", None)
    assert f"{change.low:+.0f} % to {change.high:+.0f} %" in rows["rano-2.0-volume"][1]["reason"]


@pytest.mark.parametrize(
    ("criterion", "category", "change"), [("recist-1.1", "SD", -0.05), ("rano-2.0-area", "SD", -0.32)]
)
def test_a_lesion_that_splits_and_shrinks_has_not_grown(criterion, category, change):
    """A line from end to end would be 20 % longer, for half of the volume."""
    bar = ball(GRID, (34.0, 36.0, 30.0), 9) | ball(GRID, (46.0, 36.0, 30.0), 9)
    apart = ball(GRID, (29.0, 36.0, 30.0), 7) | ball(GRID, (51.0, 36.0, 30.0), 7)
    measured = returned(measure(*patient([bar, apart])))
    assert measured.lesions[0].lesion.states == ("baseline", "split")
    rows, _ = respond(measured, (0, 60), True, Settings(), criterion, None)
    last = rows[criterion][-1]
    assert last["category"] == category, last["reason"]
    assert last["change_from_baseline"] == pytest.approx(change, abs=0.08)
