"""Patients in, Steps and Outcomes out, whatever computes them; the tables of the output folder kept current."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from napari_convlstm_tumor.batch.claim import prepare, sweep
from napari_convlstm_tumor.batch.line import Line
from napari_convlstm_tumor.batch.outcome import Outcome
from napari_convlstm_tumor.batch.patient import Task, earlier, run_patient
from napari_convlstm_tumor.batch.plan import BatchPlan, free_memory
from napari_convlstm_tumor.batch.tables import Tables
from napari_convlstm_tumor.pipeline import Step
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings

Event = tuple[PatientFiles, Step | Outcome]


def run_batch(
    patients: Sequence[PatientFiles],
    settings: Settings,
    out: Path,
    summary: bool = True,
    plan: BatchPlan | None = None,
) -> Iterator[Event]:
    """Analyse and save every patient into out/PATIENT; yields their Steps, and the Outcome of each.

    summary: keep the tables of ``out`` current. An Outcome that is ``fatal`` (a full disk) ends the batch: the patients
    not yet begun have none. Raises InputError when ``out`` cannot be written, at the end also when the tables cannot.
    """
    plan = (plan or BatchPlan()).fitted(free_memory())
    prepare(out)
    return _events(tasks(patients, settings, out, plan), out, Tables(out) if summary else None, plan)


def tasks(patients: Sequence[PatientFiles], settings: Settings, out: Path, plan: BatchPlan) -> list[Task]:
    """One task per patient. Paths are made absolute: a worker may stand elsewhere."""
    return [Task(files, settings, out.absolute(), plan.overwrite) for files in patients]


def _events(work: Sequence[Task], out: Path, tables: Tables | None, plan: BatchPlan) -> Iterator[Event]:
    sweep(out)
    try:
        yield from _all(work, tables, plan)
    except (KeyboardInterrupt, GeneratorExit):  # a person stops the batch: what is done stands in the tables
        sweep(out)
        if tables is not None:
            _add_unheard(work, tables)
            tables.write_if_possible()
        raise
    sweep(out)
    if tables is not None:
        tables.write()


def _add_unheard(work: Sequence[Task], tables: Tables) -> None:
    """Patients that a worker had saved when the batch was stopped, before it was heard of here."""
    for task in work:
        unheard = None if task.patient in tables.done else earlier(task)
        if unheard is not None:
            tables.add(unheard)


def _all(work: Sequence[Task], tables: Tables | None, plan: BatchPlan) -> Iterator[Event]:
    line = Line()
    for task, event in chain(_finished_earlier(work, line), _executed(line, plan)):
        if isinstance(event, Outcome):
            if event.busy:
                line.later(task)
                continue
            if event.fatal:
                line.stop()
            if tables is not None:
                tables.add(event)
        yield task.files, event


def _finished_earlier(work: Sequence[Task], line: Line) -> Iterator[tuple[Task, Outcome]]:
    """What need not be done, before any worker is started; the rest gets in line."""
    for task in work:
        outcome = earlier(task)
        if outcome is None:
            line.add(task)
        else:
            yield task, outcome


def _executed(line: Line, plan: BatchPlan) -> Iterator[tuple[Task, Step | Outcome]]:
    """By the workers that the plan asks for."""
    if plan.scheduler:
        from napari_convlstm_tumor.batch.cluster import on_cluster

        yield from on_cluster(line, plan)
    elif plan.jobs:
        from napari_convlstm_tumor.batch.workers import in_processes

        yield from in_processes(line, plan)
    else:
        yield from _here(line)


def _here(line: Line) -> Iterator[tuple[Task, Step | Outcome]]:
    while (pause := line.pause) is not None:
        task = line.take()
        if task is None:
            time.sleep(pause)
            continue
        for event in run_patient(task):
            yield task, event
