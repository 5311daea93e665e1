"""A person's corrections of one analysis, one after the other: with undo and redo, and a log of each."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.edit.case import Mask, with_pixels
from napari_convlstm_tumor.edit.near import Box, reach
from napari_convlstm_tumor.edit.recompute import Numbers
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.model.segmenters import segmenter_of
from napari_convlstm_tumor.pipeline import Segmenter
from napari_convlstm_tumor.series import FloatVolume, Prompt
from napari_convlstm_tumor.steps.carrying import outline

_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Entry:
    """One line of the audit log: what was done, at which visit (1-based, None = none), how many voxels it changed.

    seconds: since the session began. No date and no name: a log may be passed on with the session.
    """

    what: str
    visit: int | None
    seconds: float
    added: int = 0
    removed: int = 0


@dataclass(frozen=True, eq=False)
class _State:
    """What an edit can change besides probabilities."""

    corrected: frozenset[int]
    links: tuple[Link, ...]
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, eq=False)
class _Change:
    """One edit, both ways. parts: 0-based visit -> box, probability in it before and after."""

    what: str
    parts: Mapping[int, tuple[Box, FloatVolume, FloatVolume]]
    before: _State
    after: _State


class Editor:
    """Corrections of one analysis. Not for two threads at once.

    analysis: the latest, its arrays are changed in place by the next edit (see ``Numbers``). log: every edit, undone
    ones too. corrected: 0-based visits painted by hand.
    """

    def __init__(self, analysis: Analysis, corrected: Sequence[int] = (), log: Sequence[Entry] = ()) -> None:
        self.numbers = Numbers(analysis, corrected)
        self.log: list[Entry] = list(log)
        self._started = time.monotonic() - (self.log[-1].seconds if self.log else 0.0)
        self._done: list[_Change] = []
        self._undone: list[_Change] = []

    @property
    def analysis(self) -> Analysis:
        """The analysis with all corrections in force."""
        return self.numbers.analysis

    @property
    def corrected(self) -> frozenset[int]:
        """0-based visits whose mask was painted by hand."""
        return self.numbers.corrected

    @property
    def links(self) -> tuple[Link, ...]:
        """Corrections of which lesion is which."""
        return self.numbers.links

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to do again."""
        return bool(self._undone)

    def prepare(self) -> Analysis:
        """Measure what the first edit will need; what is known already, the forecast too, stays."""
        return self.numbers.prepare()

    def paint(self, visit: int, mask: Mask, what: str = "painted") -> Analysis:
        """The mask (I, J, K) of a 0-based visit as a person left it. The same mask again is no edit."""
        if np.array_equal(np.asarray(mask) != 0, self.analysis.masks[visit] != 0):
            return self.analysis
        state = replace(self._state(), corrected=self.corrected | {visit})
        return self._do(what, {visit: (np.asarray(mask) != 0).astype(np.float32)}, state)

    def relink(self, link: Link) -> Analysis:
        """Say that the tumor at a point is, or is not, a lesion. InputError when that cannot be."""
        said = f"linked to lesion {link.lesion}" if link.same else f"parted from lesion {link.lesion}"
        # a new word on the same place takes the place of the old one
        kept = tuple(k for k in self.links if not (k.visit == link.visit and k.ras_mm == link.ras_mm))
        return self._do(said, {}, replace(self._state(), links=(*kept, link)), link.visit)

    def prompted(
        self, prompts: tuple[Prompt, ...], segmenter: Segmenter | None = None
    ) -> Generator[float, None, Analysis]:
        """Segment the lesion that prompts point at, at every visit not corrected by hand; yields the fraction done.

        prompts: in each visit's own scanner space. Painted and given masks stand and lead the network; lesions that
        it was not asked about stay as they are. Raises InputError when no visit is left to segment.
        """
        free = [t for t, mask in enumerate(self._masks()) if mask is None]
        if not free:
            raise InputError("Every visit has a mask that was given or painted; there is none left to segment.")
        aligned = replace(with_pixels(self.analysis, self.numbers.case.aligned), masks=self._masks())
        common = tuple(pipeline.to_common_space(p, aligned) for p in prompts)
        run = segmenter or segmenter_of(self.analysis.settings.model)
        answer = yield from outline(run, aligned, common, self.analysis.settings)
        old = self.analysis.prediction.probability
        found = {t: _renewed(old[t], answer.probability[t]) for t in free}
        state = replace(self._state(), prompts=(*self.analysis.prompts, *prompts))
        return self._do(_prompt_words(prompts), found, state, prompts[0].visit)

    def undo(self) -> Analysis:
        """Take the last edit back; nothing when there is none."""
        return self._go(self._done, self._undone, back=True)

    def redo(self) -> Analysis:
        """Do again what was taken back last; nothing when there is none."""
        return self._go(self._undone, self._done, back=False)

    def ahead(self) -> Analysis:
        """The latest analysis with its forecast."""
        return self.numbers.ahead()

    def log_rows(self) -> list[dict[str, Any]]:
        """The log as rows, for files and tables."""
        return [asdict(entry) for entry in self.log]

    def note(self, what: str, visit: int | None = None) -> None:
        """Something worth a line in the log that changed no voxel (saved, recovered)."""
        self.log.append(Entry(what, visit, self._seconds()))

    # ---- one edit ----

    def _do(
        self, what: str, probabilities: Mapping[int, FloatVolume], state: _State, visit: int | None = None
    ) -> Analysis:
        parts = {t: _part(self.analysis.prediction.probability[t], new) for t, new in probabilities.items()}
        change = _Change(what, parts, self._state(), state)
        analysis = self._apply(change, back=False)
        self._done.append(change)
        self._undone.clear()
        if visit is not None and visit - 1 not in parts:
            self.note(what, visit)
        return analysis

    def _go(self, source: list[_Change], target: list[_Change], back: bool) -> Analysis:
        if not source:
            return self.analysis
        analysis = self._apply(source[-1], back, "undone: " if back else "redone: ")
        target.append(source.pop())
        return analysis

    def _apply(self, change: _Change, back: bool, prefix: str = "") -> Analysis:
        """Put the probabilities and the state before or after a change in force, and log what it did to voxels."""
        chance = self.analysis.prediction.probability
        new, lines = {}, []
        for t, (box, before, after) in change.parts.items():
            new[t] = chance[t].copy()
            new[t][box] = before if back else after
            old_mask, new_mask = chance[t] >= 0.5, new[t] >= 0.5
            added, removed = np.count_nonzero(new_mask & ~old_mask), np.count_nonzero(old_mask & ~new_mask)
            lines.append(Entry(prefix + change.what, t + 1, self._seconds(), int(added), int(removed)))
        state = change.before if back else change.after
        links = self.links
        self.numbers.replace(new, state.corrected, state.links)
        self.numbers.analysis = replace(self.numbers.analysis, prompts=state.prompts)
        self.log += lines or [Entry(prefix + change.what, None, self._seconds())][: 1 if prefix else 0]
        if not back and len(self.links) < len(state.links) and links:
            self.note("dropped a link: no tumor is left where it points")
        return self.analysis

    def _state(self) -> _State:
        return _State(self.corrected, self.links, self.analysis.prompts)

    def _masks(self) -> tuple[Mask | None, ...]:
        """Per visit the mask that was painted or given, else None."""
        given = self.numbers.case.aligned.masks
        return tuple(self.analysis.masks[t] if t in self.corrected else mask for t, mask in enumerate(given))

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 1)


def _part(before: FloatVolume, after: FloatVolume) -> tuple[Box, FloatVolume, FloatVolume]:
    """The box in which two probabilities (I, J, K) differ, and each in it."""
    box = reach((before != after).astype(np.uint8)) or (slice(0, 0),) * 3
    return box, before[box].copy(), after[box].copy()


def _renewed(old: FloatVolume, new: FloatVolume) -> FloatVolume:
    """The answer to a prompt, beside the lesions it does not touch: those stay, the touched ones are replaced."""
    labels, _ = ndimage.label(old >= 0.5, _TOUCHING)
    met = np.unique(labels[new >= 0.5])
    gone = np.isin(labels, met[met > 0])
    if not (new >= 0.5).any():
        return old.copy()
    kept = np.where(ndimage.binary_dilation(gone, _TOUCHING, 2) & ~((labels > 0) & ~gone), np.float32(0), old)
    return np.maximum(kept, new).astype(np.float32)


def _prompt_words(prompts: Sequence[Prompt]) -> str:
    kinds = sorted({p.type for p in prompts})
    return f"segmented from {len(prompts)} prompt{'s' if len(prompts) > 1 else ''} ({', '.join(kinds)})"
