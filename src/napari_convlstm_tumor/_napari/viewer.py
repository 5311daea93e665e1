"""What a layer alone cannot ask of the viewer: the words "visit 2/4, day 41", editing in 3-D, colour and scale bars."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_convlstm_tumor._napari import layers

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_convlstm_tumor.analysis import Analysis

VISIT_FONT_SIZE = 11
OUTLINE_VOXELS = 1
NEXT_VISIT, PREVIOUS_VISIT = "]", "["
# In 3-D the grey of what is within error must not hide the rest of the map.
HINT_OF_GREY = 0.15

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
            _bind_keys(layer, viewer)  # the selected layer is asked first, and a mask's own [ and ] size the brush
            _go_to_tumor(viewer, layer, shown)
            if viewer.dims.ndisplay == 3:
                _fill(layer, 3)
            QTimer.singleShot(0, partial(_show_bars, viewer, layer))  # with the layer it would hold up the window
            layer.events.visible.connect(update)
            layer.events.name.connect(update)
        update()

    def fill(event: Any) -> None:
        for layer in viewer.layers:
            _fill(layer, viewer.dims.ndisplay)

    viewer.layers.events.inserted.connect(lambda event: prepare(event.value))
    viewer.layers.events.removed.connect(update)
    viewer.layers.selection.events.active.connect(update)
    viewer.dims.events.current_step.connect(update)
    viewer.dims.events.ndisplay.connect(fill)
    _bind_keys(viewer, viewer)
    for layer in viewer.layers:
        prepare(layer)


def attach_current() -> None:
    """Attach to the viewer that is open, if there is one (a reader is not told which viewer it reads for)."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        attach(viewer)


def refresh(viewer: ViewerModel, analysis: Analysis, made: list[layers.LayerData]) -> None:
    """The layers that follow from the masks, measured anew, as the picture needs them: flat or in depth."""
    layers.refresh(viewer.layers, analysis, made)
    if viewer.dims.ndisplay == 3:
        for layer in viewer.layers:
            _fill(layer, 3)


def shown_by(layer: Layer | None) -> layers.Shown | None:
    """What a layer of ours shows; None for any other layer."""
    return None if layer is None else layer.metadata.get(layers.METADATA_KEY)


def kind_of(layer: Layer | None) -> str | None:
    """The kind of a layer of ours; None for any other layer."""
    shown = shown_by(layer)
    return None if shown is None else shown.kind


def current(viewer: ViewerModel) -> layers.Shown | None:
    """What is shown by the selected layer, or else by the topmost layer of ours."""
    candidates = [viewer.layers.selection.active, *reversed(viewer.layers)]
    return next((shown for shown in map(shown_by, candidates) if shown is not None), None)


def show_visit(viewer: ViewerModel) -> None:
    """Write the visit under the slider over the picture, and what the colours of maps and forecast mean."""
    shown = current(viewer)
    overlay = viewer.canvas.overlays.text
    if shown is None:
        if overlay.text.startswith(layers.VISIT):
            overlay.visible = False
        return
    lines = [layers.visit_text(shown, visit_number(viewer))]
    lines += [f"colours: {layer.name}" for layer in viewer.layers if _is_growth(layer) and layer.visible]
    lines += [
        f"{layers.FORECAST_COLOURS[layer.metadata[layers.ROLE_KEY]]} outline: {layer.name}"
        for layer in reversed(viewer.layers)
        if kind_of(layer) == "forecast" and layer.visible and layer.data.any()
    ]
    overlay.text = "\n".join(lines)
    overlay.font_size = VISIT_FONT_SIZE
    overlay.position = "top_left"
    overlay.visible = True


def visit_number(viewer: ViewerModel) -> int:
    """0-based visit under the slider."""
    return round(viewer.dims.point[0]) if viewer.dims.ndim >= 4 else 0


def step_visit(viewer: ViewerModel, step: int) -> None:
    """To the next or previous visit; stays at the first and the last."""
    shown = current(viewer)
    if shown is not None and viewer.dims.ndim >= 4:
        go_to(viewer, min(max(visit_number(viewer) + step, 0), len(shown.days) - 1))


def go_to(viewer: ViewerModel, visit: int | None = None, point_mm: Any = None) -> None:
    """Move the slider to a 0-based visit, and slices and camera to a point in RAS mm of the common grid."""
    if visit is not None and viewer.dims.ndim >= 4:
        viewer.dims.set_point(0, float(visit))
    if point_mm is None or viewer.dims.ndim < 3:
        return
    world = layers.to_world(point_mm)
    first = viewer.dims.ndim - 3
    viewer.dims.set_point(range(first, first + 3), [float(v) for v in world])
    centre = [float(world[axis - first]) for axis in viewer.dims.displayed if axis >= first]
    viewer.scene.camera.center = tuple(centre[-3:]) if len(centre) == 3 else (0.0, *centre)


def put_in(viewer: ViewerModel, data: Any, options: dict[str, Any], kind: str) -> None:
    """A new layer; one that is there already on this very array only learns what it is part of."""
    there = next((layer for layer in viewer.layers if layer.data is data), None)
    if there is None:
        viewer.add_layer(Layer.create(data, options, kind))
    else:
        there.metadata = options["metadata"]


def take_out(viewer: ViewerModel, made: Sequence[layers.LayerData] = ()) -> None:
    """Take our layers out, but for those on arrays of ``made``; a mask that was painted on stays, renamed."""
    for layer in [layer for layer in viewer.layers if shown_by(layer) is not None]:
        if any(layer.data is data for data, *_ in made):
            continue
        if layers.is_painted(layer.data, layer.metadata):
            layer.name = f"{layer.name} (painted)"
            del layer.metadata[layers.METADATA_KEY]
        else:
            viewer.layers.remove(layer)


def _bind_keys(asked: Any, viewer: ViewerModel) -> None:
    """The keys of a viewer or a layer that step through the visits."""
    asked.bind_key(NEXT_VISIT, lambda _: step_visit(viewer, 1), overwrite=True)
    asked.bind_key(PREVIOUS_VISIT, lambda _: step_visit(viewer, -1), overwrite=True)


def _prepare(layer: Layer, shown: layers.Shown) -> None:
    """What cannot be given when a layer is made."""
    if shown.kind in ("tumor", "forecast"):
        layer.n_edit_dimensions = 3  # a brush is a ball, not a disc in one slice
        layer.contour = OUTLINE_VOXELS


def _show_bars(viewer: ViewerModel, layer: Layer) -> None:
    """Millimetres, and for a map the speed of its colours: below, where the words over the picture do not reach."""
    viewer.canvas.overlays.scale_bar.visible = True
    if _is_growth(layer):
        layer.colorbar.position = "bottom_left"
        layer.colorbar.visible = True


def _go_to_tumor(viewer: ViewerModel, layer: Layer, shown: layers.Shown) -> None:
    """Begin at the last visit with tumor, in the slice with most of it."""
    view = layers.best_view(layer.data) if shown.kind == "tumor" else None
    if view is not None and tuple(viewer.dims.order) == (0, 1, 2, 3):
        viewer.dims.set_point([0, 1], layer.data_to_world((*view, 0, 0))[:2])


def _is_growth(layer: Layer) -> bool:
    return kind_of(layer) in ("growth", "rate")


def _fill(layer: Layer, ndisplay: int) -> None:
    """In 3-D the graphics card mixes neighbours and draws NaN as the lowest speed: there, undefined is zero."""
    if kind_of(layer) == "within error":
        layer.opacity = HINT_OF_GREY if ndisplay == 3 else 1.0
    if not _is_growth(layer):
        return
    measured = layer.metadata.setdefault(layers.MEASURED_KEY, layer.data)
    layer.data = np.nan_to_num(measured) if ndisplay == 3 else measured
