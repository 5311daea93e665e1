"""What the command line shows: a progress bar, a table per patient, what was found."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from napari_convlstm_tumor import RESEARCH_USE
from napari_convlstm_tumor.io.names import printable

if TYPE_CHECKING:  # `info` must not wait for torch
    from napari_convlstm_tumor.batch import Outcome
    from napari_convlstm_tumor.pipeline import Step
    from napari_convlstm_tumor.series import PatientFiles

HTML_FILE = "report.html"
# Before this much of a patient is done the time left is a guess.
LEAST_DONE = 0.3


class Screen:
    """A progress bar over all patients while they run, and their tables as they finish."""

    def __init__(self, patients: int, quiet: bool) -> None:
        self.console = Console(quiet=quiet)
        self.errors = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=self.console, disable=quiet)
        self.task = self.progress.add_task("", total=max(patients, 1))
        self.finished = 0

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, patient: str, event: Step | Outcome) -> Outcome | None:
        """Draw one event; returns it when it ends a patient."""
        from napari_convlstm_tumor.pipeline import Step

        if isinstance(event, Step):
            self.progress.update(
                self.task, completed=self.finished + event.fraction, description=printable(f"{patient}: {event.name}")
            )
            return None
        self.finished += 1
        self.progress.update(self.task, completed=self.finished)
        if event.error:
            _say(self.errors, f"{patient}: failed. {event.error}", "red")
        else:
            self._patient_table(event)
        return event

    def close_with(self, outcomes: Sequence[Outcome], summary: Path | None) -> None:
        """The last lines: how many are done, where the results lie."""
        done = [o for o in outcomes if not o.error]
        self.console.print(f"{len(done)} of {len(outcomes)} patients done.")
        for outcome in done:
            _say(self.console, f"  {outcome.folder / HTML_FILE}")
        if summary is not None and outcomes:
            _say(self.console, f"  {summary}")
        self.console.print(RESEARCH_USE, style="dim")

    def _patient_table(self, outcome: Outcome) -> None:
        """Visits, lesions when there are several, the response with its reason, the forecast, and every warning."""
        from napari_convlstm_tumor.report import tables

        assert outcome.analysis is not None
        report = outcome.analysis.report
        self._table(outcome.patient, tables.TABLE_HEADER, tables.visit_table(report, intervals=True))
        if len({row["lesion"] for row in report.lesions}) > 1:
            self._table("lesions", tables.LESION_HEADER, tables.lesion_table(report))
        said = [*tables.event_lines(report), *tables.response_lines(report), report.provenance.get("forecast", "")]
        for line in filter(None, said):
            _say(self.console, line)
        warnings = [
            *report.warnings,
            *(f"Visit {v['visit']}: {w}" for v in report.visits for w in v["warnings"]),
        ]
        for warning in warnings:
            _say(self.console, f"! {warning}", "yellow")

    def _table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=_text(title), title_justify="left")
        for name in header:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


class BatchScreen:
    """One bar over many patients with the time left; of a patient no more than a line."""

    def __init__(self, patients: int, quiet: bool) -> None:
        self.console = Console(quiet=quiet)
        self.errors = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}/{task.total} patients"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.progress = Progress(*columns, console=self.console, disable=quiet)
        self.task = self.progress.add_task("", total=max(patients, 1), count=0, left="")
        self.patients = patients
        self.outcomes: list[Outcome] = []
        self.started = time.monotonic()
        self._running: dict[str, float] = {}

    def __enter__(self) -> BatchScreen:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, patient: str, event: Step | Outcome) -> None:
        """Draw one event."""
        from napari_convlstm_tumor.pipeline import Step

        if isinstance(event, Step):
            self._running[patient] = event.fraction
            self._draw(f"{patient}: {event.name}")
            return
        self._running.pop(patient, None)
        self.outcomes.append(event)
        self._line(event)
        self._draw(f"{patient}: {'failed' if event.error else 'done'}")

    def _draw(self, words: str) -> None:
        count, running = len(self.outcomes), sum(self._running.values())
        earlier = sum(o.earlier for o in self.outcomes)
        left = time_left_s(time.monotonic() - self.started, count - earlier + running, self.patients - earlier)
        shown = "" if left is None else f"{datetime.timedelta(seconds=round(left))} left"
        self.progress.update(
            self.task, completed=count + running, count=count, left=shown, description=printable(words)
        )

    def _line(self, outcome: Outcome) -> None:
        """Failures always; what went well only where no bar is drawn (a log file)."""
        if outcome.error:
            text = f"{outcome.patient}: failed ({outcome.step}). {outcome.error} {outcome.advice}"
            _say(self.errors, text, "red")
        elif not self.console.is_terminal:
            how = "finished earlier" if outcome.earlier else f"done in {outcome.seconds:.0f} s"
            text = f"{len(self.outcomes)}/{self.patients} {outcome.patient}: {how}"
            _say(self.console, text)

    def counts(self) -> dict[str, int]:
        """Patients done (an earlier run's included) and failed so far."""
        failed = sum(bool(o.error) for o in self.outcomes)
        return {"done": len(self.outcomes) - failed, "failed": failed}

    def close_with(self, index: Path) -> None:
        """The last lines: how many are done, failed and not begun, where the overview lies."""
        done, failed = self.counts().values()
        earlier = sum(o.earlier for o in self.outcomes)
        missing = self.patients - len(self.outcomes)
        _say(
            self.console,
            f"{done} of {self.patients} patients done"
            + (f", {earlier} of them by an earlier run" if earlier else "")
            + (f", {failed} failed" if failed else "")
            + (f", {missing} not begun" if missing else "")
            + f". {index}",
        )
        self.console.print(RESEARCH_USE, style="dim")


def time_left_s(elapsed_s: float, done: float, total: int) -> float | None:
    """Seconds left when ``done`` of ``total`` patients (parts of one count) took ``elapsed_s``; None too early."""
    if done < LEAST_DONE:
        return None
    return elapsed_s * max(total - done, 0.0) / done


def print_plan(states: Sequence[tuple[str, str]]) -> None:
    """What --dry-run found: (patient, what would be done)."""
    console = Console()
    for patient, state in states:
        _say(console, f"{patient}: {state}")
    counts = Counter(state for _, state in states)
    found = "; ".join(f"{count} {state}" for state, count in counts.items()) or "No patient in this part"
    console.print(f"{found}. Nothing was computed.")


def print_info(patients: Sequence[PatientFiles]) -> None:
    """The findings of ``info`` as tables."""
    console = Console()
    for patient in patients:
        table = Table(
            title=_text(f"{patient.patient}  ({patient.layout})" if patient.layout else patient.patient),
            title_justify="left",
        )
        for name in ("visit", "day", "images (files)", "mask"):
            table.add_column(name)
        for number, visit in enumerate(patient.visits, start=1):
            images = ", ".join(f"{m} ({len(paths)})" for m, paths in visit.images.items())
            table.add_row(
                str(number),
                "–" if visit.day is None else str(visit.day),
                images,
                "yes" if visit.mask else "no",
            )
        console.print(table)
        for sentence in (*patient.warnings, *(n for v in patient.visits for n in v.notes)):
            _say(console, f"! {sentence}", "yellow")
        for name, reason in patient.left_out:
            _say(console, f"- left out {name}: {reason}", "dim")
        for problem in patient.problems:
            _say(console, f"x {problem}", "red")
    usable = sum(not p.problems for p in patients)
    console.print(f"{len(patients)} patients, {usable} usable.")


def _say(console: Console, text: str, style: str = "") -> None:
    """One line, with the names in it as they are and no more."""
    console.print(_text(text), style=style, soft_wrap=True)


def _text(text: str) -> Text:
    return Text(printable(text))
