"""Patients on the workers of a Dask cluster: one patient per task, results written by the workers to shared storage.

Dask gives the task of a dead worker to another one. A worker does one patient at a time, also when it has several
threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_convlstm_tumor.batch.line import Line
from napari_convlstm_tumor.batch.outcome import MORE_MEMORY, Outcome
from napari_convlstm_tumor.batch.patient import Task, run_patient
from napari_convlstm_tumor.batch.plan import LOCAL, BatchPlan
from napari_convlstm_tumor.errors import InputError, MissingDependency

if TYPE_CHECKING:
    from distributed import Client, Future

# Tasks handed to the cluster at once, per worker: enough that none is idle, few enough that a stop is quick.
AHEAD = 3
LEAST_AHEAD = 16
CONNECT_S = 30
ON_CLUSTER = "On the cluster"
_one_at_a_time = threading.Lock()


def work(task: Task) -> Outcome:
    """One patient, on a worker."""
    with _one_at_a_time:
        *_, last = run_patient(task)
    assert isinstance(last, Outcome)
    return last.slim()


def on_cluster(line: Line, plan: BatchPlan) -> Iterator[tuple[Task, Outcome]]:
    """Every task of the line on the cluster at ``plan.scheduler``; Outcomes as they come.

    Raises MissingDependency without dask.distributed, InputError when nobody answers at the address.
    """
    with _client(plan) as client:
        from distributed import as_completed

        flying: dict[Any, Task] = {}
        arrivals = as_completed()
        while flying or line.pause is not None:
            room = max(AHEAD * len(client.nthreads()), LEAST_AHEAD)
            while len(flying) < room and (task := line.take()) is not None:
                future = client.submit(work, task, pure=False)
                flying[future.key] = task
                arrivals.add(future)
            if flying:
                future = next(arrivals)
                task = flying.pop(future.key)
                yield task, _outcome(task, future)
            else:
                time.sleep(line.pause or 0.0)


def _outcome(task: Task, future: Future) -> Outcome:
    """What the worker answered, or why there is no answer."""
    error = future.exception() if future.status == "error" else None
    if future.status == "finished":
        answer: Outcome = future.result()
        return answer
    lost = error is None  # cancelled, or the scheduler is gone
    sentence = "The cluster has dropped the task." if lost else f"The worker answered with {type(error).__name__}."
    if type(error).__name__ == "KilledWorker":
        sentence = "The workers that had this patient died, one after the other."
    return Outcome(
        task.patient,
        task.folder,
        step=ON_CLUSTER,
        error=sentence,
        advice="Run the same command again." if lost else f"Look at the workers' logs. {MORE_MEMORY}",
        fatal=lost,
    )


@contextmanager
def _client(plan: BatchPlan) -> Iterator[Client]:
    """A connection to the scheduler that was named, or to a cluster made for this batch."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingDependency("Working on a Dask cluster", "distributed", "batch") from error
    if plan.scheduler != LOCAL:
        try:
            client = Client(plan.scheduler, timeout=CONNECT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(f"No Dask scheduler answers at {plan.scheduler}. Start one: dask scheduler.") from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=max(plan.jobs, 1),
            threads_per_worker=1,
            memory_limit=plan.memory_limit or 0,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
