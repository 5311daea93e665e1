"""What other visits say about a visit: responses confirmed after 4 weeks, early progression confirmed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_convlstm_tumor.measure.response.case import Case
from napari_convlstm_tumor.measure.response.criteria import (
    BASELINE,
    BEFORE_BASELINE,
    CONFIRMATION_DAYS,
    CR,
    MR,
    NE,
    PD,
    PR,
    PRELIMINARY_PD,
)
from napari_convlstm_tumor.measure.response.draft import Draft

RANK = {MR: 1, PR: 2, CR: 3}
WEEKS = f"{CONFIRMATION_DAYS // 7} weeks"
NO_DATES = "confirmation cannot be judged without dates"


# ---- responses ----


def confirm_responses(case: Case, drafts: Sequence[Draft]) -> list[Draft]:
    """CR, PR and MR: confirmed by a visit at least as good, 4 weeks or more away, with none worse between."""
    judged: list[Draft] = []
    for draft in drafts:
        if draft.held:
            last = next(d for d in reversed(judged) if d.category != NE)
            draft = replace(draft, confirmed=last.confirmed, later=(_of_held(last),))
        elif draft.category in RANK:
            draft = _confirm(case, draft, drafts)
        judged.append(draft)
    return judged


def _of_held(last: Draft) -> str:
    return {True: "confirmed", False: "never confirmed", None: NO_DATES}[last.confirmed]


def _confirm(case: Case, draft: Draft, drafts: Sequence[Draft]) -> Draft:
    used = (*draft.unchecked, "confirmation")
    if not case.dated:
        return replace(draft, later=(*draft.later, NO_DATES))
    later, ended = _run(draft, drafts[draft.visit + 1 :])
    before, _ = _run(draft, drafts[: draft.visit][::-1])
    by = next((d for d in (*later, *before) if _apart(case, d, draft) >= CONFIRMATION_DAYS), None)
    if by is not None:
        words = f"confirmed by {case.when(by.visit)} ({_apart(case, by, draft)} days apart)"
        return replace(draft, confirmed=True, later=(*draft.later, words), unchecked=used)
    return replace(draft, confirmed=False, later=(*draft.later, _why_not(case, draft, later, ended)), unchecked=used)


def _run(draft: Draft, others: Sequence[Draft]) -> tuple[list[Draft], Draft | None]:
    """Visits next to it that are at least as good, and the one that ends them; visits that say nothing are passed."""
    run: list[Draft] = []
    for other in others:
        if other.category == NE:
            continue
        if other.held or RANK.get(other.category, 0) < RANK[draft.category]:
            return run, other
        run.append(other)
    return run, None


def _why_not(case: Case, draft: Draft, later: Sequence[Draft], ended: Draft | None) -> str:
    if ended is not None:
        shown = f"{ended.category} without meeting the threshold" if ended.held else ended.category
        return f"not confirmed: {case.when(ended.visit)} shows {shown}"
    soon = f"; {case.when(later[-1].visit)} is only {_apart(case, later[-1], draft)} days after" if later else ""
    return f"unconfirmed, waits for a visit at least {WEEKS} later{soon}"


def _apart(case: Case, a: Draft, b: Draft) -> int:
    return abs(case.visits[a.visit].day - case.visits[b.visit].day)


# ---- progression ----


def confirm_progressions(case: Case, drafts: Sequence[Draft]) -> list[Draft]:
    """PD soon after radiotherapy, or every PD if asked for, is preliminary until a second one 4 weeks later; PD by a
    new lesion too small to be sure of, until another visit shows that again.

    What confirms it (recalled for RANO 2.0, whose abstract asks for "a repeat MRI") is progression against the same
    nadir on the later visit, with nothing better between. Under RANO 2010 size alone never confirms it in the window.
    """
    judged = list(drafts)
    open_ones: list[int] = []
    settled = False
    for i, draft in enumerate(drafts):
        if draft.category in (NE, BASELINE, BEFORE_BASELINE):
            continue
        if draft.category != PD:
            _drop(case, judged, open_ones, draft)
            open_ones, settled = [], False
        elif draft.from_images and not settled:
            judged[i] = _progression(case, judged, open_ones, draft)
            settled = judged[i].category == PD
            open_ones = [j for j in (*open_ones, i) if judged[j].category == PRELIMINARY_PD and not judged[j].confirmed]
    return judged


def _progression(case: Case, judged: list[Draft], open_ones: Sequence[int], draft: Draft) -> Draft:
    early = case.is_early(draft.visit)
    first = [j for j in open_ones if _bears_out(case, judged[j], draft)]
    stays_open = early and case.rule.early_confirms is False
    if first and not stays_open:
        for j in first:
            words = f"confirmed by {case.when(draft.visit)}: progression counts from {case.when(j)}"
            judged[j] = replace(judged[j], confirmed=True, later=(words,))
        return replace(draft, confirmed=True, later=(f"confirms {case.when(first[0])}",))
    if not (early or case.confirm_progression or draft.equivocal):
        gone = [j for j in open_ones if judged[j].equivocal]  # else it would bear them out
        _drop(case, judged, gone, draft)
        return draft
    used = (*draft.unchecked, "early") if early else draft.unchecked
    confirmed = False if case.dated or draft.equivocal else None
    return replace(
        draft, category=PRELIMINARY_PD, confirmed=confirmed, later=(_why_open(case, draft, early),), unchecked=used
    )


def _bears_out(case: Case, first: Draft, later: Draft) -> bool:
    """Whether a progression confirms an earlier, preliminary one."""
    if later.equivocal:
        return False
    if first.equivocal:
        here = case.origins[later.visit]
        if not any(not first.equivocal.isdisjoint(here[item.lesion]) for item in case.new(later.visit)):
            return False
        if not case.confirm_progression:
            return True
    return case.dated and _apart(case, first, later) >= CONFIRMATION_DAYS


def _why_open(case: Case, draft: Draft, early: bool) -> str:
    if draft.equivocal:
        return "unconfirmed, waits for a visit that shows the new lesion again"
    if not case.dated:
        return NO_DATES
    if not early or case.radiotherapy_end_day is None:
        return f"unconfirmed, waits for progression on a visit at least {WEEKS} later"
    since = f"{case.visits[draft.visit].day - case.radiotherapy_end_day} days after radiotherapy it may be its effect"
    if case.rule.early_confirms:
        return f"{since}: unconfirmed, waits for progression on a visit at least {WEEKS} later"
    return f"{since}: only tumor outside the radiation field or pathology could tell"


def _drop(case: Case, judged: list[Draft], open_ones: Sequence[int], draft: Draft) -> None:
    """A visit without progression, or with another: what was preliminary before it, was none."""
    for j in open_ones:
        if judged[j].confirmed is False:
            words = f"not confirmed: {case.when(draft.visit)} shows {draft.category}"
            judged[j] = replace(judged[j], later=(words,))
