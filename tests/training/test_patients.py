"""Simulated patients: what is asked for happens, the folder is read without complaint, the same seed is the same."""

import hashlib
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.io.discover import find_patient, find_patients
from napari_convlstm_tumor.pipeline import analyse
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.courses import COURSES
from napari_convlstm_tumor.training.patients import PatientPlan, simulate_patient, write_patient
from napari_convlstm_tumor.training.warped import simulate_warped

# Run here and in processes of its own: the same brain, the same patient.
RECIPE = """
import hashlib
import numpy as np
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.patients import PatientPlan, simulate_patient

def small_brain():
    shape = (72, 72, 64)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    radius = np.sqrt(sum((x - (n - 1) / 2) ** 2 for x, n in zip(axes, shape, strict=True)))
    tissue = np.zeros((3, *shape), np.uint8)
    tissue[1][radius < 22] = 255
    tissue[0][(radius >= 22) & (radius < 27)] = 255
    return Anatomy("small", (1.0, 1.0, 1.0), {}, tissue, np.clip(radius - 27, 0, None).astype(np.float16))

def fingerprint():
    plan = PatientPlan(seed=9, visits=3, course="resection", modalities=("t1c", "ct"), spacing_mm=(2.0, 2.0, 2.0))
    p = simulate_patient(plan, small_brain())
    parts = [*p.images.values(), p.masks, p.lesions, p.front_speed]
    return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in parts)).hexdigest()
"""
_recipe: dict = {}
exec(RECIPE, _recipe)


@pytest.fixture(scope="module")
def brain() -> Anatomy:
    return _recipe["small_brain"]()


def plan(course="growing", **changes) -> PatientPlan:
    return PatientPlan(
        **({"seed": 4, "visits": 3, "course": course, "modalities": ("t1c",), "spacing_mm": (2.0, 2.0, 2.0)} | changes)
    )


def test_a_tumor_without_contrast_is_not_bright_on_t1c(brain):
    """Small named courses enhance unless the plan says otherwise."""
    bright = []
    for enhancing in (None, False):
        patient = simulate_patient(plan(enhancing=enhancing), brain)
        tumor = patient.masks[-1] > 0
        bright.append(np.percentile(patient.images["t1c"][-1][tumor], 90))
    assert bright[0] > 1.3 * bright[1]


def test_the_same_seed_is_the_same_patient_in_another_process():
    other = subprocess.run(
        [sys.executable, "-c", RECIPE + "\nprint(fingerprint())"], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == _recipe["fingerprint"]()
    assert len(other.stdout.strip()) == len(hashlib.sha256().hexdigest())


@pytest.mark.parametrize(
    ("course", "kind"), [("merge", "merged"), ("split", "split"), ("resection", "resection"), ("growing", None)]
)
def test_what_is_asked_for_happens(brain, course, kind):
    patient = simulate_patient(plan(course), brain)
    kinds = [e.kind for e in patient.events]
    assert kind is None or kind in kinds
    assert set(np.unique(patient.lesions)) - {0} == set(range(1, int(patient.lesions.max()) + 1))
    assert np.array_equal(patient.lesions > 0, patient.masks > 0)


def test_growth_and_shrinkage_change_the_volume_and_the_front_alike(brain):
    for course, sign in (("growing", 1), ("shrinking", -1)):
        patient = simulate_patient(plan(course), brain)
        assert np.all(sign * np.diff(patient.still.sum(axis=(1, 2, 3)).astype(int)) > 0)
        for speeds in patient.front_speed[1:]:
            assert sign * np.nanmedian(speeds) > 0
        assert np.isnan(patient.front_speed[0]).all()


def test_a_stable_lesion_stands_still(brain):
    patient = simulate_patient(plan("stable", motion=False), brain)
    assert abs(np.nanmedian(patient.front_speed[1:])) < 0.15


@pytest.mark.parametrize("visits", [2, 6])
def test_visits_lie_at_uneven_days(brain, visits):
    patient = simulate_patient(plan("any", visits=visits, spacing_mm=(4.0, 4.0, 4.0)), brain)
    assert len(patient.days) == visits
    assert patient.days[0] == 0 and np.all(np.diff(patient.days) > 0)
    assert visits == 2 or len(set(np.diff(patient.days))) > 1


def test_thick_slices_and_motion_change_the_grid_not_the_truth(brain):
    thick = simulate_patient(plan(spacing_mm=(1.0, 1.0, 6.0)), brain)
    thin = simulate_patient(plan(spacing_mm=(1.0, 1.0, 1.0)), brain)
    assert thick.affine[2, 2] == 6.0
    assert thick.still.sum() * 6 == pytest.approx(int(thin.still.sum()), rel=0.15)
    assert thick.events == thin.events


def test_every_visit_keeps_an_image_when_some_are_missing(brain):
    patient = simulate_patient(plan(modalities=("t1c", "flair"), missing=0.8, visits=4), brain)
    assert patient.missing
    for t in range(4):
        assert sum((t, m) in patient.missing for m in patient.images) <= 1


def test_a_brain_without_room_for_a_second_lesion_says_so():
    tissue = np.zeros((3, 24, 24, 24), np.uint8)
    tissue[1, 4:20, 4:20, 4:20] = 255
    outside = np.where(tissue[1] > 0, 0, 2).astype(np.float16)
    with pytest.raises(SettingsError, match="no room"):
        simulate_patient(plan("new"), Anatomy("tiny", (1.0, 1.0, 1.0), {}, tissue, outside))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"course": "wild"}, "course is one of"), ({"missing": 1.0}, "missing"), ({"visits": 9}, "2 to 8")],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        plan(**changes)


def test_courses_are_listed_in_the_documentation():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert all(f"`{course}`" in page for course in COURSES)


def test_a_head_without_a_tumor_shows_none(brain):
    patient = simulate_patient(plan("tumor-free", modalities=("flair",)), brain)
    assert not patient.masks.any()
    assert not patient.lesions.any()
    assert patient.events == ()
    assert patient.images["flair"].std() > 0


def test_a_stripped_head_is_the_same_without_what_is_around_the_brain(brain):
    whole, stripped = (simulate_patient(plan(skull_stripped=s), brain) for s in (False, True))
    assert np.array_equal(whole.masks, stripped.masks)
    left = stripped.images["t1c"] > 0
    assert np.array_equal(whole.images["t1c"][left], stripped.images["t1c"][left])
    assert 0.1 < left.mean() < 0.9 * (whole.images["t1c"] > 0).mean()


# ---- the folder ----


def test_the_truth_lies_apart_and_the_reader_does_not_take_it(brain, tmp_path):
    asked = plan("merge", modalities=("t1c", "flair"), missing=0.3, seed=5)
    folder = write_patient(asked, tmp_path / "in" / "sim-005", brain, given="none")
    files = find_patient(folder)
    assert files.problems == () and all(v.mask is None for v in files.visits)
    assert [p.patient for p in find_patients(tmp_path / "in")] == ["sim-005"]
    truth = folder / "derivatives" / "truth"
    days = files.days
    labels = [np.asarray(nib.load(truth / f"day-{d:03d}" / "lesions.nii.gz").dataobj) for d in days]
    masks = [np.asarray(nib.load(truth / f"day-{d:03d}" / "mask.nii.gz").dataobj) for d in days]
    assert all(np.array_equal(n > 0, m > 0) for n, m in zip(labels, masks, strict=True))
    assert (truth / f"day-{days[1]:03d}" / "front-speed_mm-per-month.nii.gz").exists()
    events = json.loads((folder / "events.json").read_text())["events"]
    assert {"merged"} <= {e["kind"] for e in events}
    assert all(1 <= e["visit"] <= 3 and e["lesions"] for e in events)
    about = json.loads((folder / "truth.json").read_text())
    assert about["days"] == list(days) and about["plan"]["seed"] == 5


@pytest.mark.parametrize(("given", "shown"), [("none", 0), ("first", 1), ("all", 3)])
def test_given_masks_are_those_asked_for(brain, tmp_path, given, shown):
    folder = write_patient(plan(), tmp_path / "sim", brain, given=given)
    assert sum(v.mask is not None for v in find_patient(folder).visits) == shown


def test_the_pipeline_reads_what_is_written(brain, tmp_path):
    folder = write_patient(plan("resection"), tmp_path / "sim-1", brain, given="all")
    files = find_patient(folder)
    assert files.problems == () and files.warnings == ()
    *_, last = analyse(files, Settings())
    volumes = [row["volume_mm3"] for row in last.analysis.report.visits]
    truth = json.loads((folder / "truth.json").read_text())["volume_mm3"]
    assert volumes == pytest.approx(truth)


def test_an_unknown_choice_of_given_masks_is_refused(brain, tmp_path):
    with pytest.raises(SettingsError, match="none, first, all"):
        write_patient(plan(), tmp_path / "sim", brain, given="some")


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--course", "wild"], "course is one of"),
        (["--spacing", "1,1,x"], "three numbers"),
        (["--modalities", "pet"], "modalities are of"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, arguments, message):
    assert main(["simulate", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_command_needs_a_folder(capsys):
    assert main(["simulate"]) == 2
    assert "folder" in capsys.readouterr().err


# ---- real tumors, warped ----


def ball_anatomy() -> Anatomy:
    axes = np.ogrid[:40, :40, :32]
    radius = np.sqrt(sum((x - c) ** 2 for x, c in zip(axes, (20, 20, 16), strict=True)))
    image = np.where(radius < 9, 2.0, 0.0).astype(np.float16)
    return Anatomy("ball", (1.0, 1.0, 1.0), {"t1": image}, distance=(radius - 9).astype(np.float16))


def test_a_warped_tumor_begins_as_it_is_and_moves_with_its_image():
    patient = simulate_warped(ball_anatomy(), seed=3, visits=3)
    assert np.array_equal(patient.masks[0] > 0, np.asarray(ball_anatomy().distance) < 0)
    for mask, image in zip(patient.masks, patient.images["t1"], strict=True):
        bright = image > (image[mask > 0].mean() + image[mask == 0].mean()) / 2
        overlap = 2 * (bright & (mask > 0)).sum() / (bright.sum() + mask.sum())
        assert overlap > 0.85
    again = simulate_warped(ball_anatomy(), seed=3, visits=3)
    assert np.array_equal(patient.images["t1"], again.images["t1"])


def test_only_a_real_tumor_can_be_warped(brain):
    with pytest.raises(InputError, match="no real tumor"):
        simulate_warped(brain, seed=1)
    with pytest.raises(SettingsError, match="2 to 8"):
        simulate_warped(ball_anatomy(), seed=1, visits=1)


def test_a_real_sarcoma_becomes_a_patient_that_is_read(shared_data, tmp_path):
    out = tmp_path / "out"
    assert main(["simulate", str(out), "--real", str(shared_data / "sarcoma"), "--visits", "2", "--given", "all"]) == 0
    (files,) = find_patients(out)
    assert files.problems == () and files.modalities == ("ct",)
    assert all(v.mask is not None for v in files.visits)
