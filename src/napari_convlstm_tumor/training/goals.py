"""What the shipped weights must reach and aim at (the project's issue on the network), as rows of evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_convlstm_tumor.training.methods import (
    CLEARED,
    MEAN_SPEED,
    NETWORK,
    PERSISTENCE,
    POINTWISE,
    UNFOLLOWED,
    ZERO_SPEED,
)
from napari_convlstm_tumor.training.testsets import (
    BOX,
    CLICK,
    CLICK_BOTH,
    CLICK_EVERY,
    CLICK_FIRST,
    CORE,
    GLIOMA,
    MASK_FIRST,
    NO_PROMPT,
    WHOLE_TUMOR,
)

Row = Mapping[str, Any]
MEMORY_SHOWN, MEMORY = (f"network minus {CLEARED}",), (f"network minus {CLEARED}{UNFOLLOWED}",)
LATER, PAIR = "Dice at visits 2-4", "Dice at visit 2"


@dataclass(frozen=True)
class Goal:
    """One figure. set: how the name of the set ends. methods: where there are several, the worst row counts."""

    name: str
    set: str
    prompt: str
    must: float
    aim: float
    measure: str = "Dice"
    methods: tuple[str, ...] = (NETWORK,)
    lower_is_better: bool = False


GOALS = (
    Goal("sarcoma CT, Dice", "sarcoma ct", CLICK, 0.60, 0.78),
    Goal("sarcoma CT, Dice", "sarcoma ct", BOX, 0.80, 0.86),
    Goal("sarcoma MR, Dice", "sarcoma t1", CLICK, 0.68, 0.82),
    Goal("sarcoma MR, Dice", "sarcoma t1", BOX, 0.80, 0.87),
    Goal("glioblastoma, visit 2, Dice", "glioblastoma", CLICK_FIRST, 0.40, 0.55, PAIR),
    Goal("glioblastoma, visit 2, Dice", "glioblastoma", MASK_FIRST, 0.52, 0.65, PAIR),
    Goal("glioblastoma, visit 2, Dice", "glioblastoma", CLICK_BOTH, 0.50, 0.70, PAIR),
    Goal("FLAIR whole tumor, Dice", f"flair, {WHOLE_TUMOR}", NO_PROMPT, 0.60, 0.80),
    Goal("FLAIR whole tumor, Dice", f"flair, {WHOLE_TUMOR}", CLICK, 0.70, 0.87),
    Goal("FLAIR, glioma's whole tumor, Dice", f"flair, {GLIOMA}{WHOLE_TUMOR}", NO_PROMPT, 0.60, 0.80),
    Goal("FLAIR, glioma's whole tumor, Dice", f"flair, {GLIOMA}{WHOLE_TUMOR}", CLICK, 0.70, 0.87),
    Goal("T1c core, Dice", f"t1c, {CORE}", NO_PROMPT, 0.30, 0.60),
    Goal("T1c core, Dice", f"t1c, {CORE}", CLICK, 0.55, 0.78),
    Goal("T1c, glioma's core, Dice", f"t1c, {GLIOMA}{CORE}", NO_PROMPT, 0.30, 0.60),
    Goal("T1c, glioma's core, Dice", f"t1c, {GLIOMA}{CORE}", CLICK, 0.55, 0.78),
    Goal("simulated brain, visits 2-4, Dice", "simulated brain", NO_PROMPT, 0.60, 0.82, LATER),
    Goal("simulated brain, visits 2-4, Dice", "simulated brain", CLICK_FIRST, 0.70, 0.86, LATER),
    Goal("memory: full minus reset, nothing followed", "simulated brain", CLICK_FIRST, 0.15, 0.25, LATER, MEMORY),
    Goal("memory: full minus reset, nothing followed", "simulated brain", CLICK_EVERY, 0.01, 0.04, LATER, MEMORY),
    Goal("memory: full minus reset, as shown", "simulated brain", CLICK_FIRST, 0.15, 0.25, LATER, MEMORY_SHOWN),
    Goal("memory: full minus reset, as shown", "simulated brain", CLICK_EVERY, 0.01, 0.04, LATER, MEMORY_SHOWN),
    Goal("memory on warped real tumors, nothing followed", "warped sarcoma", CLICK_FIRST, 0.15, 0.25, LATER, MEMORY),
    Goal("memory on warped real tumors, nothing followed", "warped sarcoma", CLICK_EVERY, 0.01, 0.04, LATER, MEMORY),
    Goal("memory on warped real tumors, as shown", "warped sarcoma", CLICK_FIRST, 0.15, 0.25, LATER, MEMORY_SHOWN),
    Goal("memory on warped real tumors, as shown", "warped sarcoma", CLICK_EVERY, 0.01, 0.04, LATER, MEMORY_SHOWN),
    Goal(
        "forecast Dice, minus the best of persistence and linear",
        "simulated brain",
        "true masks",
        0.0,
        0.04,
        "forecast Dice",
        tuple(f"network minus {name}" for name in (PERSISTENCE, MEAN_SPEED, POINTWISE)),
    ),
    Goal(
        "front-speed error, share below that of zero speed",
        "simulated brain",
        "true masks",
        0.15,
        0.30,
        "front-speed error, share lower",
        (f"network against {ZERO_SPEED}",),
    ),
    Goal(
        "volume change, median abs. error of ln(V2/V1)",
        "simulated brain",
        CLICK_FIRST,
        0.25,
        0.12,
        "abs. error of ln(V2/V1) at visits 2-4",
        lower_is_better=True,
    ),
    Goal(
        "volume change of warped real tumors, median abs. error of ln(V2/V1)",
        "warped sarcoma",
        CLICK_FIRST,
        0.25,
        0.12,
        "abs. error of ln(V2/V1) at visits 2-4",
        lower_is_better=True,
    ),
)


def to_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table of all goals: what was measured, its interval, n, and whether it is reached."""
    lines = ["| what | prompt | measured (95 % interval) | n | must | aim | reached |", "|---" * 7 + "|"]
    return "\n".join(lines + [_line(goal, measured(goal, rows)) for goal in GOALS])


def measured(goal: Goal, rows: Sequence[Row]) -> Row | None:
    """The row that decides about a goal; None when one it needs is not among the rows."""
    found = [
        row
        for row in rows
        if row["set"].endswith(goal.set)
        and (row["prompt"], row["measure"]) == (goal.prompt, goal.measure)
        and row["method"] in goal.methods
    ]
    return min(found, key=lambda row: row["mean"]) if len(found) == len(goal.methods) else None


def reached(goal: Goal, row: Row | None) -> str:
    """'aim', 'must', 'no' or 'not measured'; more than half of the tumors missed (mean None) is 'no'."""
    if row is None:
        return "not measured"
    if row["mean"] is None:
        return "no"
    sign = -1 if goal.lower_is_better else 1
    above = [name for name in ("aim", "must") if sign * row["mean"] >= sign * getattr(goal, name)]
    return above[0] if above else "no"


def _line(goal: Goal, row: Row | None) -> str:
    if row is None:
        value, n = "-", "-"
    elif row["mean"] is None:
        value, n = "missed", str(row["n"])
    else:
        ends = ["missed" if row[end] is None else f"{row[end]:.3f}" for end in ("low", "high")]
        value, n = f"{row['mean']:.3f} ({ends[0]} to {ends[1]})", str(row["n"])
    cells = [goal.name, goal.prompt, value, n, f"{goal.must:.2f}", f"{goal.aim:.2f}", reached(goal, row)]
    return "| " + " | ".join(cells) + " |"
