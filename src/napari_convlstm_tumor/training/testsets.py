"""Patients the network was not trained on, each as a Case: its aligned images, its truth, and what is shown of it.

sarcoma       tumors at one visit, CT and T1, click or box
glioblastoma  pairs of T1c visits, scored at visit 2 on its native grid, holes filled slice by slice
warped        those sarcomas with three more visits made by a known warp of the front: how a change is followed on real
              images, from a click at visit 1 or at every visit, a box or a mask at visit 1
simulated     heads of ICBM152 tissue with growth of seeds that no training run uses, 4 visits, T1c or FLAIR
brains        the same growth in the real brains of ../shared/data/brains (the template where they are absent), one
              visit: whole tumor on FLAIR, core on T1c; small lesions as in the simulated heads, gliomas of the size
              that they have when they are found, and no tumor at all

Simulating a patient takes longer than segmenting it: patients are made ahead by a thread, and kept when asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.model.follow import JOIN_MM
from napari_convlstm_tumor.prepare.native import to_common_mm, to_native
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.series import AlignedSeries, Prompt, Series
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import leakage
from napari_convlstm_tumor.training.anatomy import Anatomy, real_brains, real_tumors
from napari_convlstm_tumor.training.kept import ahead, simulated_series, warped_series
from napari_convlstm_tumor.training.patients import PatientPlan
from napari_convlstm_tumor.training.scores import Mask, filled
from napari_convlstm_tumor.volume import Grid, Volume

Answer = TypeVar("Answer")
AnyMask = npt.NDArray[Any]
Given = tuple[npt.NDArray[np.uint8] | None, ...]
# Training draws from its own generators: these patients are never among its own.
FIRST_SIMULATED_SEED, FIRST_BRAIN_SEED, FIRST_GLIOMA_SEED, FIRST_TUMOR_FREE_SEED = 5000, 6000, 7000, 8000
FIRST_WARPED_SEED, WARPED_VISITS = 9000, 4
SIMULATED_MM = (1.5, 1.5, 1.5)
# A tumor smaller than this is no test of finding one.
SMALLEST_TUMOR_ML = 0.5
# A person clicks a lesion of this size; a speck beside it is noise of the outline.
SMALLEST_CLICKED_ML = 0.1
# Simulated tumors in real brains, of each kind: there are three brains.
MOST_BRAINS = 20
NO_PROMPT, CLICK, BOX = "none", "click", "box"
CLICK_FIRST, CLICK_EVERY, CLICK_BOTH = "click at visit 1", "click at every visit", "click at both"
MASK_FIRST, BOX_FIRST = "mask at visit 1", "box at visit 1"
WHOLE_TUMOR, CORE = "whole tumor", "core"
GLIOMA = "glioma's "  # of the size of one: 10 to 150 mL
TUMOR_FREE, LARGE = "tumor-free", "large"
# What is in the real brains ({}: what is outlined on this kind of image): of which course it is, and the first seed.
BRAIN_COURSES = {
    "{}": ("any", FIRST_BRAIN_SEED),
    f"{GLIOMA}{{}}": (LARGE, FIRST_GLIOMA_SEED),
    TUMOR_FREE: (TUMOR_FREE, FIRST_TUMOR_FREE_SEED),
}
# Image files of the real patients of each kind.
IMAGES = {"sarcoma": "[ct]?.nii.gz", "glioblastoma": "t1c.nii.gz"}
# Sets made of the real patients of a kind.
MADE_OF = {"sarcoma": ("sarcoma", "warped"), "glioblastoma": ("glioblastoma",)}


@dataclass(frozen=True, eq=False)
class Case:
    """One patient of a set.

    aligned: without masks. truths: per visit on the grid it is scored on, spacing_mm that grid's, which
    ``scored_mask(mask on the common grid, visit)`` brings a mask to. shown: prompt -> (masks given per visit, prompts).
    scored: 0-based visits, named ``where``. common_truths: per visit on the common grid where the truth of all visits
    is known there, for forecasts.
    """

    set: str
    patient: str
    aligned: AlignedSeries
    truths: tuple[AnyMask, ...]
    spacing_mm: tuple[tuple[float, float, float], ...]
    scored_mask: Callable[[AnyMask, int], AnyMask]
    shown: Mapping[str, tuple[Given, tuple[Prompt, ...]]]
    scored: tuple[int, ...]
    where: str = ""
    common_truths: tuple[AnyMask, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Where the cases come from: folder of ../shared/data, cards of the networks that must not know a patient, how many
    simulated patients, and a folder that keeps simulated patients for the next time."""

    data: Path | None = None
    cards: tuple[Mapping[str, Any], ...] = ()
    patients: int = 50
    cache: Path | None = None

    def folder(self, kind: str) -> Path:
        """The folder of real patients of a kind. Raises SettingsError when it is not there."""
        if self.data is None or not (self.data / kind).is_dir():
            raise SettingsError(f"The set {kind} needs --data, a folder that holds {kind}/. Or leave it out of --sets.")
        return self.data / kind


def cases(name: str, sources: Sources) -> Iterator[Case]:
    """The cases of a set, the next one made while one is scored. Raises SettingsError: no such set, or no data."""
    if name not in SETS:
        raise SettingsError(f"Unknown set '{name}'. Choose of: {', '.join(SETS)}.")
    return ahead(SETS[name](sources))


def unseen_patients(kind: str, sources: Sources) -> list[Path]:
    """Folders of the real patients of a kind that none of the cards' networks was trained on, by name.

    Raises SettingsError when nobody is left.
    """
    found = {f.name: f for f in sorted(sources.folder(kind).iterdir()) if f.is_dir()}
    images = {name: sorted(folder.rglob(IMAGES[kind])) for name, folder in found.items()}
    left = frozenset(found).intersection(*(leakage.unseen(images, card) for card in sources.cards))
    if not left:
        raise SettingsError(f"Leakage: the model was trained on every {kind} patient; leave {kind} out of --sets.")
    return [found[name] for name in sorted(left)]


# ---- the sets ----


def _sarcoma(sources: Sources) -> Iterator[Case]:
    for folder in unseen_patients("sarcoma", sources):
        for modality in ("ct", "t1"):
            yield one_visit_case(folder, f"sarcoma {modality}", Settings(modality=(modality,)))


def one_visit_case(folder: Path, name: str, settings: Settings) -> Case:
    """A patient with one visit and its mask, shown by a click and by a box."""
    series = read_series(find_patient(folder, settings), settings)
    truth = series.visits[0].mask
    if truth is None:
        raise SettingsError(f"{folder.name} has no mask at its visit: nothing to score against.")
    aligned = replace(result_of(align(series, settings)), masks=(None,))
    return Case(
        set=name,
        patient=series.patient,
        aligned=aligned,
        truths=(truth.data,),
        spacing_mm=(truth.grid.spacing_mm,),
        scored_mask=lambda mask, visit: to_native(mask, aligned, visit, truth.grid),
        shown={CLICK: ((None,), (click(truth, 1),)), BOX: ((None,), (box(truth, 1),))},
        scored=(0,),
    )


def _glioblastoma(sources: Sources) -> Iterator[Case]:
    for folder in unseen_patients("glioblastoma", sources):
        series = read_series(find_patient(folder), Settings())
        yield pair_case(series, result_of(align(series, Settings())))


def pair_case(series: Series, aligned: AlignedSeries) -> Case:
    """Two visits: a click at the first, its mask, or a click at both; the second is scored."""
    grids = [v.images["t1c"].grid for v in series.visits]
    truths = tuple(filled(v.mask.data).astype(np.uint8) for v in series.visits if v.mask is not None)
    shown_at = tuple(
        _in_common(click(Volume(truth, grid), t + 1), aligned)
        for t, (truth, grid) in enumerate(zip(truths, grids, strict=True))
    )
    given = aligned.masks[0]
    assert given is not None
    return Case(
        set="glioblastoma",
        patient=series.patient,
        aligned=replace(aligned, masks=(None, None)),
        truths=truths,
        spacing_mm=tuple(grid.spacing_mm for grid in grids),
        scored_mask=lambda mask, visit: filled(to_native(mask, aligned, visit, grids[visit])),
        shown={
            CLICK_FIRST: ((None, None), shown_at[:1]),
            MASK_FIRST: ((filled(given).astype(np.uint8), None), ()),
            CLICK_BOTH: ((None, None), shown_at),
        },
        scored=(1,),
        where=" at visit 2",
    )


def _warped(sources: Sources) -> Iterator[Case]:
    unseen = {folder.name for folder in unseen_patients("sarcoma", sources)}
    for n, anatomy in enumerate(real_tumors(sources.folder("sarcoma"))):
        name, modality = anatomy.name.rsplit("-", 1)
        if name in unseen:
            series = replace(warped_series(anatomy, FIRST_WARPED_SEED + n, WARPED_VISITS), patient=name)
            yield _warped_case(_simulated_case(f"warped sarcoma, {modality}", series))


def _warped_case(case: Case) -> Case:
    """Also shown by the box and the mask of visit 1, never without a prompt; its fronts are not forecast."""
    first, *later = case.truths
    boxed = box(Volume(first, case.aligned.grid), 1)
    shown = {
        **case.shown,
        BOX_FIRST: ((None,) * len(case.truths), (boxed,)),
        MASK_FIRST: ((first, *[None] * len(later)), ()),
    }
    del shown[NO_PROMPT]
    return replace(case, shown=shown, common_truths=())


def _simulated(sources: Sources) -> Iterator[Case]:
    yield from head_cases("simulated", FIRST_SIMULATED_SEED, sources.patients, sources.cache)


def head_cases(name: str, first_seed: int, patients: int, cache: Path | None) -> Iterator[Case]:
    """Simulated heads with 4 visits, of consecutive seeds, T1c and FLAIR in turn; the set is ``name`` and the kind."""
    for seed in range(first_seed, first_seed + patients):
        modality = ("t1c", "flair")[seed % 2]
        plan = PatientPlan(seed, 4, "any", (modality,), SIMULATED_MM, motion=False)
        yield _simulated_case(f"{name} {modality}", simulated_series(plan, None, cache))


def _simulated_case(name: str, series: Series) -> Case:
    """A simulated head: nothing, a click in every lesion at visit 1, or at every visit; scored from visit 2 on."""
    aligned = result_of(align(series, Settings(register=False)))
    truths = tuple(m for m in aligned.masks if m is not None)
    every = tuple(clicks(Volume(m, aligned.grid), t + 1) for t, m in enumerate(truths))
    nothing: Given = (None,) * len(truths)
    shown: dict[str, tuple[Given, tuple[Prompt, ...]]] = {NO_PROMPT: (nothing, ())}
    if every[0]:
        shown[CLICK_FIRST] = (nothing, every[0])
        shown[CLICK_EVERY] = (nothing, tuple(p for here in every for p in here))
    last = len(truths)
    return Case(
        set=name,
        patient=series.patient,
        aligned=replace(aligned, masks=nothing),
        truths=truths,
        spacing_mm=(aligned.grid.spacing_mm,) * last,
        scored_mask=lambda mask, visit: mask,
        shown=shown,
        scored=tuple(range(1, last)),
        where=f" at visits 2-{last}",
        common_truths=truths,
    )


def _brains(sources: Sources) -> Iterator[Case]:
    found: list[Anatomy | None] = [] if sources.data is None else list(real_brains(sources.data / "brains"))
    background, anatomies = ("real brain", found) if found else ("icbm152", [None])
    for modality, outlined in (("flair", WHOLE_TUMOR), ("t1c", CORE)):
        for kind, (course, first_seed) in BRAIN_COURSES.items():
            name, seeds = f"{background} {modality}, {kind.format(outlined)}", count(first_seed)
            made = brain_cases(name, modality, course, seeds, anatomies, sources.cache)
            yield from islice(made, min(sources.patients, MOST_BRAINS))


def brain_cases(
    name: str,
    modality: str,
    course: str,
    seeds: Iterable[int],
    anatomies: Sequence[Anatomy | None],
    cache: Path | None,
) -> Iterator[Case]:
    """The later of two visits of each seed, where there is a tumor to be found, or is none in any."""
    for seed in seeds:
        uneven = course == LARGE  # as gliomas are
        plan = PatientPlan(seed, 2, course, (modality,), SIMULATED_MM, motion=False, heterogeneous=uneven)
        later = simulated_series(plan, anatomies[seed % len(anatomies)], cache).visits[1]
        assert later.mask is not None
        shown: dict[str, tuple[Given, tuple[Prompt, ...]]] = {NO_PROMPT: ((None,), ())}
        if course != TUMOR_FREE:
            if np.count_nonzero(later.mask.data) * later.mask.grid.voxel_mm3 / 1000 < SMALLEST_TUMOR_ML:
                continue
            shown[CLICK] = ((None,), clicks(later.mask, 1))
        aligned = replace(result_of(align(Series(f"sim-{seed}", (later,)), Settings())), masks=(None,))
        yield Case(
            set=name,
            patient=f"sim-{seed}",
            aligned=aligned,
            truths=(later.mask.data,),
            spacing_mm=(aligned.grid.spacing_mm,),
            scored_mask=lambda mask, visit: mask,
            shown=shown,
            scored=(0,),
        )


SETS: Mapping[str, Callable[[Sources], Iterator[Case]]] = {
    "sarcoma": _sarcoma,
    "glioblastoma": _glioblastoma,
    "warped": _warped,
    "simulated": _simulated,
    "brains": _brains,
}


# ---- small steps ----


def result_of(work: Generator[Any, None, Answer]) -> Answer:
    """What a generator returns, its progress unseen."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            answer: Answer = finished.value
            return answer


def click(mask: Volume, visit: int) -> Prompt:
    """A click at the deepest point of a mask, in the mask's own space."""
    depth = ndimage.distance_transform_edt(mask.data > 0, mask.grid.spacing_mm)
    where = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return Prompt(visit, "point", mask.grid.to_mm(where))


def clicks(mask: Volume, visit: int) -> tuple[Prompt, ...]:
    """A click in each lesion of a mask, the largest first, as a person shows all that is meant.

    Pieces within JOIN_MM of each other are one lesion; one smaller than SMALLEST_CLICKED_ML is not clicked, unless it
    is the largest.
    """
    present = mask.data > 0
    if not present.any():
        return ()
    near = ndimage.distance_transform_edt(~present, mask.grid.spacing_mm) <= JOIN_MM / 2
    labels = np.where(present, ndimage.label(near)[0], 0)
    sizes = np.bincount(labels.ravel())[1:] * mask.grid.voxel_mm3 / 1000
    order = [int(n) for n in np.argsort(-sizes) if sizes[n] >= min(SMALLEST_CLICKED_ML, sizes.max())]
    return tuple(click(Volume((labels == n + 1).astype(np.uint8), mask.grid), visit) for n in order)


def box(mask: Volume, visit: int) -> Prompt:
    """The box around a mask, exact, in the mask's own space."""
    inside = np.argwhere(mask.data > 0)
    return Prompt(visit, "box", mask.grid.to_mm(np.stack([inside.min(0) - 0.5, inside.max(0) + 0.5])))


def ellipsoid(prompt: Prompt, grid: Grid) -> Mask:
    """The ellipsoid that touches all sides of a box: what a box gives without any network."""
    assert prompt.ras_mm is not None
    low, high = np.sort(grid.to_index(prompt.ras_mm), axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.5)
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    inside: Mask = sum(((x - m) / h) ** 2 for x, m, h in zip(axes, middle, half, strict=True)) <= 1
    return inside


def _in_common(prompt: Prompt, aligned: AlignedSeries) -> Prompt:
    assert prompt.ras_mm is not None
    return replace(prompt, ras_mm=to_common_mm(prompt.ras_mm, aligned.registrations[prompt.visit - 1].ref_to_visit))
