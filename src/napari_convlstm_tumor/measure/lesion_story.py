"""What befell every lesion: its state at each visit, and the events with their confidence and their reason in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.measure.components import IntArray
from napari_convlstm_tumor.measure.lesion_graph import Edge, Graph, Node
from napari_convlstm_tumor.measure.matching import SOME_OVERLAP

# Confidence that stands for a registration nobody could judge (quality NaN).
UNJUDGED = 0.5
# A lesion is out of sight when less than this share of its last (or first) voxels is shown by a visit.
SHOWN = 0.5


@dataclass(frozen=True)
class Event:
    """One thing that befell lesions. visit: 1-based, where it is first seen. confidence: 0..1.

    kind: new, first seen, vanished, not covered, reappeared, split, merged or speck. lesions: ids; of a merge, the one
    that carries on comes first. reason: in words, with numbers.
    """

    visit: int
    kind: str
    lesions: tuple[int, ...]
    confidence: float
    reason: str


@dataclass(frozen=True, eq=False)
class Story:
    """The graph with its names: owner is the lesion of every component, edges what corrections have left."""

    graph: Graph
    owner: Mapping[Node, int]
    edges: tuple[Edge, ...]
    qualities: tuple[float, ...]
    voxel_mm3: float
    speck_mm3: float
    by_hand: frozenset[Node] = frozenset()
    inside: npt.NDArray[np.bool_] | None = None

    @cached_property
    def _nodes(self) -> dict[tuple[int, int], list[Node]]:
        found: dict[tuple[int, int], list[Node]] = {}
        for node in sorted(self.owner):
            found.setdefault((self.owner[node], node[0]), []).append(node)
        return found

    @cached_property
    def lesions(self) -> tuple[int, ...]:
        """Every lesion's id, rising."""
        return tuple(sorted(set(self.owner.values())))

    @cached_property
    def _first(self) -> dict[int, int]:
        return dict(sorted(self._nodes, reverse=True))

    def first(self, lesion: int) -> int:
        """The visit (0-based) where a lesion is first seen."""
        return self._first[lesion]

    def pieces(self, lesion: int, visit: int) -> list[Node]:
        """Components of a lesion at a visit, largest first."""
        return self._nodes.get((lesion, visit), [])

    def last_pieces(self, lesion: int, visit: int) -> list[Node]:
        """Components of a lesion where it was last seen before a visit."""
        return next((p for t in range(visit - 1, -1, -1) if (p := self.pieces(lesion, t))), [])

    def ijk(self, node: Node) -> IntArray:
        """Voxels (N, 3) of a component on the whole grid."""
        return self.graph.frame.ijk(self.graph.visits[node[0]].voxels(node[1]))

    def node_mm3(self, node: Node) -> float:
        """Volume of a component."""
        return float(self.graph.visits[node[0]].sizes[node[1]]) * self.voxel_mm3

    def volume_mm3(self, lesion: int, visit: int) -> float:
        """Volume of a lesion at a visit, all its pieces."""
        return sum(self.node_mm3(node) for node in self.pieces(lesion, visit))

    @cached_property
    def _into(self) -> dict[Node, list[Edge]]:
        return _grouped(self.edges, [e.after for e in self.edges])

    @cached_property
    def _out_of(self) -> dict[Node, list[Edge]]:
        return _grouped(self.edges, [e.before for e in self.edges])

    def edges_into(self, lesion: int, visit: int) -> list[Edge]:
        """Edges to a lesion's components at a visit."""
        return [e for node in self.pieces(lesion, visit) for e in self._into.get(node, [])]

    def merges(self, lesion: int, visit: int) -> list[Edge]:
        """Edges to those of a lesion's components that several earlier ones, no specks, have become."""
        into = [self._into.get(node, []) for node in self.pieces(lesion, visit)]
        found = [[e for e in edges if not self.is_small(e.before)] for edges in into]
        return [e for edges in found if len(edges) > 1 for e in edges]

    def splits(self, lesion: int, visit: int) -> list[Edge]:
        """Edges from those earlier components of a lesion that several at this visit, no specks, have come of."""
        out = [self._out_of.get(node, []) for t in range(visit) for node in self.pieces(lesion, t)]
        found = [[e for e in edges if e.after[0] == visit and not self.is_small(e.after)] for edges in out]
        return [e for edges in found if len(edges) > 1 for e in edges]

    def heir(self, lesion: int, visit: int) -> int:
        """The lesion that holds at this visit what an absent one was, 0 if none does."""
        nodes = [node for t in range(visit) for node in self.pieces(lesion, t)]
        held = [e for node in nodes for e in self._out_of.get(node, []) if e.after[0] == visit]
        taken = [e for e in held if self.owner[e.after] != lesion]
        return self.owner[max(taken, key=lambda e: self.node_mm3(e.before)).after] if taken else 0

    def is_speck(self, lesion: int) -> bool:
        """A single component under speck_mm3 that continues nothing and no hand has touched.

        Another lesion may grow over it later: that makes no lesion of a crumb.
        """
        nodes = [node for t in range(len(self.graph.visits)) for node in self.pieces(lesion, t)]
        alone = len(nodes) == 1 and nodes[0] not in self._into
        return alone and nodes[0] not in self.by_hand and self.is_small(nodes[0])

    def is_small(self, node: Node) -> bool:
        """True for a component under speck_mm3."""
        return self.node_mm3(node) < self.speck_mm3

    def shown(self, nodes: Sequence[Node], visit: int) -> bool:
        """True when the images of a visit show the place of these components."""
        if self.inside is None:
            return True
        i, j, k = np.concatenate([self.ijk(node) for node in nodes]).T
        return bool(self.inside[visit, i, j, k].mean() >= SHOWN)

    def quality(self, visits: Sequence[int]) -> float:
        """The factor by which registration lowers a confidence: the worst quality of the visits compared."""
        return min(UNJUDGED if math.isnan(self.qualities[t]) else self.qualities[t] for t in visits)

    def edge_confidence(self, edges: Sequence[Edge]) -> float:
        """Of several matches the least sure: mean of the overlap as found and at its worst, times the quality."""
        return min(self._support(e) * self.quality((e.before[0], e.after[0])) for e in edges)

    def _support(self, edge: Edge) -> float:
        """0.5 to 1 for an overlap that stands any error, less for one that does not, or for nearness alone."""
        if edge.overlap:
            return (edge.overlap + edge.worst) / 2
        return 0.5 * (1 - edge.gap_mm / (2 * self.graph.tolerance_mm)) if self.graph.tolerance_mm else 0.5

    def lonely_confidence(self, nodes: Sequence[Node], other: int) -> float:
        """How surely these components have nothing to do with any at another visit.

        Half when they touch one, all from twice the tolerance on.
        """
        reach = 2 * self.graph.tolerance_mm
        gap = min(self.graph.clearance_mm(node, other, reach) for node in nodes)
        apart = 0.5 + 0.5 * gap / reach if reach else 1.0
        return apart * self.size_confidence(nodes) * self.quality((nodes[0][0], other))

    def size_confidence(self, nodes: Sequence[Node]) -> float:
        """Small things are easily missed or imagined: half at the volume of a speck, 0.99 at 1.4 mL."""
        volume = sum(self.node_mm3(node) for node in nodes)
        return volume / (volume + self.speck_mm3) if volume else 0.0

    def match_confidence(self, lesion: int, visit: int) -> float | None:
        """How surely a lesion's components continue the earlier ones; 1 by hand, None without a match."""
        if any(node in self.by_hand for node in self.pieces(lesion, visit)):
            return 1.0
        edges = self.edges_into(lesion, visit)
        return round(self.edge_confidence(edges), 3) if edges else None


def _grouped(edges: Sequence[Edge], nodes: Sequence[Node]) -> dict[Node, list[Edge]]:
    found: dict[Node, list[Edge]] = {}
    for edge, node in zip(edges, nodes, strict=True):
        found.setdefault(node, []).append(edge)
    return found


# ---- states ----


def states(story: Story, lesion: int) -> tuple[str, ...]:
    """State of a lesion at every visit."""
    told: list[str] = []
    for t in range(len(story.graph.visits)):
        told.append(_present(story, lesion, t) if story.pieces(lesion, t) else _missing(story, lesion, t, told))
    return tuple(told)


def _present(story: Story, lesion: int, t: int) -> str:
    if story.is_speck(lesion):
        return "speck"
    if t == story.first(lesion):
        shown_before = any(story.shown(story.pieces(lesion, t), s) for s in range(t))
        return "baseline" if t == 0 else "new" if shown_before else "first seen"
    if not story.pieces(lesion, t - 1):
        return "reappeared"
    if story.merges(lesion, t):
        return "merged"
    return "split" if story.splits(lesion, t) else "persistent"


def _missing(story: Story, lesion: int, t: int, told: Sequence[str]) -> str:
    if t < story.first(lesion) or story.is_speck(lesion):
        return "absent"
    heir = story.heir(lesion, t)
    if heir:
        return f"merged into {heir}"
    if told[-1].startswith("merged into") or told[-1] == "vanished":
        return told[-1]
    return "vanished" if story.shown(story.last_pieces(lesion, t), t) else "not covered"


# ---- events ----


def events(story: Story, told: Mapping[int, tuple[str, ...]]) -> tuple[Event, ...]:
    """Everything that befell the lesions, by visit and lesion."""
    found: list[Event] = []
    for t in range(len(story.graph.visits)):
        for lesion in story.lesions:
            found += _turning(story, lesion, t, told[lesion])
            found += _merge(story, lesion, t) + _split(story, lesion, t)
        found += _specks(story, t, [n for n in story.lesions if told[n][t] == "speck"])
    return tuple(found)


def _turning(story: Story, lesion: int, t: int, told: Sequence[str]) -> list[Event]:
    """The event of a state that a lesion has just come into."""
    state, before = told[t], told[t - 1] if t else ""
    if state in ("new", "first seen", "reappeared"):
        return [_arrival(story, lesion, t, state)]
    if state in ("vanished", "not covered") and state != before:
        return [_departure(story, lesion, t, state)]
    return []


def _specks(story: Story, t: int, lesions: Sequence[int]) -> list[Event]:
    """One event for all specks of a visit; its confidence is that of the largest to be a lesion at all."""
    if not lesions:
        return []
    volumes = [story.volume_mm3(n, t) for n in lesions]
    who = f"Lesions {_listed([str(n) for n in lesions])} are" if len(lesions) > 1 else f"Lesion {lesions[0]} is"
    reason = (
        f"{who} smaller than {story.speck_mm3:.0f} mm3 ({_millilitres(sum(volumes))} in all) and no lesion of its own "
        "at another visit: it may be noise. It is counted, but called no new lesion."
    )
    largest = story.pieces(lesions[volumes.index(max(volumes))], t)
    return [
        Event(t + 1, "speck", tuple(lesions), _rounded(story.size_confidence(largest) * story.quality((t,))), reason)
    ]


def _arrival(story: Story, lesion: int, t: int, state: str) -> Event:
    nodes = story.pieces(lesion, t)
    volume = _millilitres(story.volume_mm3(lesion, t))
    if any(node in story.by_hand for node in nodes):
        return Event(t + 1, state, (lesion,), 1.0, f"Lesion {lesion} ({volume}): so said by hand.")
    if state == "reappeared":
        seen = story.last_pieces(lesion, t)[0][0]
        said = f"Lesion {lesion} ({volume}) lies where it was last seen at visit {seen + 1}."
        edges = story.edges_into(lesion, t)
        return Event(t + 1, state, (lesion,), _rounded(story.edge_confidence(edges)), _with_quality(story, said, edges))
    said = f"Lesion {lesion} ({volume}) continues nothing of the visits before."
    if state == "first seen":
        said = f"Lesion {lesion} ({volume}) lies where no earlier visit's images reach: whether it is new is unknown."
    confidence = story.lonely_confidence(nodes, t - 1)
    return Event(t + 1, state, (lesion,), _rounded(confidence), f"{said} {_quality_words(story, (t - 1, t))}")


def _departure(story: Story, lesion: int, t: int, state: str) -> Event:
    nodes = story.last_pieces(lesion, t)
    volume, seen = _millilitres(sum(story.node_mm3(n) for n in nodes)), nodes[0][0]
    said = f"Nothing at visit {t + 1} continues lesion {lesion} ({volume} at visit {seen + 1})."
    if state == "not covered":
        said = f"The images of visit {t + 1} do not show the place of lesion {lesion} ({volume} at visit {seen + 1})."
    confidence = story.lonely_confidence(nodes, t)
    return Event(t + 1, state, (lesion,), _rounded(confidence), f"{said} {_quality_words(story, (seen, t))}")


def _merge(story: Story, lesion: int, t: int) -> list[Event]:
    edges = story.merges(lesion, t)
    if not edges:
        return []
    others = sorted({story.owner[e.before] for e in edges} - {lesion})
    sizes = _listed([_millilitres(story.node_mm3(n)) for n in sorted({e.before for e in edges})])
    whose = (
        f"Lesions {_listed([str(n) for n in sorted([lesion, *others])])}" if others else f"Pieces of lesion {lesion}"
    )
    said = f"{whose} ({sizes}) are one at visit {t + 1}, called lesion {lesion}."
    return [_shape_event(story, "merged", (lesion, *others), t, said, edges)]


def _split(story: Story, lesion: int, t: int) -> list[Event]:
    edges = story.splits(lesion, t)
    if not edges:
        return []
    pieces = sorted({e.after for e in edges})
    others = sorted({story.owner[n] for n in pieces} - {lesion})
    sizes = _listed([_millilitres(story.node_mm3(n)) for n in pieces])
    said = f"Lesion {lesion} lies in {len(pieces)} pieces at visit {t + 1} ({sizes})."
    return [_shape_event(story, "split", (lesion, *others), t, said, edges)]


def _shape_event(story: Story, kind: str, lesions: tuple[int, ...], t: int, said: str, edges: Sequence[Edge]) -> Event:
    """A split or a merge, with a word about whether an error of registration could fake it."""
    if min(e.worst for e in edges) < SOME_OVERLAP:
        said += f" A registration error of {story.graph.tolerance_mm:g} mm could fake this."
    return Event(t + 1, kind, lesions, _rounded(story.edge_confidence(edges)), _with_quality(story, said, edges))


# ---- words ----


def _with_quality(story: Story, said: str, edges: Sequence[Edge]) -> str:
    return f"{said} {_quality_words(story, sorted({n[0] for e in edges for n in (e.before, e.after)}))}"


def _quality_words(story: Story, visits: Sequence[int]) -> str:
    """What is known of the registrations compared: those not judged, else the worst."""
    unjudged = [str(t + 1) for t in visits if math.isnan(story.qualities[t])]
    if unjudged:
        return f"The registration of visit {_listed(unjudged)} could not be judged."
    worst = min(visits, key=lambda t: story.qualities[t])
    return f"Registration quality {story.qualities[worst]:.2f} (visit {worst + 1})."


def _millilitres(mm3: float) -> str:
    return f"{mm3 / 1000:.1f} mL" if mm3 >= 1000 else f"{mm3:.0f} mm3"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _rounded(confidence: float) -> float:
    return round(min(max(confidence, 0.0), 1.0), 3)
