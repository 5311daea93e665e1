"""The growth curve: the chart of report.html, alive. A click goes to the visit and the lesion under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_convlstm_tumor.series import Report

PAPER, LIGHT, GRID = "#262930", "#e8ebee", "#3f444d"  # napari's dark ground, and what is read on it
CURRENT_COLOUR = "#ffffff"
# A click this far (in pixels) from a point means it; further away only the nearest visit is meant.
REACH_PIXELS = 12.0
SMALLEST_HEIGHT = 250


class GrowthCurve(QWidget):
    """Volumes of the lesions and in all, with error bars and the forecast; a line marks the visit on show.

    on_pick: called with the 0-based visit, and the lesion's id or None.
    """

    def __init__(self, on_pick: Callable[[int, int | None], Any]) -> None:
        super().__init__()
        self._on_pick = on_pick
        self._canvas: Any = None
        self._marker: Any = None
        self._unmarked: Any = None  # the picture without the marker: to draw all of it anew for a step is slow
        self._places: list[tuple[float, float, int, int | None]] = []  # x, mL, visit, lesion
        self._times: list[float] = []
        self.setAccessibleName("Growth curve")
        self.setToolTip("Volume over time with 95 % intervals. Click a point to go to that visit and lesion.")
        self._empty = QLabel("One visit is no curve yet.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._empty)

    def show_report(self, report: Report, visit: int = 0) -> None:
        """Draw the rows of a report; one visit is no curve."""
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        from napari_convlstm_tumor._napari.chart import chart_of

        self._clear()
        chart = chart_of(report)
        self._empty.setVisible(chart is None)
        if chart is None:
            return
        self._places, self._times = chart.places, chart.times
        self._canvas = FigureCanvasQTAgg(chart.figure)
        self._canvas.setMinimumHeight(SMALLEST_HEIGHT)
        self._canvas.mpl_connect("button_press_event", self._clicked)
        self._canvas.mpl_connect("draw_event", self._drawn)
        self._marker = chart.axes.axvline(
            chart.times[0], color=CURRENT_COLOUR, linewidth=1, linestyle=":", zorder=1, animated=True
        )
        self.layout().addWidget(self._canvas)
        self.mark(visit)

    def mark(self, visit: int) -> None:
        """Move the line to a 0-based visit."""
        if self._canvas is not None and visit < len(self._times):
            self._marker.set_xdata([self._times[visit]] * 2)
            if self._unmarked is not None:
                self._canvas.restore_region(self._unmarked)
                self._axes.draw_artist(self._marker)
                self._canvas.blit()

    def _drawn(self, event: Any) -> None:
        """The whole picture was drawn: keep it, and put the marker on."""
        self._unmarked = self._canvas.copy_from_bbox(self._canvas.figure.bbox)
        self._axes.draw_artist(self._marker)

    def place_of(self, visit: int, lesion: int | None = None) -> tuple[float, float]:
        """Pixels (matplotlib's, from the lower left) of a point of the curve."""
        x, ml = next((x, ml) for x, ml, v, n in self._places if (v, n) == (visit, lesion))
        place = self._axes.transData.transform((x, ml))
        return float(place[0]), float(place[1])

    @property
    def canvas(self) -> Any:
        """The matplotlib canvas on show, or None."""
        return self._canvas

    @property
    def _axes(self) -> Any:
        return self._canvas.figure.axes[0]

    def _clear(self) -> None:
        if self._canvas is not None:
            self.layout().removeWidget(self._canvas)
            self._canvas.deleteLater()
        self._canvas = self._marker = self._unmarked = None

    def _clicked(self, event: Any) -> None:
        if event.inaxes is None:
            return
        points = [(self._axes.transData.transform((x, ml)), v, n) for x, ml, v, n in self._places]
        # a lesion before the total: where they coincide the lesion says more
        near = [
            (abs(x - event.x) + abs(y - event.y), n is None, v, n)
            for (x, y), v, n in points
            if max(abs(x - event.x), abs(y - event.y)) <= REACH_PIXELS
        ]
        if near:
            *_, visit, lesion = min(near, key=lambda found: found[:2])
            self._on_pick(visit, lesion)
            return
        self._on_pick(min(range(len(self._times)), key=lambda v: abs(self._times[v] - event.xdata)), None)
