"""Which of the things the network outlines are the lesions a person pointed at, from visit to visit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from torch import Tensor

from napari_convlstm_tumor.model import prompts as channels
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume

Mask = npt.NDArray[np.bool_]
# Pieces of one lesion, and a lesion before and after registration, lie within this of each other.
JOIN_MM = 4.0
# What the network outlines at a visit that nobody pointed at is no lesion below this (a sphere of 4 mm): where a tumor
# vanished, specks of 10 to 20 mm3 were left of it (benchmarks/development_set.py).
SMALLEST_OUTLINED_MM3 = 30.0
# A lesion that nobody pointed at is counted where so much of it lies where one that was pointed at is at another visit,
# and the network is so sure of it, as a share of that one: 1.0 for the second focus of GBM-05, 0.8 for what was wrongly
# outlined around a simulated tumor (seed 5036). Chosen between these two.
MOSTLY, AS_SURE = 0.5, 0.9
# An outline of so many pieces more than where the lesion was pointed at may have left it for tissue that looks like it:
# 8 and 11 more at two visits of a head of the development set, whose vanishing 0.4 mL became 15, and 4 more at one of a
# warped sarcoma (Dice 0.57); at most 3 more at 132 others of 19 heads, 14 warped sarcomas and 2 glioblastomas.
MANY_PIECES = 4
CLICK_REACH = 0.3  # of the near map: within 6 mm of a click
# Without a prompt what is this probable on a look over everything is looked at closely: a real core and two of 24
# simulated ones were seen with 0.3 to 0.5, and nothing more was outlined in 24 heads without a tumor (run 29).
FOUND_FROM = 0.3
# Of the places found without a prompt those count of which the wide looks were on average so sure, and at least this
# share as sure as of the surest. Chosen on 48 of the images that evaluate scores (docs/accuracy.md says so). T1c needs
# less: 0.1 left out two of ten real gliomas, of which the wide looks saw a part alone (growthnet-8). Below 0.03,
# 20 mL were outlined in 3 of 20 heads without a tumor (0.01 to 0.02); what was true had 0.05 or more (growthnet-10).
LEAST_SURE, LEAST_SURE_T1C, NEARLY_AS_SURE = 0.1, 0.03, 0.65
# Nothing larger is taken for a tumor: half a head without one was (479 mL on FLAIR). The largest of 20 real gliomas has
# 232 mL with its oedema (benchmarks/real_gliomas.py).
LARGEST_FOUND_MM3 = 400_000.0
# A close look that outlines less than this share of what the wide look saw, with the rest around it on this share of
# its surface, has taken the dark middle of a tumor for all of it. Chosen on simulated heads of a seed that had not been
# trained on, and looked at on the sarcomas: 4 of 5 such outlines became better (mean Dice 0.34 to 0.67).
LEAST_OF_WIDE, SURROUNDED = 0.5, 0.7
# Of a tumor that is larger than this on the close look, that look loses parts that look unlike the rest, as it sees
# little around them; the wide look shows it in detail enough. Sized by the close look, so that a leak of the wide one
# makes nothing large (docs/training-log.md, run 22).
LARGE_MM3 = 10_000.0


def follow(
    probability: FloatVolume,
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    order: list[tuple[int, int | None]],
) -> Mask | None:
    """(T, I, J, K): the lesions a person pointed at, at that visit and followed to the others; None without prompts.

    A lesion is meant when it touches a prompt, or a meant lesion of the visits it was carried from (the last of them
    that shows it: a tumor may be gone and come back); fragments within JOIN_MM count as one. Other bright structures,
    and lesions nobody pointed at, are left out.
    """
    if not any(bool(prompt.any()) for prompt, _ in drawn.values()):
        return None
    kept = np.zeros(probability.shape, dtype=bool)
    outlined = outlines_of(probability, aligned)
    seen: dict[int, Mask] = {}  # where the lesions were last seen, per visit
    for visit, before in order:
        found = outlined[visit]
        carried = np.zeros(aligned.grid.shape, dtype=bool) if before is None else seen[before]
        kept[visit] = touching(found, carried | _pointed_at(drawn.get(visit), carried.shape), aligned.grid.spacing_mm)
        here = kept[visit] & found
        seen[visit] = here if here.any() else carried
    return kept


def outlines_of(probability: FloatVolume, aligned: AlignedSeries) -> Mask:
    """(T, I, J, K): the masks given, and at the other visits what the network outlined."""
    pairs = zip(probability, aligned.masks, strict=True)
    return np.stack([frame >= 0.5 if given is None else given > 0 for frame, given in pairs])


def _pointed_at(drawn: tuple[Tensor, Tensor] | None, shape: tuple[int, ...]) -> Mask:
    """Where the prompts of one visit are, (I, J, K)."""
    if drawn is None:
        return np.zeros(shape, dtype=bool)
    prompt = drawn[0]
    place = (prompt[[channels.BOX, channels.MASK]] > 0).any(dim=0) | (prompt[channels.NEAR] > CLICK_REACH)
    pointed: Mask = place.numpy()
    return pointed


def joined_later(found: Mask, kept: Mask, spacing_mm: Sequence[float], smallest_mm3: float) -> list[int]:
    """0-based visits where something was left out that lies where the lesions ``kept`` are at another visit.

    found, kept: (T, I, J, K). Two tumors that grow into one, of which one was pointed at: its growth is overstated.
    """
    smallest = smallest_mm3 / float(np.prod(spacing_mm))
    left_out = np.count_nonzero(found & ~kept & _anywhere(found & kept), axis=(1, 2, 3))
    return [visit for visit, voxels in enumerate(left_out) if voxels >= smallest]


def taken_in(
    probability: FloatVolume, found: Mask, kept: Mask, spacing_mm: Sequence[float], smallest_mm3: float
) -> Mask:
    """(T, I, J, K): what was left out that lies for the most part where the lesions ``kept`` are at another visit.

    Two tumors that grow into one, of which one was pointed at, are one from then on: without the other, the visits
    before could not be compared with those after. Only what the network is as sure of as of the lesions: where one
    visit's outline is too large, the same wrong places are outlined at others, with less confidence.
    probability, found, kept: (T, I, J, K).
    """
    left_out, joined = found & ~kept, np.zeros_like(found)
    anywhere = _anywhere(found & kept)
    if not (left_out & anywhere).any():
        return joined
    least = AS_SURE * float(probability[found & kept].mean())
    for sure, rest, join in zip(probability, left_out, joined, strict=True):
        labels, count = ndimage.label(widened(rest, spacing_mm))
        places = labels[rest]
        voxels = np.bincount(places, minlength=count + 1)
        shared = np.bincount(places, anywhere[rest], minlength=count + 1)
        total = np.bincount(places, sure[rest], minlength=count + 1)
        enough = shared * float(np.prod(spacing_mm)) >= smallest_mm3
        join |= (enough & (shared >= MOSTLY * voxels) & (total >= least * voxels))[labels] & rest
    return joined


def _anywhere(lesions: Mask) -> Mask:
    """(I, J, K): where the lesions (T, I, J, K) are at one visit at least."""
    return np.asarray(lesions.any(axis=0))


def touching(mask: Mask, seeds: Mask, spacing_mm: Sequence[float]) -> Mask:
    """The voxels near to those lesions of ``mask`` that lie within JOIN_MM (along each axis) of ``seeds``."""
    wide, near = widened(mask, spacing_mm), widened(seeds, spacing_mm)
    labels, _ = ndimage.label(wide)
    meant = np.unique(labels[near & wide])
    return np.isin(labels, meant[meant > 0])


def widened(mask: Mask, spacing_mm: Sequence[float]) -> Mask:
    """The mask and half of JOIN_MM (a voxel at least) to each side: pieces that lie within JOIN_MM meet.

    With all of it, pieces 8 mm apart did, and clicked tumors took in the scalp beyond the skull.
    """
    size = [2 * max(1, round(JOIN_MM / 2 / s)) + 1 for s in spacing_mm]
    widened: Mask = ndimage.maximum_filter(mask.astype(np.uint8), size) > 0
    return widened


def without_specks(probability: FloatVolume, spacing_mm: Sequence[float], smallest_mm3: float) -> FloatVolume:
    """Probability (I, J, K) of one visit, 0 where a lesion (pieces within JOIN_MM are one) is smaller than that."""
    outlined = probability >= 0.5
    if not outlined.any():
        return probability
    box = ndimage.find_objects(outlined.astype(np.uint8))[0]
    labels, _ = ndimage.label(widened(outlined[box], spacing_mm))
    voxels = np.bincount(labels[outlined[box]], minlength=int(labels.max()) + 1)
    specks = outlined[box] & (voxels * float(np.prod(spacing_mm)) < smallest_mm3)[labels]
    kept = probability.copy()
    kept[box][specks] = 0
    return kept


def scattered(outlined: Mask, pointed_at: Sequence[int]) -> list[int]:
    """0-based visits whose outline (T, I, J, K) falls into many more pieces than those of the visits pointed at."""
    if not pointed_at:
        return []
    pieces = [int(ndimage.label(frame, np.ones((3, 3, 3)))[1]) for frame in outlined]
    usual = max(pieces[visit] for visit in pointed_at)
    return [visit for visit, here in enumerate(pieces) if here >= usual + MANY_PIECES]


def places_found(
    probability: FloatVolume, spacing_mm: Sequence[float], smallest_mm3: float, most: int
) -> list[tuple[int, tuple[int, int, int]]]:
    """(0-based visit, voxel) of the deepest point of every lesion seen (FOUND_FROM) without a prompt, largest first.

    A lesion seen at several visits is named once, at the visit that shows most of it.
    """
    voxel = float(np.prod(spacing_mm))
    found = []
    for visit, frame in enumerate(probability):
        labels, _ = ndimage.label(frame >= FOUND_FROM)
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            lesion = labels == label if box is not None else None
            if lesion is not None and np.count_nonzero(lesion) * voxel >= smallest_mm3:
                found.append((int(np.count_nonzero(lesion)), visit, lesion))
    found.sort(key=lambda item: -item[0])
    taken = np.zeros(probability.shape[1:], dtype=bool)
    places: list[tuple[int, tuple[int, int, int]]] = []
    for _, visit, lesion in found:
        if len(places) == most or bool((taken & lesion).any()):
            continue
        taken |= touching(lesion, lesion, spacing_mm)
        depth = ndimage.distance_transform_edt(lesion, spacing_mm)
        i, j, k = np.unravel_index(int(np.argmax(depth)), depth.shape)
        places.append((visit, (int(i), int(j), int(k))))
    return places


def surest(outlines: Sequence[Mask], wide: FloatVolume, voxel_mm3: float, old_lesions: bool) -> list[int]:
    """Which outlines (T, I, J, K) of single places to keep: those that the looks over everything bear out.

    wide: (T, I, J, K), the mean probability of those looks. A close look outlines something wherever it is sent; where
    it is wrong, mostly in grey matter or old white-matter lesions, the wide looks were less sure of what it outlines.
    old_lesions: may be as bright as a tumor (FLAIR, T2): then LEAST_SURE is asked, else LEAST_SURE_T1C.
    """
    sure = [_sureness(outline, wide, voxel_mm3) for outline in outlines]
    least = max(LEAST_SURE if old_lesions else LEAST_SURE_T1C, NEARLY_AS_SURE * max(sure, default=0.0))
    return [n for n, mean in enumerate(sure) if mean >= least]


def _sureness(outline: Mask, wide: FloatVolume, voxel_mm3: float) -> float:
    """Mean of ``wide`` in the outline; 0 for what is empty or larger than any tumor."""
    if not outline.any() or _most_mm3(outline, voxel_mm3) > LARGEST_FOUND_MM3:
        return 0.0
    return float(wide[outline].mean())


def _most_mm3(outline: Mask, voxel_mm3: float) -> float:
    """Volume at the visit that shows most."""
    return float(np.count_nonzero(outline, axis=(1, 2, 3)).max() * voxel_mm3)


def with_lost_parts(
    close: FloatVolume, wide: FloatVolume, spacing_mm: Sequence[float], large_whole: bool
) -> FloatVolume:
    """Probability (T, I, J, K) of close looks, with what they lost of the tumor that the wide look saw.

    That is the rim, where they show a tumor's dark middle alone; and everything, at all visits, where the tumor is
    large at one of them and ``large_whole`` says that the wide look can be trusted with it.
    """
    large = large_whole and _most_mm3(close >= 0.5, float(np.prod(spacing_mm))) >= LARGE_MM3
    whole = close.copy()
    for visit, (near, far) in enumerate(zip(close >= 0.5, wide >= 0.5, strict=True)):
        seen = touching(far, near, spacing_mm) & far
        if large or _middle_alone(near, seen):
            whole[visit] = np.where(seen, np.maximum(close[visit], wide[visit]), close[visit])
    return whole


def _middle_alone(inner: Mask, whole: Mask) -> bool:
    """Whether this is the middle of something much larger, which goes on all around it."""
    if np.count_nonzero(inner) >= LEAST_OF_WIDE * np.count_nonzero(whole):
        return False
    shell = ndimage.binary_dilation(inner) & ~inner
    return bool(np.count_nonzero(shell & whole) >= SURROUNDED * np.count_nonzero(shell))
