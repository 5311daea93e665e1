"""A draft becomes PatientFiles: visits in order, images and masks chosen, everything said that a person
should know."""

from __future__ import annotations

from napari_convlstm_tumor.io.discover_choose import Chooser
from napari_convlstm_tumor.io.discover_draft import Candidate, Draft, Visit, listed
from napari_convlstm_tumor.io.discover_order import put_in_order
from napari_convlstm_tumor.series import MODALITIES, ONE_VISIT, PatientFiles, VisitFiles
from napari_convlstm_tumor.settings import Settings


def finish(draft: Draft, settings: Settings) -> PatientFiles:
    """Apply every rule to a draft and freeze it."""
    chooser = Chooser(draft, settings.modality)
    _drop_unusable(draft, chooser)
    days = put_in_order(draft)
    chosen = [chooser.images(visit, number) for number, visit in enumerate(draft.visits, start=1)]
    visits = tuple(
        VisitFiles(
            label=visit.label or f"visit-{number}",
            images={m: images[m].paths for m in MODALITIES if m in images},
            mask=chooser.mask(visit, images, number),
            date=visit.when.date if visit.when else None,
            day=day,
            notes=tuple(visit.notes),
        )
        for number, (visit, images, day) in enumerate(zip(draft.visits, chosen, days, strict=True), start=1)
    )
    for text, numbers in chooser.told.items():
        draft.warn(f"{text} ({listed(numbers)}).")
    _say_what_is_missing(draft, chosen)
    return PatientFiles(
        patient=draft.patient,
        visits=visits,
        layout=draft.layout,
        warnings=tuple(draft.warnings),
        problems=tuple(draft.problems),
        left_out=tuple(draft.left_out),
    )


def _drop_unusable(draft: Draft, chooser: Chooser) -> None:
    """Visits without an image that may be used are not visits of the series. A mask alone may still join
    another folder."""
    times = {v.when for v in draft.visits if chooser.usable(v)}
    kept: list[Visit] = []
    for visit in draft.visits:
        if chooser.usable(visit) or (visit.when is not None and visit.when in times):
            kept.append(visit)
            continue
        for candidate in visit.images + visit.masks:
            draft.leave_out(candidate.name, "its visit has no image that is used")
    dropped = len(draft.visits) - len(kept)
    if dropped and kept:
        what = ", ".join(chooser.wanted) or "t1, t1c, t2, flair or ct"
        draft.warn(
            f"{dropped} of {len(draft.visits)} visits found {'has' if dropped == 1 else 'have'} no {what} "
            f"image; left out."
        )
    if not kept:
        found = sorted({i.modality or "unknown kind" for v in draft.visits for i in v.images})
        draft.problem(
            "No image can be used"
            + (f" with --modality {','.join(chooser.wanted)}" if chooser.wanted else "")
            + ". "
            + (f"Found: {', '.join(found)}." if found else "Everything found was left out; see the reasons.")
        )
    draft.visits = kept


def _say_what_is_missing(draft: Draft, chosen: list[dict[str, Candidate]]) -> None:
    if len(chosen) == 1:
        draft.warn(ONE_VISIT)
    every = [m for m in MODALITIES if any(m in images for images in chosen)]
    for modality in every:
        lacking = [number for number, images in enumerate(chosen, start=1) if modality not in images]
        if lacking:
            draft.warn(f"No {modality} at {listed(lacking)}.")
    if len(chosen) > 1 and every and not any(all(m in images for images in chosen) for m in every):
        draft.warn("No kind of image is there at every visit, so growth compares different kinds of image.")
