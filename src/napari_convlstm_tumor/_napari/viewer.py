"""What a layer alone cannot ask of the viewer: the words "visit 2/4, day 41", editing in 3-D, colour and scale bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from napari_convlstm_tumor._napari import layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

VISIT_FONT_SIZE = 14
OUTLINE_VOXELS = 1
MEASURED_KEY = "measured"

_attached: WeakSet[Any] = WeakSet()


def attach(viewer: ViewerModel) -> None:
    """Follow the visit slider and set up our layers as they come. A second call does nothing."""
    if viewer in _attached:
        return
    _attached.add(viewer)

    def update(event: Any = None) -> None:
        show_visit(viewer)

    def prepare(layer: Layer) -> None:
        shown = shown_by(layer)
        if shown is not None:
            _prepare(layer, shown)
            _go_to_tumor(viewer, layer, shown)
            viewer.canvas.overlays.scale_bar.visible = True
            layer.events.visible.connect(update)
        update()

    def fill(event: Any) -> None:
        for layer in viewer.layers:
            _fill(layer, viewer.dims.ndisplay)

    viewer.layers.events.inserted.connect(lambda event: prepare(event.value))
    viewer.layers.events.removed.connect(update)
    viewer.layers.selection.events.active.connect(update)
    viewer.dims.events.current_step.connect(update)
    viewer.dims.events.ndisplay.connect(fill)
    for layer in viewer.layers:
        prepare(layer)


def attach_current() -> None:
    """Attach to the viewer that is open, if there is one (a reader is not told which viewer it reads for)."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        attach(viewer)


def shown_by(layer: Layer | None) -> layers.Shown | None:
    """What a layer of ours shows; None for any other layer."""
    return None if layer is None else layer.metadata.get(layers.METADATA_KEY)


def current(viewer: ViewerModel) -> layers.Shown | None:
    """What is shown by the selected layer, or else by the topmost layer of ours."""
    candidates = [viewer.layers.selection.active, *reversed(viewer.layers)]
    return next((shown for shown in map(shown_by, candidates) if shown is not None), None)


def show_visit(viewer: ViewerModel) -> None:
    """Write the visit under the slider over the picture, and what the colours mean when the growth map is on."""
    shown = current(viewer)
    overlay = viewer.canvas.overlays.text
    if shown is None:
        if overlay.text.startswith(layers.VISIT):
            overlay.visible = False
        return
    lines = [layers.visit_text(shown, visit_number(viewer))]
    lines += [f"colours: {layer.name}" for layer in viewer.layers if _is_growth(layer) and layer.visible]
    overlay.text = "\n".join(lines)
    overlay.font_size = VISIT_FONT_SIZE
    overlay.position = "top_left"
    overlay.visible = True


def visit_number(viewer: ViewerModel) -> int:
    """0-based visit under the slider."""
    return round(viewer.dims.point[0]) if viewer.dims.ndim >= 4 else 0


def _prepare(layer: Layer, shown: layers.Shown) -> None:
    """What cannot be given when a layer is made."""
    if shown.kind in ("tumor", "forecast"):
        layer.n_edit_dimensions = 3  # a brush is a ball, not a disc in one slice
        layer.contour = OUTLINE_VOXELS
    if shown.kind == "growth":
        layer.colorbar.visible = True


def _go_to_tumor(viewer: ViewerModel, layer: Layer, shown: layers.Shown) -> None:
    """Begin at the last visit with tumor, in the slice with most of it."""
    view = layers.best_view(layer.data) if shown.kind == "tumor" else None
    if view is not None and tuple(viewer.dims.order) == (0, 1, 2, 3):
        viewer.dims.set_point([0, 1], layer.data_to_world((*view, 0, 0))[:2])


def _is_growth(layer: Layer) -> bool:
    shown = shown_by(layer)
    return shown is not None and shown.kind == "growth"


def _fill(layer: Layer, ndisplay: int) -> None:
    """In 3-D the graphics card mixes neighbours and draws NaN as the lowest speed: there, undefined is zero."""
    if not _is_growth(layer):
        return
    measured = layer.metadata.setdefault(MEASURED_KEY, layer.data)
    layer.data = np.nan_to_num(measured) if ndisplay == 3 else measured
