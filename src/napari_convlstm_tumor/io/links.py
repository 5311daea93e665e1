"""The links file: what a person says about which lesion is which.

A JSON list of ``{"visit": 3, "ras_mm": [x, y, z], "is": 2}`` and ``{"visit": 3, "ras_mm": [x, y, z], "is_not": 1}``:
the component of tumor at that point of that visit is, or is not, the lesion of that number. Millimetres are RAS+ on the
common grid (scanner space of the reference visit); visits count from 1 in the order of time.
Links count in their order: each speaks of the lesions as they are numbered after the links before it.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.prompts import FARTHEST_MM
from napari_convlstm_tumor.io.read import about
from napari_convlstm_tumor.io.write import write_text

SAYS = ("is", "is_not")
EXAMPLE = '{"visit": 3, "ras_mm": [x, y, z], "is": 2}'


@dataclass(frozen=True)
class Link:
    """The component at ras_mm (RAS+ mm of the common grid) of a visit (1-based) is (same) or is not a lesion."""

    visit: int
    ras_mm: tuple[float, float, float]
    lesion: int
    same: bool = True


def read_links(path: Path, visits: int) -> tuple[Link, ...]:
    """The links of a JSON file in its order. Raises InputError with the number of the entry and what to write.

    visits: how many the patient has. Whether there is tumor at the point is checked by ``measure.lesions.track``.
    """
    with about(path.name):
        links = []
        for number, entry in enumerate(_load(path), start=1):
            with about(f"Entry {number}"):
                links.append(_link(entry, visits))
        return tuple(links)


def write_links(path: Path, links: Sequence[Link]) -> None:
    """Links as a links file, whole or not at all."""
    write_text(path, links_text(links))


def links_text(links: Sequence[Link]) -> str:
    """Links as the text of a links file."""
    entries = [
        {"visit": k.visit, "ras_mm": [float(v) for v in k.ras_mm], "is" if k.same else "is_not": k.lesion}
        for k in links
    ]
    return json.dumps(entries, indent=2) + "\n"


def _load(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError("The links file does not exist.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"It is not valid JSON: {error.msg} in line {error.lineno}.") from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8; a number or a nesting beyond all use
        raise InputError("It cannot be read as JSON text (UTF-8).") from error
    if not isinstance(entries, list):
        raise InputError(f"It holds one {type(entries).__name__}, a list of links is needed: [{EXAMPLE}].")
    return entries


def _link(entry: Any, visits: int) -> Link:
    if not isinstance(entry, dict):
        raise InputError(f"{reprlib.repr(entry)} is no link; write {EXAMPLE}.")
    says = _says(entry)
    visit = _whole(entry["visit"], "visit")
    if visit > visits:
        raise InputError(f"The visit is {visit}; this patient has visits 1 to {visits}.")
    return Link(visit, _point(entry["ras_mm"]), _whole(entry[says], says), says == "is")


def _says(entry: Mapping[str, Any]) -> str:
    """Which of the two it says, once all keys are there and none is unknown."""
    unknown = sorted(set(entry) - {"visit", "ras_mm", *SAYS})
    if unknown:
        raise InputError(f"Unknown key {reprlib.repr(unknown[0])}; a link has visit, ras_mm and is or is_not.")
    missing = [key for key in ("visit", "ras_mm") if key not in entry]
    if missing:
        raise InputError(f"A link needs {reprlib.repr(missing[0])}; write {EXAMPLE}.")
    said = [key for key in SAYS if key in entry]
    if len(said) != 1:
        raise InputError(f"A link says 'is' or 'is_not', one of them; this one says {' and '.join(said) or 'neither'}.")
    return said[0]


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what} is {reprlib.repr(value)}; it is a whole number from 1 on.")
    return value


def _point(value: Any) -> tuple[float, float, float]:
    numbers = isinstance(value, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if not numbers or len(value) != 3 or not all(abs(v) <= FARTHEST_MM for v in value):  # NaN is refused, too
        raise InputError(f"ras_mm is {reprlib.repr(value)}; it is [x, y, z], three finite numbers in mm.")
    x, y, z = (float(v) for v in value)
    return x, y, z
