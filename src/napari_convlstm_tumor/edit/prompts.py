"""From what a person pointed at to what the pipeline understands: boxes and links."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.prepare.native import to_visit_mm
from napari_convlstm_tumor.series import Prompt


def box_of(analysis: Analysis, visit: int, ras_mm: npt.ArrayLike) -> Prompt:
    """A box around points (N, 3), RAS mm of the common grid, as a prompt of a 0-based visit in its scanner space.

    A rectangle has no depth: along the axis it is flat in, it gets the mean of its two sides.
    """
    corners = np.asarray(ras_mm, dtype=np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    sides = high - low
    flat = int(np.argmin(sides))
    least = float(np.delete(sides, flat).mean())
    if sides[flat] < min(analysis.grid.spacing_mm):
        middle = (low[flat] + high[flat]) / 2
        low[flat], high[flat] = middle - least / 2, middle + least / 2
    whole = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    there = to_visit_mm(whole, analysis.registrations[visit].ref_to_visit)
    return Prompt(visit + 1, "box", np.stack([there.min(axis=0), there.max(axis=0)]))


def link_of(analysis: Analysis, visit: int, lesion: int, other: int, same: bool) -> Link | None:
    """The word that ``lesion`` at a 0-based visit is (or is not) lesion ``other``; None when it is not at that visit.

    The point lies in the depth of the lesion's largest piece.
    """
    here = None if analysis.lesions is None else analysis.lesions[visit] == lesion
    if here is None or not here.any():
        return None
    labels, count = ndimage.label(here, ndimage.generate_binary_structure(3, 3))
    largest = 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    box = ndimage.find_objects(labels)[largest - 1]
    depth = ndimage.distance_transform_edt(np.pad(labels[box] == largest, 1))[1:-1, 1:-1, 1:-1]
    deepest = np.array(np.unravel_index(int(np.argmax(depth)), depth.shape)) + [s.start for s in box]
    x, y, z = (float(v) for v in analysis.grid.to_mm(deepest))
    return Link(visit + 1, (x, y, z), other, same)
