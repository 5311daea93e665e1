"""Patients in processes of this machine: each worker loads the libraries and the model once and takes one at a time.

While one worker has the network at work, the others read and register. A worker that dies (killed, out of memory, a
crash in a library) costs the time of its patient only: that one is tried again in a new worker, and if it kills a
second one it is a failure like any other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import wait
from typing import Any

from napari_convlstm_tumor.batch.line import Line
from napari_convlstm_tumor.batch.outcome import MORE_MEMORY, Outcome
from napari_convlstm_tumor.batch.patient import Task
from napari_convlstm_tumor.batch.plan import BatchPlan, cores
from napari_convlstm_tumor.batch.serve import WorkerSetup, serve
from napari_convlstm_tumor.pipeline import Step

# How often a patient may take its worker with it before it counts as failed.
MOST_DEATHS = 2
# Seconds a worker has to end by itself.
FAREWELL_S = 5.0
WORKING = "In a worker process"


def in_processes(line: Line, plan: BatchPlan) -> Iterator[tuple[Task, Step | Outcome]]:
    """Every task of the line in ``plan.jobs`` workers; Steps and Outcomes as they come."""
    pool = _Pool(line, plan)
    try:
        while pool.fill():
            yield from pool.hear()
    finally:
        pool.end()


def fresh_processes() -> Any:
    """Processes that do not begin as a copy of this one, whose threads may hold locks at that moment.

    Where the system can fork, a server that has only loaded the libraries is copied: a worker begins in milliseconds
    and shares their memory.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([serve.__module__])
    return context


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, gate: Any, setup: WorkerSetup) -> None:
        context = fresh_processes()
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, gate, setup), daemon=True)
        self.process.start()
        other.close()
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        """Hand over a task; that the worker is dead is seen at the other end of the pipe."""
        self.task = task
        with suppress(OSError):
            self.pipe.send(task)

    def end(self) -> None:
        """Stop it at once: what is idle has nothing to lose, and an unfinished result is never moved in."""
        self.process.terminate()
        self.process.join(FAREWELL_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


@dataclass
class _Pool:
    """At most ``plan.jobs`` workers, started when there is something for them to do."""

    line: Line
    plan: BatchPlan

    def __post_init__(self) -> None:
        self.gate = fresh_processes().Lock()
        self.setup = WorkerSetup(max(1, cores() // self.plan.jobs), self.plan.memory_limit)
        self.workers: list[_Worker] = []
        self.deaths: Counter[str] = Counter()

    def fill(self) -> bool:
        """Give every free worker a task; False when all is done."""
        while self._has_room() and (task := self.line.take()) is not None:
            self._free_worker().give(task)
        return bool(self._busy()) or self.line.pause is not None

    def hear(self) -> Iterator[tuple[Task, Step | Outcome]]:
        """Wait for what the workers say, or for the next task that can be taken."""
        busy = {w.pipe: w for w in self._busy()}
        pause = self.line.pause if self._has_room() else None
        if not busy:
            time.sleep(pause or 0.0)
        for pipe in wait(list(busy), timeout=pause) if busy else ():
            yield from self._hear_one(busy[pipe])

    def end(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            worker.end()

    def _hear_one(self, worker: _Worker) -> Iterator[tuple[Task, Step | Outcome]]:
        task = worker.task
        assert task is not None
        try:
            event: Step | Outcome = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker, task)
            return
        if isinstance(event, Outcome):
            worker.task = None
        yield task, event

    def _bury(self, worker: _Worker, task: Task) -> Iterator[tuple[Task, Outcome]]:
        """A worker is gone: its patient is taken again by a new one, or is a failure."""
        worker.process.join(FAREWELL_S)
        self.workers.remove(worker)
        worker.end()
        self.deaths[task.patient] += 1
        if self.deaths[task.patient] < MOST_DEATHS:
            self.line.again(task)
        else:
            yield task, died(task, worker.process.exitcode)

    def _busy(self) -> list[_Worker]:
        return [w for w in self.workers if w.task is not None]

    def _has_room(self) -> bool:
        return len(self._busy()) < self.plan.jobs

    def _free_worker(self) -> _Worker:
        for worker in self.workers:
            if worker.task is None:
                return worker
        self.workers.append(_Worker(self.gate, self.setup))
        return self.workers[-1]


def died(task: Task, code: int | None) -> Outcome:
    """The failure of a patient that took its workers with it."""
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return Outcome(
        task.patient,
        task.folder,
        step=WORKING,
        error=f"The worker process died {MOST_DEATHS} times on this patient ({how}).",
        advice=f"Most often the memory was short. {MORE_MEMORY}",
    )
