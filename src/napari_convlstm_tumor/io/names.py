"""What the name of a file or folder says: its ending, when the visit was, which kind of image it is.

Pure functions of text. Nothing here touches the disk.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Volumes in one file, read through nibabel or SimpleITK; the longest ending first, so that .nii.gz is not cut
# to .nii.
VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
DAYS_PER_UNIT = {"day": 1.0, "week": 7.0, "month": 30.44, "year": 365.25}
# Words that people put before the number of a visit. T0, T1, T2 are not among them: they are also kinds of
# image.
NUMBER_WORDS = "visit|session|ses|timepoint|time|tp|scan|study|exam|follow[-_ ]?up|fu"
FIRST_WORDS = "baseline|bl|initial|pre[-_ ]?op"


@dataclass(frozen=True)
class When:
    """When a visit was: a date, a day, or only a number in an order.

    scheme: the word before the number; visits numbered under different words cannot be put in one order.
    repeat: the second number of LUMIERE's week-000-2 (several visits in one week), else 0.
    """

    date: datetime.date | None = None
    day: int | None = None
    order: int | None = None
    scheme: str = ""
    repeat: int = 0

    @property
    def dated(self) -> bool:
        """True when the distance in days to another dated visit is known."""
        return self.date is not None or self.day is not None


_DATE = re.compile(
    r"(?<![\d.])(?P<y>(?:19|20)\d\d)(?:(?P<m>\d\d)(?P<d>\d\d)(?:\d{6})?|[-_.](?P<m2>\d{1,2})[-_.](?P<d2>\d{1,2}))(?!\d)"
)
_DAY_FIRST = re.compile(r"(?<!\d)\d{1,2}[-_.]\d{1,2}[-_.](?:19|20)\d\d(?!\d)")
# Scanners begin the last part of a UID with the date and the time, and DICOM files are named by their UID.
_DATE_IN_UID = re.compile(r"(?<=\.)(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d*")
_UNIT = r"(?P<unit>day|week|wk|month|mo|year|yr)s?"
_UNIT_NUMBER = re.compile(rf"(?<![a-z]){_UNIT}[-_ .]*(?P<n>\d{{1,5}})(?:[-_](?P<repeat>\d{{1,2}}))?(?![\da-z])")
_NUMBER_UNIT = re.compile(rf"(?<![\d.])(?P<n>\d{{1,4}})[-_ ]?{_UNIT}(?![a-z])")
_ORDER = re.compile(rf"(?<![a-z])(?P<word>{NUMBER_WORDS})[-_ .]*(?P<n>\d{{1,4}})(?!\d)")
_FOLLOW_UP = re.compile(r"(?<![a-z])follow[-_ ]?up(?![a-z])")
_FIRST = re.compile(rf"(?<![a-z])(?:{FIRST_WORDS})(?![a-z])")
# The longest path of Linux, less room for the folder it is relative to.
LONGEST_PATH = 3000
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Marks that turn the direction of what follows (Unicode TR9): a name with one shows as another.
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# BraTS: PatientID-NNN-TTT, the patient's number and the number of the visit.
_BRATS = re.compile(r"^(?P<id>.*\d{3,})-(?P<n>\d{3})(?=$|[-_])")


def parse_when(name: str) -> When | None:
    """When the visit called ``name`` was, or None.

    A date (2019-03-01, 20190301) wins over a day (day-041, week-012 = 7 x 12, month-3 = 3 x 30.44 rounded),
    that over a number (visit-2, ses-02, baseline = 0, followup-1, PatientID-NNN-TTT).
    """
    text = name.lower()
    return _parse_date(text) or _parse_day(text) or _parse_order(text)


def _parse_date(text: str) -> When | None:
    for match in _DATE.finditer(text):
        year, month, day = match["y"], match["m"] or match["m2"], match["d"] or match["d2"]
        try:
            return When(date=datetime.date(int(year), int(month), int(day)))
        except ValueError:  # eight digits that are no date: a number
            continue
    return None


def _parse_day(text: str) -> When | None:
    match = _UNIT_NUMBER.search(text)
    repeat = int(match["repeat"] or 0) if match else 0
    match = match or _NUMBER_UNIT.search(text)
    if match is None:
        return None
    unit = {"wk": "week", "mo": "month", "yr": "year"}.get(match["unit"], match["unit"])
    return When(day=round(int(match["n"]) * DAYS_PER_UNIT[unit]), repeat=repeat)


def _parse_order(text: str) -> When | None:
    if match := _ORDER.search(text):
        word = re.sub(r"[-_ ]", "", match["word"])
        word = {"ses": "session", "fu": "followup", "tp": "timepoint", "time": "timepoint"}.get(word, word)
        return When(order=int(match["n"]), scheme=word)
    if _FIRST.search(text):
        return When(order=0, scheme="baseline")
    if _FOLLOW_UP.search(text):
        return When(order=1, scheme="followup")
    if match := _BRATS.search(text):
        return When(order=int(match["n"]), scheme="PatientID-NNN-TTT")
    return None


def owner(name: str) -> str:
    """What stands before the visit in a file's name, when it can be a patient: P01 of P01_2019-03-01_t1."""
    text = stem(name).lower()
    if brats := brats_patient(stem(name)):
        return brats.lower()
    starts = [m.start() for p in (_DATE, _UNIT_NUMBER, _ORDER, _FIRST, _FOLLOW_UP) if (m := p.search(text))]
    before = text[: min(starts, default=0)].strip("-_. ")
    is_kind = modality_of(before)[1] or _MASK.search(plain(before))
    return before if re.search(r"\d", before) and not is_kind else ""


def plain_number(name: str) -> When | None:
    """Folders called 1, 02, 003: visits only where something else says that they are no patients."""
    return When(order=int(name), scheme="number") if re.fullmatch(r"\d{1,4}", name) else None


def brats_patient(name: str) -> str | None:
    """BraTS-GLI-00001-000 -> BraTS-GLI-00001; None for other names, and for names that say a visit
    otherwise."""
    match = _BRATS.search(name)
    when = parse_when(name)
    return match["id"] if match and when and when.scheme == "PatientID-NNN-TTT" else None


def ambiguous_date(name: str) -> bool:
    """True for 03-04-2019, which is March or April."""
    return bool(_DAY_FIRST.search(name)) and _parse_date(name) is None


def is_control(character: str) -> bool:
    """True for what moves a cursor, ends a line, turns the direction of the text after it or speaks to a terminal, and
    for bytes that are no text.
    """
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def printable(text: str) -> str:
    """For a terminal or a log: a name from somebody else's disk must not speak to it."""
    return "".join("\N{REPLACEMENT CHARACTER}" if is_control(c) else c for c in text)


def guarded(text: str) -> str:
    """For a cell of a CSV file: with an apostrophe before what a spreadsheet would compute (=HYPERLINK(...))."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) and not _is_number(text) else text


def unguarded(text: str) -> str:
    """The text that ``guarded`` made a cell of."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text


def _is_number(text: str) -> bool:
    """True for -12.5: a table that is read and written again holds its numbers as texts."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_dates(name: str) -> str:
    """The name as it may be shown: dates are personal data."""
    return _DATE_IN_UID.sub("(date)", _DAY_FIRST.sub("(date)", _DATE.sub("(date)", name)))


def shown(path: Path) -> str:
    """What an error, a warning or a log may call a patient's file or folder."""
    return without_dates(path.name)


def stem(name: str) -> str:
    """The name without its volume ending."""
    lowered = name.lower()
    ending = next((e for e in VOLUME_ENDINGS if lowered.endswith(e)), "")
    return name[: len(name) - len(ending)] if ending else name


# ---- kinds ----


@dataclass(frozen=True)
class Kind:
    """What a name says an image is.

    role: "image", "mask", or "aside" (a brain mask, a mask in another space: never used; ``reason`` says
    why). modality: one of MODALITIES; "" when the name does not say. For a mask: the image it was drawn on.
    """

    role: Literal["image", "mask", "aside"]
    modality: str = ""
    reason: str = ""


def _word(words: str, after: str = "a-z0-9") -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{words})(?![{after}])")


_T1_WORDS = r"t1n?|t1w|t1 ?weighted|mprage|mp ?2 ?rage|unit1|bravo|f?spgr|tfe|vibe"
# Kinds with a name that are none of t1, t1c, t2, flair, ct: "other", and never taken for the one modality
# asked for.
_NAMED_OTHER = _word(
    r"adc|dwi|dti|diff\w*|swi|trace\w*|fa|md|mtt|r?cbv|cbf|asl|perf\w*|dsc|dce|ktrans|pet|suv\w*|bold|fmri|epi|mrs"
    r"|spect|pdw?|t[12] ?map|t1rho|t2 ?star|t2s|t2 ?\*|swan|mip|minip|scout\w*|locali[sz]er\w*"
    r"|dose ?(?:map)?|rtdose|jacobian|warp|prob\w*|heatmap|subtract\w*|inv \d|aseg|aparc\w*|wmparc",
    after="a-z",
)
_T1_FLAIR = re.compile(r"(?<![a-z])(t1w?) ?flair")
_FLAIR = _word(r"(?:t2w? ?)?flair(?:reg)?|t2f(?:reg)?|dark ?fluid", after="a-z")
_T1C_GLUED = _word(r"(?:t1w?(?:ce?|gd|gad|km|post|pc)|ct1|gdt1|cet1w?|t1w? c)(?:reg)?|t1w? ?\+ ?(?:c|ce|gd)?")
_T1 = _word(rf"(?:{_T1_WORDS})(?:reg)?")
_T2 = _word(r"t2(?:w|n)?(?:reg)?|t2 ?weighted")
_CT = _word(r"ct(?!1\b)|cect|ncct|ctac|computed tomography", after="a-z")
_CONTRAST = _word(
    r"gd|gad\w*|ce|km|post(?!op| ?(?:op|surg|rt|rad|treat|chemo))|post ?contrast|contrast|enhanced"
    r"|kontrast|c\+",
    after="a-z",
)
_NO_CONTRAST = _word(
    r"pre(?! ?op)|precontrast|non? ?contrast|without|w ?o|ohne|nativ(?:e)?|unenhanced|nonenhanced", "a-z"
)
_OTHER_IMAGE_SPACE = re.compile(
    r"\b(?:reg|registered|coreg\w*|space|to|in) (?:to )?(?:t[12]\w*|flair|ct\w*|mni\w*|atlas)\b"
)

_MASK = re.compile(
    r"mask|segm|tumou?r|lesion|label|annotat|ground ?truth"
    r"|(?<![a-z])(?:d?segs?|gtv\w*|rois?|gt|o?edema)(?![a-z])"
)
TUMOR_WORD = re.compile(r"tumou?r|lesion|(?<![a-z])(?:gtv\w*|rois?|gt|o?edema)(?![a-z])|enhanc|metast|glio")
_NOT_TUMOR = re.compile(
    r"brain|skull|scalp|head|body|(?<![a-z])(?:bet|wm|gm|csf|face|liver|lung|prostate|aseg|aparc)(?![a-z])"
    r"|white|gr[ae]y|ventric|organ|tissue|hippocamp|vessel"
)
_ATLAS = r"(?:mni\w*|atlas|template|icbm\w*|sri24)"
_ATLAS_FOLDER = re.compile(rf"\b{_ATLAS}\b")
_ATLAS_SPACE = re.compile(rf"\bspace {_ATLAS}\b")
_MASK_FOLDER = re.compile(
    r"(?:.*/)?(?:masks?|labels?|segs?|segmentations?|annotations?|rois?|ground[-_ ]?truth|gt|tumou?rs?"
    r"|lesions?)",
    re.I,
)


def plain(text: str) -> str:
    """Lower-case words with single blanks: EdemaMask-CL -> edema mask cl."""
    return re.sub(r"[\s_.\-/]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)).lower().strip()


def modality_of(text: str) -> tuple[str, bool]:
    """(modality, named): what a file name or a DICOM description calls the image.

    ("", False) when it does not say, or says two things at once; ("other", True) for a kind that has a name
    but is none of ours, such as an ADC map. T1 FLAIR is a t1. t1 with a contrast word is t1c unless the name
    says before contrast.
    """
    words = _T1_FLAIR.sub(r"\1", _OTHER_IMAGE_SPACE.sub(" ", plain(text)))
    if _NAMED_OTHER.search(words):
        return "other", True
    if _FLAIR.search(words):
        return "flair", True
    found = {name for name, pattern in (("t1", _T1), ("t2", _T2), ("ct", _CT)) if pattern.search(words)}
    if _T1C_GLUED.search(words) or ("t1" in found and _CONTRAST.search(words) and not _NO_CONTRAST.search(words)):
        found = (found - {"t1"}) | {"t1c"}
    return (found.pop(), True) if len(found) == 1 else ("", False)


def kind_of(name: str, folders: str = "", patient: str = "") -> Kind:
    """What the file ``name`` is. folders: names of the folders between visit and file; patient: taken off the
    name."""
    own = stem(name)
    if patient and own.lower().startswith(patient.lower()):
        own = own[len(patient) :]
    words = plain(own)
    if _ATLAS_FOLDER.search(plain(folders)) or _ATLAS_SPACE.search(words):
        return Kind("aside", reason="in an atlas space by its name, not in the scanner's")
    if not (_MASK.search(words) or _MASK_FOLDER.fullmatch(folders)):
        modality, named = modality_of(own)
        return Kind("image", modality if named else modality_of(folders)[0])
    if _NOT_TUMOR.search(words) and not TUMOR_WORD.search(words):
        return Kind("aside", reason="not a tumor mask by its name")
    return Kind("mask", _drawn_on(own))


def _drawn_on(own: str) -> str:
    words = re.sub(r"\bcontrast enhanc\w*|\benhanc\w*", "t1c", plain(own))
    modality = modality_of(re.sub(r"\bo?edema\b", "flair", words))[0]
    return "" if modality == "other" else modality


def can_be_path(text: str) -> bool:
    """False for a text that no file system takes: with a NUL, or with a part longer than 255 bytes."""
    parts = re.split(r"[/\\]", text)
    return "\0" not in text and len(text) <= LONGEST_PATH and all(len(p.encode(errors="replace")) <= 255 for p in parts)
