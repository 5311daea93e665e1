"""Slices of a report as data URIs: which slice to show, outlines of masks on it, growth over it.

A slice is drawn as a radiologist expects it: the patient's right (or front) at the left, front (or head) at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from napari_convlstm_tumor.report.figures import png_uri, svg_uri
from napari_convlstm_tumor.series import FloatVolume
from napari_convlstm_tumor.volume import Grid

# An axis whose voxels are this much longer than those of any other is the one the scanner sliced along.
THICK_SLICES = 1.5
# World axes across the three planes, by the name of the plane.
PLANE_NAMES = ("sagittal", "coronal", "axial")
# What is shown around the tumor, so that a reader can tell where in the body it lies.
MARGIN_MM = 30.0
SMALLEST_FIELD_MM = 110.0
SCALE_BAR_MM = 20
# Soft tissue in Hounsfield units: centre 40, width 400, the usual abdominal window.
CT_WINDOW = (-160.0, 240.0)
# A single bright vessel or a coil's hot spot must not darken the rest of the picture.
ROBUST_PERCENTILES = (1.0, 99.5)
# The colours of the growth map end here, so that one stray voxel does not make the rest pale.
GROWTH_PERCENTILE = 98.0
# Ends of the colour bar are one of these times a power of ten, so that its ticks can be read.
ROUND_NUMBERS = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
# Slower than any growth that can be measured between two visits; keeps a colour bar from ending at a rounding error.
SLOWEST = 0.01
# Blue shrinks, grey stays, red grows: told apart by colour-blind people (Moreland 2009).
GROWTH_COLOURS = "coolwarm"
WITHIN_ERROR_COLOUR = "#6b6b6b"
FORECAST_OUTLINE, FRONT_OUTLINE = "#7df9ff", "black"
TILE_INCHES, TILE_DPI = 2.6, 150


@dataclass(frozen=True)
class Plane:
    """A slice position and a field of view, the same for every visit.

    name: axial, coronal or sagittal. axis, index: array axis across the slice and the (0-based) position on it.
    transpose, flips: from the array's plane to rows (down) and columns (right) of the picture. field: rows and columns
    shown. spacing_mm: of rows and columns. letters: the patient's side at the left and at the top.
    """

    name: str
    axis: int
    index: int
    transpose: bool
    flips: tuple[int, ...]
    field: tuple[slice, slice]
    spacing_mm: tuple[float, float]
    letters: tuple[str, str]

    def whole(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The whole slice (rows, columns) of a volume (I, J, K)."""
        return self.turned(np.take(volume, self.index, axis=self.axis))

    def turned(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A plane of the array, axes in array order, as rows and columns of the picture."""
        return np.flip(flat.T if self.transpose else flat, self.flips)

    def cut(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of the slice that is shown."""
        return self.whole(volume)[self.field]


@dataclass(frozen=True, eq=False)
class Outline:
    """A mask (rows, columns) drawn as a line; a thick one has a black edge, so that it shows on white tissue.

    name: written beside it.
    """

    mask: npt.NDArray[np.bool_]
    colour: str
    dashed: bool = False
    thick: bool = True
    name: str = ""


# ---- which slice ----


def choose_plane(masks: npt.NDArray[Any], grid: Grid) -> Plane:
    """The slice through the largest tumor area of any visit, and a field of view around the tumor of all visits.

    masks: (T, I, J, K) on ``grid``. Across the thick slices where there are some, else axial; the middle of the image
    when no visit has tumor.
    """
    world = [int(np.argmax(np.abs(grid.affine[:3, axis]))) for axis in range(3)]
    axis = _across(grid, world)
    areas = np.count_nonzero(masks, axis=tuple(a + 1 for a in range(3) if a != axis)).max(axis=0)
    index = int(np.argmax(areas)) if areas.any() else grid.shape[axis] // 2
    p, q = (a for a in range(3) if a != axis)
    transpose = world[p] < world[q]  # the picture's rows run along the later world axis, its columns along the earlier
    rows, columns = (q, p) if transpose else (p, q)
    plane = Plane(
        name=PLANE_NAMES[world[axis]],
        axis=axis,
        index=index,
        transpose=transpose,
        flips=tuple(n for n, a in enumerate((rows, columns)) if grid.affine[world[a], a] > 0),
        field=(slice(None), slice(None)),
        spacing_mm=(grid.spacing_mm[rows], grid.spacing_mm[columns]),
        letters=("RAS"[world[columns]], "RAS"[world[rows]]),
    )
    shadow = plane.turned((masks != 0).any(axis=(0, axis + 1)))
    return _with_field(plane, shadow)


def _across(grid: Grid, world: Sequence[int]) -> int:
    thickest, next_thickest = sorted(range(3), key=lambda axis: grid.spacing_mm[axis], reverse=True)[:2]
    if grid.spacing_mm[thickest] > THICK_SLICES * grid.spacing_mm[next_thickest]:
        return thickest
    return world.index(2)


def _with_field(plane: Plane, shadow: npt.NDArray[np.bool_]) -> Plane:
    """The plane with a square field around the shadow of the tumor, or the whole picture when there is none."""
    if not shadow.any():
        return plane
    ends = [np.flatnonzero(shadow.any(axis=1 - axis))[[0, -1]] for axis in (0, 1)]
    extents = [(high - low + 1) * mm for (low, high), mm in zip(ends, plane.spacing_mm, strict=True)]
    side = max(max(extents) + 2 * MARGIN_MM, SMALLEST_FIELD_MM)
    rows, columns = (
        _span((low + high + 1) / 2, round(side / mm), size)
        for (low, high), mm, size in zip(ends, plane.spacing_mm, shadow.shape, strict=True)
    )
    return replace(plane, field=(rows, columns))


def _span(centre: float, length: int, size: int) -> slice:
    """``length`` voxels around the centre, moved into 0..size."""
    length = min(length, size)
    start = min(max(round(centre - length / 2), 0), size - length)
    return slice(start, start + length)


# ---- slices ----


def slice_png(
    image: FloatVolume,
    plane: Plane,
    is_ct: bool,
    outlines: Sequence[Outline] = (),
    growth: npt.NDArray[Any] | None = None,
    limit: float = 1.0,
    reliable: npt.NDArray[np.bool_] | None = None,
) -> str:
    """One slice of an image (I, J, K) as a PNG data URI, with outlines and, over it, the growth of the same slice.

    growth, reliable: (rows, columns) as cut by ``plane``; NaN is clear, what is not reliable is grey. limit: speed at
    the end of the colours.
    """
    low, high = _window(plane.whole(image), is_ct)
    picture = plane.cut(image)
    figure, axes = _tile(picture, plane)
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="bilinear", aspect="auto")
    if growth is not None:
        _paint_growth(axes, growth, limit, reliable)
    for outline in outlines:
        _draw(axes, outline)
    _mark(axes, picture.shape, plane)
    return png_uri(figure)


def growth_limit(growth: npt.NDArray[np.floating[Any]]) -> float:
    """End of the colour bar: the robust largest speed, rounded up to a number that reads well; 1 when nothing moves."""
    speeds = np.abs(growth[np.isfinite(growth) & (growth != 0)])
    if not speeds.size:
        return 1.0
    largest = max(float(np.percentile(speeds, GROWTH_PERCENTILE)), SLOWEST)
    power = 10.0 ** np.floor(np.log10(largest))
    enough = largest / power * (1 - 1e-6) <= ROUND_NUMBERS
    return float(ROUND_NUMBERS[enough][0] * power)


def colour_bar(limit: float, unit: str) -> str:
    """The colours of the growth map from -limit to +limit as an SVG data URI."""
    figure = Figure(figsize=(3.6, 0.75), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.linspace(-1, 1, 256)[None], cmap=GROWTH_COLOURS, aspect="auto", extent=(-limit, limit, 0, 1))
    axes.set_yticks([])
    axes.set_xticks(
        [-limit, -limit / 2, 0, limit / 2, limit],
        [f"{v:+g}".replace("-", "−") if v else "0" for v in limit * np.linspace(-1, 1, 5)],
    )
    axes.set_xlabel(f"shrinks  ←  {unit}  →  grows", fontsize=9)
    axes.tick_params(labelsize=9)
    return svg_uri(figure)


def _window(whole: npt.NDArray[Any], is_ct: bool) -> tuple[float, float]:
    """Values shown black and white; MR voxels at zero are background and not counted."""
    if is_ct:
        return CT_WINDOW
    values = whole[np.isfinite(whole) & (whole != 0)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, ROBUST_PERCENTILES))
    return (low if values.min() < 0 else 0.0), max(high, float(np.finfo(np.float32).tiny))


def _tile(picture: npt.NDArray[Any], plane: Plane) -> tuple[Figure, Axes]:
    """Axes that fill the whole of a figure of the picture's own proportions."""
    height, width = (n * mm for n, mm in zip(picture.shape, plane.spacing_mm, strict=True))
    longest = max(height, width)
    figure = Figure(figsize=(TILE_INCHES * width / longest, TILE_INCHES * height / longest), dpi=TILE_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def _paint_growth(axes: Axes, growth: npt.NDArray[Any], limit: float, reliable: npt.NDArray[np.bool_] | None) -> None:
    colours = matplotlib.colormaps[GROWTH_COLOURS](Normalize(-limit, limit)(np.nan_to_num(growth)))
    if reliable is not None:
        colours[~reliable] = matplotlib.colors.to_rgba(WITHIN_ERROR_COLOUR)
    colours[~np.isfinite(growth), 3] = 0
    axes.imshow(colours, interpolation="nearest", aspect="auto")


def _draw(axes: Axes, outline: Outline) -> None:
    """The edge of a mask, closed where the mask reaches the end of the picture."""
    if not outline.mask.any():
        return
    padded = np.pad(outline.mask.astype(np.float32), 1)
    rows, columns = (np.arange(-1, n + 1) for n in outline.mask.shape)
    style, width = "dashed" if outline.dashed else "solid", 1.2 if outline.thick else 0.8
    lines = axes.contour(columns, rows, padded, [0.5], colors=[outline.colour], linewidths=width, linestyles=style)
    if outline.thick and not outline.dashed:
        lines.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
    if outline.name:
        _write_name(axes, outline)


def _write_name(axes: Axes, outline: Outline) -> None:
    """The name at the upper right of the mask, or at its upper left where the picture ends."""
    rows, columns = np.nonzero(outline.mask)
    fits = columns.max() < 0.9 * outline.mask.shape[1]
    place = (columns.max() + 1, "left") if fits else (columns.min() - 1, "right")
    text = axes.text(place[0], rows.min(), outline.name, color=outline.colour, fontsize=10, weight="bold", ha=place[1])
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _mark(axes: Axes, shape: tuple[int, ...], plane: Plane) -> None:
    """Which side is which, and how long 20 mm are."""
    height, width = shape
    text: dict[str, Any] = {"color": "white", "fontsize": 9, "path_effects": [withStroke(linewidth=2, foreground="k")]}
    axes.text(0.02, 0.5, plane.letters[0], transform=axes.transAxes, va="center", ha="left", **text)
    axes.text(0.5, 0.98, plane.letters[1], transform=axes.transAxes, va="top", ha="center", **text)
    bar = SCALE_BAR_MM / plane.spacing_mm[1] / width
    axes.plot([0.04, 0.04 + bar], [0.04, 0.04], transform=axes.transAxes, color="white", linewidth=2.5)
    axes.text(0.04, 0.055, f"{SCALE_BAR_MM} mm", transform=axes.transAxes, va="bottom", ha="left", **text)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
