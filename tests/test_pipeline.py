"""The whole chain on small real files with a known answer; the segmenter is the only thing ever replaced."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from napari_convlstm_tumor.batch import run_batch
from napari_convlstm_tumor.errors import InputError, SeriesError
from napari_convlstm_tumor.io.discover import find_patient, find_patients
from napari_convlstm_tumor.pipeline import analyse, load, save
from napari_convlstm_tumor.results import read_recipe
from napari_convlstm_tumor.series import Prediction, Prompt
from napari_convlstm_tumor.settings import Settings

SHAPE = (40, 44, 24)
AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1.5, 0, -33], [0, 0, 3.0, -36], [0, 0, 0, 1.0]])  # LAS, 1.5 x 1.5 x 3 mm
RADII_MM = {0: 8.0, 60: 11.0, 120: 14.0}
MM_PER_MONTH = 1.522


def millimetres():
    ijk = np.moveaxis(np.indices(SHAPE), 0, -1)
    return ijk @ AFFINE[:3, :3].T + AFFINE[:3, 3]


def ball(radius):
    return np.linalg.norm(millimetres() - (3, 2, 1), axis=-1) < radius


def head():
    places = millimetres()
    folds = np.sin(places[..., 0] / 2.5) * np.cos(places[..., 1] / 3) * np.sin(places[..., 2] / 4)
    inside = (places / (27, 30, 34)) ** 2
    return (inside.sum(-1) < 1) * (200 + 40 * folds)


def write_patient(folder: Path, days=tuple(RADII_MM), masks=True) -> Path:
    rng = np.random.default_rng(0)
    for day in days:
        visit = folder / f"day-{day:03d}"
        visit.mkdir(parents=True)
        tumor = ball(RADII_MM[day])
        image = head() + 150 * tumor + rng.normal(0, 2, SHAPE)
        nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), visit / "t1c.nii.gz")
        if masks:
            nib.save(nib.Nifti1Image(tumor.astype(np.uint8), AFFINE), visit / "mask.nii.gz")
    return folder


def finished(steps):
    last = 0.0
    for step in steps:
        assert 0 <= step.fraction <= 1
        assert step.fraction >= last
        last = step.fraction
    assert step.analysis is not None
    return step.analysis


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return write_patient(tmp_path_factory.mktemp("data") / "P-01")


@pytest.fixture(scope="module")
def analysis(patient):
    return finished(analyse(find_patient(patient), Settings()))


def test_given_masks_give_the_known_numbers(analysis):
    rows = analysis.report.visits
    assert [r["day"] for r in rows] == [0, 60, 120]
    for row, radius in zip(rows, RADII_MM.values(), strict=True):
        assert row["volume_mm3"] == pytest.approx(ball(radius).sum() * 1.5 * 1.5 * 3)
    for row in rows[1:]:
        assert row["front_speed_mm_per_month"] == pytest.approx(MM_PER_MONTH, abs=0.25)
        assert row["sgr_per_day"] > 0
    assert rows[0]["front_speed_mm_per_month"] is None
    assert analysis.prediction.model == "masks given"


def test_the_native_masks_are_the_persons_own(analysis):
    for mask, radius in zip(analysis.native_masks, RADII_MM.values(), strict=True):
        assert np.array_equal(mask.data, ball(radius))
        assert np.allclose(mask.grid.affine, AFFINE)


def test_the_forecast_goes_on_growing(analysis):
    assert analysis.prediction.forecast_day == 180
    voxels = np.count_nonzero(analysis.prediction.forecast >= 0.5)
    expected = ball(17).sum()
    assert voxels == pytest.approx(expected, rel=0.15)
    assert "Mean speed of the front: +" in analysis.prediction.forecast_note


def test_the_forecast_stands_beside_the_others_in_its_band(analysis):
    rows = {row["method"]: row for row in analysis.report.forecasts}
    assert list(rows) == ["linear", "persistence", "linear pointwise", "exponential", "gompertz"]  # no network ran
    last = analysis.report.visits[-1]["volume_mm3"]
    assert rows["persistence"]["volume_mm3"] == pytest.approx(last)
    for row in rows.values():
        assert row["day"] == 180
        assert row["volume_low_mm3"] <= row["volume_mm3"] <= row["volume_high_mm3"]
    band, forecast = analysis.forecast_band, analysis.prediction.forecast >= 0.5
    assert set(np.unique(band)) == {0, 1, 2}
    assert forecast[band == 2].all()
    assert not forecast[band == 0].any()


def test_the_lesion_is_followed_and_measured_on_the_persons_own_voxels(analysis):
    rows = analysis.report.lesions
    assert [(r["visit"], r["lesion"], r["state"]) for r in rows] == [
        (1, 1, "baseline"), (2, 1, "persistent"), (3, 1, "persistent"),
    ]  # fmt: skip
    for row, visit, radius in zip(rows, analysis.report.visits, RADII_MM.values(), strict=True):
        assert row["volume_mm3"] == visit["volume_mm3"]  # one lesion is all there is
        assert row["longest_axial_mm"] == pytest.approx(2 * radius, abs=1.2)
        assert row["volume_low_mm3"] < row["volume_mm3"] < row["volume_high_mm3"]
    assert rows[1]["front_speed_mm_per_month"] == analysis.report.visits[1]["front_speed_mm_per_month"]
    for labels, mask in zip(analysis.native_lesions, analysis.native_masks, strict=True):
        assert np.array_equal(labels.data, mask.data)


def test_the_growth_is_more_than_error_and_the_map_says_so(analysis):
    assert [r["within_error"] for r in analysis.report.visits] == [None, False, False]
    assert not analysis.reliable[0].any()
    front = np.isfinite(analysis.growth[2])
    assert analysis.reliable[2][front].mean() > 0.5
    assert not analysis.reliable[2][~front].any()


def test_the_response_says_its_criterion_and_why(analysis):
    (answers,) = analysis.report.responses.values()
    assert [a["category"] for a in answers] == ["baseline", "PD", "PD"]
    told = analysis.report.provenance["response"]
    assert told["criterion"] == "rano-2.0-volume"
    assert "chosen because all images are MR" in told["why"]


def test_growth_is_undefined_at_the_first_visit(analysis):
    assert np.isnan(analysis.growth[0]).all()
    assert np.isfinite(analysis.growth[1]).any()


def test_a_result_is_saved_and_loaded_as_it_was(analysis, tmp_path):
    folder = tmp_path / "with space é" / "P-01"
    save(analysis, folder)
    back = load(folder)
    assert np.array_equal(back.masks, analysis.masks)
    assert np.array_equal(back.growth, analysis.growth, equal_nan=True)
    assert np.allclose(back.images["t1c"], analysis.images["t1c"])
    assert back.report == analysis.report
    assert np.array_equal(back.lesions, analysis.lesions)
    assert np.array_equal(back.reliable, analysis.reliable)
    assert np.array_equal(back.forecast_band, analysis.forecast_band)
    for read, made in zip(back.native_lesions, analysis.native_lesions, strict=True):
        assert np.array_equal(read.data, made.data)
    assert back.days == analysis.days
    assert [p.name for p in tmp_path.glob("with*/*")] == ["P-01"]  # no part left behind
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names >= {
        "visits.csv", "run.json", "recipe.yaml", "native/visit-01/mask.nii.gz", "native/visit-03/mask.nii.gz",
        "series/image.nii.gz", "series/mask.nii.gz", "series/probability.nii.gz",
        "series/growth_mm_per_month.nii.gz", "series/forecast.nii.gz", "lesions.csv", "report.html", "report.json",
        "native/visit-01/lesions.nii.gz", "series/lesions.nii.gz", "series/growth_reliable.nii.gz",
        "series/forecast_band.nii.gz",
    }  # fmt: skip
    assert nib.load(folder / "series" / "mask.nii.gz").shape == (*SHAPE, 3)


def test_saving_again_replaces_and_foreign_files_are_refused(analysis, tmp_path):
    folder = tmp_path / "P-01"
    save(analysis, folder)
    (folder / "native" / "visit-09").mkdir()
    (folder / "my notes.txt").write_text("kept")
    save(analysis, folder)
    assert not (folder / "native" / "visit-09").exists()
    assert (folder / "my notes.txt").read_text() == "kept"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.doc").write_text("precious")
    with pytest.raises(InputError, match="not a result"):
        save(analysis, other)
    assert (other / "thesis.doc").read_text() == "precious"


def test_the_record_explains_the_run_without_paths_or_dates(analysis, tmp_path, patient):
    save(analysis, tmp_path / "P-01")
    text = (tmp_path / "P-01" / "run.json").read_text() + (tmp_path / "P-01" / "recipe.yaml").read_text()
    record = json.loads((tmp_path / "P-01" / "run.json").read_text())
    assert set(record["timings_s"]) == {"read", "align", "segment", "measure", "forecast", "report"}
    assert record["versions"]["torch"]
    assert record["peak_memory_mb"] > 0
    assert record["precision"] is None  # the masks were given: our network was not asked
    assert str(patient.parent) not in text


def test_the_recipe_replays_the_run(patient, tmp_path):
    settings = Settings(spacing=(3.0,), horizon_days=20)
    first = finished(analyse(find_patient(patient), settings))
    save(first, tmp_path / "a")
    again = finished(analyse(find_patient(patient), read_recipe(tmp_path / "a" / "recipe.yaml")))
    assert np.array_equal(first.masks, again.masks)
    assert again.prediction.forecast_day == 140


def test_undated_visits_are_never_given_a_rate_per_month(tmp_path):
    source = write_patient(tmp_path / "src" / "P")
    for n, visit in enumerate(sorted(source.iterdir()), start=1):
        visit.rename(source / f"visit-{n}")
    result = finished(analyse(find_patient(source), Settings()))
    assert not result.dated
    assert result.growth_unit == "mm/visit"
    assert "front_speed_mm_per_visit" in result.report.visits[1]
    assert "front_speed_mm_per_month" not in result.report.visits[1]
    assert result.prediction.forecast is None
    save(result, tmp_path / "out")
    assert (tmp_path / "out" / "series" / "growth_mm_per_visit.nii.gz").exists()
    assert load(tmp_path / "out").dated is False


def test_one_visit_gives_a_volume_and_says_there_is_no_growth(tmp_path):
    result = finished(analyse(find_patient(write_patient(tmp_path / "P", days=(0,))), Settings()))
    assert len(result.report.visits) == 1
    assert result.report.visits[0]["volume_mm3"] > 0
    assert np.isnan(result.growth).all()
    assert "single visit" in result.prediction.forecast_note
    assert any("growth" in w for w in result.report.warnings)


# ---- what a person may add ----


def test_baseline_criterion_clinical_and_links_are_used_and_kept(patient, tmp_path):
    (tmp_path / "clinic.csv").write_text("patient,visit,day,steroid_mg_per_day,event\nP-01,3,,4,\nother,1,,9,\n")
    centre = [3.0, 2.0, 1.0]
    (tmp_path / "which.json").write_text(json.dumps([{"visit": 3, "ras_mm": centre, "is": 2}]))
    settings = Settings(
        baseline=2, criterion="recist-1.1", clinical=tmp_path / "clinic.csv", links=tmp_path / "which.json",
        log_growth=True,
    )  # fmt: skip
    result = finished(analyse(find_patient(patient), settings))
    assert [r["change_from_baseline_percent"] is None for r in result.report.visits] == [True, True, False]
    assert {r["lesion"]: r["state"] for r in result.report.lesions if r["visit"] == 3} == {1: "vanished", 2: "new"}
    assert [a["category"] for a in result.report.responses["recist-1.1"]] == ["before baseline", "baseline", "PD"]
    assert result.report.provenance["baseline_visit"] == 2
    assert np.isfinite(result.log_growth[2]).any()
    save(result, tmp_path / "a")
    kept = (tmp_path / "a" / "clinical.csv").read_text()
    assert "other" not in kept
    assert "P-01" not in kept
    assert str(tmp_path) not in (tmp_path / "a" / "recipe.yaml").read_text()
    again = finished(analyse(find_patient(patient), read_recipe(tmp_path / "a" / "recipe.yaml")))
    assert again.report == result.report
    assert np.array_equal(load(tmp_path / "a").log_growth, result.log_growth, equal_nan=True)


def test_the_log_jacobian_is_made_kept_and_replayed_when_asked_for(patient, tmp_path):
    names = {"log_jacobian_per_month.nii.gz", "log_jacobian_reliable.nii.gz"}
    result = finished(analyse(find_patient(patient), Settings(log_jacobian=True)))
    assert np.isfinite(result.log_jacobian[1:]).any() and np.isnan(result.log_jacobian[0]).all()
    assert "deform" in result.provenance["timings_s"]
    save(result, tmp_path / "a")
    assert names <= {p.name for p in (tmp_path / "a" / "series").iterdir()}
    assert read_recipe(tmp_path / "a" / "recipe.yaml").log_jacobian
    back = load(tmp_path / "a")
    assert np.array_equal(back.log_jacobian, result.log_jacobian, equal_nan=True)
    assert np.array_equal(back.log_jacobian_reliable, result.log_jacobian_reliable)


def test_without_being_asked_for_there_is_no_deformable_registration(patient, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_convlstm_tumor.steps.deforming.deform", lambda *_: pytest.fail("registered"))
    result = finished(analyse(find_patient(patient), Settings()))
    assert result.log_jacobian is None and "deform" not in result.provenance["timings_s"]
    save(result, tmp_path / "a")
    assert not list((tmp_path / "a" / "series").glob("log_jacobian*"))
    assert load(tmp_path / "a").log_jacobian is None


def test_what_cannot_be_is_refused_before_anything_is_computed(patient, tmp_path):
    with pytest.raises(InputError, match="no visit 4 for a baseline"):
        next(analyse(find_patient(patient), Settings(baseline=4)))
    (tmp_path / "bad.json").write_text("[1]")
    steps = analyse(find_patient(patient), Settings(links=tmp_path / "bad.json"))
    assert next(steps).name == "Reading images"
    with pytest.raises(InputError, match=r"bad\.json"):
        next(steps)


def test_no_response_when_none_is_asked_for(patient):
    result = finished(analyse(find_patient(patient), Settings(criterion="none")))
    assert result.report.responses == {}
    assert result.report.provenance["response"] == {"why": "No response was asked for."}


def test_dicom_asked_of_nifti_is_a_sentence_and_everything_else_is_there(patient, tmp_path):
    result = finished(analyse(find_patient(patient), Settings(dicom=True)))
    said = "No DICOM output: the images of visit 1 were not read from DICOM files."
    assert said in result.report.warnings
    written = save(result, tmp_path / "a")
    assert written.report.warnings == result.report.warnings  # said once
    assert not (tmp_path / "a" / "dicom").exists()
    assert said in (tmp_path / "a" / "report.html").read_text()
    back = save(load(tmp_path / "a"), tmp_path / "b")
    assert sum("No DICOM output" in w for w in back.report.warnings) == 1


def bright_is_tumor(aligned, prompts, settings):
    """A segmenter that finds the simulated tumor, to test the chain around it."""
    bright_is_tumor.prompts = prompts
    for n in range(len(aligned.days)):
        yield n / len(aligned.days)
    raw = np.stack([aligned.raw(t, 0) for t in range(len(aligned.days))])
    return Prediction((raw > 300).astype(np.float32), aligned.days, aligned.grid, "bright")


def test_another_segmenter_and_prompts_in_the_common_space(patient):
    prompt = Prompt(2, "point", np.array([3.0, 2.0, 1.0]))
    result = finished(analyse(find_patient(patient), Settings(masks="ignore"), bright_is_tumor, (prompt,)))
    assert result.prediction.model == "bright"
    assert np.allclose(bright_is_tumor.prompts[0].ras_mm, (3, 2, 1), atol=0.5)
    found = result.native_masks[2].data
    overlap = 2 * (found & ball(14)).sum() / (found.sum() + ball(14).sum())
    assert overlap > 0.9


def test_mask_prompts_and_settings_survive_saving_twice(patient, tmp_path):
    mask = find_mask(patient)
    prompts = (Prompt(1, "mask", mask=mask), Prompt(2, "point", np.array([3.0, 2.0, 1.0])))
    result = finished(analyse(find_patient(patient), Settings(masks="ignore"), bright_is_tumor, prompts))
    save(result, tmp_path / "a")
    back = load(tmp_path / "a")
    assert np.array_equal(back.prompts[0].mask.data, mask.data)
    save(back, tmp_path / "b")
    assert (tmp_path / "b" / "recipe.yaml").read_text() == (tmp_path / "a" / "recipe.yaml").read_text()
    assert str(tmp_path) not in (tmp_path / "b" / "recipe.yaml").read_text()
    assert json.loads((tmp_path / "b" / "run.json").read_text())["settings"]["masks"] == "ignore"


def find_mask(patient):
    from napari_convlstm_tumor.io.read import read_volume
    from napari_convlstm_tumor.volume import Volume

    volume = read_volume([patient / "day-000" / "mask.nii.gz"])
    return Volume(volume.data.astype(np.uint8), volume.grid)


def test_a_result_stopped_while_it_was_moved_in_is_replaced(analysis, tmp_path):
    save(analysis, tmp_path / "P")
    (tmp_path / "P" / "run.json").unlink()
    save(analysis, tmp_path / "P")
    assert load(tmp_path / "P").days == analysis.days
    assert (tmp_path / "P").stat().st_mode & 0o077  # readable as the umask says, not only by its owner


def test_the_volume_of_a_given_mask_is_counted_on_its_own_voxels(tmp_path):
    folder = write_patient(tmp_path / "P", days=(0, 60))
    for day in (0, 60):
        fine = np.kron(ball(RADII_MM[day]), np.ones((1, 1, 3))).astype(np.uint8)
        affine = AFFINE @ np.diag([1, 1, 1 / 3, 1])
        affine[2, 3] -= 1.0
        fine[..., ::3] = 0  # a third less than on the image's own slices
        nib.save(nib.Nifti1Image(fine, affine), folder / f"day-{day:03d}" / "mask.nii.gz")
    result = finished(analyse(find_patient(folder), Settings()))
    for row, radius in zip(result.report.visits, (8, 11), strict=True):
        assert row["volume_mm3"] == pytest.approx(ball(radius).sum() * 1.5 * 1.5 * 3 * 2 / 3, rel=0.01)
        assert any("other voxels" in w for w in row["warnings"])


def test_a_visit_far_away_that_is_not_registered_is_refused(tmp_path):
    folder = write_patient(tmp_path / "P", days=(0, 60))
    image = nib.load(folder / "day-060" / "t1c.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 900
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), folder / "day-060" / "t1c.nii.gz")
    (folder / "day-060" / "mask.nii.gz").unlink()
    with pytest.raises(SeriesError, match="does not overlap"):
        finished(analyse(find_patient(folder), Settings(register=False), bright_is_tumor))


def test_a_patient_with_problems_is_refused_with_its_sentence(patient):
    files = replace(find_patient(patient), problems=("Two visits share a day.",))
    with pytest.raises(SeriesError, match="share a day"):
        next(analyse(files, Settings()))


def test_one_bad_patient_never_stops_a_batch(tmp_path):
    write_patient(tmp_path / "in" / "A")
    bad = write_patient(tmp_path / "in" / "B")
    (bad / "day-060" / "t1c.nii.gz").write_bytes(b"not an image")
    write_patient(tmp_path / "in" / "C", days=(0, 120))
    events = list(run_batch(find_patients(tmp_path / "in"), Settings(), tmp_path / "out"))
    outcomes = [e for _, e in events if hasattr(e, "error")]
    assert [bool(o.error) for o in outcomes] == [False, True, False]
    assert "t1c.nii.gz" in outcomes[1].error
    assert not (tmp_path / "out" / "B").exists()
    summary = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert len(summary) == 4
    assert yaml.safe_load((tmp_path / "out" / "A" / "recipe.yaml").read_text())["masks"] == "use"
