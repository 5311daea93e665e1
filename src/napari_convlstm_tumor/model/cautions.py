"""What the network refuses, and what a person must know about its answer: sentences, no pixels are changed here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.model.drawing import closed, is_prompted
from napari_convlstm_tumor.model.follow import SMALLEST_OUTLINED_MM3
from napari_convlstm_tumor.series import FED, AlignedSeries, Prompt

# A given mask that grows by more than this when its holes are filled is another kind of outline than the network's.
HOLES = 1.1
# Kinds of image on which oedema is brighter than the tumor's core.
SHOW_OEDEMA = ("t2", "flair")


@dataclass(frozen=True)
class Doubts:
    """0-based visits of one answer.

    lost: something was outlined, but nothing that continues the lesion. joined: something was left out that lies in
    part where the lesion is at another visit; taken_in: the same for the most part, and it was not left out.
    specks: only specks were outlined. scattered: the outline falls into many pieces.
    """

    lost: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    taken_in: tuple[int, ...] = ()
    specks: tuple[int, ...] = ()
    scattered: tuple[int, ...] = ()


def refuse_blind_run(model: Model, aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> None:
    """Without any prompt the network works only on the kinds of image its card names, at every visit."""
    if is_prompted(aligned, prompts):
        return
    automatic = model.card.get("automatic", [])
    for visit, present in enumerate(aligned.present):
        kinds = [m for m, there in zip(aligned.modalities, present, strict=True) if there]
        if not any(m in automatic for m in kinds):
            raise InputError(
                f"The network {model.name} cannot find a tumor by itself on {', '.join(kinds)} (visit {visit + 1}; "
                f"it can on {', '.join(automatic) or 'nothing'}). Click the tumor in the viewer, or give --prompts "
                "with a point or a box, or a mask at one visit."
            )


def follows_in_part(model: Model, aligned: AlignedSeries) -> bool:
    """Whether there is another visit to outline, and none of the kinds of image on which the network follows change."""
    open_visit = any(mask is None for mask in aligned.masks)
    return open_visit and len(aligned.masks) > 1 and not finds_by_itself(model, aligned)


def finds_by_itself(model: Model, aligned: AlignedSeries) -> bool:
    """Whether there is a kind of image on which the network finds a tumor by itself."""
    return not set(aligned.modalities).isdisjoint(model.card.get("automatic", []))


def outlined_on(model: Model, aligned: AlignedSeries) -> tuple[str, ...]:
    """The kinds of image to outline on: where every visit has T1c those that show the core, by the model's card.

    On T2 and FLAIR oedema is brighter than the core, and it was taken in: on ten real gliomas with all four images,
    clicked, Dice of the core was 0.59 on all and is 0.70 on T1 and T1c (growthnet-7, docs/accuracy.md).
    """
    kinds, core_on = aligned.modalities, model.card.get("core_on", [])
    if "t1c" in core_on and "t1c" in kinds and bool(aligned.present[:, kinds.index("t1c")].all()):
        return tuple(m for m in kinds if m in core_on)
    return kinds


def _core_or_oedema(used: tuple[str, ...], beside: list[str]) -> str:
    """What is outlined where T2 or FLAIR lie beside T1c."""
    others = " and ".join(beside)
    if set(used).isdisjoint(beside):
        return (
            f"The core was outlined, on {' and '.join(used)}; {others} only helped to find the tumor. For all that is "
            f"abnormal there run with --modality {beside[-1]}."
        )
    return (
        f"{others} were used beside t1c, and the outline may take in oedema. For the core alone give visits that all "
        "have t1c, and run with --modality t1,t1c."
    )


def _only_clicked(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> list[int]:
    """Visits, 1-based, shown by points or lines alone."""
    outlined = {p.visit for p in prompts if p.type in ("box", "mask")}
    return sorted({p.visit for p in prompts if aligned.masks[p.visit - 1] is None} - outlined)


def cautions(model: Model, aligned: AlignedSeries, prompts: tuple[Prompt, ...], doubts: Doubts) -> tuple[str, ...]:
    """What a person must know about this answer."""
    found = [
        "Volumes and growth come from the network's outlines, which are often wrong by a third and more "
        "(docs/accuracy.md): look at the outlines before using the numbers."
    ]
    if model.card.get("fed") != FED:
        found.append(
            f"The network {model.name} was trained on images normalised in another way than this version does: its "
            "outlines are worse than it can do. Train it on with this version (docs/training.md)."
        )
    if not is_prompted(aligned, prompts):
        found.append(
            "Outlined without a prompt: this automatic mode is not reliable yet. Click the tumor and run again, "
            "or check every outline by eye."
        )
    if follows_in_part(model, aligned):
        found.append(
            f"On {', '.join(aligned.modalities)} the network follows growth, and still less shrinkage, only in part "
            "(docs/accuracy.md, warped sarcomas). Click the tumor at every visit and correct the outlines before "
            "reading a change."
        )
    if not finds_by_itself(model, aligned) and (clicked := _only_clicked(aligned, prompts)):
        found.append(
            f"On {', '.join(aligned.modalities)} a click often takes in muscle around a tumor, or only a part of it: "
            "on 52 images of sarcomas, CT or T1, a clicked volume was wrong by a factor of 1.5 or more 18 times, one "
            f"from a box 5 times (docs/accuracy.md). Draw a box where the outline does not fit ({_visits(clicked)})."
        )
    if "t1c" in aligned.modalities and (beside := [m for m in SHOW_OEDEMA if m in aligned.modalities]):
        found.append(_core_or_oedema(outlined_on(model, aligned), beside))
    for visit in sorted({p.visit for p in prompts if aligned.masks[p.visit - 1] is not None}):
        found.append(f"The prompts at visit {visit} changed nothing there: it has a mask, which stands as it is.")
    for visit, mask in enumerate(aligned.masks):
        whole = 0 if mask is None else np.count_nonzero(closed(mask, aligned.grid.spacing_mm))
        if mask is not None and whole > HOLES * np.count_nonzero(mask):
            found.append(
                f"The mask given at visit {visit + 1} leaves out what its rim encloses; the network's outlines take it "
                "in. Do not compare their volumes: fill the holes of the mask, or give masks at every visit."
            )
    for visit in doubts.taken_in if is_prompted(aligned, prompts) else ():
        found.append(
            f"At visit {visit + 1} something that nobody pointed at is counted too: the network outlined it, and the "
            "lesion reaches there at another visit. If it is no tumor, erase it: else the growth is understated."
        )
    for visit in doubts.joined if is_prompted(aligned, prompts) else ():
        found.append(
            f"At visit {visit + 1} the network also outlined something that nobody pointed at, where the lesion "
            "reaches at another visit. If it is tumor, click it too: else the growth is overstated."
        )
    for visit in doubts.lost:
        found.append(
            f"At visit {visit + 1} the network outlined something, but nothing that continues the lesion pointed at: "
            "it was left out. Click the tumor at that visit if it is still there."
        )
    for visit in doubts.scattered:
        found.append(
            f"At visit {visit + 1} the outline falls into many pieces: it may have left the tumor for tissue that "
            "looks like it, and its volume may be far too large. Look, and click the tumor there or erase what is none."
        )
    for visit in doubts.specks:
        if aligned.masks[visit] is None:
            found.append(
                f"At visit {visit + 1} the network outlined only specks below {SMALLEST_OUTLINED_MM3:.0f} mm3, which "
                "are left out: look whether the tumor is gone, and click it if it is not."
            )
    return tuple(found)


def _visits(numbers: list[int]) -> str:
    return f"visit{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
