"""A stack of slices: is it even and straight, and how to make it so. Pure functions on positions and pixels.

``offsets`` (K, 3): where each slice begins, in mm along the image row, along the column and along their
normal, in the order of the normal.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import GeometryError

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

# Slices nearer than this are two images of one place (echoes, time points), not neighbours.
SAME_POSITION_MM = 0.01
# A slice may lie off its even place by this share of the gap: covers positions rounded to 0.1 mm, not a lost
# slice.
UNEVEN_TOLERANCE = 0.1
# Direction cosines of one series agree to this (0.06 degrees), as in volume.py.
COSINE_TOLERANCE = 1e-3
MOST_GAPS_NAMED = 3


def refuse_same_positions(along: FloatArray) -> None:
    """GeometryError when two of the positions (K,) in mm, in rising order, are one."""
    same = along[1:][np.diff(along) < SAME_POSITION_MM]
    if same.size:
        raise GeometryError(
            f"{same.size} slice position(s) occur more than once (first at {same[0]:.1f} mm): "
            "duplicates, or several "
            "echoes or time points in one series. Keep one image per position."
        )


def describe_uneven(along: FloatArray) -> str:
    """Empty when the positions (K,) in mm are even; else which gaps are not."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    off = np.abs(along - np.linspace(along[0], along[-1], len(along)))
    if np.max(off) <= UNEVEN_TOLERANCE * usual:
        return ""
    wrong = np.flatnonzero(np.abs(gaps - usual) > UNEVEN_TOLERANCE * usual)
    if not wrong.size:
        drift = f"the gap drifts from {gaps.min():.2f} to {gaps.max():.2f} mm"
        return f"{drift}, most off at {along[off.argmax()]:.1f} mm"
    named = [f"{gaps[k]:.1f} mm between {along[k]:.1f} and {along[k + 1]:.1f} mm" for k in wrong[:MOST_GAPS_NAMED]]
    more = f", and {wrong.size - MOST_GAPS_NAMED} more" if wrong.size > MOST_GAPS_NAMED else ""
    return f"{', '.join(named)}{more} (along the slice axis; {usual:.1f} mm elsewhere)"


def refuse_crooked(offsets: FloatArray) -> None:
    """A tilt moves every slice sideways by the same share of its distance; anything else is no stack."""
    along = offsets[:, 2] - offsets[0, 2]
    lean = (offsets[-1, :2] - offsets[0, :2]) / along[-1]
    off = np.max(np.abs(offsets[:, :2] - offsets[0, :2] - along[:, None] * lean), axis=1)
    if np.max(off) > UNEVEN_TOLERANCE * np.median(np.diff(along)):
        worst = int(off.argmax())
        raise GeometryError(
            f"The slices do not lie in one straight stack: the one at {offsets[worst, 2]:.1f} mm is "
            f"{off[worst]:.1f} "
            "mm off to the side. Export the original series again."
        )


def affine(offsets: FloatArray, axes: FloatArray, spacing_mm: tuple[float, float]) -> FloatArray:
    """(4, 4) to RAS+ mm from even offsets (K, 3) in mm along the axes (LPS)."""
    step = (offsets[-1, 2] - offsets[0, 2]) / (len(offsets) - 1)
    affine = np.eye(4)
    affine[:3, :3] = axes.T * np.array([*spacing_mm, step])
    affine[:3, 3] = offsets[0] @ axes
    affine[:2] *= -1  # LPS -> RAS
    return affine


def tilt_degrees(offsets: FloatArray) -> float:
    """The angle between the stack and the normal of its slices; 0 when within the tolerance."""
    lean = offsets[-1] - offsets[0]
    tilt = math.atan2(math.hypot(lean[0], lean[1]), lean[2])
    return math.degrees(tilt) if math.sin(tilt) > COSINE_TOLERANCE else 0.0


def straighten(data: Image, offsets: FloatArray, spacing_mm: tuple[float, float]) -> tuple[Image, FloatArray]:
    """Undo a tilt: shift every slice (I, J, :) in its plane so that the stack is rectangular.

    The field of view grows with it; what no slice covers gets the smallest value (air in CT).
    """
    # rounded, so that a whole shift takes the pixels as they are, the outermost included
    shift = np.round((offsets[:, :2] - offsets[0, :2]) / np.array(spacing_mm), 6)  # (K, 2) in pixels
    low = np.floor(shift.min(axis=0))
    grown = np.ceil(shift.max(axis=0)) - low
    size = tuple(int(n) for n in np.array(data.shape[:2]) + grown)
    out = np.empty((data.shape[2], size[1], size[0]), np.float32).transpose(2, 1, 0)  # (i, j, k), k slowest
    background = float(data.min())
    for k in range(data.shape[2]):
        out[:, :, k] = ndimage.affine_transform(
            data[:, :, k], [1, 1], low - shift[k], output_shape=size, order=1, cval=background
        )
    straight = offsets.copy()
    straight[:, :2] = offsets[0, :2] + low * np.array(spacing_mm)
    return out, straight


def make_even(data: Image, offsets: FloatArray) -> tuple[Image, FloatArray]:
    """Linear interpolation between neighbouring slices at even positions, the usual gap apart."""
    along = offsets[:, 2]
    count = round(float((along[-1] - along[0]) / np.median(np.diff(along)))) + 1
    wanted = np.linspace(along[0], along[-1], count)
    out = np.empty((count, data.shape[1], data.shape[0]), np.float32).transpose(2, 1, 0)
    for k, place in enumerate(np.interp(wanted, along, np.arange(len(along)))):
        low = min(int(place), len(along) - 2)
        weight = np.float32(place - low)
        out[:, :, k] = (1 - weight) * data[:, :, low] + weight * data[:, :, low + 1]
    even = np.repeat(offsets[:1], count, axis=0)
    even[:, 2] = wanted
    return out, even
