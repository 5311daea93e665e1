"""summary.csv, failures.csv and index.html of an output folder.

Several batches may write them: each reads what stands there, puts its own patients in, and writes the whole, under a
lock. The results are the truth; the tables can be made again from them by running the same command.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.batch.claim import TABLES, TABLES_WAIT_S, claimed
from napari_convlstm_tumor.batch.outcome import (
    FAILURE_COLUMNS,
    SUMMARY_COLUMNS,
    Outcome,
    failed_row,
    failure_row,
)
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover_tree import natural
from napari_convlstm_tumor.io.write import read_csv, write_csv, write_text
from napari_convlstm_tumor.report.html import index_html

SUMMARY_FILE = "summary.csv"
FAILURES_FILE = "failures.csv"
INDEX_FILE = "index.html"
# While patients run, the tables are at most this old, unless writing them takes more than this share of the time.
LATEST_S = 10.0
WRITING_SHARE = 1 / 30
Row = Mapping[str, Any]


class Tables:
    """The tables of one output folder, with the rows of this batch."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.done: dict[str, Row] = {}
        self.failed: dict[str, Row] = {}
        self._due = time.monotonic() + LATEST_S

    def add(self, outcome: Outcome) -> None:
        """Take in one patient; the files follow in a while."""
        if outcome.error:
            self.done[outcome.patient] = failed_row(outcome)
            self.failed[outcome.patient] = failure_row(outcome)
        elif outcome.row is not None:
            self.done[outcome.patient] = outcome.row
        if time.monotonic() >= self._due:
            self.write_if_possible()

    def write_if_possible(self) -> None:
        """In between: a table that cannot be written now is written at the end, or its trouble said then."""
        started = time.monotonic()
        with suppress(InputError):
            self.write(wait_s=0.0)
        ended = time.monotonic()
        self._due = ended + max(LATEST_S, (ended - started) / WRITING_SHARE)

    def write(self, wait_s: float = TABLES_WAIT_S) -> None:
        """All three files, with the rows of other batches kept. Raises InputError when they cannot be written."""
        with claimed(self.out, TABLES, wait_s) as mine:
            if not mine:
                raise InputError(f"{SUMMARY_FILE} is in use by another batch. Run the same command again.")
            rows, failures = self._merged()
            _write(self.out / SUMMARY_FILE, rows, SUMMARY_COLUMNS)
            _write(self.out / FAILURES_FILE, failures, FAILURE_COLUMNS)
            write_text(self.out / INDEX_FILE, index_html([_linked(row, self.out) for row in rows]))

    def _merged(self) -> tuple[list[Row], list[Row]]:
        """Rows of summary.csv and failures.csv, in natural order; done patients whose folder is gone are dropped."""
        there = {path.name for path in self.out.iterdir()}
        known = {
            row["patient"]: row
            for row in _known(self.out / SUMMARY_FILE, SUMMARY_COLUMNS)
            if row["status"] == "failed" or row["patient"] in there
        }
        rows = {**known, **self.done}
        failures = {row["patient"]: row for row in _known(self.out / FAILURES_FILE, FAILURE_COLUMNS)} | self.failed
        order = sorted(rows, key=natural)
        failed = [p for p in order if rows[p]["status"] == "failed"]
        return [rows[p] for p in order], [failures[p] for p in failed if p in failures]


def _known(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows that stand in a table; none when it is absent, damaged or of another version."""
    try:
        rows = read_csv(path)
    except InputError:
        return []
    return rows if rows and tuple(rows[0]) == tuple(columns) else []


def _write(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    if rows:
        write_csv(path, rows)
        return
    header = io.StringIO(newline="")
    csv.writer(header, lineterminator="\n").writerow(columns)
    write_text(path, header.getvalue())


def _linked(row: Row, out: Path) -> Row:
    """With the page of the patient, or the table where an older result has no page."""
    page = out / str(row["patient"]) / "report.html"
    return row if row["status"] == "failed" or page.is_file() else {**row, "link": f"{row['patient']}/visits.csv"}
