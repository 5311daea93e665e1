"""The last millimetre of a rigid registration of like images: robust Gauss-Newton on images without their slow part.

The bias fields of two scans differ and pull measures of the whole image 0.3-0.7 mm off; images less their 8 mm Gaussian
do not show them. The motion is found where the reference has edges, by the inverse compositional form (Baker and
Matthews 2004, doi 10.1023/B:VISI.0000011205.11775.fd): the derivatives are the reference's own and stay, so a step
costs one look-up of the visit at those places. What differs, such as a tumor that grew, loses its weight (Tukey).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

# The strongest edges carry the motion; more places than this gain less than 0.01 mm.
EDGE_SHARE, MOST_PLACES = 0.4, 120_000
FEWEST_PLACES = 500
# An edge needs a neighbour on both sides.
FEWEST_PLANES = 3
STEPS = 30
# A step that moves no place further than this ends the search.
SMALLEST_STEP_MM = 1e-3
# Residuals beyond this many robust standard deviations count nothing (95 % efficient where nothing differs).
TUKEY = 4.685
MAD_PER_SIGMA = 0.6745
# A motion that the edges do not determine in some direction.
WORST_CONDITION = 1e8


@dataclass(frozen=True, eq=False)
class _Edges:
    """Places of the reference (N, 3) in mm from their middle, its values there (N,), slopes by motion (N, 6)."""

    middle: FloatArray
    places: FloatArray
    values: FloatArray
    by_motion: FloatArray


def refine(moving: Volume, fixed: Volume, start: FloatArray) -> FloatArray | None:
    """The rigid (4, 4) ref_to_visit near ``start`` that lays ``moving`` on ``fixed``; both without their slow part.

    None when the images hold too little to tell, or it leads away.
    """
    edges = _edges(fixed)
    if edges is None:
        return None
    to_index = np.linalg.inv(moving.grid.affine)
    found = start
    for _ in range(STEPS):
        motion = _step(edges, moving.data, to_index @ found)
        if motion is None:
            return None
        found = found @ np.linalg.inv(_rigid(motion, edges.middle))
        if _reach(motion, edges) < SMALLEST_STEP_MM:
            return found
    return found


def _step(edges: _Edges, image: npt.NDArray[np.float32], to_index: FloatArray) -> FloatArray | None:
    """(6,) rotation vector and shift that bring the reference nearer to the visit as it lies now."""
    points = (edges.places + edges.middle) @ to_index[:3, :3].T + to_index[:3, 3]
    seen = ndimage.map_coordinates(image, points.T, order=1, mode="constant", cval=np.nan, output=np.float64)
    known = np.isfinite(seen)
    if np.count_nonzero(known) < FEWEST_PLACES:
        return None
    seen, design = seen[known], np.column_stack([edges.values, edges.by_motion])[known]
    scale = float(seen @ design[:, 0] / (design[:, 0] @ design[:, 0]))
    residual = seen - scale * design[:, 0]
    weight = _tukey(residual)
    weighted = design * weight[:, None]
    # einsum, not the matrix product: sums of several threads differ in the last digits, and a run must repeat exactly
    normal, towards = np.einsum("ni,nj->ij", weighted, design), np.einsum("ni,n->i", weighted, seen)
    size = np.sqrt(np.diag(normal))
    if not size.min() > 0 or np.linalg.cond(normal / np.outer(size, size)) > WORST_CONDITION:
        return None
    answer = np.linalg.solve(normal, towards)
    if answer[0] <= 0:  # the visit's edges run the other way
        return None
    return np.asarray(answer[1:] / answer[0])


def _tukey(residual: FloatArray) -> FloatArray:
    """Weights (N,) 1..0 by the bisquare of residuals in robust standard deviations."""
    sigma = float(np.median(np.abs(residual))) / MAD_PER_SIGMA
    ratio = np.minimum(np.abs(residual) / max(TUKEY * sigma, 1e-12), 1.0)
    return np.asarray((1 - ratio**2) ** 2)


def _edges(fixed: Volume) -> _Edges | None:
    """The strongest edges of an image, none of them at its border."""
    if min(fixed.data.shape) < FEWEST_PLANES:
        return None
    slopes = np.gradient(fixed.data)
    turn = np.linalg.inv(fixed.grid.affine[:3, :3])  # derivative by index -> by mm: g_mm = turn.T @ g_index
    strength = sum((s / mm) ** 2 for s, mm in zip(slopes, fixed.grid.spacing_mm, strict=True))
    strength[~_inner(fixed.grid)] = 0
    there = strength[strength > 0]
    if there.size < FEWEST_PLACES:
        return None
    chosen = np.argwhere(strength > np.quantile(there, 1 - EDGE_SHARE))
    chosen = chosen[:: max(1, -(-len(chosen) // MOST_PLACES))]
    where = tuple(chosen.T)
    by_mm = np.column_stack([s[where] for s in slopes]).astype(np.float64) @ turn
    places = fixed.grid.to_mm(chosen)
    middle = places.mean(axis=0)
    places = places - middle
    return _Edges(
        middle, places, fixed.data[where].astype(np.float64), np.column_stack([np.cross(places, by_mm), by_mm])
    )


def _inner(grid: Grid) -> npt.NDArray[np.bool_]:
    """Voxels that have neighbours on all sides."""
    inner = np.zeros(grid.shape, dtype=bool)
    inner[1:-1, 1:-1, 1:-1] = True
    return inner


def _rigid(motion: FloatArray, middle: FloatArray) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(motion[:3]).as_matrix()
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + motion[3:]
    return matrix


def _reach(motion: FloatArray, edges: _Edges) -> float:
    """How far (mm) a motion takes the place it takes furthest, at most."""
    return float(np.linalg.norm(motion[:3]) * np.abs(edges.places).max() * 2 + np.linalg.norm(motion[3:]))
