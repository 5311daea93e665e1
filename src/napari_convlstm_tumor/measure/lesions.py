"""Lesions over the visits: one id and one DICOM Tracking UID each, through growth, split, merge and absence.

``track`` names the components of every visit after the graph of ``lesion_graph`` and says what befell them. The rules,
with their reasons and limits, stand in docs/lesions.md.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.distance import Box
from napari_convlstm_tumor.measure.lesion_graph import Edge, Graph, Node, build_graph
from napari_convlstm_tumor.measure.lesion_story import Event, Story, events, states
from napari_convlstm_tumor.volume import Grid

# What a good rigid registration of a head leaves (the simulations of docs/lesions.md hold up to this).
TOLERANCE_MM = 2.0
# Volume of a sphere of 3 mm; one voxel or two of noise stay below. A rule of this program, not of a guideline.
SPECK_MM3 = 14.0
# And fewer voxels than this: 3 mm across on one slice of 0.9 mm pixels. Thick slices make much volume of three voxels.
SPECK_VOXELS = 10
MOST_LESIONS = int(np.iinfo(np.uint16).max)
# DICOM PS3.5 B.2: a UID made from a UUID is "2.25." and the UUID as a decimal number.
UUID_ROOT = "2.25."
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "lesion.napari-convlstm-tumor")


class Correction(Protocol):
    """One correction by hand (``io.links.Link``): the component at a point of a visit is, or is not, a lesion."""

    @property
    def visit(self) -> int:
        """Visit, 1-based."""

    @property
    def ras_mm(self) -> tuple[float, float, float]:
        """A point in the component, RAS+ mm of the common grid."""

    @property
    def lesion(self) -> int:
        """Id of a lesion as tracked with the links before this one; the next free number for a new one."""

    @property
    def same(self) -> bool:
        """True: the component is that lesion. False: it is not."""


@dataclass(frozen=True)
class Lesion:
    """One lesion over T visits. volumes_mm3, pieces (components), states and confidences have T entries.

    volumes_mm3: counted on the common grid. states: absent (not yet), baseline, new, first seen, persistent, split,
    merged, "merged into N", vanished, reappeared, not covered, speck. confidences: 0..1, how surely what is there at a
    visit belongs to what was there before; None where nothing is compared.
    """

    id: int
    tracking_uid: str
    states: tuple[str, ...]
    volumes_mm3: tuple[float, ...]
    pieces: tuple[int, ...]
    confidences: tuple[float | None, ...]
    speck: bool


@dataclass(frozen=True, eq=False)
class Tracking:
    """labels: (T, I, J, K) uint16, lesion ids, 0 outside. lesions by id; events by visit (1-based)."""

    labels: npt.NDArray[np.uint16]
    lesions: tuple[Lesion, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class _Hand:
    """Corrections by component: what it is, and what it is not."""

    is_: Mapping[Node, int]
    is_not: Mapping[Node, frozenset[int]]


def track(
    masks: npt.NDArray[Any],
    grid: Grid,
    qualities: Sequence[float],
    links: Sequence[Correction] = (),
    inside: npt.NDArray[np.bool_] | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    speck_mm3: float = SPECK_MM3,
    box: Box | None = None,
) -> Tracking:
    """Follow every lesion of masks (T, I, J, K), non-zero = tumor, over visits that lie on one grid.

    qualities: of each visit's registration, 0..1, NaN = not judged. links: corrections by hand. inside: (T, I, J, K)
    bool, voxels that a visit's images show; a lesion outside them is "not covered", never vanished. tolerance_mm: how
    far a visit may lie off. speck_mm3: smaller components (and those under SPECK_VOXELS) are specks: counted, but no
    split or merge and, where they are no lesion at another visit, no new one. box: where all tumor lies; only there is
    it looked for. Raises InputError for shapes, qualities or links that cannot be.
    """
    _check(masks, grid, qualities, inside, tolerance_mm)
    graph = _graph(masks, grid, tolerance_mm, box)
    owner, edges, by_hand = _corrected_owners(graph, grid, links)
    if max(owner.values(), default=0) > MOST_LESIONS:
        raise InputError(f"The masks fall into more than {MOST_LESIONS} lesions; remove the noise in them first.")
    speck_mm3 = max(speck_mm3, SPECK_VOXELS * grid.voxel_mm3)
    story = Story(graph, owner, edges, tuple(qualities), grid.voxel_mm3, speck_mm3, by_hand, inside)
    told = {n: states(story, n) for n in story.lesions}
    return Tracking(_labels_of(masks.shape, story), _lesions_of(story, told, grid), events(story, told))


def _graph(masks: npt.NDArray[Any], grid: Grid, tolerance_mm: float, box: Box | None) -> Graph:
    """Components and what continues what, found in the box, placed in the whole."""
    if box is None:
        return build_graph(masks, grid.spacing_mm, tolerance_mm)
    graph = build_graph(masks[(slice(None), *box)], grid.spacing_mm, tolerance_mm)
    i, j, k = (int(c + s.start) for c, s in zip(graph.frame.corner, box, strict=True))
    return replace(graph, frame=replace(graph.frame, corner=(i, j, k)))


# ---- ids ----


def _name(graph: Graph, hand: _Hand, founders: Mapping[Node, int]) -> tuple[dict[Node, int], tuple[Edge, ...]]:
    """Lesion of every component, visit by visit, and the edges that are left after the corrections.

    A component is the lesion that most of the tumor it continues belonged to; without any, it founds one: the number
    it has in ``founders`` (what it was called before a correction, so that no number moves), or the next free one.
    """
    owner: dict[Node, int] = {}
    incoming: dict[Node, list[Edge]] = {}
    for edge in graph.edges:
        incoming.setdefault(edge.after, []).append(edge)
    kept: list[Edge] = []
    free = max([*founders.values(), *hand.is_.values(), 0]) + 1
    for t, visit in enumerate(graph.visits):
        for component in range(len(visit)):
            node = t, component
            before = _allowed(node, incoming.get(node, []), owner, hand)
            kept += before
            number = hand.is_.get(node) or _heaviest(before, owner, graph) or _founder(node, founders, hand)
            owner[node] = number or free
            free = max(free, owner[node] + 1)
    return owner, tuple(kept)


def _founder(node: Node, founders: Mapping[Node, int], hand: _Hand) -> int:
    """The number a component that begins a lesion has had, 0 for none."""
    number = founders.get(node, 0)
    return 0 if number in hand.is_not.get(node, frozenset()) else number


def _allowed(node: Node, edges: Sequence[Edge], owner: Mapping[Node, int], hand: _Hand) -> list[Edge]:
    """Edges into a component that the corrections leave.

    "Is lesion n" confirms the edges when n is among them (the others merge into it), and cuts them all when not.
    """
    left = [e for e in edges if owner[e.before] not in hand.is_not.get(node, frozenset())]
    number = hand.is_.get(node)
    return left if number is None or any(owner[e.before] == number for e in left) else []


def _heaviest(edges: Sequence[Edge], owner: Mapping[Node, int], graph: Graph) -> int:
    """The lesion with most voxels at the near end of the edges, 0 without edges; of equal ones the lower id."""
    weight: dict[int, int] = {}
    for edge in edges:
        t, component = edge.before
        weight[owner[edge.before]] = weight.get(owner[edge.before], 0) + int(graph.visits[t].sizes[component])
    return max(weight, key=lambda n: (weight[n], -n), default=0)


# ---- corrections ----


def _corrected_owners(
    graph: Graph, grid: Grid, links: Sequence[Correction]
) -> tuple[dict[Node, int], tuple[Edge, ...], frozenset[Node]]:
    """Lesion of every component, the edges left, and the components corrected: one link after the other.

    Each link speaks of the lesions as they are numbered after the links before it, as a person sees them.
    """
    hand = _Hand({}, {})
    owner, edges = _name(graph, hand, {})
    founders = _founders(owner)
    for number, link in enumerate(links, start=1):
        node = _component_at(link, graph, grid, number)
        _check_lesion(link, number, max(founders.values()))
        hand = _joined(hand, node, link, number)
        owner, edges = _name(graph, hand, founders)
        founders = founders | _founders(owner)
    return owner, edges, frozenset(hand.is_) | frozenset(hand.is_not)


def _founders(owner: Mapping[Node, int]) -> dict[Node, int]:
    """The first (and there the largest) component of every lesion, and its number."""
    first: dict[int, Node] = {}
    for node in sorted(owner):
        first.setdefault(owner[node], node)
    return {node: number for number, node in first.items()}


def _check_lesion(link: Correction, number: int, lesions: int) -> None:
    if not 1 <= link.lesion <= lesions + (1 if link.same else 0):
        raise InputError(
            f"Link {number} speaks of lesion {link.lesion}; there are lesions 1 to {lesions}"
            + (f", and a new one is number {lesions + 1}." if link.same else ".")
        )


def _joined(hand: _Hand, node: Node, link: Correction, number: int) -> _Hand:
    """The corrections with one more; InputError when it disagrees with an earlier one."""
    is_, is_not = dict(hand.is_), dict(hand.is_not)
    if link.same:
        is_.setdefault(node, link.lesion)
    else:
        is_not[node] = is_not.get(node, frozenset()) | {link.lesion}
    known = is_.get(node)
    if (link.same and known != link.lesion) or known in is_not.get(node, frozenset()):
        raise InputError(
            f"Link {number} says that a component of visit {link.visit} is {'' if link.same else 'not '}lesion "
            f"{link.lesion}, an earlier link says otherwise. Keep one of them."
        )
    return _Hand(is_, is_not)


def _component_at(link: Correction, graph: Graph, grid: Grid, number: int) -> Node:
    if not 1 <= link.visit <= len(graph.visits):
        raise InputError(f"Link {number} is for visit {link.visit}; this patient has visits 1 to {len(graph.visits)}.")
    ijk = np.rint(grid.to_index(link.ras_mm)).astype(int)
    label = graph.frame.label_at(graph.visits[link.visit - 1], ijk.tolist())
    if label == 0:
        place = ", ".join(f"{v:.1f}" for v in link.ras_mm)
        raise InputError(
            f"Link {number}: there is no tumor at ({place}) mm at visit {link.visit}. Give a point inside the lesion, "
            "in RAS+ mm of the common grid (that of the reference visit)."
        )
    return link.visit - 1, label - 1


# ---- the answer ----


def _labels_of(shape: tuple[int, ...], story: Story) -> npt.NDArray[np.uint16]:
    """(T, I, J, K) lesion ids, 0 outside."""
    labels = np.zeros(shape, dtype=np.uint16)
    for (t, component), number in story.owner.items():
        i, j, k = story.ijk((t, component)).T
        labels[t, i, j, k] = number
    return labels


def _lesions_of(story: Story, told: Mapping[int, tuple[str, ...]], grid: Grid) -> tuple[Lesion, ...]:
    """The lesions of a story, with their states and Tracking UIDs; told: what was said about each."""
    visits = range(len(story.graph.visits))
    return tuple(
        Lesion(
            id=number,
            tracking_uid=_tracking_uid(story, number, grid),
            states=told[number],
            volumes_mm3=tuple(story.volume_mm3(number, t) for t in visits),
            pieces=tuple(len(story.pieces(number, t)) for t in visits),
            confidences=tuple(story.match_confidence(number, t) for t in visits),
            speck=story.is_speck(number),
        )
        for number in story.lesions
    )


def _tracking_uid(story: Story, number: int, grid: Grid) -> str:
    """A UID from the voxels of the lesion's first component and the grid: the same in every run, also when later
    visits are added; nothing of the patient can be read from it.
    """
    node = story.pieces(number, story.first(number))[0]
    place = np.round(grid.affine, 3) + 0.0  # no minus zero
    content = hashlib.sha256(np.array(grid.shape, dtype="<i8").tobytes())
    content.update(place.astype("<f8").tobytes())
    content.update(np.array([node[0]], dtype="<i8").tobytes())
    content.update(np.sort(np.ravel_multi_index(tuple(story.ijk(node).T), grid.shape)).astype("<i8").tobytes())
    return UUID_ROOT + str(uuid.uuid5(_NAMESPACE, content.hexdigest()).int)


def _check(
    masks: npt.NDArray[Any],
    grid: Grid,
    qualities: Sequence[float],
    inside: npt.NDArray[np.bool_] | None,
    tolerance_mm: float,
) -> None:
    if masks.ndim != 4 or masks.shape[1:] != grid.shape or not len(masks):
        raise InputError(f"Masks are (visits, {', '.join(map(str, grid.shape))}) on this grid, got {masks.shape}.")
    if len(qualities) != len(masks):
        raise InputError(f"{len(qualities)} registration qualities for {len(masks)} visits; give one per visit.")
    for visit, quality in enumerate(qualities, start=1):
        if not (np.isnan(quality) or 0 <= quality <= 1):
            raise InputError(f"The registration quality of visit {visit} is {quality}; it is 0 to 1, or NaN.")
    if inside is not None and inside.shape != masks.shape:
        raise InputError(f"inside has shape {inside.shape}, the masks {masks.shape}; they are the same.")
    if not 0 <= tolerance_mm <= 20:
        raise InputError(f"The tolerance is {tolerance_mm} mm; it is between 0 and 20 mm.")
