"""What a criterion asks for and the images, or the person, did not give. Never assumed, always said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from napari_convlstm_tumor.measure.response.case import Case
from napari_convlstm_tumor.measure.response.criteria import (
    BASELINE,
    BEFORE_BASELINE,
    CR,
    NE,
    NON_TARGET_RISE,
    PD,
    PRELIMINARY_PD,
)
from napari_convlstm_tumor.measure.response.draft import Draft
from napari_convlstm_tumor.measure.response.sizes import is_measurable, organ_of, size_of
from napari_convlstm_tumor.measure.response.words import NAMES, lesions, percent, reaches

STEROIDS = "corticosteroid dose on this visit"
STEROIDS_BASELINE = "corticosteroid dose at the baseline"
CLINICAL = "clinical state"
RADIOTHERAPY = "end of radiotherapy: a progression within 12 weeks after it needs a second look"
MARKERS = "tumor markers, if they were raised, must be normal for CR"


def missing_of(case: Case, draft: Draft) -> tuple[str, ...]:
    """What is not known about this visit, in sentences without names or dates."""
    if draft.category == BEFORE_BASELINE:
        return ()
    if draft.category == BASELINE:
        return tuple(_of_baseline(case))
    return (*_of_person(case, draft), *_of_images(case, draft))


def _of_baseline(case: Case) -> Iterator[str]:
    entered = case.entered(case.base)
    if case.rule.clinical and (entered is None or entered.steroid_mg_per_day is None):
        yield STEROIDS_BASELINE
    if case.rule.separate_enhancement and case.radiotherapy_end_day is None:
        yield "end of radiotherapy: the baseline should be the first visit after it"
    yield from _of_lesions(case)


def _of_lesions(case: Case) -> Iterator[str]:
    visit = case.visits[case.base]
    if case.rule.most_per_organ is not None:
        measurable = [item for item in visit.present if is_measurable(item, case.rule, visit.slice_mm)]
        if sum(organ_of(item) is None for item in measurable) > case.rule.most_per_organ:
            yield f"the lesions' organs: at most {case.rule.most_per_organ} targets an organ could not be held"
    asks = case.rule.separate_enhancement or case.rule.enhancing_only
    if asks and any(item.enhancing is None for item in visit.present):
        yield "whether the lesions enhance: those not said to be otherwise were taken as enhancing"


def _of_person(case: Case, draft: Draft) -> Iterator[str]:
    now, base = case.entered(draft.visit), case.entered(case.base)
    if case.rule.clinical:
        if now is None or now.steroid_mg_per_day is None:
            yield STEROIDS
        if base is None or base.steroid_mg_per_day is None:
            yield STEROIDS_BASELINE
        if now is None or now.status is None:
            yield CLINICAL
    if case.parts and case.non_target(case.base) and (now is None or now.non_target_progression is None):
        yield f"whether non-target lesions have unequivocally progressed{_rise_words(case, draft)}"


def _rise_words(case: Case, draft: Draft) -> str:
    """A hint for the reader when the non-target lesions together have grown much."""
    if draft.category == NE:
        return ""
    visits = [*case.usable(range(case.base, draft.visit)), draft.visit]
    if case.rule.non_targets_add:
        return _rise_together(case, visits)
    rise = _rise([sum(item.volume_mm3 for item in case.non_target(j)) for j in visits])
    if rise is None or not reaches(rise, NON_TARGET_RISE):
        return ""
    return f" (their volume is {percent(rise)} against its smallest: a reader must look)"


def _rise_together(case: Case, visits: Sequence[int]) -> str:
    """RANO 2.0: non-target lesions progress by the same percentage as targets do, and count together with them."""
    sizes = [sum(size_of(item, case.rule) for item in case.non_target(j)) for j in visits]
    alone, least = _rise(sizes), case.rule.progression
    together = _rise([size + case.total(j) for size, j in zip(sizes, visits, strict=True)])
    if alone is None or together is None or not reaches(alone, least):
        return ""
    met = "progression" if reaches(together, least) else "no progression"
    words = f"their {NAMES[case.rule.quantity]} is {percent(alone, [least])} against its smallest, with the targets "
    return f" ({words}{percent(together, [least])}, which would be {met}: a reader must look)"


def _rise(sizes: Sequence[float]) -> float | None:
    """By which fraction the last is larger than the smallest before; None from nothing."""
    smallest = min(sizes[:-1])
    return sizes[-1] / smallest - 1 if smallest > 0 else None


def _of_images(case: Case, draft: Draft) -> Iterator[str]:
    yield from case.rule.unknown
    unclear = [item.lesion for item in case.late(draft.visit) if item not in case.new(draft.visit)]
    if unclear:
        yield f"whether {lesions(unclear)} came after the baseline: no earlier image shows the place"
    specks = [item.lesion for item in case.visits[draft.visit].lesions if item.state == "speck"]
    if specks:
        yield f"whether {lesions(specks)} is more than noise: too small and seen once, not counted"
    yield from _of_lesions(case)
    early_matters = case.rule.early_confirms is not None and draft.category in (PD, PRELIMINARY_PD)
    if early_matters and case.radiotherapy_end_day is None:
        yield RADIOTHERAPY
    if draft.category == CR and case.rule.nodes:
        yield MARKERS
