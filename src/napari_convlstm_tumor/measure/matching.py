"""Which components of two visits hold the same tumor, by overlap and by distance, as far as registration allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from napari_convlstm_tumor.measure.components import Components, Frame, IntArray
from napari_convlstm_tumor.volume import FloatArray

# Overlap is that of the smaller of the two components. From this share on they hold the same tumor, whatever else
# they touch: a piece of a split lies in the whole, a slow and a fast lesion in each other.
SAME_OVERLAP = 0.5
# With less than SAME_OVERLAP but this much, the best partner of a component that has no other counts.
SOME_OVERLAP = 0.25
# A move between two visits must raise the overlap by this share for every mm, or the smaller move is as good.
PRICE_PER_MM = 0.01
# Moves tried are this far apart: finer would not change which components meet.
MOVE_STEP_MM = 1.0
# Voxels of one component that vote for a move; more would not change the answer.
VOTERS = 500


def best_move(before: Components, after: Components, frame: Frame, reach_mm: float) -> IntArray:
    """Whole voxels (3,) from ``before`` to ``after`` that bring most tumor together, at most reach_mm long.

    Each component counts with the square root of its volume: a large one would else outvote all, a speck as well.
    """
    if not len(before) or not len(after):
        return np.zeros(3, dtype=np.int64)
    index, weight = _voters(before)
    best, best_score = np.zeros(3, dtype=np.int64), -1.0
    for move, length in _moves(frame.spacing_mm, reach_mm):
        hit = after.labels[index + frame.move(move)] != 0
        score = float(weight[hit].sum()) * (1 - PRICE_PER_MM * length)
        if score > best_score:
            best, best_score = move, score
    return best


def _voters(components: Components) -> tuple[IntArray, FloatArray]:
    """Up to VOTERS voxels of every component, evenly spread, and the weight of each."""
    chosen, weights = [], []
    for n, size in enumerate(components.sizes):
        voxels = components.voxels(n)
        picked = voxels[np.unique(np.linspace(0, size - 1, min(size, VOTERS)).round().astype(np.int64))]
        chosen.append(picked)
        weights.append(np.full(len(picked), np.sqrt(size) / len(picked)))
    return np.concatenate(chosen), np.concatenate(weights)


def _moves(spacing_mm: Sequence[float], reach_mm: float) -> list[tuple[IntArray, float]]:
    """Moves by whole voxels and their lengths in mm, shortest first."""
    steps = np.arange(-np.floor(reach_mm / MOVE_STEP_MM), np.floor(reach_mm / MOVE_STEP_MM) + 1) * MOVE_STEP_MM
    all_mm = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    near = all_mm[np.linalg.norm(all_mm, axis=1) <= reach_mm]
    moves = np.unique(np.rint(near / spacing_mm).astype(np.int64), axis=0)
    lengths = np.linalg.norm(moves * spacing_mm, axis=1)
    return [(moves[n], float(lengths[n])) for n in np.argsort(lengths, kind="stable")]


def match(
    before: Components,
    known: IntArray,
    after: Components,
    new: IntArray,
    move: IntArray,
    frame: Frame,
    tolerance_mm: float,
) -> dict[tuple[int, int], tuple[float, float, float]]:
    """(component before, component after) -> (overlap, worst, gap_mm) of those that hold the same tumor."""
    shares = _shares(before, known, after, new, move, frame)
    pairs = {pair for pair, share in shares.items() if share >= SAME_OVERLAP}
    pairs |= _best_of_the_rest(shares, pairs, 0) | _best_of_the_rest(shares, pairs, 1)
    alone = [np.setdiff1d(all_of, [p[side] for p in pairs]) for side, all_of in ((0, known), (1, new))]
    near = _nearest_pairs(before, alone[0], after, alone[1], move, frame, tolerance_mm)
    overlapping = sorted(pairs)
    worst = _worst_shares(before, after, overlapping, move, frame, tolerance_mm)
    found = {pair: (shares[pair], w, 0.0) for pair, w in zip(overlapping, worst, strict=True)}
    return found | {pair: (0.0, 0.0, gap) for pair, gap in near.items()}


def _counts(before: Components, after: Components, move: IntArray, frame: Frame) -> csr_array:
    """Voxels that each component before shares with each one after, sparse (N before, N after)."""
    there = after.labels[before.index + frame.move(move)]
    hit = there != 0
    row = before.labels[before.index[hit]] - 1
    shape = (len(before), len(after))
    return csr_array((np.ones(len(row), dtype=np.int64), (row, there[hit] - 1)), shape=shape)


def _shares(
    before: Components, known: IntArray, after: Components, new: IntArray, move: IntArray, frame: Frame
) -> dict[tuple[int, int], float]:
    """Overlap of every pair that touches, as a share of the smaller one."""
    counts = _counts(before, after, move, frame).tocoo()
    smaller = np.minimum(before.sizes[counts.row], after.sizes[counts.col])
    allowed = np.isin(counts.row, known) & np.isin(counts.col, new)
    shares = counts.data / smaller
    return {
        (int(a), int(b)): float(share)
        for a, b, share in zip(counts.row[allowed], counts.col[allowed], shares[allowed], strict=True)
    }


def _best_of_the_rest(
    shares: dict[tuple[int, int], float], taken: set[tuple[int, int]], side: int
) -> set[tuple[int, int]]:
    """For each component of one side without a partner the one it overlaps most, from SOME_OVERLAP on."""
    busy = {pair[side] for pair in taken}
    best: dict[int, tuple[float, tuple[int, int]]] = {}
    for pair, share in sorted(shares.items()):
        if share >= SOME_OVERLAP and pair[side] not in busy and share > best.get(pair[side], (0.0, pair))[0]:
            best[pair[side]] = share, pair
    return {pair for _, pair in best.values()}


def _worst_shares(
    before: Components,
    after: Components,
    pairs: Sequence[tuple[int, int]],
    move: IntArray,
    frame: Frame,
    error_mm: float,
) -> list[float]:
    """The least overlap of each pair when ``after`` lies error_mm further along any axis, between voxels linear."""
    if not pairs:
        return []
    rows, columns = np.array(pairs).T
    smaller = np.minimum(before.sizes[rows], after.sizes[columns])
    worst = np.asarray(_counts(before, after, move, frame)[rows, columns], dtype=np.float64)
    for axis in range(3):
        whole, part = divmod(error_mm / frame.spacing_mm[axis], 1)
        for sign in (-1, 1):
            step = np.zeros(3, dtype=np.int64)
            step[axis] = sign
            near, far = (
                np.asarray(_counts(before, after, move + step * int(n), frame)[rows, columns])
                for n in (whole, whole + 1)
            )
            worst = np.minimum(worst, (1 - part) * near + part * far)
    return [float(w) for w in worst / smaller]


# ---- distance ----


def _nearest_pairs(
    before: Components,
    known: IntArray,
    after: Components,
    new: IntArray,
    move: IntArray,
    frame: Frame,
    reach_mm: float,
) -> dict[tuple[int, int], float]:
    """Components without overlap that lie within reach of each other, one to one, nearest first: pair -> gap in mm."""
    pairs: dict[tuple[int, int], float] = {}
    while len(known) and len(new):
        found = sorted(gaps(before, known, after, new, move, frame, reach_mm))
        if not found:
            break
        for gap, a, b in found:
            if a in known and b in new:
                pairs[a, b] = gap
                known, new = known[known != a], new[new != b]
    return pairs


def gaps(
    before: Components,
    known: IntArray,
    after: Components,
    new: IntArray,
    move: IntArray,
    frame: Frame,
    reach_mm: float,
) -> list[tuple[float, int, int]]:
    """(gap in mm, component before, component after): the nearest of ``known`` to each of ``new`` within reach."""
    finest = min(frame.spacing_mm)
    wanted, owner = _surface_mm(before, known, frame)
    wanted = wanted + move * np.array(frame.spacing_mm)
    points, component = _surface_mm(after, new, frame)
    if not len(wanted) or not len(points):
        return []
    margin = reach_mm + 2 * finest
    near = np.all((wanted >= points.min(axis=0) - margin) & (wanted <= points.max(axis=0) + margin), axis=1)
    if not near.any():
        return []
    distance, which = KDTree(wanted[near]).query(points)
    gap = np.maximum(0.0, distance - finest)  # from cube to cube, not from centre to centre
    found = []
    for b in new:
        mine = np.flatnonzero(component == b)
        best = mine[np.argmin(gap[mine])]
        if gap[best] <= reach_mm:
            found.append((float(gap[best]), int(owner[near][which[best]]), int(b)))
    return found


def _surface_mm(components: Components, chosen: IntArray, frame: Frame) -> tuple[FloatArray, IntArray]:
    """Points (N, 3) in mm on the outer voxels of the chosen components, and the component of each.

    A voxel is cut along its long axes into near-cubes, so that thick slices touch where their voxels do.
    """
    index = np.concatenate([components.voxels(int(n)) for n in chosen]) if len(chosen) else np.zeros(0, np.int64)
    steps = [frame.move(step) for axis in np.eye(3, dtype=np.int64) for step in (axis, -axis)]
    outer = np.zeros(len(index), dtype=bool)
    for step in steps:
        outer |= components.labels[index + step] == 0
    index = index[outer]
    cuts = [max(1, round(s / min(frame.spacing_mm))) for s in frame.spacing_mm]
    parts = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in cuts], indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    points = (frame.ijk(index)[:, None, :] + parts[None]) * np.array(frame.spacing_mm)
    owner = np.repeat(components.labels[index].astype(np.int64) - 1, len(parts))
    return points.reshape(-1, 3), owner
