"""The table of visits, in the words and units of report/tables, and what must be known before trusting it."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_convlstm_tumor.series import Report

CAUTION_COLOUR = "#ffb454"
# Visit, day, volume and change are numbers; the rates have words in them and wrap.
NARROW_COLUMNS = 4


class VisitTable(QTableWidget):
    """Read-only, one row per visit; a visit with warnings is coloured, and its tooltip says them."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)

    def show_report(self, report: Report) -> None:
        """Fill the table with the rows of a report."""
        from napari_convlstm_tumor.report.tables import TABLE_HEADER, visit_table

        rows = visit_table(report)
        self.setColumnCount(len(TABLE_HEADER))
        self.setHorizontalHeaderLabels([name.replace(" ", "\n") for name in TABLE_HEADER])
        for place in range(len(TABLE_HEADER)):
            fits = QHeaderView.ResizeMode.ResizeToContents if place < NARROW_COLUMNS else QHeaderView.ResizeMode.Stretch
            self.horizontalHeader().setSectionResizeMode(place, fits)
        self.setRowCount(len(rows))
        for number, (cells, visit) in enumerate(zip(rows, report.visits, strict=True)):
            for place, text in enumerate(cells):
                self.setItem(number, place, _cell(text, "\n".join(visit["warnings"])))


def cautions(report: Report) -> str:
    """Every warning of a report, one a line."""
    visits = (f"Visit {visit['visit']}: {warning}" for visit in report.visits for warning in visit["warnings"])
    return "\n".join((*report.warnings, *visits))


def _cell(text: str, warnings: str) -> QTableWidgetItem:
    cell = QTableWidgetItem(text)
    cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    if warnings:
        cell.setToolTip(warnings)
        cell.setForeground(QColor(CAUTION_COLOUR))
    return cell
