"""A part of the panel "Correct": which lesion of this visit is, or is not, which lesion of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QWidget

from napari_convlstm_tumor._napari.parts import button, named

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor.analysis import Analysis


class RelinkPart(QWidget):
    """``asked`` carries the Link, ``said`` why there is none."""

    asked = Signal(object)
    said = Signal(str)

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self._analysis: Analysis | None = None
        self.from_lesion = named(QComboBox(), "Lesion here", "A lesion of the visit on show")
        self.to_lesion = named(QComboBox(), "Lesion to link to", "Which lesion it is, or is not")
        self.link_button = button("is", lambda: self._relink(True), "The lesion on the left is the one on the right")
        self.part_button = button("is not", lambda: self._relink(False), "The lesion on the left is not the one there")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Which lesion is which, at this visit"), 0, 0, 1, 4)
        for place, part in enumerate((self.from_lesion, self.link_button, self.part_button, self.to_lesion)):
            layout.addWidget(part, 1, place)

    def show_analysis(self, analysis: Analysis | None) -> None:
        """Offer the lesions of a result, and one that is not there yet; what was chosen stays chosen."""
        self._analysis = analysis
        numbers = [] if analysis is None else sorted({row["lesion"] for row in analysis.report.lesions})
        for box, more in ((self.from_lesion, ()), (self.to_lesion, (max(numbers, default=0) + 1,))):
            chosen = box.currentData()
            box.clear()
            for number in (*numbers, *more):
                box.addItem(f"lesion {number}" if number not in more else f"new lesion {number}", number)
            if chosen in numbers:
                box.setCurrentIndex(box.findData(chosen))

    def _relink(self, same: bool) -> None:
        from napari_convlstm_tumor.edit.prompts import link_of

        here, there = self.from_lesion.currentData(), self.to_lesion.currentData()
        if self._analysis is None or here is None or there is None:
            return self.said.emit("There is no lesion at this visit.")
        link = link_of(self._analysis, self._widget.visit, here, there, same)
        if link is None:
            return self.said.emit("That lesion is not at this visit.")
        self.asked.emit(link)
