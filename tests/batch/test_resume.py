"""A finished patient is left alone only when the very same would come out again."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from napari_convlstm_tumor.batch import BatchPlan, Outcome, run_batch
from napari_convlstm_tumor.batch.claim import claimed
from napari_convlstm_tumor.batch.fingerprint import quick
from napari_convlstm_tumor.batch.patient import state
from napari_convlstm_tumor.batch.run import tasks
from napari_convlstm_tumor.io.discover import find_patients
from napari_convlstm_tumor.settings import Settings

QUICK = Settings(register=False)


def run(source: Path, out: Path, settings=QUICK, **plan):
    events = run_batch(find_patients(source, settings), settings, out, plan=BatchPlan(**plan))
    return [event for _, event in events if isinstance(event, Outcome)]


def nothing(source, kit):
    pass


def touch(source, kit):
    for path in source.rglob("*.nii.gz"):
        os.utime(path, (1, 1))


def change_a_byte(source, kit):
    """The same size, as a file that was repaired might have."""
    path = source / "P-01" / "day-000" / "t1c.nii.gz"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def rename_a_day(source, kit):
    (source / "P-01" / "day-050").rename(source / "P-01" / "day-060")


def add_a_visit(source, kit):
    shutil.copytree(source / "P-01" / "day-050", source / "P-01" / "day-090")


def drop_a_mask(source, kit):
    (source / "P-01" / "day-050" / "mask.nii.gz").unlink()


@pytest.mark.parametrize(
    ("change", "settings", "again"),
    [
        (nothing, QUICK, False),
        (touch, QUICK, False),  # other times, same bytes
        (change_a_byte, QUICK, True),
        (rename_a_day, QUICK, True),
        (add_a_visit, QUICK, True),
        (drop_a_mask, QUICK, True),
        (nothing, replace(QUICK, reference=2), True),
        (nothing, replace(QUICK, spacing=(4.0,)), True),
    ],
)
def test_only_the_same_files_and_settings_count_as_finished(own_folder, tmp_path, change, settings, again, kit):
    out = tmp_path / "out"
    assert [o.earlier for o in run(own_folder, out)] == [False, False]
    change(own_folder, kit)
    files = find_patients(own_folder, settings)
    found = {t.patient: state(t) for t in tasks(files, settings, out, BatchPlan())}
    assert found["P-01"].startswith("to do again" if again else "finished")


def test_other_weights_are_another_result(own_folder, tmp_path, monkeypatch):
    files = find_patients(own_folder, QUICK)[0]
    blind = replace(QUICK, masks="ignore")
    assert quick(files, QUICK)["model"] is None  # given masks need no network
    first = quick(files, blind)
    monkeypatch.setattr("napari_convlstm_tumor.batch.fingerprint.model_sha256", lambda name: "other")
    assert quick(files, blind) != first
    assert len(first["model"]) == 64


def test_a_prompts_file_counts_by_what_is_in_it(own_folder, tmp_path):
    files = find_patients(own_folder, QUICK)[0]
    here, there = tmp_path / "a.json", tmp_path / "b.json"
    here.write_text('[{"visit": 1, "type": "mask", "path": "m.nii"}]')
    there.write_text(here.read_text())
    (tmp_path / "m.nii").write_bytes(b"1")
    first = quick(files, replace(QUICK, prompts=here))
    assert quick(files, replace(QUICK, prompts=there)) == first
    (tmp_path / "m.nii").write_bytes(b"2")
    assert quick(files, replace(QUICK, prompts=here)) != first


def test_a_moved_folder_is_the_same_and_no_name_is_in_the_record(own_folder, tmp_path):
    run(own_folder, tmp_path / "out")
    own_folder.rename(tmp_path / "elsewhere")
    assert all(o.earlier for o in run(tmp_path / "elsewhere", tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "P-01" / "run.json").read_text())["fingerprint"]
    assert all(len(v) == 64 for k, v in record.items() if k not in ("version", "model"))


def test_two_runs_give_the_same_bytes(folder, tmp_path, kit):
    run(folder, tmp_path / "a")
    run(folder, tmp_path / "b")
    first, second = kit.contents(tmp_path / "a"), kit.contents(tmp_path / "b")
    assert sum(name.endswith("mask.nii.gz") for name in first) == 3 * 3
    assert first == second


def test_a_second_run_computes_nothing_and_leaves_the_same_tables(folder, tmp_path, kit):
    first = run(folder, tmp_path)
    before = kit.contents(tmp_path)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("P-*/run.json")}
    second = run(folder, tmp_path)
    assert [bool(o.error) for o in first] == [False, False, True, False]
    assert {o.patient: o.earlier for o in second} == {"P-01": True, "P-02": True, "P-03": False, "P-04": True}
    assert kit.contents(tmp_path) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_overwrite_does_all_again(own_folder, tmp_path, kit):
    run(own_folder, tmp_path / "out")
    before = kit.contents(tmp_path / "out")
    assert not any(o.earlier for o in run(own_folder, tmp_path / "out", overwrite=True))
    assert kit.contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda result: (result / "run.json").write_text('{"fingerprint'),
        lambda result: (result / "run.json").unlink(),
        lambda result: (result / "report.json").write_text("{"),
        lambda result: (result / "run.json").write_text("[" * 100_000),
        lambda result: (result / "report.json").write_text("[" * 100_000),
        lambda result: (result / "report.json").write_text('{"visits": 7}'),
        lambda result: shutil.rmtree(result / "series"),
    ],
    ids=[
        "cut run.json",
        "no run.json",
        "cut report.json",
        "nested run.json",
        "nested report.json",
        "other report.json",
        "no series",
    ],
)
def test_a_result_that_is_not_whole_is_made_again(own_folder, tmp_path, harm, kit):
    out = tmp_path / "out"
    run(own_folder, out)
    before = kit.contents(out)
    harm(out / "P-01")
    assert [o.earlier for o in sorted(run(own_folder, out), key=lambda o: o.patient)] == [False, True]
    assert kit.contents(out) == before


def test_what_dead_processes_left_is_swept_and_what_live_ones_write_is_not(own_folder, tmp_path):
    out = tmp_path / "out"
    run(own_folder, out)
    dead, live = out / ".P-01.0a1b2c3d.part", out / ".P-09.0a1b2c3d.part"
    for place in (dead, live):
        place.mkdir()
        (place / "run.json").write_text("{}")
    (out / ".summary.csv.0a1b2c3d.tmp").write_text("patient")
    with claimed(out, "P-09") as mine:
        assert mine
        run(own_folder, out)
    assert not dead.exists()
    assert live.exists()
    assert not list(out.glob("*.tmp")) and not list(out.glob(".*.tmp"))


def test_failures_say_the_step_and_what_to_do_and_vanish_when_repaired(tmp_path, kit):
    source, out = tmp_path / "in", tmp_path / "out"
    kit.write_patient(source / "A")
    kit.damage(kit.write_patient(source / "B"))
    run(source, out)
    [row] = list(csv.DictReader((out / "failures.csv").open()))
    assert (row["patient"], row["step"]) == ("B", "Reading images")
    assert "t1c.nii.gz" in row["error"]
    assert "info" in row["what_to_do"]
    assert str(tmp_path) not in row["error"]
    shutil.rmtree(source / "B")
    kit.write_patient(source / "B")
    run(source, out)
    assert (out / "failures.csv").read_text() == "patient,step,error,what_to_do\n"
    assert "failed" not in (out / "summary.csv").read_text()


def test_parts_and_single_patients_add_to_the_tables(folder, tmp_path, kit):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(folder, whole)
    patients = find_patients(folder, QUICK)
    for chosen in (patients[2:], patients[:1], patients[1:2]):
        kit.outcomes(run_batch(chosen, QUICK, parts))
    for table in ("summary.csv", "failures.csv", "index.html"):
        assert (parts / table).read_text() == (whole / table).read_text()
    shutil.rmtree(parts / "P-04")  # a person took it away: it must not stay in the overview
    kit.outcomes(run_batch(patients[:1], QUICK, parts))
    assert "P-04" not in (parts / "summary.csv").read_text()


def test_what_is_done_when_a_person_stops_stands_in_the_tables(own_folder, tmp_path):
    events = run_batch(find_patients(own_folder, QUICK), QUICK, tmp_path / "out")
    while not isinstance(next(events)[1], Outcome):
        pass
    events.close()
    assert [r["patient"] for r in csv.DictReader((tmp_path / "out" / "summary.csv").open())] == ["P-01"]


@pytest.mark.parametrize("text", ["patient\nP-01\n", "{", "", "SHORT"])
def test_damaged_tables_are_made_again(own_folder, tmp_path, text):
    out = tmp_path / "out"
    run(own_folder, out)
    before = (out / "summary.csv").read_text()
    (out / "summary.csv").write_text(before + "P-09,done\n" if text == "SHORT" else text)
    run(own_folder, out)
    assert (out / "summary.csv").read_text() == before


def test_spaces_and_letters_of_other_alphabets(tmp_path, kit):
    source, out = tmp_path / "Eingang für Ärzte", tmp_path / "Ergebnis 結果 é"
    kit.write_patient(source / "Patient Müller 患者")
    [outcome] = run(source, out)
    assert not outcome.error
    assert (out / "Patient Müller 患者" / "run.json").is_file()
    assert run(source, out)[0].earlier


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_can_be_read_without_end_is_a_failure_of_its_patient(own_folder, tmp_path, kind):
    image = own_folder / "P-01" / "day-050" / "t1c.nii.gz"
    image.unlink()
    if kind == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to("/dev/zero")
    failed, done = sorted(run(own_folder, tmp_path / "out"), key=lambda o: o.patient)
    assert "t1c.nii.gz is no file (a folder, pipe or device)" in failed.error
    assert not done.error
