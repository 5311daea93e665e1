"""The panel "Measure": response, growth curve, visits and lesions; a click on any of them goes there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari.curve import GrowthCurve
from napari_convlstm_tumor._napari.parts import named, row, sentence
from napari_convlstm_tumor._napari.table import LesionTable, VisitTable
from napari_convlstm_tumor.settings import CRITERION_CHOICES, Settings

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor.analysis import Analysis
    from napari_convlstm_tumor.series import Report

ON_THE_COMMAND_LINE = "with --criterion"
MASKS_GIVEN = "masks given"  # what a Prediction says that was not made by a model
MASKS_FOUND = "the masks found beside the images, not the network's"
READ_ONLY = "The numbers of a result opened with File > Open. To classify it again, choose its folder here and Run."


class MeasurePanel(QWidget):
    """Holds no arithmetic: it shows the rows of the report, and asks ``again`` for another criterion."""

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self.patient, self.response, self.events = sentence(), sentence(), sentence()
        self.criterion = named(QComboBox(), "Response criterion", _help())
        self.criterion.addItems(CRITERION_CHOICES)
        self.criterion.activated.connect(lambda index: self._reclassify())
        self.curve = GrowthCurve(self._picked)
        self.visits, self.lesions = VisitTable(), LesionTable()
        self.visits.row_clicked.connect(lambda n: widget.go_to(visit=n))
        self.lesions.row_clicked.connect(lambda n: self._picked(*self.lesions.places[n]))
        layout = QVBoxLayout(self)
        layout.addWidget(self.patient)
        layout.addLayout(row(sentence("Criterion"), self.criterion))
        for part in (self.response, self.curve, self.visits, self.lesions, self.events):
            layout.addWidget(part)
        layout.addStretch()
        self.hide_numbers()
        widget.visit_changed.connect(self.curve.mark)
        widget.analysis_changed.connect(self._take)

    def show_report(self, report: Report) -> None:
        """The numbers of a report, of a whole result or of one that was only opened."""
        from napari_convlstm_tumor.report.tables import event_lines

        self.patient.setText(f"Patient: {report.patient}. {_drawn_by(self._widget.analysis)}")
        self._show_response(report)
        self.visits.show_report(report)
        self.lesions.show_report(report)
        self.events.setText("\n".join(event_lines(report)))
        self.curve.show_report(report, self._widget.visit)
        for part in (self.patient, self.response, self.visits, self.curve):
            part.show()
        self.lesions.setVisible(bool(report.lesions))
        self.events.setVisible(bool(report.events))
        self.criterion.setEnabled(self._widget.analysis is not None)
        self.criterion.setToolTip(_help() if self._widget.analysis is not None else READ_ONLY)

    def hide_numbers(self) -> None:
        """Numbers of one patient must not stand beside the images of another."""
        for part in (self.patient, self.response, self.curve, self.visits, self.lesions, self.events):
            part.hide()
        self.criterion.setEnabled(False)

    def _take(self, analysis: Analysis | None) -> None:
        if analysis is not None:
            self.criterion.setCurrentText(analysis.settings.criterion)

    def _show_response(self, report: Report) -> None:
        from napari_convlstm_tumor.report.tables import response_lines

        lines = [line.replace(ON_THE_COMMAND_LINE, "above") for line in response_lines(report)]
        self.response.setText("<br>".join(_emphasised(lines, bool(report.responses))))

    def _reclassify(self) -> None:
        """The response by the criterion chosen; takes no network and well under a second."""
        from napari_convlstm_tumor.edit.again import report_under
        from napari_convlstm_tumor.errors import TumorError

        if self._widget.analysis is None:
            return
        try:
            report = report_under(self._widget.analysis, self.criterion.currentText())
        except TumorError as error:
            self._widget.say(str(error))
            return
        self._widget.take_report(report, self.criterion.currentText())
        self._show_response(report)

    def _picked(self, visit: int, lesion: int | None = None) -> Any:
        analysis = self._widget.analysis
        place = None if analysis is None or lesion is None else place_of(analysis, visit, lesion)
        self._widget.go_to(visit=visit, point_mm=place)


def place_of(analysis: Analysis, visit: int, lesion: int) -> Any:
    """RAS mm on the common grid of a lesion at a 0-based visit, in its largest axial slice; None: not there."""
    if analysis.lesions is None:
        return None
    places = np.argwhere(analysis.lesions[visit] == lesion)
    if not len(places):
        return None
    axis = int(np.argmax(np.abs(analysis.grid.affine[2, :3]) / np.array(analysis.grid.spacing_mm)))
    slices, sizes = np.unique(places[:, axis], return_counts=True)
    middle = places[places[:, axis] == slices[np.argmax(sizes)]].mean(axis=0)
    return analysis.grid.to_mm(middle)


def _drawn_by(analysis: Analysis | None) -> str:
    """Whose outlines the numbers are of: a person's or a network's."""
    if analysis is None:
        return ""
    model = analysis.prediction.model
    return f"Outlines: {MASKS_FOUND if model == MASKS_GIVEN else model.split(' ')[0]}"


def _emphasised(lines: list[str], with_response: bool) -> list[str]:
    from html import escape

    safe = [escape(line) for line in lines]
    return [f"<b>{safe[0]}</b>", *safe[1:]] if with_response and safe else safe


def _help() -> str:
    from dataclasses import fields

    return next(str(f.metadata["help"]) for f in fields(Settings) if f.name == "criterion")
