"""A session on disk: the corrected result, how it came about, and what was not yet in it when the program was killed.

SESSION/
    session.json                    which visits were corrected, the audit log
    result/                         the result with all corrections, as ``results.save`` writes it
    edits/visit-01.nii.gz ...       only while autosaving: masks (or probabilities) newer than result/

No pickle, no file named from outside the folder: a session of a stranger is as safe to open as an image of his.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.edit.editor import Editor, Entry
from napari_convlstm_tumor.edit.recompute import PENDING
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link, read_links, write_links
from napari_convlstm_tumor.io.nifti import read_single
from napari_convlstm_tumor.io.write import write_json, write_nifti
from napari_convlstm_tumor.results import PROMPTS_FILE, RECIPE_FILE, is_result, load, save
from napari_convlstm_tumor.series import FloatVolume
from napari_convlstm_tumor.settings import PATHS

SESSION_FILE, RESULT, EDITS, LINKS = OWN_NAMES = "session.json", "result", "edits", "links.json"
KIND, VERSION = "napari-convlstm-tumor session", 1
# A file of words; anything larger is no session of ours.
LARGEST_SESSION_FILE = 20_000_000


def is_session(folder: Path) -> bool:
    """True for a folder that ``save_session`` wrote."""
    return (folder / SESSION_FILE).is_file()


def save_session(editor: Editor, folder: Path) -> None:
    """Write a session: its result whole, then session.json. Raises InputError for a folder with other things in it."""
    if folder.exists() and any(p.name not in OWN_NAMES for p in folder.iterdir()):
        raise InputError(f"The folder '{folder.name}' holds other files. Choose another for the session.")
    if editor.analysis.prediction.forecast_note == PENDING:
        editor.ahead()
    editor.note("session saved")
    save(editor.analysis, folder / RESULT)
    _write_record(folder, editor, ())
    shutil.rmtree(folder / EDITS, ignore_errors=True)


def open_session(folder: Path) -> Editor:
    """A session as it was saved, or what autosave kept of it. Raises InputError when it is none, or not safe."""
    record = _record(folder)
    _refuse_unsafe(folder)
    if not is_result(folder / RESULT):
        raise InputError(
            f"The session '{folder.name}' was cut off before its result was kept. Run the analysis again; "
            "the corrections are then offered for it."
        )
    return _with_edits(folder, record, load(folder / RESULT))


# ---- autosave ----


class Autosave:
    """Keeps the corrections of one editor in a folder of its own, so that a crash loses what was not kept yet.

    Corrections are written before the (large) result they belong to: a crash in between loses nothing that the
    program cannot compute again.
    """

    def __init__(self, home: Path, editor: Editor, saved_elsewhere: bool = False) -> None:
        self.folder = home / f"{time.time_ns()}-{secrets.token_hex(4)}"
        self.editor = editor
        self.has_result = False
        self._written: set[int] = set()
        self._seen = 0
        self._saved = len(editor.log) if saved_elsewhere else 0

    @classmethod
    def going_on(cls, folder: Path, editor: Editor) -> Autosave:
        """The autosave that was brought back: the same folder goes on, so that it is not offered again."""
        autosave = cls(folder.parent, editor)
        autosave.folder, autosave.has_result = folder, is_result(folder / RESULT)
        autosave._written = set(_visits(_record(folder), "edits"))
        autosave._seen = len(editor.log)
        autosave.alive()
        return autosave

    @property
    def due(self) -> bool:
        """Whether there are corrections that are kept neither here nor elsewhere."""
        return len(self.editor.log) > max(self._seen, self._saved)

    @property
    def kept(self) -> bool:
        """Whether something of it lies on the disk."""
        return is_session(self.folder)

    def keep(self) -> None:
        """Write what changed since the last time."""
        logged, editor = len(self.editor.log), self.editor
        visits = {e.visit - 1 for e in editor.log[self._seen :] if e.visit is not None}
        for t in sorted(visits):
            chance = editor.analysis.prediction.probability[t]
            data = chance.astype(np.uint8) if t in editor.corrected else chance
            write_nifti(self.folder / EDITS / f"visit-{t + 1:02d}.nii.gz", data, editor.analysis.grid)
            self._written.add(t)
        write_links(self.folder / LINKS, editor.links)
        _write_record(self.folder, editor, sorted(self._written))
        self._seen = logged

    def alive(self) -> None:
        """Say that the program still runs."""
        if is_session(self.folder):
            (self.folder / SESSION_FILE).touch()

    def leave(self) -> None:
        """Say that nobody works on it any more: it is offered at once."""
        if is_session(self.folder):
            os.utime(self.folder / SESSION_FILE, (0, 0))

    def keep_result(self, analysis: Analysis) -> None:
        """Write the result that the corrections are made on: once."""
        if not self.has_result:
            self.has_result = True
            save(analysis, self.folder / RESULT)

    def clear(self) -> None:
        """The work is saved elsewhere, or given up."""
        shutil.rmtree(self.folder, ignore_errors=True)


def left_behind(home: Path, left_alone_s: float = 0.0) -> list[Path]:
    """Autosaved sessions of programs that ended without saving, the latest first.

    left_alone_s: those written to within so many seconds may be of a program that still runs, and are left out.
    """
    if not home.is_dir():
        return []
    latest = time.time() - left_alone_s
    found = [p for p in home.iterdir() if is_session(p) and (p / SESSION_FILE).stat().st_mtime <= latest]
    return sorted(found, key=lambda p: p.name, reverse=True)


def recover(folder: Path, analysis: Analysis) -> Editor:
    """The corrections of a session whose result was not kept, on the same patient's analysis made again."""
    record = _record(folder)
    _refuse_unsafe(folder)
    same = record.get("patient") == analysis.patient and record.get("shape") == list(analysis.masks.shape)
    if not same:
        raise InputError("These corrections were made on another patient, or on another grid or number of visits.")
    return _with_edits(folder, record, analysis)


# ---- reading and writing ----


def _write_record(folder: Path, editor: Editor, edits: Sequence[int]) -> None:
    write_json(
        folder / SESSION_FILE,
        {
            "kind": KIND,
            "version": VERSION,
            "patient": editor.analysis.patient,
            "shape": list(editor.analysis.masks.shape),
            "corrected_visits": [t + 1 for t in sorted(editor.corrected)],
            "edits": [t + 1 for t in edits],
            "log": editor.log_rows(),
        },
    )


def _record(folder: Path) -> dict[str, Any]:
    path = folder / SESSION_FILE
    try:
        if path.stat().st_size > LARGEST_SESSION_FILE:
            raise InputError(f"{SESSION_FILE} is too large to be a session's.")
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{folder.name}' is no session: {SESSION_FILE} is missing or damaged.") from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise InputError(f"'{folder.name}' is no session of this program.")
    if record.get("version") != VERSION:
        raise InputError(f"The session is of version {record.get('version')!r}; this program reads version {VERSION}.")
    return record


def _refuse_unsafe(folder: Path) -> None:
    """A session holds plain files, and names none outside itself.

    What lies beside them is never read and not looked at: a result still being written there is moved in meanwhile.
    """
    root = folder.resolve()
    for path in (path for name in OWN_NAMES for path in (folder / name, *(folder / name).rglob("*"))):
        if path.is_symlink():
            raise InputError(f"The session holds a link ({path.name}) to another place; it is not opened.")
    named = [*_named_in_recipe(folder / RESULT / RECIPE_FILE), *_named_in_prompts(folder / RESULT / PROMPTS_FILE)]
    for name in named:
        if not (folder / RESULT / name).resolve().is_relative_to(root):
            raise InputError(f"The session names a file outside itself ({Path(name).name}); it is not opened.")


def _named_in_recipe(path: Path) -> list[str]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []  # load says what is wrong with it
    return [str(values[key]) for key in PATHS if values.get(key)] if isinstance(values, dict) else []


def _named_in_prompts(path: Path) -> list[str]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    found = entries if isinstance(entries, list) else []
    return [str(e["path"]) for e in found if isinstance(e, dict) and "path" in e]


def _with_edits(folder: Path, record: dict[str, Any], analysis: Analysis) -> Editor:
    visits = range(len(analysis.days))
    corrected = [t for t in _visits(record, "corrected_visits") if t in visits]
    edits = [t for t in _visits(record, "edits") if t in visits]
    painted_before = [t for t in corrected if t not in edits]
    editor = Editor(analysis, painted_before, _log(record))
    if edits:
        chances = {t: _edit(folder / EDITS / f"visit-{t + 1:02d}.nii.gz", analysis) for t in edits}
        editor.numbers.replace(chances, corrected, _links(folder / LINKS, analysis))
        editor.note("recovered from autosave")
    elif (folder / LINKS).exists():
        editor.numbers.replace({}, corrected, _links(folder / LINKS, analysis))
    return editor


def _edit(path: Path, analysis: Analysis) -> FloatVolume:
    volume = read_single(path, dtype=np.float32)
    if not volume.grid.matches(analysis.grid):
        raise InputError(f"{path.name} of the session lies on another grid than its result.")
    return np.clip(np.nan_to_num(volume.data), 0, 1).astype(np.float32)


def _links(path: Path, analysis: Analysis) -> tuple[Link, ...]:
    return read_links(path, len(analysis.days)) if path.exists() else ()


def _visits(record: dict[str, Any], key: str) -> list[int]:
    """0-based visits of a list in the record."""
    numbers = record.get(key, [])
    if not isinstance(numbers, list) or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        raise InputError(f"{SESSION_FILE}: {key} is a list of visit numbers.")
    return [n - 1 for n in numbers]


def _log(record: dict[str, Any]) -> list[Entry]:
    try:
        return [Entry(**row) for row in record.get("log", [])]
    except TypeError as error:
        raise InputError(f"{SESSION_FILE}: the log is damaged.") from error
