"""The class of every visit: new lesions, clinical state and sizes weighed, then confirmed or not by other visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.response.case import Case, baseline_of
from napari_convlstm_tumor.measure.response.confirm import confirm_progressions, confirm_responses
from napari_convlstm_tumor.measure.response.criteria import (
    BASELINE,
    BEFORE_BASELINE,
    CR,
    MR,
    NE,
    PD,
    PR,
    SD,
    LungCriterion,
    criterion_named,
)
from napari_convlstm_tumor.measure.response.draft import Draft
from napari_convlstm_tumor.measure.response.inputs import Clinical, LesionMeasure, Response, VisitMeasure, check_visits
from napari_convlstm_tumor.measure.response.lung import classify_lung
from napari_convlstm_tumor.measure.response.missing import missing_of
from napari_convlstm_tumor.measure.response.size_rules import judge_sizes, relative
from napari_convlstm_tumor.measure.response.words import NAMES, UNITS, amounts, lesions, listed, number

ALONE_NO_PD = "less than 12 weeks after radiotherapy that alone is no progression"


def classify(
    visits: Sequence[VisitMeasure],
    criterion: str,
    *,
    dated: bool = True,
    baseline: int | None = None,
    clinical: Sequence[Clinical | None] = (),
    radiotherapy_end_day: int | None = None,
    confirm_progression: bool = False,
) -> tuple[Response, ...]:
    """The response on every visit under one criterion (a key of CRITERIA).

    dated: False = the days are positions; sizes are classified, and what needs days is said to be unknown.
    baseline: 1-based; by default the first visit, for RANO 2.0 the first after radiotherapy_end_day.
    clinical: per visit what a person entered, or None. confirm_progression: every progression needs a second look
    at least 4 weeks later, as under immunotherapy (iRANO). Raises InputError for inputs that contradict themselves.
    """
    rule = criterion_named(criterion)
    check_visits(visits, baseline, clinical)
    if isinstance(rule, LungCriterion):
        return classify_lung(tuple(visits), rule, dated, (baseline or 1) - 1)
    if radiotherapy_end_day is not None and not dated:
        raise InputError("The end of radiotherapy is a day, but the visits have no dates; leave it out.")
    base = baseline_of(rule, [v.day for v in visits], baseline, radiotherapy_end_day)
    case = Case(rule, tuple(visits), dated, base, tuple(clinical), radiotherapy_end_day, confirm_progression)
    drafts: list[Draft] = []
    for i in range(len(visits)):
        drafts.append(_hold(case, _judge(case, i, drafts), drafts))
    drafts = confirm_responses(case, confirm_progressions(case, drafts))
    return tuple(_response(case, draft) for draft in drafts)


# ---- one visit ----


def _judge(case: Case, i: int, earlier: Sequence[Draft]) -> Draft:
    if i < case.base:
        return Draft(i, BEFORE_BASELINE, f"not compared: the baseline is {case.when(case.base)}")
    if case.trouble(case.base):
        return Draft(i, NE, f"the baseline of {case.when(case.base)} cannot be used: {case.trouble(case.base)}")
    if i == case.base:
        limits = ("measurable", "targets") if case.is_limited else ("measurable",)
        return Draft(i, BASELINE, _baseline_words(case), unchecked=limits if case.old(i) else ())
    new, entered = _new_lesions(case, i), _entered(case, i)
    draft = (
        (entered if new is None or new.equivocal else new)
        or new
        or _unusable(case, i)
        or _returned(case, i, earlier)
        or _by_size(case, i)
    )
    if not _worse_early(case, i):
        return draft
    return replace(draft, words=f"{draft.words}; clinical deterioration, as entered: {ALONE_NO_PD}")


def _new_lesions(case: Case, i: int) -> Draft | None:
    """Progression by a lesion that came after the baseline."""
    if case.visits[i].not_evaluable:
        return None
    new = case.new(i)
    counted = [item for item in new if case.measurable(item, i) or not case.rule.new_must_be_measurable]
    if not counted:
        return None
    words = "; ".join(_new_words(case, item, i) for item in counted)
    doubtful = all(_is_equivocal(case, item, i) for item in counted)
    if not case.trouble(i) and case.parts:
        verdict = judge_sizes(case, i)
        words, doubtful = f"{words}; {verdict.words}", doubtful and verdict.category != PD
    firsts = frozenset(n for item in counted for n in case.origins[i][item.lesion])
    return Draft(
        i,
        PD,
        words,
        unchecked=("new",) if case.rule.new_must_be_measurable else (),
        equivocal=firsts if doubtful else frozenset(),
    )


def _is_equivocal(case: Case, lesion: LesionMeasure, i: int) -> bool:
    """Small and seen for the first time: follow-up will tell, and date it back (PMC6499019 table 4; RECIST 1.1)."""
    small = case.rule.small_new_is_equivocal and not case.measurable(lesion, i)
    return small and case.first_seen(lesion, i) == i


def _new_words(case: Case, lesion: LesionMeasure, i: int) -> str:
    first = case.first_seen(lesion, i)
    since = "" if first == i else f" since {case.when(first)}"
    size = f"{number(lesion.longest_axial_mm)} x {number(lesion.perpendicular_axial_mm)} mm"
    small = "" if case.measurable(lesion, i) else ", too small to be measurable"
    doubt = ": equivocal" if _is_equivocal(case, lesion, i) else ""
    return f"new lesion {lesion.lesion}{since} ({size}{small}{doubt})"


def _entered(case: Case, i: int) -> Draft | None:
    """Progression by what a person entered."""
    entered = case.entered(i)
    if entered is None:
        return None
    if entered.non_target_progression:
        return Draft(i, PD, "unequivocal progression of non-target disease, as entered by a reader")
    if case.rule.clinical and entered.status == "worse" and not case.is_early(i):
        return Draft(i, PD, "clinical deterioration, as entered", from_images=False)
    return None


def _worse_early(case: Case, i: int) -> bool:
    """Clinical deterioration so soon after radiotherapy that alone it is no progression (PMC4530825 table I; the
    abstract of RANO 2.0: a repeat MRI or histopathology is required)."""
    entered = case.entered(i)
    return entered is not None and entered.status == "worse" and case.is_early(i)


def _unusable(case: Case, i: int) -> Draft | None:
    trouble = case.trouble(i)
    return Draft(i, NE, trouble) if trouble else None


def _returned(case: Case, i: int, earlier: Sequence[Draft]) -> Draft | None:
    """Disease that is back after all of it had gone. Nodes that grow again count by their size alone (EORTC)."""
    clear = [d.visit for d in earlier if d.visit > case.base and d.category != NE and case.nothing_left(d.visit)]
    back = [item for item in case.old(i) if not (case.rule.nodes and item.node)]
    if not clear or not back:
        return None
    words = f"tumor is back after none on {case.when(clear[-1])} ({lesions(item.lesion for item in back)}"
    return Draft(i, PD, f"{words}, {_size_words(case, i)})" if case.parts else f"{words})")


def _by_size(case: Case, i: int) -> Draft:
    if not case.parts:
        return _without_targets(case, i)
    verdict = judge_sizes(case, i)
    category, words = verdict.category, [verdict.words, *_changes_of_shape(case, i)]
    small = case.new(i)
    left = [item.lesion for item in (*case.non_target(i), *case.late(i))]
    if category == CR and (left or case.hidden(i)):
        category = PR
        words.append(f"no CR: {lesions([*left, *case.hidden(i)])} there or out of view")
    elif small:
        words.append(f"new {lesions(item.lesion for item in small)} too small to be measurable: to be watched")
    used = {MR: ("minor",), PD: ("rise",)}.get(category, ())
    return _weigh_clinical(case, Draft(i, category, "; ".join(words), unchecked=used))


def _without_targets(case: Case, i: int) -> Draft:
    """No measurable disease at the baseline: mostly neither a response nor a progression can be measured."""
    rule = case.rule
    if not case.old(case.base):
        best = SD if rule.without_targets == SD else NE
        return Draft(i, best, f"no tumor at the baseline of {case.when(case.base)} and no new lesion")
    if case.hidden(i):
        return Draft(i, NE, f"the images do not show the place of {lesions(case.hidden(i))}")
    if rule.all_gone_without_targets and case.nothing_left(i):
        return _weigh_clinical(case, Draft(i, CR, "all non-target lesions are gone; there was no measurable one"))
    left = f"{len(case.old(i))} of {len(case.old(case.base))} non-measurable lesions are there, no new one"
    limit = f"; without measurable disease {rule.without_targets} is the best" if rule.without_targets == SD else ""
    return Draft(i, rule.without_targets, left + limit)


def _weigh_clinical(case: Case, draft: Draft) -> Draft:
    """Steroids: none at CR, no more than at the baseline for any response. Not known = not weighed, said elsewhere."""
    if not case.rule.clinical:
        return draft
    dose, before = _dose(case, draft.visit), _dose(case, case.base)
    raised = dose is not None and before is not None and dose > before
    change = f"steroids were raised ({number(before or 0)} -> {number(dose or 0)} mg/day)"
    if draft.category == SD and raised:
        return replace(draft, words=f"{draft.words}; {change}: not settled as stable until the dose is back")
    if draft.category == PD:
        return _weigh_lowered(case, draft)
    if draft.category not in (CR, PR, MR):
        return draft
    if raised:
        return replace(draft, category=SD, words=f"{change}: by size {draft.category}; {draft.words}")
    if _worse_early(case, draft.visit):
        return replace(draft, category=SD, words=f"clinically worse: by size {draft.category}; {draft.words}")
    if draft.category == CR and dose:
        return replace(draft, category=PR, words=f"no CR on steroids ({number(dose)} mg/day); {draft.words}")
    return draft


def _dose(case: Case, i: int) -> float | None:
    entered = case.entered(i)
    return None if entered is None else entered.steroid_mg_per_day


def _weigh_lowered(case: Case, draft: Draft) -> Draft:
    """RANO 2010: growth counts "on stable or increasing doses of corticosteroids" (PMC4530825 table I)."""
    if not case.rule.steady_steroids:
        return draft
    nadir = case.nadir(case.parts[0], draft.visit)
    dose, before = _dose(case, draft.visit), _dose(case, nadir)
    if dose is None or before is None or dose >= before:
        return draft
    change = f"steroids were lowered since {case.when(nadir)} ({number(before)} -> {number(dose)} mg/day)"
    return replace(
        draft, words=f"{draft.words}; {change}: RANO 2010 asks for a stable or raised dose, a reader must judge"
    )


def _hold(case: Case, draft: Draft, earlier: Sequence[Draft]) -> Draft:
    """RECIST 1.1 (EORTC): a response goes on until progression, also when its own threshold is no longer met."""
    last = next((d for d in reversed(earlier) if d.category != NE and not d.equivocal), None)
    if not case.rule.response_holds or draft.category != SD or last is None or last.category not in (CR, PR):
        return draft
    return replace(draft, category=PR, held=True, words=f"the response goes on, for there is no PD; {draft.words}")


# ---- words and numbers of the answer ----


def _baseline_words(case: Case) -> str:
    base = case.base
    if not case.parts:
        there = len(case.old(base))
        return f"no measurable lesion, {there} other" if there else "no tumor"
    targets = sorted(item.lesion for part in case.parts for item, _ in part.sizes[base].parts)
    words = f"target {lesions(targets)}, {_size_words(case, base)}"
    rest = case.non_target(base)
    return f"{words}; non-target {lesions(item.lesion for item in rest)}" if rest else words


def _size_words(case: Case, i: int) -> str:
    quantity = case.rule.quantity
    return f"{NAMES[quantity]} {amounts(case.total(i), case.total(i), quantity).split(' -> ')[1]}"


def _changes_of_shape(case: Case, i: int) -> list[str]:
    """Splits, merges and a change of enhancement, which change what a size means."""
    found = [
        f"lesion {item.lesion} is {item.state}" + (f" from {listed(sorted(item.follows))}" if item.follows else "")
        for item in case.visits[i].present
        if item.state in ("split", "merged")
    ]
    if case.rule.quantity != "volume" and any(item.state == "merged" for item in case.visits[i].present):
        found.append("its own diameters now stand for those of several, which may hide growth: a reader must judge")
    before = {item.lesion: item for item in case.visits[case.base].present}
    turned = [n for n in case.visits[i].present if n.enhancing and n.lesion in before]
    turned = [n for n in turned if before[n.lesion].enhancing is False]
    return found + [
        f"lesion {n.lesion} did not enhance at the baseline and does now: a reader must judge" for n in turned
    ]


def _response(case: Case, draft: Draft) -> Response:
    i = draft.visit
    measured = bool(case.parts) and i >= case.base and not case.trouble(case.base) and not case.trouble(i)
    compared = measured and i > case.base
    usable = case.compared(i) if compared else []
    nadir = min(usable, key=case.total) if usable else None
    notes = [
        f"not read in the guideline itself: {case.rule.unchecked[k]}"
        for k in draft.unchecked
        if k in case.rule.unchecked
    ]
    return Response(
        visit=i + 1,
        day=case.visits[i].day if case.dated else None,
        criterion=case.rule.key,
        category=draft.category,
        confirmed=draft.confirmed,
        reason=f"{draft.category}: " + "; ".join([draft.words, *draft.later, *notes]),
        missing=missing_of(case, draft),
        sum_used=case.total(i) if measured else None,
        unit=UNITS[case.rule.quantity] if measured else "",
        baseline_visit=case.base + 1 if i >= case.base else None,
        nadir_visit=None if nadir is None else nadir + 1,
        change_from_baseline=relative(case.total(i), case.total(case.base)) if compared else None,
        change_from_nadir=None if nadir is None else relative(case.total(i), case.total(nadir)),
    )
