"""Workers on this machine: the same results, whatever is killed and whenever."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from napari_convlstm_tumor.batch import BatchPlan, Outcome, run_batch
from napari_convlstm_tumor.batch.cluster import work
from napari_convlstm_tumor.batch.patient import Task
from napari_convlstm_tumor.batch.serve import gated
from napari_convlstm_tumor.io.discover import find_patients
from napari_convlstm_tumor.pipeline import Step
from napari_convlstm_tumor.results import is_result, load
from napari_convlstm_tumor.settings import Settings

QUICK = Settings(register=False)


def run(patients, out, **plan):
    return [e for _, e in run_batch(patients, QUICK, out, plan=BatchPlan(**plan)) if isinstance(e, Outcome)]


def test_workers_give_the_same_and_a_killed_one_costs_only_its_patients_time(folder, tmp_path, kit):
    patients = find_patients(folder, QUICK)
    run(patients, tmp_path / "whole")
    killed, found = set(), []
    for files, event in run_batch(patients, QUICK, tmp_path / "out", plan=BatchPlan(jobs=2)):
        if isinstance(event, Step) and not killed:
            victim = multiprocessing.active_children()[0]
            os.kill(victim.pid, signal.SIGKILL)
            killed.add(files.patient)
        found += [event] if isinstance(event, Outcome) else []
    assert {o.patient: bool(o.error) for o in found} == {f"P-{n:02d}": n == 3 for n in range(1, 5)}
    assert all(o.analysis is None for o in found)  # no image crosses the pipe
    assert kit.contents(tmp_path / "out") == kit.contents(tmp_path / "whole")
    assert multiprocessing.active_children() == []


def test_a_patient_that_kills_its_workers_is_a_failure_and_the_rest_is_done(folder, tmp_path):
    patients = find_patients(folder, QUICK)[:2]
    found = []
    for files, event in run_batch(patients, QUICK, tmp_path, plan=BatchPlan(jobs=1)):
        if isinstance(event, Step) and files.patient == "P-01" and event.fraction == 0:
            [victim] = multiprocessing.active_children()
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
        found += [event] if isinstance(event, Outcome) else []
    assert [(o.patient, bool(o.error)) for o in found] == [("P-01", True), ("P-02", False)]
    assert "died 2 times on this patient (signal 9)" in found[0].error
    assert "memory" in found[0].advice


@pytest.mark.skipif(sys.platform != "linux", reason="--memory-limit needs Linux")
def test_the_memory_limit_holds(tmp_path, kit):
    kit.write_patient(tmp_path / "in" / "small")
    kit.write_patient(tmp_path / "in" / "too-large", shape=(320, 320, 190), noise=0)
    patients = find_patients(tmp_path / "in", QUICK)
    found = run(patients, tmp_path / "out", jobs=1, memory_limit=1000**3)
    assert {o.patient: o.error for o in found} == {"small": "", "too-large": "Not enough memory for this patient."}
    assert "--memory-limit" in next(o.advice for o in found if o.error)


def test_stopping_leaves_no_process(folder, tmp_path):
    events = run_batch(find_patients(folder, QUICK), QUICK, tmp_path, plan=BatchPlan(jobs=1))
    next(events)
    assert multiprocessing.active_children()
    events.close()
    assert multiprocessing.active_children() == []


def test_the_gate_is_held_while_the_segmenter_works():
    held = []

    class Gate(nullcontext):
        def __enter__(self):
            held.append(True)

        def __exit__(self, *error):
            held.clear()

    def segmenter(aligned, prompts, settings):
        yield 0.5
        assert held
        return "answer"

    steps = gated(segmenter, Gate())(None, (), QUICK)
    assert next(steps) == 0.5
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "answer"
    assert not held


# ---- kill -9 ----


def finish_or_be_killed(context, task, after_s):
    """Seconds from the claim to the end of one patient in a process of its own, killed after ``after_s``."""
    lock = task.out / ".locks" / f"{task.patient}.lock"
    lock.unlink(missing_ok=True)
    process = context.Process(target=work, args=(task,))
    process.start()
    while not lock.exists():
        time.sleep(0.001)
    started = time.monotonic()
    process.join(after_s)
    if process.is_alive():
        process.kill()
        process.join()
    return time.monotonic() - started, process.exitcode


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_half_written_is_a_result(tmp_path, kit, rounds):
    kit.write_patient(tmp_path / "in" / "P-01", shape=(64, 64, 32))
    patients = find_patients(tmp_path / "in", QUICK)
    run(patients, tmp_path / "whole")
    whole, out = kit.contents(tmp_path / "whole"), tmp_path / "out"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["napari_convlstm_tumor.batch.cluster"])
    run(patients, out)
    # in every second round an older result is there to be replaced
    seconds, _ = finish_or_be_killed(context, Task(patients[0], QUICK, out, overwrite=True), 60)
    moments, killed = random.Random(0), 0
    for n in range(rounds):
        if n % 2:
            shutil.rmtree(out / "P-01", ignore_errors=True)
        _, code = finish_or_be_killed(
            context, Task(patients[0], QUICK, out, overwrite=True), moments.uniform(0, 1.1 * seconds)
        )
        killed += code == -signal.SIGKILL
        if is_result(out / "P-01"):
            assert len(load(out / "P-01").days) == 2
            assert {k: v for k, v in kit.contents(out).items() if k.startswith("P-01/")}.items() <= whole.items()
    assert killed >= rounds // 4
    assert not run(patients, out)[0].error
    assert kit.contents(out) == whole


@pytest.mark.slow
def test_a_killed_command_leaves_no_process_and_is_completed_by_the_next(tmp_path, kit):
    for n in range(6):
        kit.write_patient(tmp_path / "in" / f"P-{n:02d}", seed=n, shape=(80, 80, 40))
    patients = find_patients(tmp_path / "in", QUICK)
    run(patients, tmp_path / "whole")
    out, moments = tmp_path / "out", random.Random(1)
    command = [sys.executable, "-m", "napari_convlstm_tumor", "batch", str(tmp_path / "in"), "-o", str(out)]
    command += ["--no-register", "--jobs", "2"]
    for _ in range(5):
        batch = subprocess.Popen([*command, "--quiet", "--overwrite"])
        while batch.poll() is None and not any((out / ".locks").glob("P-*")):
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 4))
        batch.kill()
        batch.wait()
    assert subprocess.run(command, check=False).returncode == 0
    assert kit.contents(out) == kit.contents(tmp_path / "whole")
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout.split()
    assert left == []
