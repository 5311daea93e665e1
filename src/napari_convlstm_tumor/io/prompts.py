"""The prompts file: where a person says the tumor is, checked against the images of the visits.

A JSON list of ``{"visit": 1, "type": "point", "ras_mm": [x, y, z]}``, ``{"visit": 1, "type": "box", "ras_mm":
[[x, y, z], [x, y, z]]}`` (two opposite corners), ``"scribble"`` (two or more corners of a line drawn within the
tumor) and ``{"visit": 1, "type": "mask", "path": "mask.nii.gz"}`` (path relative to the JSON file); millimetres in that
visit's own scanner space, RAS+; visits count from 1 in the order of time.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.names import can_be_path, shown
from napari_convlstm_tumor.io.nifti import read_single
from napari_convlstm_tumor.io.read import about, corners_mm, reaches, read_mask
from napari_convlstm_tumor.io.write import write_json
from napari_convlstm_tumor.series import Prompt, PromptType, Series, Visit
from napari_convlstm_tumor.volume import Grid, Volume

# The keys an entry of each type has; another key (a negative click, a label) would be silently lost.
KEYS = {"point": "ras_mm", "box": "ras_mm", "scribble": "ras_mm", "mask": "path"}
SHAPES: dict[str, tuple[int | None, ...]] = {"point": (3,), "box": (2, 3), "scribble": (None, 3)}
WRITTEN = {
    "point": "[x, y, z]",
    "box": "[[x, y, z], [x, y, z]]",
    "scribble": "[[x, y, z], [x, y, z], ...]",
}
# All prompts of a patient together. A person gives a few, with lines as long as a tumor; every point is drawn into the
# whole image, so that a file with millions of them would never end.
MOST_POINTS, LONGEST_LINES_MM = 5000, 5000.0
# A box flatter than this holds no voxel for certain.
THINNEST_BOX_MM = 0.01
# No scanner's space reaches 100 m; numbers near the largest there are would overflow on their way to a voxel.
FARTHEST_MM = 1e5


def read_prompts(path: Path, series: Series) -> tuple[Prompt, ...]:
    """The prompts of a JSON file in its order. Raises InputError with the number of the entry, its value and
    the way out.

    A point must lie in the field of view of an image of its visit; a box or mask must overlap one.
    """
    with about(path.name):
        entries = _load(path)
        prompts = []
        for number, entry in enumerate(entries, start=1):
            with about(f"Entry {number}"):
                prompts.append(_prompt(entry, path.parent, series))
        _check_amount(prompts)
        return tuple(prompts)


def write_prompts(path: Path, prompts: Sequence[Prompt], mask_paths: Mapping[int, str] | None = None) -> None:
    """Prompts as a prompts file, whole or not at all.

    mask_paths: for each mask prompt (by its place in ``prompts``) the file it was saved to, relative to ``path``;
    without it a mask prompt is refused.
    """
    entries: list[dict[str, Any]] = []
    for number, prompt in enumerate(prompts):
        if prompt.ras_mm is not None:
            entries.append({"visit": prompt.visit, "type": prompt.type, "ras_mm": prompt.ras_mm.tolist()})
        elif mask_paths and number in mask_paths:
            entries.append({"visit": prompt.visit, "type": "mask", "path": mask_paths[number]})
        else:
            raise InputError(f"Prompt {number + 1} is a mask; save the mask as NIfTI and name it in the file by hand.")
    write_json(path, entries)


def read_saved_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a result folder, as ``write_prompts`` wrote them: they were checked against the images then.

    Raises InputError for anything that it did not write: a result folder may come from a stranger.
    """
    with about(path.name):
        prompts = []
        for number, entry in enumerate(_load(path), start=1):
            with about(f"Entry {number}"):
                prompts.append(_saved(entry, path.parent))
        _check_amount(prompts)
        return tuple(prompts)


def _saved(entry: Any, folder: Path) -> Prompt:
    kind = _kind(entry)
    number = _visit_number(entry["visit"])
    if kind != "mask":
        return Prompt(number, kind, _coordinates(entry["ras_mm"], kind))
    return Prompt(number, "mask", mask=read_single(folder / _name(entry["path"]), np.uint8))


def _load(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError("The prompts file does not exist.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"It is not valid JSON: {error.msg} in line {error.lineno}.") from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8; a number or a nesting beyond all use
        raise InputError("It cannot be read as JSON text (UTF-8).") from error
    if not isinstance(entries, list):
        raise InputError(f"It holds one {type(entries).__name__}, a list of prompts is needed: [{{...}}, {{...}}].")
    if len(entries) > MOST_POINTS:
        raise InputError(f"It holds {len(entries)} prompts, at most {MOST_POINTS} are read. Give a mask instead.")
    return entries


def _kind(entry: Any) -> PromptType:
    """The type of an entry that has the keys of its type and no other."""
    if not isinstance(entry, dict):
        raise InputError(
            f'{reprlib.repr(entry)} is no prompt; write {{"visit": 1, "type": "point", "ras_mm": [x, y, z]}}.'
        )
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in KEYS:
        raise InputError(f"The type is {reprlib.repr(kind)}; it is one of {', '.join(KEYS)}.")
    _check_keys(entry, kind)
    return cast("PromptType", kind)


def _prompt(entry: Any, folder: Path, series: Series) -> Prompt:
    kind = _kind(entry)
    number = _visit_number(entry["visit"], len(series.visits))
    visit = series.visits[number - 1]
    if kind == "mask":
        return Prompt(number, "mask", mask=_mask(entry["path"], folder, visit))
    ras_mm = _coordinates(entry["ras_mm"], kind)
    if kind == "point":
        _check_point(ras_mm, number, visit)
        return Prompt(number, "point", ras_mm)
    if kind == "scribble":
        for corner in ras_mm:
            _check_point(corner, number, visit)
        return Prompt(number, "scribble", ras_mm)
    _check_box(ras_mm, number, visit)
    return Prompt(number, "box", np.sort(ras_mm, axis=0))


def _check_keys(entry: Mapping[str, Any], kind: str) -> None:
    needed = {"visit", "type", KEYS[kind]}
    missing, unknown = sorted(needed - set(entry)), sorted(set(entry) - needed)
    if missing:
        raise InputError(f"A {kind} needs {missing[0]!r}.")
    if unknown:
        raise InputError(f"Unknown key {reprlib.repr(unknown[0])}; a {kind} has {', '.join(sorted(needed))}.")


def _visit_number(value: Any, count: int | None = None) -> int:
    """A number from 1 on, up to the count where that is known."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= (count or value):
        known = f"this patient has visits 1 to {count}" if count else "visits count from 1"
        raise InputError(f"The visit is {reprlib.repr(value)}; {known}.")
    return value


def _coordinates(value: Any, kind: str) -> npt.NDArray[np.float64]:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"ras_mm is {reprlib.repr(value)}; a {kind} has {WRITTEN[kind]} in mm.") from error
    if not _fits(array.shape, SHAPES[kind]) or not np.all(np.abs(array) <= FARTHEST_MM):  # NaN is refused, too
        raise InputError(f"ras_mm is {reprlib.repr(value)}; a {kind} has {WRITTEN[kind]}, finite numbers in mm.")
    return array


def _check_amount(prompts: Sequence[Prompt]) -> None:
    lines = [prompt.ras_mm.reshape(-1, 3) for prompt in prompts if prompt.ras_mm is not None]
    points = sum(map(len, lines))
    length = sum(float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in lines if len(line) > 2)
    if points > MOST_POINTS or length > LONGEST_LINES_MM:
        raise InputError(
            f"The prompts have {points} points, and the lines are {length:.0f} mm long; at most {MOST_POINTS} and "
            f"{LONGEST_LINES_MM:.0f} mm are drawn. Give a mask instead."
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """The shape asked for; where that says None, two or more."""
    return len(shape) == len(wanted) and all(
        n == w or (w is None and n >= 2) for n, w in zip(shape, wanted, strict=True)
    )


def _check_point(ras_mm: npt.NDArray[np.float64], number: int, visit: Visit) -> None:
    distance = min(_distance_outside_mm(ras_mm, volume.grid) for volume in visit.images.values())
    if distance > 0:
        raise InputError(
            f"The point {_text(ras_mm)} mm lies {distance:.1f} mm outside the images of visit {number}. "
            "Give RAS+ millimetres in that visit's own scanner space (in DICOM, LPS, x and y have "
            "the other sign)."
        )


def _distance_outside_mm(ras_mm: npt.NDArray[np.float64], grid: Grid) -> float:
    """How far a point lies outside the outer faces of the voxels; 0 inside."""
    index = grid.to_index(ras_mm)
    nearest = np.clip(index, -0.5, np.array(grid.shape) - 0.5)
    return float(np.linalg.norm(grid.to_mm(index) - grid.to_mm(nearest))) if np.any(index != nearest) else 0.0


def _check_box(ras_mm: npt.NDArray[np.float64], number: int, visit: Visit) -> None:
    sides = np.abs(ras_mm[1] - ras_mm[0])
    if np.min(sides) < THINNEST_BOX_MM:
        axis = "xyz"[int(np.argmin(sides))]
        raise InputError(
            f"The box has no extent along {axis} (both {ras_mm[0][int(np.argmin(sides))]:g} mm). Widen it."
        )
    if not any(_box_overlaps(ras_mm, volume.grid) for volume in visit.images.values()):
        raise InputError(
            f"The box from {_text(ras_mm[0])} to {_text(ras_mm[1])} mm lies outside the images of "
            f"visit {number}. "
            "Give RAS+ millimetres in that visit's own scanner space (in DICOM, LPS, x and y have "
            "the other sign)."
        )


def _box_overlaps(ras_mm: npt.NDArray[np.float64], grid: Grid) -> bool:
    """False when the box (2, 3) and the grid surely have no point in common."""
    low, high = ras_mm.min(axis=0), ras_mm.max(axis=0)
    box_corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    image = corners_mm(grid)
    near = bool(np.all(image.max(axis=0) > low) and np.all(image.min(axis=0) < high))
    return near and reaches(box_corners, grid)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or not can_be_path(value):
        raise InputError(f"path is {reprlib.repr(value)}; it is the name of a mask file, relative to the prompts file.")
    return value


def _mask(value: Any, folder: Path, visit: Visit) -> Volume:
    mask = read_mask(folder / _name(value), next(iter(visit.images.values())).grid)
    if not mask.data.any():
        raise InputError(
            f"{shown(Path(value))} has no tumor voxel, so it shows nothing. Draw the tumor or leave it out."
        )
    return mask


def _text(ras_mm: npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in ras_mm) + ")"
