"""One row per visit, as the report has them; a number that is not defined is a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from napari_convlstm_tumor.series import Report

UNDEFINED = "–"
MM3_PER_ML = 1000.0
# Column of the report, what stands above it, how it is written, and the unit it is divided by.
COLUMNS: tuple[tuple[str, str, str, float], ...] = (
    ("visit", "visit", "{:.0f}", 1.0),
    ("day", "day", "{:.0f}", 1.0),
    ("volume_mm3", "volume\nmL", "{:.2f}", MM3_PER_ML),
    ("volume_change_percent", "change\n%", "{:+.0f}", 1.0),
    ("sgr_per_day", "growth rate\n% per day", "{:+.2f}", 0.01),
    ("sgr_per_visit", "growth rate\n% per visit", "{:+.0f}", 0.01),
    ("front_speed_mm_per_month", "front speed\nmm/month", "{:+.2f}", 1.0),
    ("front_speed_mm_per_visit", "front speed\nmm/visit", "{:+.2f}", 1.0),
    ("registration_quality", "registration\nquality", "{:.2f}", 1.0),
)


class VisitTable(QTableWidget):
    """Read-only; the columns are those of COLUMNS that the report has."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()

    def show_report(self, report: Report) -> None:
        """Fill the table; a visit's own warnings are its tooltip."""
        columns = [column for column in COLUMNS if any(column[0] in row for row in report.visits)]
        self.setColumnCount(len(columns))
        self.setHorizontalHeaderLabels([header for _, header, _, _ in columns])
        self.setRowCount(len(report.visits))
        for number, row in enumerate(report.visits):
            for place, (key, _, form, unit) in enumerate(columns):
                self.setItem(number, place, _cell(row, _text(row.get(key), form, unit)))
        self.resizeColumnsToContents()
        self.resizeRowsToContents()


def _cell(row: Mapping[str, Any], text: str) -> QTableWidgetItem:
    cell = QTableWidgetItem(text)
    cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    cell.setToolTip(str(row.get("warnings") or ""))
    return cell


def _text(value: Any, form: str, unit: float) -> str:
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return UNDEFINED
    return form.format(float(value) / unit)
