"""More views of the same layers: another visit beside, or the other two planes, joined by one crosshair.

napari has one canvas a viewer; more of them are made as in napari's own multiple-viewer example, with its private
QtViewer. The layers' arrays are shared, never copied: what is painted in the viewer is seen in every view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer, Vectors
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_convlstm_tumor._napari import layers, viewer

if TYPE_CHECKING:
    import napari

AXIAL, CORONAL, SAGITTAL = (0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)
CROSSHAIR = "crosshair"
CROSSHAIR_COLOUR = "#9be564"
# What follows the main viewer's layers; everything else of a layer is as it was when the view was opened.
FOLLOWED = ("visible", "opacity", "contrast_limits", "colormap")


class LinkedView(QWidget):
    """A second canvas on the layers of ``main``: another visit (visit=...) or another plane (order=...).

    The slice (and for another visit the camera) follow the main viewer, and the other way round.
    """

    def __init__(self, main: napari.Viewer, order: tuple[int, ...] = AXIAL, visit: int | None = None) -> None:
        super().__init__()
        from napari._qt.qt_viewer import QtViewer

        self.main, self.visit = main, visit
        self.model = ViewerModel(title="linked")
        self._moving = False
        for layer in main.layers:
            self._mirror(layer)
        self.model.dims.order = order
        self.title = QLabel()
        self.canvas = QtViewer(self.model)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self.title)
        box.addWidget(self.canvas, stretch=1)
        self._connect(order == AXIAL)
        self.follow()
        self.model.reset_view()
        if order == AXIAL:
            self._copy_camera(main.scene.camera, self.model.scene.camera)

    def follow(self, event: Any = None) -> None:
        """Show the slice of the main viewer, at this view's own visit where it has one."""
        if self._moving or self.main.dims.ndim != self.model.dims.ndim:  # its layers are being taken out
            return
        self._moving = True
        point = list(self.main.dims.point)
        if self.visit is not None:
            point[0] = float(self.visit)
        self.model.dims.set_point(range(len(point)), point)
        self._say()
        self._moving = False

    def lead(self, event: Any = None) -> None:
        """The main viewer shows what was chosen here; its visit stays its own where this view has one."""
        if self._moving or self.main.dims.ndim != self.model.dims.ndim:
            return
        self._moving = True
        first = 0 if self.visit is None else 1
        if self.visit is not None:
            self.visit = round(self.model.dims.point[0])
        point = list(self.model.dims.point)
        self.main.dims.set_point(range(first, len(point)), point[first:])
        self._say()
        self._moving = False

    def close_view(self) -> None:
        """Let go of the main viewer and of the graphics card."""
        self.main.dims.events.point.disconnect(self.follow)
        if self._camera_follows is not None:
            self.main.scene.camera.events.disconnect(self._camera_follows)
        for layer, callback in self._followed:
            layer.events.disconnect(callback)
        self.canvas.close()
        self.deleteLater()

    def _connect(self, same_plane: bool) -> None:
        self.main.dims.events.point.connect(self.follow)
        self.model.dims.events.point.connect(self.lead)
        self.model.mouse_drag_callbacks.append(self._clicked)
        self._camera_follows: Any = None
        if same_plane:
            here, there = self.main.scene.camera, self.model.scene.camera
            self._camera_follows = lambda event: self._copy_camera(here, there)
            here.events.connect(self._camera_follows)
            there.events.connect(lambda event: self._copy_camera(there, here))

    def _copy_camera(self, source: Any, target: Any) -> None:
        if self._moving:
            return
        self._moving = True
        target.center, target.zoom = source.center, source.zoom
        self._moving = False

    def _mirror(self, layer: Layer) -> None:
        """The layer again on the same array; looks and painting follow."""
        if layer.name == CROSSHAIR:
            return
        data, state, kind = layer.as_layer_data_tuple()
        copy = Layer.create(data, {**state, "metadata": {}}, kind)
        self.model.layers.append(copy)
        if hasattr(layer, "contour"):
            copy.contour = layer.contour

        def follow(event: Any) -> None:
            if event.type in FOLLOWED:
                setattr(copy, event.type, getattr(layer, event.type))
            elif event.type == "data":
                copy.data = layer.data
            elif event.type in ("paint", "labels_update"):
                copy.refresh()

        layer.events.connect(follow)
        self._followed = [*getattr(self, "_followed", []), (layer, follow)]

    def _clicked(self, model: Any, event: Any) -> None:
        """A click (not a drag) moves the crosshair there."""
        moved = False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved:
            set_point(self.main, event.position)

    def _say(self) -> None:
        shown = viewer.current(self.main)
        names = {AXIAL: "axial", CORONAL: "coronal", SAGITTAL: "sagittal"}
        plane = names.get(tuple(self.model.dims.order), "")
        words = "" if shown is None else layers.visit_text(shown, round(self.model.dims.point[0]))
        self.title.setText(f"{plane}, {words}" if words else plane)


def set_point(main: napari.Viewer, world: Any) -> None:
    """Move the slices to a place in world coordinates (t, z, y, x), the visit staying as it is."""
    first = main.dims.ndim - 3
    main.dims.set_point(range(first, first + 3), [float(v) for v in world[-3:]])


class OtherPlanes(QWidget):
    """Coronal above sagittal, beside the axial view; a click in any of the three moves all of them."""

    def __init__(self, main: napari.Viewer) -> None:
        super().__init__()
        self.main = main
        self.views = [LinkedView(main, order) for order in (CORONAL, SAGITTAL)]
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        steps = np.array([axis.step for axis in main.dims.range[-3:]])
        low, high = main.layers.extent.world[:, -3:]
        self._ends = (low + steps, high - steps)
        lines = crosshair_lines(main.dims.point[-3:], self._ends) / steps
        self._cross = [_crosshair(model, lines, steps) for model in (main, *(view.model for view in self.views))]
        for view in self.views:
            box.addWidget(view)
        main.mouse_drag_callbacks.append(self._clicked)
        main.dims.events.point.connect(self._move)
        self._move()

    def fit(self) -> None:
        """Show the whole image in each, once they have their size."""
        for view in self.views:
            view.model.reset_view()

    def close_view(self) -> None:
        """Take views and crosshair away."""
        self.main.dims.events.point.disconnect(self._move)
        self.main.mouse_drag_callbacks.remove(self._clicked)
        if self._cross[0] in self.main.layers:
            self.main.layers.remove(self._cross[0])
        for view in self.views:
            view.close_view()
        self.deleteLater()

    def _move(self, event: Any = None) -> None:
        place = [*self.main.dims.point[-3:]]
        if len(place) < 3:  # the last layer is gone
            return
        for layer in self._cross:
            layer.data = crosshair_lines(place, self._ends) / layer.scale

    def _clicked(self, model: Any, event: Any) -> Any:
        moved = False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        active = self.main.layers.selection.active
        if not moved and (active is None or active.mode == "pan_zoom"):
            set_point(self.main, event.position)


def crosshair_lines(place: Any, ends: Any) -> Any:
    """Three lines through a place (z, y, x), along each axis from end to end: (3, 2, 3) start and vector.

    ends: (2, 3) the corners of what is shown; longer lines would make the viewer think that there is more to show.
    """
    low, high = np.asarray(ends, dtype=float)
    lines = np.zeros((3, 2, 3))
    for axis in range(3):
        lines[axis, 0] = place
        lines[axis, 0, axis] = low[axis]
        lines[axis, 1, axis] = high[axis] - low[axis]
    return lines


def _crosshair(model: Any, lines: Any, steps: Any) -> Vectors:
    """A layer for the lines; with voxels as large as those of the others, or the sliders would take finer steps, and
    with the lines in their place from the start, or the sliders would move."""
    layer = Vectors(
        lines, name=CROSSHAIR, scale=steps, edge_color=CROSSHAIR_COLOUR, edge_width=0.3, opacity=0.6,
        vector_style="line", units=("mm",) * 3, axis_labels=layers.AXIS_LABELS[1:], out_of_slice_display=False,
    )  # fmt: skip
    active = model.layers.selection.active
    model.layers.append(layer)
    model.layers.selection.active = active
    return layer
