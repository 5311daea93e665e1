"""Edits one after the other: undo and redo come back exactly, and the log tells all of it."""

import numpy as np
import pytest
from conftest_edit import ball, finish
from test_recompute import same_arrays, same_report, stroke

from napari_convlstm_tumor.edit.editor import Editor
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.series import Prediction, Prompt


class Ball:
    """A stand-in for the network: a ball at every visit; remembers what it was given."""

    def __init__(self, centre_mm, radius_mm=5.0):
        self.centre_mm, self.radius_mm = centre_mm, radius_mm

    def __call__(self, aligned, prompts, settings):
        self.aligned, self.prompts = aligned, prompts
        yield 0.5
        chance = np.stack([ball(aligned.grid, self.centre_mm, self.radius_mm)] * len(aligned.days)).astype(np.float32)
        return Prediction(chance * 0.9, aligned.days, aligned.grid, "ball")


def test_undo_and_redo_come_back_exactly(network_result):
    editor = Editor(network_result)
    first = editor.paint(1, stroke(editor.analysis, 1)).report
    editor.paint(1, stroke(editor.analysis, 1, (12, 12, 12)))
    editor.paint(3, stroke(editor.analysis, 3))
    second = editor.analysis.masks.copy()
    editor.undo(), editor.undo()
    assert [v["volume_mm3"] for v in editor.analysis.report.visits] == [v["volume_mm3"] for v in first.visits]
    editor.undo()
    assert not editor.corrected and not editor.can_undo
    editor.ahead()
    same_arrays(editor.analysis, network_result)
    same_report(editor.analysis, network_result)
    editor.redo(), editor.redo(), editor.redo()
    np.testing.assert_array_equal(editor.analysis.masks, second)
    assert editor.corrected == {1, 3} and not editor.can_redo


def test_a_new_edit_ends_redo(network_result):
    editor = Editor(network_result)
    editor.paint(1, stroke(editor.analysis, 1))
    editor.undo()
    editor.paint(2, stroke(editor.analysis, 2))
    assert not editor.can_redo


def test_the_log_says_what_where_and_how_much(network_result):
    editor = Editor(network_result)
    mask = stroke(network_result, 1)
    added = int(mask.sum() - network_result.masks[1].sum())
    editor.paint(1, mask)
    editor.paint(1, mask)  # the same again is no edit
    editor.undo()
    rows = [(e.what, e.visit, e.added, e.removed) for e in editor.log]
    assert rows == [("painted", 2, added, 0), ("undone: painted", 2, 0, added)]
    assert all(e.seconds >= 0 for e in editor.log)


def test_relink_is_an_edit(network_result):
    editor = Editor(network_result)
    editor.relink(Link(4, (42.0, 30.0, 22.0), 2, same=False))
    assert {row["lesion"] for row in editor.analysis.report.lesions} == {1, 2, 3}
    assert [(e.what, e.visit) for e in editor.log] == [("parted from lesion 2", 4)]
    editor.undo()
    assert editor.links == () and {row["lesion"] for row in editor.analysis.report.lesions} == {1, 2}
    with pytest.raises(InputError, match="there are lesions"):
        editor.relink(Link(4, (42.0, 30.0, 22.0), 7))


def test_a_prompt_segments_all_visits_but_the_corrected_ones(network_result):
    editor = Editor(network_result)
    painted = stroke(network_result, 1)
    editor.paint(1, painted)
    network = Ball((12, 12, 12))
    prompt = Prompt(1, "point", np.array([12.0, 12.0, 12.0]))
    found = finish(editor.prompted((prompt,), network))
    np.testing.assert_array_equal(found.masks[1], painted)
    np.testing.assert_array_equal(network.aligned.masks[1], painted)  # it leads the network
    new = ball(found.grid, (12, 12, 12), 5.0)
    for t in (0, 2, 3):
        np.testing.assert_array_equal(found.masks[t], network_result.masks[t] | new)  # what was there stays
    assert found.prompts == (prompt,)
    assert network.aligned.data.any() and network.aligned.present.all()
    assert "segmented from 1 prompt (point)" in [e.what for e in editor.log]
    editor.undo(), editor.undo()
    same_arrays(editor.ahead(), network_result)


def test_a_prompt_replaces_the_lesion_it_touches(network_result):
    found = finish(Editor(network_result).prompted(
        (Prompt(4, "point", np.array([22.0, 22.0, 20.0])),), Ball((22, 22, 20), 4.0)))  # fmt: skip
    other = ball(found.grid, (42, 30, 22), 9)
    np.testing.assert_array_equal(found.masks[3] & ~other, ball(found.grid, (22, 22, 20), 4.0))
    assert (found.masks[3] & other).any()


def test_no_visit_left_to_segment(mixed_result):
    editor = Editor(mixed_result)
    for t in (1, 3):
        editor.paint(t, stroke(mixed_result, t))
    with pytest.raises(InputError, match="none left to segment"):
        finish(editor.prompted((Prompt(1, "point", np.zeros(3)),), Ball((22, 22, 20))))
