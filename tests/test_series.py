"""What the central types carry and refuse."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError, SeriesError
from napari_convlstm_tumor.series import (
    MODALITIES,
    AlignedSeries,
    PatientFiles,
    Prediction,
    Series,
    Visit,
    VisitFiles,
    parse_modality,
)
from napari_convlstm_tumor.volume import Grid, Volume

GRID = Grid((2, 3, 4), np.eye(4))
IMAGE = Volume(np.zeros((2, 3, 4), np.float32), GRID)


def visit(day, *modalities):
    return Visit(f"visit on {day}", day, dict.fromkeys(modalities or ("t1",), IMAGE))


def files(day=None, *modalities, date=None):
    return VisitFiles("v", {m: (Path(f"{m}.nii"),) for m in modalities or ("t1",)}, date=date, day=day)


def aligned(**changes):
    t, c = 2, 1
    fields = {
        "patient": "p",
        "data": np.full((t, c, 2, 3, 4), 2.0, np.float32),
        "present": np.ones((t, c), bool),
        "inside": np.ones((t, 2, 3, 4), bool),
        "modalities": ("t1",),
        "days": (0, 41),
        "dated": True,
        "grid": GRID,
        "centre": np.array([[100.0], [7.0]], np.float32),
        "scale": np.array([[10.0], [0.5]], np.float32),
        "masks": (None, None),
        "registrations": (),
        "native_grids": (GRID, GRID),
    }
    return AlignedSeries(**{**fields, **changes})


# ---- files ----


def test_dated_files_have_their_days_and_undated_ones_their_position():
    dated = PatientFiles("p", (files(0), files(41), files(97)))
    assert dated.dated
    assert dated.days == (0, 41, 97)
    undated = PatientFiles("p", (files(), files(), files()))
    assert not undated.dated
    assert undated.days == (0, 1, 2)


def test_one_visit_without_a_day_makes_all_undated():
    mixed = PatientFiles("p", (files(0), files(), files(97)))
    assert not mixed.dated
    assert mixed.days == (0, 1, 2)


def test_no_visits_are_not_dated():
    assert not PatientFiles("p", ()).dated
    assert PatientFiles("p", ()).days == ()


def test_a_date_alone_is_no_day():
    assert not PatientFiles("p", (files(date=datetime.date(2019, 3, 1)),)).dated


def test_modalities_are_those_of_any_visit_in_a_fixed_order():
    patient = PatientFiles("p", (files(0, "flair"), files(1, "t1c", "t1")))
    assert patient.modalities == ("t1", "t1c", "flair")
    assert Series("p", (visit(0, "flair"), visit(1, "t1c", "t1"))).modalities == ("t1", "t1c", "flair")


# ---- series ----


def test_a_series_gives_its_days():
    assert Series("p", (visit(0), visit(41), visit(97))).days == (0, 41, 97)
    assert Series("p", (visit(5),)).days == (5,)


@pytest.mark.parametrize(
    ("visits", "words"),
    [
        ((), "has no visits"),
        (
            (visit(0), visit(0)),
            "Visit 2 is on day 0, not after visit 1 on day 0. Give every visit its own day",
        ),
        ((visit(0), visit(41), visit(40)), "Visit 3 is on day 40, not after visit 2 on day 41"),
        ((visit(0), Visit("empty", 3, {})), "Visit 2 has no image"),
    ],
)
def test_a_series_that_makes_no_sense_is_refused(visits, words):
    with pytest.raises(SeriesError, match=words):
        Series("p", visits)


def test_the_label_of_a_visit_stays_out_of_errors():
    # A label may hold a date.
    with pytest.raises(SeriesError) as caught:
        Series("p", (Visit("2019-03-01", 0, {"t1": IMAGE}), Visit("2019-03-01b", 0, {"t1": IMAGE})))
    assert "2019" not in str(caught.value)


# ---- one grid ----


def test_raw_undoes_the_normalisation_of_each_visit():
    series = aligned()
    np.testing.assert_allclose(series.raw(0, 0), 120)
    np.testing.assert_allclose(series.raw(1, 0), 8)
    assert series.raw(0, 0).shape == (2, 3, 4)
    assert series.raw(0, 0).dtype == np.float32


TURNED = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"days": (0, 1, 2)}, r"Data of shape \(2, 1, 2, 3, 4\) is not \(3, 1, \(2, 3, 4\)\)"),
        ({"modalities": ("t1", "t2")}, "Data of shape"),
        ({"grid": Grid((4, 3, 2), np.eye(4))}, "Data of shape"),
        ({"grid": Grid((2, 3, 4), TURNED)}, "not axis-aligned"),
    ],
)
def test_an_aligned_series_that_is_not_aligned_is_refused(changes, words):
    with pytest.raises(SeriesError, match=words):
        aligned(**changes)


def test_a_prediction_is_tumor_from_one_half():
    probability = np.zeros((2, 2, 3, 4), np.float32)
    probability[1, 0, 0, :3] = 0.49999, 0.5, 1.0
    prediction = Prediction(probability, (0, 1), GRID, "test")
    assert prediction.mask(0).sum() == 0
    assert prediction.mask(1)[0, 0].tolist() == [0, 1, 1, 0]
    assert prediction.mask(1).dtype == np.uint8


# ---- modalities ----


@pytest.mark.parametrize("name", [*MODALITIES, "FLAIR", " t1c "])
def test_a_modality_is_known_in_any_case(name):
    assert parse_modality(name) in MODALITIES


@pytest.mark.parametrize("name", ["", "pet", "t1ce", "T1w"])
def test_an_unknown_modality_is_refused_with_the_choices(name):
    with pytest.raises(InputError, match=f"Unknown modality '{name}'. Choose one of: t1, t1c, t2, flair, ct, other"):
        parse_modality(name)
