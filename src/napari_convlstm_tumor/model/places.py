"""Which prompts mean lesions apart from each other, and how far from where it was pointed at a lesion can reach."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from napari_convlstm_tumor.model import looks
from napari_convlstm_tumor.model.drawing import from_corner
from napari_convlstm_tumor.model.follow import Mask, touching, widened
from napari_convlstm_tumor.series import Look, Prompt
from napari_convlstm_tumor.volume import FloatArray, Grid

# Prompts nearer to each other than this, at any visits, are looked at together.
APART_MM = 30.0
# From the visit that was pointed at a lesion may reach this many times its own size (and so many mm) to each side at
# another visit; what goes beyond is a leak, and no reason to look there.
REACH, REACH_MM = 1.0, 10.0
# What was outlined within this of a click is what was clicked.
CLICK_MM = 6.0

Point = tuple[int, FloatArray]  # 0-based visit, mm from the grid's first corner


def points_of(prompts: Sequence[Prompt], grid: Grid) -> list[Point]:
    """The clicks, and the corners of scribbles."""
    return [
        (prompt.visit - 1, place)
        for prompt in prompts
        if prompt.type in ("point", "scribble") and prompt.ras_mm is not None
        for place in np.atleast_2d(from_corner(prompt.ras_mm, grid))
    ]


def apart(prompts: tuple[Prompt, ...], found: Mask | None, look: Look, grid: Grid) -> list[tuple[Prompt, ...]]:
    """The prompts in groups, each of which is looked at by itself, in the order in which they were given.

    Prompts are of one group that lie within APART_MM of each other or, at whatever visits, in one piece of ``found``
    (T, *look.shape; None where nothing was looked for yet), of a look over everything. A mask shows all that is meant,
    so with one there is one group.
    """
    if any(p.ras_mm is None for p in prompts):
        return [prompts]
    spacing_mm = looks.look_grid(look, grid).spacing_mm
    corners = [np.atleast_2d(from_corner(np.asarray(p.ras_mm), grid)) for p in prompts]
    lows, highs = [c.min(axis=0) for c in corners], [c.max(axis=0) for c in corners]
    pieces = None if found is None else ndimage.label(widened(np.asarray(found.any(axis=0)), spacing_mm))[0]
    within = [set() if pieces is None else _pieces_at(pieces, c, spacing_mm) for c in corners]
    linked = np.eye(len(prompts), dtype=bool)
    for a, b in combinations(range(len(prompts)), 2):
        gap = np.maximum(np.maximum(lows[a] - highs[b], lows[b] - highs[a]), 0)
        linked[a, b] = np.linalg.norm(gap) < APART_MM or bool(within[a] & within[b])
    count, group = connected_components(linked, directed=False)
    return [tuple(p for p, n in zip(prompts, group, strict=True) if n == g) for g in range(count)]


def _pieces_at(pieces: Mask, places_mm: FloatArray, spacing_mm: Sequence[float]) -> set[int]:
    inside = np.clip(np.floor(places_mm / np.array(spacing_mm)).astype(int), 0, np.array(pieces.shape) - 1)
    return {int(n) for n in pieces[tuple(inside.T)]} - {0}


def within_reach(found: Mask, first: int, points: Sequence[Point], look: Look, grid: Grid) -> Mask:
    """``found`` (T, *look.shape) without what lies further from the lesions pointed at than they can have grown.

    first: the first visit pointed at, whose lesion (all that was found there, without points) says how far that is. A
    lesion that is clicked out of its reach at a later visit is one more.
    """
    spacing_mm, corner = looks.look_grid(look, grid).spacing_mm, looks.corner_mm(look, grid)
    clicked = {
        visit: _around([place - corner for v, place in points if v == visit], look.shape, spacing_mm)
        for visit in sorted({v for v, _ in points})
    }
    lesion = _clicked_pieces(found[first], clicked[first], spacing_mm) if first in clicked else found[first]
    near = np.zeros_like(found)
    if lesion.any():
        near |= _box_around(lesion, spacing_mm)
    else:  # nothing says how far it reaches
        seeds = np.any(list(clicked.values()), axis=0) if clicked else np.ones_like(lesion)
        near |= np.stack([_clicked_pieces(frame, seeds, spacing_mm) for frame in found])
    for visit, seeds in clicked.items():
        lesion = _clicked_pieces(found[visit], seeds & ~near[visit], spacing_mm)
        if lesion.any():
            near |= _box_around(lesion, spacing_mm)
    return found & near


def _around(places_mm: Sequence[FloatArray], shape: Sequence[int], spacing_mm: Sequence[float]) -> Mask:
    """(I, J, K) where the middles of voxels lie within CLICK_MM of one of these places."""
    axes = np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, spacing_mm, strict=True)), indexing="ij")
    nearest = np.min([sum((x - c) ** 2 for x, c in zip(axes, place, strict=True)) for place in places_mm], axis=0)
    return np.asarray(nearest <= max(CLICK_MM, *spacing_mm) ** 2)


def _clicked_pieces(found: Mask, seeds: Mask, spacing_mm: Sequence[float]) -> Mask:
    return touching(found, seeds & found, spacing_mm) & found


def _box_around(lesion: Mask, spacing_mm: Sequence[float]) -> Mask:
    """(I, J, K): the box around a lesion and its reach."""
    inside = np.argwhere(lesion)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    reach = REACH * (high - low) + REACH_MM / np.array(spacing_mm)
    starts, stops = np.maximum(np.floor(low - reach), 0).astype(int), np.ceil(high + reach).astype(int)
    box = np.zeros_like(lesion)
    box[tuple(slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))] = True
    return box
