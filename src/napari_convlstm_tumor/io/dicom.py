"""One DICOM series (many files, or enhanced multi-frame) as a Volume.

The geometry is taken from the tags through pydicom (dicom_planes) and checked slice by slice (dicom_stack); the pixels
come from dicom_pixels.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.dicom_pixels import PIXEL_TAGS, read_pixels
from napari_convlstm_tumor.io.dicom_planes import HEADER_TAGS, Plane, planes_of, read_header
from napari_convlstm_tumor.io.dicom_stack import (
    COSINE_TOLERANCE,
    FloatArray,
    affine,
    describe_uneven,
    make_even,
    refuse_crooked,
    refuse_same_positions,
    straighten,
    tilt_degrees,
)
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.volume import Grid, Volume

# With two slices nothing shows whether one between them is missing; such series are localisers.
FEWEST_SLICES = 3
SPACING_TOLERANCE_MM = 1e-3

_log = logging.getLogger(__name__)


def read_dicom(paths: Sequence[Path], resample_uneven: bool = False) -> Volume:
    """The volume (I, J, K) float32 of one series; i along the rows, j down the columns, k along the slice
    normal.

    A tilted gantry is undone by shifting each slice in its plane (linear interpolation; no mixing of slices).
    Missing or uneven slices are refused with their positions, or interpolated when ``resample_uneven``.
    Refused with InputError or GeometryError: colour, several series, orientations, sizes or positions twice,
    fewer than 3 slices.
    """
    headers = {path: read_header(path, HEADER_TAGS + PIXEL_TAGS, with_pixels=True) for path in paths}
    planes = [plane for path, header in headers.items() for plane in planes_of(path, header)]
    _refuse_mixed(planes)
    axes = _axes(planes[0])
    planes.sort(key=lambda plane: float(plane.position @ axes[2]))
    offsets = np.array([plane.position for plane in planes]) @ axes.T  # (K, 3): mm along row, column, normal
    refuse_same_positions(offsets[:, 2])
    refuse_crooked(offsets)
    uneven = describe_uneven(offsets[:, 2])
    if uneven and not resample_uneven:
        raise GeometryError(
            f"Slices are missing or uneven: {uneven}. Export the whole series again, "
            "or accept interpolated slices with --resample-uneven."
        )
    data = read_pixels(planes, headers)
    if tilt := tilt_degrees(offsets):
        _log.warning("%s: a tilt of %.1f degrees was corrected by resampling.", shown(paths[0]), tilt)
        data, offsets = straighten(data, offsets, planes[0].spacing_mm)
    if uneven:
        _log.warning("%s: missing or uneven slices were interpolated: %s.", shown(paths[0]), uneven)
        data, offsets = make_even(data, offsets)
    return Volume(data, Grid(data.shape, affine(offsets, axes, planes[0].spacing_mm)))


def _refuse_mixed(planes: Sequence[Plane]) -> None:
    first = planes[0]
    series = {plane.series for plane in planes}
    if len(series) > 1:
        raise InputError(f"The files belong to {len(series)} DICOM series. Give the files of one series.")
    sizes = Counter(plane.size for plane in planes)
    if len(sizes) > 1:
        raise InputError(f"The slices have different sizes: {', '.join(f'{w} x {h}' for w, h in sizes)} pixels.")
    for plane in planes:
        if np.max(np.abs(plane.orientation - first.orientation)) > COSINE_TOLERANCE:
            raise GeometryError(
                "The slices have different orientations (a localiser, or several stacks in one series), "
                f"for example {shown(first.path)} and {shown(plane.path)}. Give one stack."
            )
        if np.max(np.abs(np.subtract(plane.spacing_mm, first.spacing_mm))) > SPACING_TOLERANCE_MM:
            raise GeometryError(f"The slices have different pixel sizes: {first.spacing_mm} and {plane.spacing_mm} mm.")
    if len(planes) < FEWEST_SLICES:
        raise InputError(
            f"Only {len(planes)} slice(s); at least {FEWEST_SLICES} are needed to know their spacing. "
            "Export the whole series again."
        )


def _axes(plane: Plane) -> FloatArray:
    """(3, 3) orthonormal: rows are the directions along the image row, along the column, and their normal
    (LPS).
    """
    row, column = plane.orientation[:3], plane.orientation[3:]
    faults = [abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)]
    if max(faults) > 2 * COSINE_TOLERANCE:
        raise GeometryError(f"{shown(plane.path)} has an image orientation that is no right angle.")
    row = row / np.linalg.norm(row)
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal)
    return np.array([row, np.cross(normal, row), normal])
