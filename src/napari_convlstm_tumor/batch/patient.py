"""One patient of a batch: claimed, looked at, analysed, saved. Nothing it does stops the others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.batch.claim import claimed, is_prepared
from napari_convlstm_tumor.batch.fingerprint import KEY, fingerprint, same
from napari_convlstm_tumor.batch.outcome import SAVING, Outcome, failure, summary_row
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.pipeline import Segmenter, Step, analyse, save
from napari_convlstm_tumor.report.tables import report_from_json
from napari_convlstm_tumor.results import REPORT_FILE, RUN_FILE, is_result
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings

CLAIMING = "Looking for an earlier result"
FINDING = "Finding images and visits"
# Of the 255 bytes of a file name, what ".NAME.12345678.part" leaves; file names end sooner where disks are encrypted.
LONGEST_NAME = 240
# Files of the batch itself in the output folder.
TAKEN = ("summary.csv", "failures.csv", "index.html")


@dataclass(frozen=True)
class Task:
    """What a worker needs to know to do one patient; overwrite: also when a finished result is there."""

    files: PatientFiles
    settings: Settings
    out: Path
    overwrite: bool = False

    @property
    def patient(self) -> str:
        """The patient's name, which is that of the result folder."""
        return self.files.patient

    @property
    def folder(self) -> Path:
        """Where the result goes."""
        return self.out / self.files.patient


def run_patient(task: Task, segmenter: Segmenter | None = None) -> Iterator[Step | Outcome]:
    """One patient: its Steps, and last its Outcome. Any error becomes the Outcome's sentence; nothing is raised."""
    started, step = time.monotonic(), FINDING if task.files.problems else CLAIMING
    try:
        _check_place(task)
        with claimed(task.out, task.patient) as mine:
            if not mine:
                yield Outcome(task.patient, task.folder, busy=True)
                return
            if (there := earlier(task)) is not None:
                yield there
                return
            for event in _analyse_and_save(task, segmenter):
                if isinstance(event, Step):
                    step = event.name
                    yield event
                else:
                    yield replace(event, seconds=round(time.monotonic() - started, 3))
    except Exception as error:  # a batch goes on whatever one patient does; the kind of error is kept
        outcome = _without_folders(failure(task.patient, task.folder, step, error), task)
        yield replace(outcome, seconds=round(time.monotonic() - started, 3))


def _analyse_and_save(task: Task, segmenter: Segmenter | None) -> Iterator[Step | Outcome]:
    made_from = None if task.files.problems else fingerprint(task.files, task.settings)
    analysis = None
    for step in analyse(task.files, task.settings, segmenter):
        analysis = step.analysis or analysis
        yield step
    assert analysis is not None
    yield Step(SAVING, 1.0)
    analysis = save(replace(analysis, provenance={**analysis.provenance, KEY: made_from}), task.folder)
    row = summary_row(task.patient, analysis.report)
    yield Outcome(task.patient, task.folder, analysis, row=row)


def earlier(task: Task) -> Outcome | None:
    """The Outcome of a complete result made from the same files, settings and model; None when there is none, or when
    it is to be made again."""
    if task.overwrite:
        return None
    record = _record(task.folder)
    try:
        if record is None or task.files.problems or not same(record.get(KEY), task.files, task.settings):
            return None
        report = report_from_json((task.folder / REPORT_FILE).read_text(encoding="utf-8"))
        return Outcome(task.patient, task.folder, row=summary_row(task.patient, report), earlier=True)
    except Exception:  # a damaged result, however it is, counts as none; what is wrong with the input is said later
        return None


def state(task: Task) -> str:
    """What a run would do with this patient, for --dry-run."""
    if task.files.problems:
        return "not usable"
    if not is_result(task.folder):
        return "to do"
    if task.overwrite:
        return "to do again"
    return "to do again (input, settings or model changed)" if earlier(task) is None else "finished"


def _record(folder: Path) -> dict[str, Any] | None:
    """run.json of a result; None when there is none or it is not whole."""
    if not is_result(folder):
        return None
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # unreadable, not UTF-8, not JSON, nested beyond all use
        return None
    return record if isinstance(record, dict) else None


def _check_place(task: Task) -> None:
    name = task.patient
    if not name or Path(name).name != name or name.startswith(".") or name in TAKEN:
        raise InputError(f"'{name}' cannot be the name of a result folder. Rename the patient.")
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"The name is longer than the {LONGEST_NAME} bytes a result folder's may have. Rename it.")
    if not is_prepared(task.out):
        raise InputError(
            f"The worker does not see the output folder '{task.out.name}'. It must lie on storage that all share."
        )


def _without_folders(outcome: Outcome, task: Task) -> Outcome:
    """The outcome with this patient's folders cut from its sentence: they may say who it is."""
    images = (p for v in task.files.visits for paths in v.images.values() for p in paths)
    masks = (v.mask for v in task.files.visits if v.mask is not None)
    sentence = outcome.error
    for parent in {str(p.parent) for p in (*images, *masks, task.folder)}:
        sentence = sentence.replace(f"{parent}/", "").replace(parent, "")
    return replace(outcome, error=sentence)
