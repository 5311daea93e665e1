"""A real Dask scheduler and two workers on loopback; one of them is killed in the middle of a patient."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from napari_convlstm_tumor.batch import BatchPlan, Outcome, run_batch
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover import find_patients
from napari_convlstm_tumor.settings import Settings

pytest.importorskip("distributed", reason="needs pip install 'napari-convlstm-tumor[batch]'")

SETTINGS = Settings()  # with registration: a patient must take long enough to be interrupted


def start(log, module, *arguments):
    command = [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *arguments]
    with log.open("w") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream)


@pytest.fixture
def cluster(tmp_path):
    """(address, the two worker processes)."""
    card = tmp_path / "scheduler.json"
    where = ("--scheduler-file", str(card))
    scheduler = start(tmp_path / "scheduler.log", "dask_scheduler", "--host", "127.0.0.1", "--port", "0", *where)
    workers = [
        start(tmp_path / f"worker-{n}.log", "dask_worker", *where, "--nthreads", "1", "--no-nanny") for n in range(2)
    ]
    try:
        from distributed import Client

        with Client(scheduler_file=str(card), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield client.scheduler.address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def run(patients, out, **plan):
    return [e for _, e in run_batch(patients, SETTINGS, out, plan=BatchPlan(**plan)) if isinstance(e, Outcome)]


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_patients_time(tmp_path, cluster, kit):
    for n in range(1, 5):
        kit.write_patient(tmp_path / "in" / f"P-{n}", seed=n, shape=(64, 64, 32))
    kit.damage(tmp_path / "in" / "P-4")
    patients = find_patients(tmp_path / "in", SETTINGS)
    address, workers = cluster
    out, killed = tmp_path / "out", []

    def kill_one():
        while len(list((out / ".locks").glob("P-*.lock"))) < 2:  # each of the two has a patient in hand
            time.sleep(0.01)
        killed.append(time.monotonic())
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = run(patients, out, scheduler=address)
    ended = time.monotonic()
    killer.join()
    assert {o.patient: bool(o.error) for o in found} == {"P-1": False, "P-2": False, "P-3": False, "P-4": True}
    assert killed and killed[0] < ended and workers[1].poll() is None
    run(patients, tmp_path / "whole")
    assert kit.contents(out) == kit.contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_cluster_of_this_machine(folder, tmp_path, kit):
    patients = find_patients(folder, SETTINGS)
    found = run(patients, tmp_path / "out", scheduler="local", jobs=2)
    assert sorted(o.patient for o in found if o.error) == ["P-03"]
    run(patients, tmp_path / "whole")
    assert kit.contents(tmp_path / "out") == kit.contents(tmp_path / "whole")


def test_nobody_at_the_address(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_convlstm_tumor.batch.cluster.CONNECT_S", 1)
    events = run_batch(
        find_patients(folder, SETTINGS), SETTINGS, tmp_path, plan=BatchPlan(scheduler="tcp://127.0.0.1:9")
    )
    with pytest.raises(InputError, match=r"No Dask scheduler answers at tcp://127.0.0.1:9"):
        next(events)
