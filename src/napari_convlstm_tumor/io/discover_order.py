"""The visits in the order of time, and on which day each was. Every rule is stated where it is applied.

- Visits found twice (two folders of one day, or one number) are one visit when their images are of different
  kinds.
- Dates and days are counted from the first visit, which is day 0.
- Several visits of one week (LUMIERE's week-000-1, week-000-2) keep their order, one day apart, with a
  warning.
- Visits without any date keep the order of their numbers; nothing is said per month.
- Dated and undated visits together, or numbers under different words, have no order: a problem, never a
  guess.
"""

from __future__ import annotations

from itertools import pairwise

from napari_convlstm_tumor.io.discover_draft import Draft, Visit, listed
from napari_convlstm_tumor.io.discover_tree import natural
from napari_convlstm_tumor.series import NO_DATES

MANIFEST_HINT = "or list them in a CSV manifest with the columns patient, day, modality, path, mask"
# A week has room for seven visits a day apart before they run into the next.
DAYS_IN_A_WEEK = 7
LONGEST_LIFE_DAYS = 120 * 365


def put_in_order(draft: Draft) -> list[int | None]:
    """Sort draft.visits by time, merging those of one day; return the day of each (None when undated)."""
    draft.visits = _merged(draft)
    whens = [v.when for v in draft.visits]
    if len(whens) > 1 and any(w is None for w in whens) and any(w is not None for w in whens):
        _mixed(draft, sum(w is None for w in whens), "neither a date nor a number")
    elif len(whens) > 1 and all(w is None for w in whens):
        draft.problem(
            f"{len(whens)} folders hold images and none is named by a date or a number, so the order of "
            f"the visits is "
            f"unknown. Name them by date (2020-01-31) or number (visit-1), {MANIFEST_HINT}."
        )
    elif len(whens) > 1 and len({w.dated for w in whens if w}) == 2:
        _mixed(draft, sum(not w.dated for w in whens if w), "only a number")
    else:
        return _days(draft)
    draft.visits.sort(key=lambda v: natural(v.label))
    return [None] * len(draft.visits)


def _mixed(draft: Draft, count: int, what: str) -> None:
    draft.problem(
        f"{count} of {len(draft.visits)} visits {'has' if count == 1 else 'have'} {what} while the others "
        f"are dated or "
        f"numbered, so the order is unknown. Name all visit folders in one way, {MANIFEST_HINT}."
    )


def _days(draft: Draft) -> list[int | None]:
    if any(v.when and v.when.dated for v in draft.visits):
        return _dated(draft)
    _refuse_unordered(draft)
    draft.visits.sort(key=lambda v: v.when.order if v.when and v.when.order is not None else 0)
    if len(draft.visits) > 1:
        draft.warn(NO_DATES)
    return [None] * len(draft.visits)


def _refuse_unordered(draft: Draft) -> None:
    whens = [v.when for v in draft.visits if v.when]
    schemes = {w.scheme for w in whens} - {"baseline"}
    if len(schemes) > 1:
        draft.problem(
            f"The visits are numbered under different words ({', '.join(sorted(schemes))}), so their "
            f"order is unknown. "
            f"Number them under one word, {MANIFEST_HINT}."
        )
    elif len({w.order for w in whens}) < len(whens):
        draft.problem(f"Two visits have the same number. Give every visit its own, {MANIFEST_HINT}.")


def _dated(draft: Draft) -> list[int | None]:
    dates = [v.when.date for v in draft.visits if v.when]
    if any(d is None for d in dates) and any(d is not None for d in dates):
        draft.problem(
            f"Some visits have a date and some a day number. Give all of them dates or days, {MANIFEST_HINT}."
        )
        return [None] * len(draft.visits)
    draft.visits.sort(key=lambda v: (_ordinal(v), v.when.repeat if v.when else 0))
    absolute = [_ordinal(v) for v in draft.visits]
    if absolute[-1] - absolute[0] > LONGEST_LIFE_DAYS:
        draft.problem(
            f"The visits span {absolute[-1] - absolute[0]} days, which is longer than a life. Check the date or day of "
            f"every visit, {MANIFEST_HINT}."
        )
    days = _spread_repeats(draft, [day - absolute[0] for day in absolute])
    if any(b <= a for a, b in pairwise(days)):
        draft.problem(
            f"Two visits fall on the same day and hold the same kind of image. Tell them apart, {MANIFEST_HINT}."
        )
    return list(days)


def _ordinal(visit: Visit) -> int:
    assert visit.when is not None
    if visit.when.date is not None:
        return visit.when.date.toordinal()
    return visit.when.day or 0


def _spread_repeats(draft: Draft, days: list[int]) -> list[int]:
    spread: list[int] = []
    shared = []
    for index, (visit, day) in enumerate(zip(draft.visits, days, strict=True)):
        earlier = [i for i in range(index) if days[i] == day]
        numbered = visit.when is not None and visit.when.repeat > 0
        offset = len(earlier) if numbered and len(earlier) < DAYS_IN_A_WEEK else 0
        if offset:
            shared.append(index + 1)
            visit.notes.append("shares its week with the visit before; set one day after it")
        spread.append(day + offset)
    if shared:
        draft.warn(
            f"The last number of a visit's name gives the order within one week; {listed(shared)} "
            f"{'was' if len(shared) == 1 else 'were'} set one day after the visit before, because the "
            f"days between are not "
            "known. Do not trust a growth rate between them."
        )
    return spread


# ---- two folders, one visit ----


def _merged(draft: Draft) -> list[Visit]:
    merged: list[Visit] = []
    for visit in draft.visits:
        twin = next((v for v in merged if _same_time(v, visit)), None)
        if twin is None:
            merged.append(visit)
        elif _kinds(twin) & _kinds(visit):
            merged.append(visit)  # the same kind twice on one day: the order is refused later
        else:
            _take_in(draft, twin, visit)
    return merged


def _take_in(draft: Draft, twin: Visit, visit: Visit) -> None:
    if twin.images and visit.images:
        twin.notes.append("images of two folders of the same time, of different kinds, taken as one visit")
        draft.warn("Folders of the same time with different kinds of image are taken as one visit.")
    twin.images += visit.images
    twin.masks += visit.masks
    twin.notes += visit.notes


def _same_time(a: Visit, b: Visit) -> bool:
    if a.when is None or b.when is None:
        return False
    if a.when.dated and b.when.dated:
        return a.when == b.when
    return (a.when.order, a.when.scheme, a.when.dated) == (b.when.order, b.when.scheme, b.when.dated)


def _kinds(visit: Visit) -> set[str]:
    return {image.modality for image in visit.images}
