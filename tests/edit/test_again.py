"""Another criterion and another day without the network: from a result alone, and equal to what a run gives."""

import dataclasses

import pytest

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.edit.again import forecast_at, report_under
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.settings import Settings

CRITERIA = ("rano-2.0-volume", "recist-1.1", "rano-2010", "lung-volume")


@pytest.fixture(scope="module")
def run_once(tmp_path_factory, request):
    """HAND-01 run once with the stand-in, RANO 2.0."""
    from importlib import util
    from pathlib import Path

    spec = util.spec_from_file_location("hand", Path(__file__).parents[1] / "_napari" / "conftest.py")
    hand = util.module_from_spec(spec)
    spec.loader.exec_module(hand)
    patient = hand.write_patient(tmp_path_factory.mktemp("again"))
    files = find_patient(patient)

    def run(criterion):
        settings = Settings(register=False, criterion=criterion)
        return list(pipeline.analyse(files, settings, hand.BrightVoxels()))[-1].analysis

    return run


def test_response_equals_that_of_a_run(run_once, tmp_path):
    """Also after the result was written and read back."""
    first = run_once("rano-2.0-volume")
    pipeline.save(first, tmp_path / "HAND-01")
    for analysis in (first, pipeline.load(tmp_path / "HAND-01")):
        for criterion in CRITERIA:
            whole = run_once(criterion).report if analysis is first else report_under(first, criterion)
            assert report_under(analysis, criterion).responses == whole.responses
            assert report_under(analysis, criterion).visits == analysis.report.visits


def test_none_and_missing_lesions(run_once):
    analysis = run_once("auto")
    assert report_under(analysis, "none").responses == {}
    bare = dataclasses.replace(analysis, native_lesions=())
    report = report_under(bare, "recist-1.1")
    assert report.responses == {}
    assert "no lesions" in report.warnings[-1]
    assert "no lesions" not in " ".join(report_under(dataclasses.replace(analysis, report=report), "auto").warnings)


def test_forecast_at_the_runs_own_day_is_the_runs(run_once):
    analysis = run_once("auto")
    registrations = tuple(dataclasses.replace(r, quality=1.0, good=True) for r in analysis.registrations)
    analysis = dataclasses.replace(analysis, registrations=registrations)
    own = forecast_at(analysis, analysis.days[-1] - analysis.days[-2])
    assert own.prediction.forecast_day == 153
    later = forecast_at(analysis, 80)
    assert later.prediction.forecast_day == 97 + 80
    assert later.rows[0]["volume_mm3"] > own.rows[0]["volume_mm3"]
    assert later.band is not None and set(map(int, set(later.band.ravel()))) == {0, 1, 2}


def test_too_far_is_refused_with_a_sentence(run_once):
    analysis = run_once("auto")
    registrations = tuple(dataclasses.replace(r, good=True) for r in analysis.registrations)
    outlook = forecast_at(dataclasses.replace(analysis, registrations=registrations), 3000)
    assert outlook.prediction.forecast is None
    assert outlook.prediction.forecast_note.startswith("No forecast: 3000 days ahead")
