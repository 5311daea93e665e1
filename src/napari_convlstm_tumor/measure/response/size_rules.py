"""From the sizes of the targets to CR, PR, MR, SD or PD, with the numbers in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_convlstm_tumor.measure.response.case import Case, Part
from napari_convlstm_tumor.measure.response.criteria import CR, MR, PD, PR, SD, Criterion
from napari_convlstm_tumor.measure.response.sizes import Size, change_interval, lesion_rises
from napari_convlstm_tumor.measure.response.words import NAMES, WITHIN_ERROR, amounts, beside, percent, reaches


@dataclass(frozen=True)
class Verdict:
    """A category for the targets, and why."""

    category: str
    words: str


def judge_sizes(case: Case, i: int) -> Verdict:
    """All parts of visit i, combined."""
    verdicts = [_judge_part(case, part, i) for part in case.parts]
    if len(verdicts) == 1:
        return verdicts[0]
    words = [f"{p.name} {v.category} ({v.words})" for p, v in zip(case.parts, verdicts, strict=True)]
    return Verdict(combine([v.category for v in verdicts]), "; ".join(words))


def combine(categories: Sequence[str]) -> str:
    """RANO 2.0, mixed tumors: PD with anything is PD; PR or MR with SD is PR or MR; CR with SD, MR or PR is the latter.

    The table's footnote, read where cai4cai/rano2.0-assist quotes it. Argued: PR with MR is PR, as it is even with SD.
    """
    if PD in categories:
        return PD
    left = set(categories) - {CR}
    return next((c for c in (PR, MR, SD) if c in left), CR)


def relative(now: float, before: float) -> float | None:
    """Change as a fraction of before; None from nothing to something, 0 from nothing to nothing."""
    if before == 0:
        return 0.0 if now == 0 else None
    return now / before - 1


def _judge_part(case: Case, part: Part, i: int) -> Verdict:
    nadir = case.nadir(part, i)
    base, low, now = part.sizes[case.base], part.sizes[nadir], part.sizes[i]
    fall = -(relative(now.total, base.total) or 0.0)
    against_nadir = _against(case, part, nadir, i, case.nadir_name(i), [case.rule.progression])
    response = [-case.rule.partial, *([-part.minor] if part.minor else [])]
    against_base = _against(case, part, case.base, i, "baseline", response)
    if now.gone:
        return Verdict(CR, f"no target left on {case.when(i)}; {against_base}")
    if has_progressed(case.rule, now, low):
        return Verdict(PD, against_nadir)
    if reaches(fall, case.rule.partial):
        return Verdict(PR, against_base)
    if part.minor is not None and reaches(fall, part.minor):
        return Verdict(MR, against_base)
    if nadir == case.base:
        return Verdict(SD, _against(case, part, nadir, i, "baseline", [*response, case.rule.progression]))
    return Verdict(SD, f"{against_base}, {against_nadir}")


def has_progressed(rule: Criterion, now: Size, nadir: Size) -> bool:
    """Rise against the nadir of at least the threshold, and of the millimetres where the criterion asks for them."""
    rise = relative(now.total, nadir.total)
    if rise is not None and not reaches(rise, rule.progression):
        return False
    return reaches(_rise_mm(rule, now, nadir), rule.least_rise_mm)


def _rise_mm(rule: Criterion, now: Size, nadir: Size) -> float:
    if rule.rise_of == "sum":
        return now.total - nadir.total
    return max(lesion_rises(now, nadir, rule), default=0.0)


def _against(case: Case, part: Part, reference: int, i: int, name: str, thresholds: list[float]) -> str:
    """ "volume +46 % against the nadir of day 41 (12.1 -> 17.7 mL)", and what else decides about it.

    thresholds: the changes that would make a difference, falls negative.
    """
    rule, before, now = case.rule, part.sizes[reference], part.sizes[i]
    change = relative(now.total, before.total)
    shown = "from none" if change is None else percent(change, thresholds)
    words = f"{NAMES[rule.quantity]} {shown} against the {name} of {case.when(reference)}"
    words += f" ({amounts(before.total, now.total, rule.quantity)})"
    if rule.progression in thresholds:
        words += _millimetres(rule, now, before, change)
    return words + _error_words(now, before, thresholds)


def _millimetres(rule: Criterion, now: Size, nadir: Size, change: float | None) -> str:
    """The absolute part of the rule, said where the relative part is met."""
    if rule.least_rise_mm == 0 or not reaches(math.inf if change is None else change, rule.progression):
        return ""
    rise, least = _rise_mm(rule, now, nadir), rule.least_rise_mm
    whose = "" if rule.rise_of == "sum" else " of one lesion"
    met = "at least" if reaches(rise, least) else "less than"
    return f", {beside(rise, [least], decimals=1)} mm{whose}: {met} {least:g} mm"


def _error_words(now: Size, before: Size, thresholds: list[float]) -> str:
    interval = change_interval(now, before)
    if interval is None:
        return ""
    held = [t for t in thresholds if interval[0] <= t <= interval[1]]
    if not held:
        return ""
    low, high = (percent(x) if math.isfinite(x) else "unbounded" for x in interval)
    return f", {WITHIN_ERROR} (95 % interval {low} to {high} holds {percent(held[0])})"
