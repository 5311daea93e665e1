"""The forecasts of one patient: the default first, bands, reasons, volumes on the visit's own voxels."""

import re
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from napari_convlstm_tumor.measure.conformal import load_calibration
from napari_convlstm_tumor.series import Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps import forecasting
from napari_convlstm_tumor.steps.forecasting import look_ahead

make = run_path(str(Path(__file__).with_name("patient.py")))
GRID, ball, patient = (make[n] for n in ("GRID", "ball", "patient"))
MIDDLE = (40.0, 36.0, 30.0)


def ahead(radii=(6, 8, 10), settings=None, volumes=None, **extra):
    _, aligned, prediction = patient([ball(GRID, MIDDLE, r) for r in radii], **extra)
    volumes = [8.0 * m.sum() for m in aligned.masks] if volumes is None else volumes
    return look_ahead(aligned, prediction, volumes, settings or Settings())


def test_the_default_comes_first_and_makes_the_map():
    found = ahead()
    assert found.rows[0]["method"] == forecasting.DEFAULT_MODEL
    volume = 8.0 * np.count_nonzero(found.prediction.forecast >= 0.5)
    assert volume == pytest.approx(found.rows[0]["volume_mm3"], rel=0.02)
    assert volume == pytest.approx(8.0 * ball(GRID, MIDDLE, 12).sum(), rel=0.16)  # a voxel of 2 mm is the motion
    assert found.prediction.forecast_day == 180
    speed = float(re.search(r"Mean speed of the front: \+([\d.]+) mm/month", found.prediction.forecast_note)[1])
    assert speed == pytest.approx(2 / 60 * 30.44, rel=0.25)
    assert "(the tables give the median)" in found.prediction.forecast_note
    assert "Band: 90%" in found.prediction.forecast_note
    assert all(row["note"] == "" for row in found.rows)


def test_a_motion_that_no_voxel_shows_is_said():
    assert "half a voxel" not in ahead().prediction.forecast_note
    still = ahead((8, 8, 8))
    assert "0.0 mm, less than half a voxel: its outline is that of the last visit" in still.prediction.forecast_note
    assert np.array_equal(still.prediction.forecast >= 0.5, ball(GRID, MIDDLE, 8) > 0)


def test_volumes_ahead_are_in_proportion_to_the_visits_own():
    plain = ahead()
    double = ahead(volumes=[2 * 8.0 * ball(GRID, MIDDLE, r).sum() for r in (6, 8, 10)])
    for one, two in zip(plain.rows, double.rows, strict=True):
        for name in ("volume_mm3", "volume_low_mm3", "volume_high_mm3"):
            assert two[name] == pytest.approx(2 * one[name])


def test_a_model_with_nothing_to_go_by_says_why():
    rows = {row["method"]: row for row in ahead((8, 10)).rows}
    assert rows["gompertz"]["volume_mm3"] is None
    assert "needs 3 visits" in rows["gompertz"]["note"]
    assert rows["linear"]["note"] == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"radii": (8,)}, "single visit"),
        ({"dated": False, "days": (0, 1, 2)}, "no dates"),
        ({"radii": (8, 10, 0)}, "no tumor at the last visit"),
        ({"settings": Settings(horizon_days=500)}, "further than"),
        ({"registrations": [Registration(np.eye(4), q, q > 0.6) for q in (1, 0.9, 0.2)]}, "below the threshold"),
    ],
)
def test_no_forecast_without_a_reason(changes, words):
    found = ahead(**changes)
    assert found.prediction.forecast is None
    assert words in found.prediction.forecast_note
    assert (found.rows, found.band) == ((), None)


def test_the_box_around_the_tumor_changes_nothing(monkeypatch):
    near = ahead()
    monkeypatch.setattr(forecasting, "MARGIN_MM", 4.0)  # too narrow for the band: the whole grid is taken
    whole = ahead()
    assert np.allclose(near.prediction.forecast, whole.prediction.forecast, atol=1e-6)
    assert np.array_equal(near.band, whole.band)
    near, whole = ([row["volume_mm3"] for row in found.rows] for found in (near, whole))
    assert near == pytest.approx(whole)


def test_the_network_stands_beside_the_others_without_a_band_of_other_weights(monkeypatch):
    def expected(prediction, phi, *rest):
        del prediction, rest
        return np.full(phi.shape, 1.0, np.float32)

    monkeypatch.setattr(forecasting.predict, "expected_speed", expected)
    _, aligned, prediction = patient([ball(GRID, MIDDLE, r) for r in (6, 8, 10)])
    ran = replace(prediction, features=np.zeros((1, 1, 1, 1), np.float16), model="another network")
    rows = {
        row["method"]: row for row in look_ahead(aligned, ran, [8.0 * m.sum() for m in aligned.masks], Settings()).rows
    }
    assert list(rows)[:2] == ["linear", "network"]
    assert rows["network"]["volume_mm3"] == pytest.approx(rows["linear"]["volume_mm3"], rel=0.1)
    assert rows["network"]["volume_low_mm3"] is None
    calibrated = load_calibration().weights
    assert rows["network"]["note"] == (
        f"No band: its error was measured with {calibrated}, not with these weights, another network."
    )
    assert rows["linear"]["volume_low_mm3"] is not None and rows["linear"]["note"] == ""


def test_the_network_has_its_band_with_the_weights_of_the_calibration(monkeypatch):
    monkeypatch.setattr(forecasting.predict, "expected_speed", lambda _, phi, *rest: np.ones(phi.shape, np.float32))
    _, aligned, prediction = patient([ball(GRID, MIDDLE, r) for r in (6, 8, 10)])
    ran = replace(prediction, features=np.zeros((1, 1, 1, 1), np.float16), model=load_calibration().weights)
    network = look_ahead(aligned, ran, [8.0 * m.sum() for m in aligned.masks], Settings()).rows[1]
    assert network["volume_low_mm3"] < network["volume_mm3"] < network["volume_high_mm3"]
    assert network["note"] == ""
