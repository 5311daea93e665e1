"""Full disks, folders that cannot be written, names that lead elsewhere, two batches at once."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from napari_convlstm_tumor.batch import Outcome, run_batch
from napari_convlstm_tumor.batch.claim import claimed, prepare
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover import find_patients
from napari_convlstm_tumor.settings import Settings

QUICK = Settings(register=False)


@contextlib.contextmanager
def disk(place, options):
    """A file system in memory; only root may make one."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("needs root, to make a small disk")
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this machine does not let a disk be made")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def run(patients, out):
    return [event for _, event in run_batch(patients, QUICK, out) if isinstance(event, Outcome)]


def test_a_full_disk_stops_the_batch_and_a_second_run_completes_it(folder, tmp_path, kit):
    patients = [p for p in find_patients(folder, QUICK) if p.patient != "P-03"]
    run(patients, tmp_path / "whole")
    with disk(tmp_path / "small disk", "size=4m") as out:
        ballast = fill(out)
        found = run_until_trouble(patients, out)
        assert len(found) < len(patients)  # the others would have failed in the same way
        assert "No space left" in found[-1].error
        assert "same command" in found[-1].advice
        assert not list(out.glob("P-*/run.json"))
        ballast.unlink()
        assert not any(o.error for o in run(patients, out))
        assert kit.contents(out) == kit.contents(tmp_path / "whole")


def fill(out, left=16_384):
    """A file that leaves so many bytes: enough to begin a result, too few to end it."""
    ballast = out / "ballast"
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    os.truncate(ballast, ballast.stat().st_size - left)
    return ballast


def run_until_trouble(patients, out):
    """Outcomes up to the error of the tables, which cannot be written either."""
    found = []
    with contextlib.suppress(InputError):
        for _, event in run_batch(patients, QUICK, out):
            found += [event] if isinstance(event, Outcome) else []
    return found


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_computed(folder, tmp_path):
    with disk(tmp_path / "fixed", "ro,size=1m") as out, pytest.raises(InputError, match=r"'fixed' cannot be written"):
        run_batch(find_patients(folder, QUICK), QUICK, out)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"'file' cannot be written"):
        run_batch(find_patients(folder, QUICK), QUICK, tmp_path / "file")


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".locks", "summary.csv", "..", ""])
def test_a_name_that_leads_elsewhere_is_a_failure(folder, tmp_path, name):
    patient = replace(find_patients(folder, QUICK)[0], patient=name)
    [outcome] = run([patient], tmp_path / "out")
    assert "Rename the patient" in outcome.error
    assert not (tmp_path / "elsewhere").exists()


def test_a_patient_in_another_batchs_hands_is_left_and_then_taken(folder, tmp_path):
    patients = find_patients(folder, QUICK)[:2]
    prepare(tmp_path)
    free = threading.Event()

    def hold():
        with claimed(tmp_path, "P-01") as mine:
            assert mine
            free.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    time.sleep(0.2)
    found = []
    for _, event in run_batch(patients, QUICK, tmp_path):
        if isinstance(event, Outcome):
            found.append(event.patient)
            free.set()  # the other batch lets go when this one has done the second patient
    other.join()
    assert found == ["P-02", "P-01"]


@pytest.mark.slow
def test_two_batches_at_once_share_the_work(folder, tmp_path, kit):
    run(find_patients(folder, QUICK), tmp_path / "whole")
    out, logs = tmp_path / "shared", [tmp_path / f"{n}.jsonl" for n in (1, 2)]
    command = [sys.executable, "-m", "napari_convlstm_tumor", "batch", str(folder), "-o", str(out), "--no-register"]
    both = [subprocess.Popen([*command, "--quiet", "--json-log", str(log)], stderr=subprocess.DEVNULL) for log in logs]
    assert [batch.wait() for batch in both] == [1, 1]  # the damaged patient
    events = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    assert all({e["patient"] for e in es if "patient" in e} == {f"P-0{n}" for n in range(1, 5)} for es in events)
    computed = [e["patient"] for es in events for e in es if e["event"] == "done"]
    assert sorted(computed) == ["P-01", "P-02", "P-04"]  # each once, by whichever batch
    assert kit.contents(out) == kit.contents(tmp_path / "whole")


def test_a_disk_of_the_workers_own_is_refused(folder, tmp_path):
    from napari_convlstm_tumor.batch.cluster import work
    from napari_convlstm_tumor.batch.patient import Task

    outcome = work(Task(find_patients(folder, QUICK)[0], QUICK, tmp_path / "not shared"))
    assert "storage that all share" in outcome.error
    assert not (tmp_path / "not shared").exists()
