"""Which pieces of tumor at different visits belong together: the graph behind ``lesions.track``.

A node is one component (26-connected) at one visit, an edge says that two components of different visits hold the
same tumor. Registration leaves every visit up to ``tolerance_mm`` off, so two visits are compared after the small move
that brings most of their tumor together, never further than both errors allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.measure.components import Components, Frame, IntArray, find_components
from napari_convlstm_tumor.measure.matching import best_move, gaps, match

Node = tuple[int, int]  # visit and component, both 0-based; component 0 is the largest of its visit


@dataclass(frozen=True)
class Edge:
    """Two components of different visits that hold the same tumor.

    overlap: share of the smaller one that lies in the other, after the move between the visits; 0 when they only lie
    near. worst: the least it becomes when registration errs by tolerance_mm more along an axis. gap_mm: free distance
    between them.
    """

    before: Node
    after: Node
    overlap: float
    worst: float
    gap_mm: float


@dataclass(frozen=True, eq=False)
class Graph:
    """Components of every visit and the edges between them; moves: (visit, visit) -> whole voxels (3,)."""

    frame: Frame
    visits: tuple[Components, ...]
    edges: tuple[Edge, ...]
    moves: dict[tuple[int, int], IntArray]
    tolerance_mm: float

    def clearance_mm(self, node: Node, other: int, reach_mm: float) -> float:
        """Free distance from a component to the nearest tumor of another visit; reach_mm when it is further."""
        visit, component = node
        forward = self.moves.get((min(visit, other), max(visit, other)), np.zeros(3, dtype=np.int64))
        pairs = gaps(
            self.visits[other],
            np.arange(len(self.visits[other])),
            self.visits[visit],
            np.array([component]),
            forward if other < visit else -forward,
            self.frame,
            reach_mm,
        )
        return pairs[0][0] if pairs else reach_mm


def build_graph(masks: npt.NDArray[Any], spacing_mm: tuple[float, float, float], tolerance_mm: float) -> Graph:
    """Graph of masks (T, I, J, K), non-zero = tumor, all on one grid.

    Every visit is compared with the one before; what finds no partner there is compared with ever earlier tumor that
    found none since, so that a lesion that was gone for a while is known again.
    """
    frame, found = find_components(masks, spacing_mm, tolerance_mm)
    edges: list[Edge] = []
    moves: dict[tuple[int, int], IntArray] = {}
    for after in range(1, len(found)):
        for before in range(after - 1, -1, -1):
            known, new = _open(found, edges, before, after)
            if not len(known) or not len(new):
                continue
            moves[before, after] = best_move(found[before], found[after], frame, 2 * tolerance_mm)
            pairs = match(found[before], known, found[after], new, moves[before, after], frame, tolerance_mm)
            edges += [Edge((before, a), (after, b), *numbers) for (a, b), numbers in sorted(pairs.items())]
    return Graph(frame, found, tuple(edges), moves, tolerance_mm)


def _open(found: Sequence[Components], edges: Sequence[Edge], before: int, after: int) -> tuple[IntArray, IntArray]:
    """Components of both visits that may still find a partner; between neighbouring visits, all."""
    known, new = np.arange(len(found[before])), np.arange(len(found[after]))
    if before == after - 1:
        return known, new
    seen_again = {e.before for e in edges}
    explained = {e.after for e in edges}
    return (
        np.array([a for a in known if (before, int(a)) not in seen_again], dtype=np.int64),
        np.array([b for b in new if (after, int(b)) not in explained], dtype=np.int64),
    )
