"""Arrays on a grid -> napari layers, and the way back for points and edited masks.

The problem. Outside this room an array is (..., I, J, K) with an affine to RAS+ mm. napari draws (t, z, y, x) with y
down and x to the right, and knows no patient. Here, and only here, the axes are turned so that they run to the
patient's feet (z), back (y) and left (x). World coordinates in the viewer are then the negative of RAS mm, in
reversed order:

    (z, y, x) = (-S, -A, -R)

An axial slice shows the patient's right on the left of the screen and the front at the top (radiological convention);
rolled to coronal or sagittal the head is at the top; and napari's default 3-D camera, whose (z, y, x) is right-handed,
shows the patient and not the mirror image.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor._napari import looks
from napari_convlstm_tumor.series import AlignedSeries, Prompt
from napari_convlstm_tumor.volume import FloatArray, Grid

if TYPE_CHECKING:
    from napari_convlstm_tumor.analysis import Analysis
    from napari_convlstm_tumor.results import FirstImage

LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]
Kind = Literal["image", "tumor", "growth", "rate", "within error", "forecast", "clicks"]

METADATA_KEY = "convlstm_tumor"
CHECKSUM_KEY = "checksum"
MEASURED_KEY = "measured"
ROLE_KEY = "role"
AXIS_LABELS = ("visit", "z", "y", "x")
VISIT = "visit "
UNITS = ("pixel", "mm", "mm", "mm")
TUMOR, WITHIN_ERROR = "tumor", "growth within error"
FORECAST, FORECAST_BAND = "forecast", "forecast band"
FORECAST_COLOURS = {FORECAST: "cyan", FORECAST_BAND: "blue"}  # in words, for the picture
# Kinds of layers that follow from the masks: a correction makes them anew.
MADE_KINDS = ("growth", "rate", "within error", "forecast")


@dataclass(frozen=True, eq=False)
class Shown:
    """What a layer of ours shows; lies in ``layer.metadata[METADATA_KEY]``.

    ref_to_visit: per visit (4, 4), RAS mm of the shown grid -> RAS mm of that visit's own scanner space.
    analysis: the result it is part of, None for a patient's own images. place: the folder or file it was opened from.
    """

    kind: Kind
    patient: str
    days: tuple[int, ...]
    dated: bool
    grid: Grid
    ref_to_visit: tuple[FloatArray, ...]
    unit: str = ""
    analysis: Analysis | None = None
    place: str = ""


# ---- where a grid lies in the viewer ----


def _axes(grid: Grid) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Grid axes that run along S, A, R, and which of them must be turned round to run to feet, back and left."""
    directions = grid.affine[:3, :3]
    along = np.argmax(np.abs(directions), axis=1)  # for R, A, S: the grid axis that runs along it
    z, y, x = int(along[2]), int(along[1]), int(along[0])
    turned = tuple(axis for axis, row in ((z, 2), (y, 1), (x, 0)) if directions[row, axis] > 0)
    return (z, y, x), turned


def to_display(array: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """(..., I, J, K) on ``grid`` -> (..., z, y, x) as napari draws it; a view, no copy."""
    order, turned = _axes(grid)
    lead = array.ndim - 3
    flipped = np.flip(array, [lead + axis for axis in turned])
    return flipped.transpose(*range(lead), *(lead + axis for axis in order))  # (..., I, J, K) -> (..., z, y, x)


def from_display(array: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """The inverse of to_display: (..., z, y, x) from a layer (an edited mask) -> (..., I, J, K) on ``grid``."""
    order, turned = _axes(grid)
    lead = array.ndim - 3
    back = np.argsort(order)
    restored = array.transpose(*range(lead), *(lead + int(axis) for axis in back))  # (..., z, y, x) -> (..., I, J, K)
    return np.flip(restored, [lead + axis for axis in turned])


def placement(grid: Grid, first_visit: float = 0.0) -> dict[str, Any]:
    """Layer arguments that put (t, z, y, x) data of ``grid`` in the world: scale, translate, units, axis_labels."""
    order, turned = _axes(grid)
    corner = np.array([n - 1 if axis in turned else 0 for axis, n in enumerate(grid.shape)])
    z, y, x = -grid.to_mm(corner)[::-1]
    scale = tuple(grid.spacing_mm[axis] for axis in order)
    return {
        "scale": (1.0, *scale),
        "translate": (first_visit, float(z), float(y), float(x)),
        "units": UNITS,
        "axis_labels": AXIS_LABELS,
    }


def to_ras_mm(world: npt.ArrayLike) -> FloatArray:
    """Viewer world coordinates (..., t, z, y, x) or (..., z, y, x) in mm -> RAS mm (..., 3) of the shown grid."""
    return -np.asarray(world, dtype=np.float64)[..., -3:][..., ::-1]


def to_world(ras_mm: npt.ArrayLike) -> FloatArray:
    """RAS mm (..., 3) -> viewer world coordinates (..., z, y, x); the inverse of to_ras_mm."""
    return -np.asarray(ras_mm, dtype=np.float64)[..., ::-1]


def to_prompts(world: npt.ArrayLike, shown: Shown) -> tuple[Prompt, ...]:
    """Points (N, 4) in world coordinates -> prompts, in each visit's own scanner space."""
    prompts = []
    for point in np.asarray(world, dtype=np.float64).reshape(-1, 4):
        visit = int(np.clip(np.rint(point[0]), 0, len(shown.days) - 1))
        ras_mm = shown.ref_to_visit[visit] @ np.append(to_ras_mm(point), 1.0)
        prompts.append(Prompt(visit + 1, "point", ras_mm[:3]))
    return tuple(prompts)


def from_prompts(prompts: tuple[Prompt, ...], shown: Shown) -> FloatArray:
    """Points of to_prompts -> (N, 4) in the world of ``shown``: the inverse, on this grid or any other."""
    points = np.zeros((len(prompts), 4))
    for row, prompt in zip(points, prompts, strict=True):
        ras_mm = np.linalg.inv(shown.ref_to_visit[prompt.visit - 1]) @ np.append(prompt.ras_mm, 1.0)
        row[:] = (prompt.visit - 1, *to_world(ras_mm[:3]))
    return points


def best_view(masks: npt.NDArray[np.uint8]) -> tuple[int, int] | None:
    """Visit and z index to begin with: the last visit with tumor, the slice with most of it. masks: (t, z, y, x)."""
    area = np.array([[np.count_nonzero(z) for z in visit] for visit in masks])  # (t, z); a tenth of the time of axis=
    with_tumor = np.flatnonzero(area.any(axis=1))
    if not with_tumor.size:
        return None
    visit = int(with_tumor[-1])
    return visit, int(np.argmax(area[visit]))


def visit_text(shown: Shown, visit: int) -> str:
    """'visit 2/4, day 41', or without a day when the visits have no dates."""
    count = len(shown.days)
    number = min(max(visit, 0), count - 1)
    day = f", day {shown.days[number]}" if shown.dated else " (no dates)"
    return f"{VISIT}{number + 1}/{count}{day}"


# ---- layers ----


def to_layers(analysis: Analysis, place: str = "", first: LayerData | None = None) -> list[LayerData]:
    """Layers of a result, from the bottom up: images, growth map and where it is within error, forecast and its band,
    tumor by lesion. Growth needs two visits. first: what ``first_layer`` made of it already."""
    shown = _shown(analysis, place)
    layers = [] if first is None else [(first[0], {**first[1], **_options(first[1]["name"], shown)}, first[2])]
    layers += [image_layer(name, data, shown) for name, data in list(analysis.images.items())[len(layers) :]]
    for _, options, _ in layers[1:]:
        options["visible"] = False  # one image at a time; the others are a click away
    return [*layers, *map_layers(analysis, shown), mask_layer(TUMOR, lesion_ids(analysis), shown)]


def first_layer(first: FirstImage, place: str = "") -> LayerData:
    """The lowest layer of a result, before the rest is read."""
    to_visit = tuple(registration.ref_to_visit for registration in first.registrations)
    shown = Shown("image", first.patient, first.days, first.dated, first.grid, to_visit, place=place)
    return image_layer(first.modalities[0], first.image, shown)


def map_layers(analysis: Analysis, shown: Shown) -> list[LayerData]:
    """What was measured: growth map, where it is within error, rates asked for, the forecast and its band."""
    layers = []
    if len(analysis.days) > 1:
        layers.append(_growth_layer(analysis, shown))
        if analysis.reliable is not None:
            layers.append(_within_error_layer(analysis, shown))
        layers += _rate_layers(analysis, shown)
    prediction = analysis.prediction
    if prediction.forecast is not None and prediction.forecast_day is not None:
        layers += forecast_layers(analysis, prediction.forecast, analysis.forecast_band, prediction.forecast_day)
    return layers


def lesion_ids(analysis: Analysis) -> npt.NDArray[Any]:
    """(T, I, J, K) what the tumor layer holds: lesion ids, or 1 where lesions were not followed; 0 outside."""
    return analysis.masks if analysis.lesions is None else analysis.lesions


def unregistered_layers(aligned: AlignedSeries, place: str = "") -> list[LayerData]:
    """Layers of a patient's own images and masks, laid on the first visit's grid by their headers only."""
    note = "" if len(aligned.days) == 1 else " (not registered)"
    to_visit = tuple(registration.ref_to_visit for registration in aligned.registrations)
    shown = Shown("image", aligned.patient, aligned.days, aligned.dated, aligned.grid, to_visit, place=place)
    layers = []
    for channel, name in enumerate(aligned.modalities):
        data = np.stack([_covered(aligned, visit, channel) for visit in range(len(aligned.days))])
        layers.append(image_layer(name + note, data, shown, modality=name))
        layers[-1][1]["visible"] = channel == 0  # one image at a time
    if any(mask is not None for mask in aligned.masks):
        nothing = np.zeros(aligned.grid.shape, np.uint8)
        masks = np.stack([nothing if mask is None else mask for mask in aligned.masks])
        layers.append(mask_layer(f"mask given{note}", masks, shown))
    return layers


def image_layer(name: str, data: npt.NDArray[Any], shown: Shown, modality: str = "") -> LayerData:
    """4-D image: CT in Hounsfield units; MR, whose units mean nothing, each visit scaled to its own robust range."""
    is_ct = (modality or name) == "ct"
    drawn = to_display(data, shown.grid)
    if not is_ct:
        drawn = np.stack([looks.scaled(visit) for visit in drawn])  # (T, z, y, x)
    options = {"colormap": "gray", "contrast_limits": looks.CT_WINDOW if is_ct else looks.MR_RANGE}
    return drawn, {**_options(name, shown), **options}, "image"


def clicks_layer(
    name: str, prompts: tuple[Prompt, ...], shown: Shown, size_mm: float
) -> tuple[FloatArray, dict[str, Any]]:
    """Points (N, 4) in voxels and layer options for clicks on what is shown; ``prompts`` are those there already."""
    options = {
        **_options(name, replace(shown, kind="clicks")),
        "ndim": 4,
        "size": size_mm / shown.grid.spacing_mm[_axes(shown.grid)[0][2]],
    }
    data = (from_prompts(prompts, shown) - options["translate"]) / options["scale"]
    look = {"face_color": looks.HINT_COLOUR, "border_color": "black", "symbol": "cross"}
    return data, {**options, **look}


def is_painted(data: npt.NDArray[Any], metadata: Mapping[str, Any]) -> bool:
    """True when a mask layer of ours is no longer what mask_layer made."""
    return CHECKSUM_KEY in metadata and metadata[CHECKSUM_KEY] != checksum(data)


def mask_layer(name: str, masks: npt.NDArray[Any], shown: Shown) -> LayerData:
    """4-D Labels (t, z, y, x) coloured by lesion; a copy, so that painting leaves the result as it was."""
    data = np.array(to_display(masks, shown.grid), order="C")
    options = {**_options(name, replace(shown, kind="tumor")), "colormap": looks.by_lesion(), "opacity": 0.9}
    options["metadata"][CHECKSUM_KEY] = checksum(data)
    return data, options, "labels"


def _growth_layer(analysis: Analysis, shown: Shown) -> LayerData:
    return _map_layer("front speed", analysis.growth, replace(shown, kind="growth", unit=analysis.growth_unit))


def _rate_layers(analysis: Analysis, shown: Shown) -> list[LayerData]:
    """Log-growth and log-Jacobian rate where they were asked for, and drawn only where they are reliable: grey for the
    rest would hide the whole body. Hidden at first, one map at a time."""
    layers = []
    for one in analysis.change_maps[1:]:
        values = np.stack([one.trusted(t) for t in range(len(analysis.days))])
        layers.append(_map_layer(one.name, values, replace(shown, kind="rate", unit=one.unit)))
        layers[-1][1]["visible"] = False
    return layers


def _map_layer(name: str, values: npt.NDArray[np.float32], shown: Shown) -> LayerData:
    """Values (T, I, J, K) in ``shown.unit``, blue below zero, red above."""
    limit = looks.growth_limit(values)
    options = {
        "colormap": looks.growth_colormap(),
        "contrast_limits": (-limit, limit),
        "interpolation2d": "nearest",
        "blending": "translucent",
        "rendering": "translucent",
    }
    data = to_display(values, shown.grid)  # no copy: it would cost more than a hundred megabytes after each stroke
    return data, {**_options(f"{name} ({shown.unit})", shown), **options}, "image"


def _within_error_layer(analysis: Analysis, shown: Shown) -> LayerData:
    """Grey over the growth map where it is no more than measurement error; the values below stay to be asked for."""
    assert analysis.reliable is not None
    doubtful = np.isfinite(analysis.growth)
    doubtful &= ~analysis.reliable
    options = {
        **_options(WITHIN_ERROR, replace(shown, kind="within error")),
        "colormap": looks.one_label(looks.WITHIN_ERROR_COLOUR),
        "opacity": 1.0,
    }
    return to_display(doubtful.view(np.uint8), shown.grid), options, "labels"


def made_layers(analysis: Analysis) -> list[LayerData]:
    """The layers that follow from the masks, of an analysis measured anew: for ``refresh``."""
    return map_layers(analysis, _shown(analysis))


def refresh(shown: Any, analysis: Analysis, made: list[LayerData]) -> None:
    """Put ``made`` (by ``made_layers``) into a viewer's list of layers; the tumor layer stays as it is."""
    for layer in shown:
        ours = layer.metadata.get(METADATA_KEY)
        if ours is not None and ours.patient == analysis.patient:
            layer.metadata[METADATA_KEY] = replace(ours, analysis=analysis)
    put_made(shown, made, MADE_KINDS)


def put_made(shown: Any, made: list[LayerData], kinds: tuple[str, ...]) -> None:
    """Put layers in the place of those of the same role in a viewer's list; a forecast that is no longer made stays,
    empty: to take a layer out costs napari a third of a second."""
    from napari.layers import Layer

    new = {options["metadata"][ROLE_KEY]: (data, options, kind) for data, options, kind in made}
    for layer in shown:
        ours = layer.metadata.get(METADATA_KEY)
        if ours is None or ours.kind not in kinds:
            continue
        data, options, _ = new.pop(layer.metadata[ROLE_KEY], (None, {"name": layer.metadata[ROLE_KEY]}, ""))
        layer.metadata.pop(MEASURED_KEY, None)
        layer.data = np.zeros_like(layer.data) if data is None else data
        if ours.kind == "forecast":
            layer.name = options["name"]  # it says the day
    active = shown.selection.active
    tumor = next((n for n, layer in enumerate(shown) if layer.name == TUMOR), len(shown))
    for layer_data in new.values():
        shown.insert(tumor, Layer.create(*layer_data))
    if active in shown:  # a new layer is selected, and the next stroke would go there
        shown.selection.active = active


def forecast_layers(
    analysis: Analysis, forecast: npt.NDArray[Any], band: npt.NDArray[np.uint8] | None, day: int
) -> list[LayerData]:
    """Outline of a forecast (I, J, K), and of its band, drawn over the last visit; hidden at first, because they
    belong to a later day."""
    shown = replace(_shown(analysis), kind="forecast")
    outline = _ahead(f"{FORECAST} day {day}", forecast >= 0.5, looks.FORECAST_COLOUR, shown)
    if band is None:
        return [outline]
    return [_ahead(FORECAST_BAND, band, looks.BAND_COLOUR, shown), outline]


def _ahead(name: str, mask: npt.NDArray[Any], colour: str, shown: Shown) -> LayerData:
    data = to_display(mask.astype(np.uint8), shown.grid)[None]  # (1, z, y, x)
    options = {
        **_options(name, shown, first_visit=len(shown.days) - 1),
        "colormap": looks.labels_in(colour),
        "visible": False,
    }
    if name != FORECAST_BAND:
        options["metadata"][ROLE_KEY] = FORECAST
    return np.ascontiguousarray(data), options, "labels"


def _shown(analysis: Analysis, place: str = "") -> Shown:
    return Shown(
        "image",
        analysis.patient,
        analysis.days,
        analysis.dated,
        analysis.grid,
        tuple(registration.ref_to_visit for registration in analysis.registrations),
        analysis=analysis,
        place=place,
    )


def _covered(aligned: AlignedSeries, visit: int, channel: int) -> npt.NDArray[np.float32]:
    """The image (I, J, K) in the scanner's intensities, zero where there is none (air, for CT)."""
    outside = np.float32(looks.CT_AIR if aligned.modalities[channel] == "ct" else 0)
    reaches = aligned.inside[visit] & aligned.present[visit, channel]
    return np.where(reaches, aligned.raw(visit, channel), outside)


def checksum(data: npt.NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(data))


def _options(name: str, shown: Shown, first_visit: float = 0.0) -> dict[str, Any]:
    return {
        "name": name,
        "metadata": {METADATA_KEY: shown, ROLE_KEY: name, "unit": shown.unit},
        **placement(shown.grid, first_visit),
    }
