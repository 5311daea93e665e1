"""What the command line shows: a progress bar, a table per patient, what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from napari_convlstm_tumor import RESEARCH_USE

if TYPE_CHECKING:  # `info` must not wait for torch
    from napari_convlstm_tumor.batch import Outcome
    from napari_convlstm_tumor.pipeline import Step
    from napari_convlstm_tumor.series import PatientFiles


class Screen:
    """A progress bar over all patients while they run, and their tables as they finish."""

    def __init__(self, patients: int, quiet: bool) -> None:
        self.console = Console(quiet=quiet)
        self.errors = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
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
                self.task, completed=self.finished + event.fraction, description=f"{patient}: {event.name}"
            )
            return None
        self.finished += 1
        self.progress.update(self.task, completed=self.finished)
        if event.error:
            self.errors.print(f"{patient}: failed. {event.error}", style="red", markup=False, highlight=False)
        else:
            self._patient_table(event)
        return event

    def close_with(self, outcomes: Sequence[Outcome], summary: Path | None) -> None:
        """The last lines: how many are done, where the results lie."""
        done = [o for o in outcomes if not o.error]
        self.console.print(f"{len(done)} of {len(outcomes)} patients done.")
        for outcome in done:
            self.console.print(f"  {outcome.folder}", soft_wrap=True, highlight=False, markup=False)
        if summary is not None and outcomes:
            self.console.print(f"  {summary}", soft_wrap=True, highlight=False, markup=False)
        self.console.print(RESEARCH_USE, style="dim")

    def _patient_table(self, outcome: Outcome) -> None:
        from napari_convlstm_tumor.report.tables import TABLE_HEADER, visit_table

        assert outcome.analysis is not None
        report = outcome.analysis.report
        table = Table(title=outcome.patient, title_justify="left")
        for name in TABLE_HEADER:
            table.add_column(name, justify="right")
        for row in visit_table(report):
            table.add_row(*row)
        self.console.print(table)
        warnings = [
            *report.warnings,
            *(f"Visit {v['visit']}: {w}" for v in report.visits for w in v["warnings"]),
        ]
        for warning in warnings:
            self.console.print(f"! {warning}", style="yellow", markup=False, highlight=False)


def print_info(patients: Sequence[PatientFiles]) -> None:
    """The findings of ``info`` as tables."""
    console = Console()
    for patient in patients:
        table = Table(
            title=f"{patient.patient}  ({patient.layout})" if patient.layout else patient.patient,
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
            console.print(f"! {sentence}", style="yellow", markup=False, highlight=False)
        for name, reason in patient.left_out:
            console.print(f"- left out {name}: {reason}", style="dim", markup=False, highlight=False)
        for problem in patient.problems:
            console.print(f"x {problem}", style="red", markup=False, highlight=False)
    usable = sum(not p.problems for p in patients)
    console.print(f"{len(patients)} patients, {usable} usable.")
