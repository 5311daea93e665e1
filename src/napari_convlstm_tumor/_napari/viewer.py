"""What a layer alone cannot ask of the viewer: the words "visit 2/4, day 41", editing in 3-D, colour bar and scale bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from napari_convlstm_tumor._napari import layers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

VISIT_FONT_SIZE = 14

_attached: WeakSet[Any] = WeakSet()


def attach(viewer: ViewerModel) -> None:
    """Follow the visit slider and set up our layers as they come. A second call does nothing."""
    if viewer in _attached:
        return
    _attached.add(viewer)

    def update(event: Any = None) -> None:
        show_visit(viewer)

    def prepare(event: Any) -> None:
        _prepare(event.value)
        viewer.scale_bar.visible = viewer.scale_bar.visible or shown_by(event.value) is not None
        _go_to_tumor(viewer, event.value)
        show_visit(viewer)

    viewer.layers.events.inserted.connect(prepare)
    viewer.layers.events.removed.connect(update)
    viewer.layers.selection.events.active.connect(update)
    viewer.dims.events.current_step.connect(update)
    for layer in viewer.layers:
        _prepare(layer)
    update()


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
    """Write the visit under the slider over the picture."""
    shown = current(viewer)
    overlay = viewer.text_overlay
    if shown is None:
        if overlay.text.startswith("visit "):
            overlay.visible = False
        return
    overlay.text = layers.visit_text(shown, visit_number(viewer))
    overlay.font_size = VISIT_FONT_SIZE
    overlay.position = "top_left"
    overlay.visible = True


def visit_number(viewer: ViewerModel) -> int:
    """0-based visit under the slider."""
    return round(viewer.dims.point[0]) if viewer.dims.ndim >= 4 else 0


def _go_to_tumor(viewer: ViewerModel, layer: Layer) -> None:
    """Begin at the last visit with tumor, in the slice with most of it."""
    shown = shown_by(layer)
    if shown is None or shown.kind != "tumor" or layer.ndim != 4:
        return
    view = layers.best_view(layer.data)
    if view is not None and viewer.dims.order == (0, 1, 2, 3):
        world = layer.data_to_world((*view, 0, 0))
        viewer.dims.set_point([0, 1], world[:2])


def _prepare(layer: Layer) -> None:
    shown = shown_by(layer)
    if shown is None:
        return
    if shown.kind in ("tumor", "forecast"):
        layer.n_edit_dimensions = 3  # a brush is a ball, not a disc in one slice
        layer.contour = 1 if shown.kind == "tumor" else 2
    if shown.kind == "growth":
        layer.colorbar.visible = True
