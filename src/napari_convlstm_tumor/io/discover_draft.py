"""What the layouts hand to the rules: candidates for images and masks, visits, a patient in the making."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from napari_convlstm_tumor.io.names import When, without_dates


@dataclass(frozen=True)
class Candidate:
    """An image or a mask that may be used.

    name: what a person is told it is called. modality: one of MODALITIES, or "" when nothing says it; of a
    mask, the image it was drawn on. folder: between visit and file. slices, frame (FrameOfReferenceUID),
    series, refers_to (SeriesInstanceUIDs of a mask's images): from DICOM headers.
    """

    name: str
    paths: tuple[Path, ...]
    modality: str = ""
    folder: str = ""
    slices: int = 0
    frame: str = ""
    series: str = ""
    refers_to: frozenset[str] = frozenset()

    @property
    def depth(self) -> int:
        """How many folders lie between the visit and the file."""
        return len(Path(self.folder).parts)


@dataclass
class Visit:
    """A visit as found: everything that lies in it, before any rule chose."""

    label: str
    when: When | None = None
    images: list[Candidate] = field(default_factory=list)
    masks: list[Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Draft:
    """A patient in the making. Sentences added here are cleaned of dates and of the patient's name."""

    patient: str
    layout: str
    visits: list[Visit] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def shown(self, name: str) -> str:
        """A file or folder name without dates and without the patient's name in front."""
        own = re.sub(rf"^{re.escape(self.patient)}[-_. ]+", "", name) if self.patient else name
        return without_dates(own)

    def warn(self, sentence: str) -> None:
        """Add a warning once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def problem(self, sentence: str) -> None:
        """Add a reason why the patient cannot be analysed, once."""
        if sentence not in self.problems:
            self.problems.append(sentence)

    def leave_out(self, name: str, reason: str) -> None:
        """Remember a file or folder that is not used."""
        self.left_out.append((self.shown(name), reason))


def listed(numbers: list[int]) -> str:
    """[1] -> "visit 1"; [1, 3] -> "visits 1, 3"."""
    return ("visit " if len(numbers) == 1 else "visits ") + ", ".join(str(n) for n in numbers)
