"""Which of the images and masks of a visit are used. Every choice is a stated rule and leaves a trace.

- ``--modality`` keeps only those kinds; an image of unknown kind counts as the one given when exactly one is
  given.
- Without it, images of unknown kind are used only when no image of the patient has a known kind.
- DICOM images in another frame of reference than the visit's main one are not known to be aligned: left out.
- Two images of one kind: the one least deep in folders, then with most slices, then first by name, with a
  warning.
- Several masks: the one named after the first modality used, then one named after none, then after another.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from napari_convlstm_tumor.io.discover_draft import Candidate, Draft, Visit
from napari_convlstm_tumor.series import MODALITIES


class Chooser:
    """Chooses for one patient. Warnings that several visits share are kept together in ``told``: text ->
    visits."""

    def __init__(self, draft: Draft, modality: tuple[str, ...]) -> None:
        self.draft = draft
        self.wanted = modality
        self.order = modality or MODALITIES
        self.told: dict[str, list[int]] = defaultdict(list)
        self._only_unknown = all(i.modality in ("", "other") for v in draft.visits for i in v.images)
        self._number = 0

    def images(self, visit: Visit, number: int) -> dict[str, Candidate]:
        """modality -> the image used, in the order of preference."""
        self._number = number
        kinds: dict[str, list[Candidate]] = defaultdict(list)
        named = {i.modality for i in visit.images}
        for image in visit.images:
            modality, reason = self._counts_as(image, named)
            if not modality:
                self.draft.leave_out(image.name, reason)
                continue
            kinds[modality].append(image)
            if not image.modality:
                self._tell(f"The name of an image does not say its kind; it was taken as '{modality}' (see --modality)")
        kinds = self._one_frame(visit, kinds)
        chosen = {m: self._one_of(visit, m, kinds[m]) for m in self.order if kinds.get(m)}
        self._warn_ct_with_mr(chosen)
        return chosen

    def usable(self, visit: Visit) -> bool:
        """True when at least one image of the visit would be used."""
        named = {i.modality for i in visit.images}
        return any(self._counts_as(image, named)[0] for image in visit.images)

    def _counts_as(self, image: Candidate, named: set[str]) -> tuple[str, str]:
        """(modality, "") the image is used as, or ("", reason)."""
        if image.modality in self.wanted:
            return image.modality, ""
        if self.wanted:
            unknown = image.modality == ""
            if unknown and "other" in self.wanted:
                return "other", ""
            if unknown and len(self.wanted) == 1 and self.wanted[0] not in named:
                return self.wanted[0], ""
            what = "an image of unknown kind" if unknown else image.modality
            return "", f"{what}; --modality asks for {', '.join(self.wanted)}"
        if image.modality not in ("", "other"):
            return image.modality, ""
        if image.modality == "" and self._only_unknown:
            return "other", ""
        if image.modality == "other":
            return "", "not one of t1, t1c, t2, flair, ct; --modality other would use it"
        return "", "its name does not say which kind of image it is; --modality can say it"

    def _one_frame(self, visit: Visit, kinds: dict[str, list[Candidate]]) -> dict[str, list[Candidate]]:
        frames = {i.frame for images in kinds.values() for i in images if i.frame}
        if len(frames) < 2:
            return kinds
        main = self._main_frame(kinds, frames)
        kept: dict[str, list[Candidate]] = defaultdict(list)
        for modality, images in kinds.items():
            for image in images:
                if image.frame in ("", main):
                    kept[modality].append(image)
                else:
                    self.draft.leave_out(
                        image.name, f"{modality} in another frame of reference than the visit's main images"
                    )
        lost = [m for m in kinds if not kept.get(m)]
        self._tell(
            f"Images in different DICOM frames of reference cannot be assumed aligned; used: "
            f"{', '.join(kept)}"
            + (f", left out: {', '.join(lost)} (choose with --modality)" if lost else " (choose with --modality)")
        )
        return kept

    def _main_frame(self, kinds: dict[str, list[Candidate]], frames: set[str]) -> str:
        """The frame with the modality asked for first; else with most kinds, then with the first kind."""
        kinds_in = {f: [m for m in self.order if any(i.frame == f for i in kinds.get(m, ()))] for f in sorted(frames)}
        if self.wanted:
            return min(kinds_in, key=lambda f: self.order.index(kinds_in[f][0]))
        return min(kinds_in, key=lambda f: (-len(kinds_in[f]), self.order.index(kinds_in[f][0])))

    def _one_of(self, visit: Visit, modality: str, images: list[Candidate]) -> Candidate:
        ranked = sorted(images, key=lambda i: (i.depth, -i.slices, _by_name(i)))
        best, rest = ranked[0], ranked[1:]
        rivals = [i for i in rest if i.depth == best.depth]
        if any(i.folder != best.folder for i in rivals) and not best.series:
            self.draft.problem(
                f"Visit {self._number} has {modality} images in several folders side by side, which may "
                f"be different visits "
                "or patients. Keep one of them, or list the images in a CSV manifest."
            )
        for image in rest:
            deeper = image.depth > best.depth
            self.draft.leave_out(
                image.name, f"a second {modality} of the visit" + (", deeper in folders" if deeper else "")
            )
        if rivals:
            rule = "the one with most slices" if best.slices > max(i.slices for i in rivals) else "the first by name"
            self._tell(f"There are several {modality} images; {rule} is used")
            visit.notes.append(f"{modality}: {self.draft.shown(best.name)} chosen of {len(rivals) + 1}, {rule}")
        return best

    def _warn_ct_with_mr(self, chosen: dict[str, Candidate]) -> None:
        if "ct" in chosen and len(chosen) > 1 and not chosen["ct"].frame:
            self._tell(
                "CT and MR lie in one visit and are taken to share one scanner space; if they do not, use --modality"
            )

    # ---- masks ----

    def mask(self, visit: Visit, chosen: dict[str, Candidate], number: int) -> Path | None:
        """The label file used, or None."""
        self._number = number
        usable = [m for m in visit.masks if self._fits(m, chosen)]
        if not usable:
            return None
        used = list(chosen)
        ranked = sorted(usable, key=lambda m: (_mask_rank(m, used), m.depth, _by_name(m)))
        best, rest = ranked[0], ranked[1:]
        if best.modality and best.modality not in used and used:
            self._tell(
                f"The mask was drawn on {best.modality}, which is not used; it is laid on {used[0]} by scanner space"
            )
        for mask in rest:
            self.draft.leave_out(mask.name, "another mask of the visit")
        if any(_mask_rank(m, used) == _mask_rank(best, used) for m in rest):
            self._tell("There are several masks; the first by name is used (name one in a CSV manifest to choose)")
            visit.notes.append(f"mask: {self.draft.shown(best.name)} chosen of {len(usable)}")
        return best.paths[0]

    def _fits(self, mask: Candidate, chosen: dict[str, Candidate]) -> bool:
        frames = {i.frame for i in chosen.values() if i.frame}
        if not mask.frame or not frames or mask.frame in frames:
            return True
        self.draft.leave_out(mask.name, "a mask in another frame of reference than the images used")
        return False

    def _tell(self, text: str) -> None:
        if self._number not in self.told[text]:
            self.told[text].append(self._number)


def _mask_rank(mask: Candidate, used: list[str]) -> int:
    if mask.modality in used:
        position = used.index(mask.modality)
        return 0 if position == 0 else 1 + position
    return 1 if not mask.modality else 1 + len(MODALITIES)


def _by_name(candidate: Candidate) -> tuple[str, ...]:
    return (candidate.name.split(".")[0].lower(), candidate.name)
