"""Tables of visits and lesions, in the words and units of report/tables; what to know before trusting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QSizePolicy, QTableWidget, QTableWidgetItem

from napari_convlstm_tumor._napari.parts import CAUTION_COLOUR, named
from napari_convlstm_tumor.series import Report

# Rows shown without scrolling.
MOST_ROWS = 9


class Table(QTableWidget):
    """Read-only text with wrapped words, one line a row; ``row_clicked`` carries the row."""

    row_clicked = Signal(int)

    def __init__(self, name: str, tip: str) -> None:
        super().__init__()
        named(self, name, tip)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.cellClicked.connect(lambda row, column: self.row_clicked.emit(row))
        self.currentCellChanged.connect(self._moved)

    def fill(self, header: Sequence[str], rows: Sequence[Sequence[str]], warnings: Sequence[str]) -> None:
        """Show these rows; one with a warning is coloured, and its tooltip says it."""
        self.blockSignals(True)
        self.setColumnCount(len(header))
        self.setHorizontalHeaderLabels([name.replace(" ", "\n") for name in header])
        self.setRowCount(len(rows))
        for number, (cells, warning) in enumerate(zip(rows, warnings, strict=True)):
            for place, text in enumerate(cells):
                self.setItem(number, place, _cell(_broken(text), warning))
        self._set_widths(header, rows)
        self.blockSignals(False)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """As high as its rows."""
        self.resizeRowsToContents()
        rows = sum(self.rowHeight(n) for n in range(min(self.rowCount(), MOST_ROWS)))
        bar = self.horizontalScrollBar().height() if self.horizontalScrollBar().maximum() else 0
        return QSize(super().sizeHint().width(), self.horizontalHeader().sizeHint().height() + rows + bar + 4)

    def resizeEvent(self, event: Any) -> None:
        """Narrower columns wrap into more lines."""
        super().resizeEvent(event)
        self.updateGeometry()

    def _set_widths(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Numbers take what they need; a column with words in it wraps and takes the rest."""
        for place in range(len(header)):
            wordy = any(" " in _broken(row[place]) for row in rows)
            mode = QHeaderView.ResizeMode.Stretch if wordy else QHeaderView.ResizeMode.ResizeToContents
            self.horizontalHeader().setSectionResizeMode(place, mode)

    def _moved(self, row: int, column: int, old_row: int, old_column: int) -> None:
        """The arrow keys do what a click does."""
        if row >= 0 and row != old_row and self.hasFocus():
            self.row_clicked.emit(row)


class VisitTable(Table):
    """One row per visit, with the interval of its volume."""

    def __init__(self) -> None:
        super().__init__("Visits", "Volume with its 95 % interval, change and growth. Click a row to go to that visit.")

    def show_report(self, report: Report) -> None:
        """Fill the table with the rows of a report."""
        from napari_convlstm_tumor.report.tables import TABLE_HEADER, visit_table

        warnings = ["\n".join(visit["warnings"]) for visit in report.visits]
        self.fill(TABLE_HEADER, visit_table(report, intervals=True), warnings)


class LesionTable(Table):
    """One row per lesion and visit; ``places`` are its (0-based visit, lesion)."""

    def __init__(self) -> None:
        super().__init__("Lesions", "Every lesion at every visit. Click a row to go there.")
        self.places: list[tuple[int, int]] = []

    def show_report(self, report: Report) -> None:
        """Fill the table with the lesion rows of a report."""
        from napari_convlstm_tumor.report.tables import LESION_HEADER, lesion_table

        rows = lesion_table(report)
        self.places = [(int(cells[1]) - 1, int(cells[0])) for cells in rows]
        warned = {(row["visit"] - 1, row["lesion"]): "\n".join(row["warnings"]) for row in report.lesions}
        self.fill(LESION_HEADER, rows, [warned.get(place, "") for place in self.places])


def cautions(report: Report) -> str:
    """Every warning of a report, one a line."""
    visits = (f"Visit {visit['visit']}: {warning}" for visit in report.visits for warning in visit["warnings"])
    return "\n".join((*report.warnings, *visits))


def _broken(text: str) -> str:
    """In two lines where a narrow column would cut numbers off: before an interval, between two diameters."""
    return text.replace(" (", "\n(").replace(" x ", "\N{NO-BREAK SPACE}x\n")


def _cell(text: str, warnings: str) -> QTableWidgetItem:
    cell = QTableWidgetItem(text)
    cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    if warnings:
        cell.setToolTip(warnings)
        cell.setForeground(QColor(CAUTION_COLOUR))
    return cell
