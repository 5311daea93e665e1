"""A part of the panel "Correct": point at a lesion with a click or a box, and have it segmented at all visits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import layers, looks
from napari_convlstm_tumor._napari.parts import button, row

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor.analysis import Analysis
    from napari_convlstm_tumor.series import Prompt

BOXES = "boxes around lesions"


class HintPart(QWidget):
    """analysis: the result that is pointed at. ``asked`` carries the prompts, ``said`` what to do next."""

    asked = Signal(object)
    said = Signal(str)

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self.analysis: Analysis | None = None
        self.click_button = button("Click a lesion", self._click, "Add a point inside a lesion, at one visit")
        self.box_button = button("Box a lesion", self._box, "Draw a box around a lesion, in one slice of one visit")
        self.segment_button = button(
            "Segment it at all visits", self.segment, "The network outlines what you pointed at; corrected visits stay"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Segment from a hint"))
        layout.addLayout(row(self.click_button, self.box_button))
        layout.addWidget(self.segment_button)

    def segment(self) -> None:
        """Ask for what the points and boxes show."""
        prompts = self._prompts()
        if not prompts:
            return self.said.emit("Click a lesion or draw a box around it first.")
        boxes = self._boxes()
        if boxes is not None:
            self._widget.viewer.layers.remove(boxes)
        self.asked.emit(prompts)

    # ---- layers to draw on ----

    def _click(self) -> None:
        points = self._widget.running.points() or self._widget.running.add_clicks(())
        if points is not None:
            self._widget.viewer.layers.selection.active = points
            points.mode = "add"
            self.said.emit("Click inside the lesion, at one visit; then 'Segment it at all visits'.")

    def _box(self) -> None:
        boxes = self._boxes() or self._add_boxes()
        self._widget.viewer.layers.selection.active = boxes
        boxes.mode = "add_rectangle"
        self.said.emit("Draw a rectangle around the lesion, in one slice; then 'Segment it at all visits'.")

    def _boxes(self) -> Shapes | None:
        shown = self._widget.viewer.layers
        return next((x for x in shown if isinstance(x, Shapes) and x.name == BOXES), None)

    def _add_boxes(self) -> Shapes:
        assert self.analysis is not None
        place = layers.placement(self.analysis.grid)
        look = {"edge_color": looks.HINT_COLOUR, "face_color": "transparent", "edge_width": 0.5}
        return self._widget.viewer.add_layer(Shapes(ndim=4, name=BOXES, **place, **look))

    # ---- what was drawn ----

    def _prompts(self) -> tuple[Prompt, ...]:
        clicks, boxes = self._widget.running.clicks(), self._boxes()
        known = self.analysis.prompts if self.analysis is not None else ()
        old = {tuple(np.round(p.ras_mm, 3)) for p in known if p.type == "point" and p.ras_mm is not None}
        found = [p for p in (clicks.prompts if clicks else ()) if tuple(np.round(p.ras_mm, 3)) not in old]
        for corners in boxes.data if boxes is not None else ():
            found.append(self._box_prompt(np.array([boxes.data_to_world(c) for c in corners])))
        return tuple(found)

    def _box_prompt(self, world: npt.NDArray[Any]) -> Prompt:
        from napari_convlstm_tumor.edit.prompts import box_of

        assert self.analysis is not None
        visit = int(np.clip(np.rint(world[0, 0]), 0, len(self.analysis.days) - 1))
        return box_of(self.analysis, visit, layers.to_ras_mm(world))
