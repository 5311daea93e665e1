"""Sessions: reopened exactly, safe to open from strangers, and at most ten seconds lost when the program is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest_edit import finish
from test_editor import Ball
from test_recompute import same_arrays, same_report, stroke

from napari_convlstm_tumor.edit.editor import Editor
from napari_convlstm_tumor.edit.session import (
    Autosave,
    is_session,
    left_behind,
    open_session,
    recover,
    save_session,
)
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.results import load
from napari_convlstm_tumor.series import Prompt


@pytest.fixture
def edited(network_result):
    editor = Editor(network_result)
    editor.paint(1, stroke(network_result, 1))
    editor.relink(Link(4, (42.0, 30.0, 22.0), 2, same=False))
    return editor


def test_a_session_reopens_exactly(edited, tmp_path):
    save_session(edited, tmp_path / "session")
    again = open_session(tmp_path / "session")
    same_arrays(again.analysis, load(tmp_path / "session" / "result"))
    again.numbers.update({})
    same_arrays(again.ahead(), edited.analysis)
    same_report(again.analysis, edited.analysis, rel=5e-3)  # affines of NIfTI files are single precision
    assert again.corrected == edited.corrected and again.links == edited.links
    assert again.log == edited.log
    assert again.analysis.report.warnings == edited.analysis.report.warnings


def test_a_session_is_saved_over_itself(edited, tmp_path):
    save_session(edited, tmp_path / "session")
    edited.undo()
    save_session(edited, tmp_path / "session")
    assert open_session(tmp_path / "session").links == ()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        save_session(edited, tmp_path / "other")


def test_autosave_brings_edits_back(network_result, tmp_path):
    editor = Editor(network_result)
    autosave = Autosave(tmp_path, editor)
    editor.paint(1, stroke(network_result, 1))
    editor.relink(Link(4, (42.0, 30.0, 22.0), 2, same=False))
    finish(editor.prompted((Prompt(1, "point", np.array([12.0, 12.0, 12.0])),), Ball((12, 12, 12))))
    assert autosave.due
    autosave.keep()
    assert not autosave.due and left_behind(tmp_path) == [autosave.folder]
    with pytest.raises(InputError, match="Run the analysis again"):
        open_session(autosave.folder)
    same_arrays(recover(autosave.folder, network_result).analysis, editor.analysis)
    autosave.keep_result(network_result)
    again = open_session(autosave.folder)
    same_arrays(again.analysis, editor.analysis)
    assert again.corrected == {1} and again.links == editor.links
    autosave.clear()
    assert left_behind(tmp_path) == []


def test_corrections_are_not_laid_on_another_patient(network_result, mixed_result, tmp_path):
    editor = Editor(network_result)
    autosave = Autosave(tmp_path, editor)
    editor.paint(1, stroke(network_result, 1))
    autosave.keep()
    record = json.loads((autosave.folder / "session.json").read_text())
    (autosave.folder / "session.json").write_text(json.dumps(record | {"patient": "SOMEONE-ELSE"}))
    with pytest.raises(InputError, match="another patient"):
        recover(autosave.folder, network_result)


CHILD = """
import sys, threading, time
sys.path.insert(0, {here!r})
from pathlib import Path
from conftest_edit import ball
from napari_convlstm_tumor.edit.editor import Editor
from napari_convlstm_tumor.edit.session import Autosave
from napari_convlstm_tumor.results import load
analysis = load(Path({result!r}))
editor = Editor(analysis)
autosave = Autosave(Path({home!r}), editor)
autosave.keep_result(analysis)
kept = time.monotonic()
for n in range(1000):
    visit = n % 4
    editor.paint(visit, editor.analysis.masks[visit] ^ ball(analysis.grid, (8 + n % 30, 20, 20), 2.0))
    sys.stdout.write(f"{{time.time()}} {{len(editor.log)}}\\n"), sys.stdout.flush()
    if time.monotonic() - kept > 0.5:
        autosave.keep()
        kept = time.monotonic()
"""


def test_kill_9_in_the_middle_of_editing_loses_at_most_ten_seconds(network_result, tmp_path):
    from napari_convlstm_tumor.results import save

    save(network_result, tmp_path / "HAND-02")
    code = CHILD.format(here=str(Path(__file__).parent), result=str(tmp_path / "HAND-02"), home=str(tmp_path / "auto"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        lines = []
        begun = None
        for line in child.stdout:
            lines.append((float(line.split()[0]), int(line.split()[1])))
            begun = begun or time.monotonic()
            if left_behind(tmp_path / "auto") and time.monotonic() - begun > 4:
                break
        os.kill(child.pid, signal.SIGKILL)
    killed = time.time()
    (folder,) = left_behind(tmp_path / "auto")
    kept = [e for e in open_session(folder).log if e.what == "painted"]
    assert kept, "nothing was kept"
    lost = [when for when, edits in lines if edits > len(kept)]
    assert not lost or killed - min(lost) < 10


# ---- of strangers ----


@pytest.fixture
def session(edited, tmp_path):
    save_session(edited, tmp_path / "session")
    assert is_session(tmp_path / "session")
    return tmp_path / "session"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r | {"kind": "something"}, "no session of this program"),
        (lambda r: r | {"version": 99}, "version 99"),
        (lambda r: r | {"corrected_visits": ["../../x"]}, "list of visit numbers"),
        (lambda r: r | {"log": [{"exec": "rm"}]}, "log is damaged"),
        (lambda r: r | {"log": 3}, "log is damaged"),
    ],
)
def test_a_damaged_session_is_refused(session, change, sentence):
    path = session / "session.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=sentence):
        open_session(session)


def test_a_session_that_is_no_json(session):
    (session / "session.json").write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(InputError, match="missing or damaged"):
        open_session(session)


def test_a_link_out_of_the_folder_is_refused(session):
    (session / "result" / "clinical.csv").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="holds a link"):
        open_session(session)


def test_what_is_being_written_beside_is_not_looked_at(session):
    """A result still being written is moved in meanwhile: looking into its folder found files that were gone."""
    part = session / ".result.0a1b2c3d.part"
    part.mkdir()
    (part / "run.json").symlink_to(session / "gone")
    assert open_session(session).corrected


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd"])
def test_a_file_named_outside_the_folder_is_refused(session, name):
    recipe = session / "result" / "recipe.yaml"
    lines = recipe.read_text().splitlines()
    recipe.write_text("\n".join(f"prompts: {name}" if line.startswith("prompts:") else line for line in lines))
    with pytest.raises(InputError, match="outside itself"):
        open_session(session)
