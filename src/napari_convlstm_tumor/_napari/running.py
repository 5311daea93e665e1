"""The panel "Run": settings, clicks that show the tumor, and the button."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Points
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_convlstm_tumor._napari import layers, viewer
from napari_convlstm_tumor._napari.form import SettingsForm
from napari_convlstm_tumor._napari.parts import button, named, row, sentence
from napari_convlstm_tumor._napari.worker import Clicks

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget
    from napari_convlstm_tumor.series import Prompt

CLICKS = "clicks on the tumor"
CLICK_SIZE_MM = 5.0
HOW_TO = (
    "Run registers the visits, segments the tumor at each of them and measures its growth. If the network should not "
    "search by itself, click the tumor first: one point at one visit is enough."
)


class RunPanel(QWidget):
    """Starts and stops the pipeline through the widget."""

    def __init__(self, widget: TumorGrowthWidget) -> None:
        super().__init__()
        self._widget = widget
        self.form = SettingsForm()
        self.run_button = button("Run", widget.run_or_cancel, "Segment the tumor at every visit and measure growth")
        self.click_button = button("Click the tumor", self._click, "Point at the tumor to guide the next run")
        settings = named(QCollapsible("Settings"), "Settings", "Every choice of an analysis, with its default")
        named(settings.toggleButton(), "Settings", "Show or hide the settings")
        settings.addWidget(self.form)
        layout = QVBoxLayout(self)
        layout.addWidget(sentence(HOW_TO))
        layout.addLayout(row(self.run_button, self.click_button))
        layout.addWidget(settings)
        layout.addStretch()

    def set_running(self, running: bool) -> None:
        """Run becomes Cancel, and clicks wait."""
        self.run_button.setText("Cancel" if running else "Run")
        self.run_button.setAccessibleName(self.run_button.text())
        self.click_button.setEnabled(not running)

    # ---- clicks ----

    def points(self) -> Points | None:
        """The layer of clicks, if there is one."""
        shown = self._widget.viewer.layers
        ours = [layer for layer in shown if isinstance(layer, Points) and viewer.kind_of(layer) == "clicks"]
        return ours[0] if ours else None

    def add_clicks(self, prompts: tuple[Prompt, ...]) -> Points | None:
        """A layer to click on, with the clicks that were there already."""
        shown = viewer.current(self._widget.viewer)
        if shown is None:
            self._widget.say("Open the patient first (File > Open Folder), so that there is something to click on.")
            return None
        data, options = layers.clicks_layer(CLICKS, prompts, shown, CLICK_SIZE_MM)
        return self._widget.viewer.add_layer(Points(data, **options))

    def clicks(self) -> Clicks | None:
        """What was clicked, in each visit's own scanner space."""
        points = self.points()
        if points is None or not len(points.data):
            return None
        shown: Any = viewer.shown_by(points)
        world = [points.data_to_world(point) for point in points.data]
        return Clicks(shown.patient, shown.days, layers.to_prompts(world, shown))

    def _click(self) -> None:
        """Add (or select) the points layer and let the person click."""
        points = self.points()
        if points is None:
            points = self.add_clicks(())
        if points is not None:
            self._widget.viewer.layers.selection.active = points
            points.mode = "add"
            self._widget.say("Click inside the tumor, at any visit; then Run.")
