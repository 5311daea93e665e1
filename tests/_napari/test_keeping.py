"""Keeping with real layers: a session saved and opened, exports, and what a crash left behind."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari_convlstm_tumor._napari import viewer as view
from napari_convlstm_tumor._napari.widget import TumorGrowthWidget


@pytest.fixture
def widget(make_napari_viewer, qtbot, analysis):
    made = TumorGrowthWidget(make_napari_viewer())
    qtbot.addWidget(made)
    made.show_analysis(analysis)
    yield made
    qtbot.waitUntil(lambda: made.correcting.idle and made.keeping.idle, timeout=30000)
    made.correcting._forecast.stop()
    made.correcting.autosaver.timer.stop()


def tumor(widget):
    return next(layer for layer in widget.viewer.layers if view.kind_of(layer) == "tumor")


def paint(widget, qtbot):
    layer = tumor(widget)
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 8, 24, 6), 1)
    qtbot.waitUntil(lambda: widget.correcting.idle and widget.correcting.editor is not None, timeout=60000)


def settle(widget, qtbot):
    qtbot.waitUntil(lambda: widget.keeping.idle and widget.correcting.idle, timeout=60000)


def test_a_session_is_saved_and_opened(widget, qtbot, tmp_path):
    paint(widget, qtbot)
    painted = np.asarray(tumor(widget).data) != 0
    widget.keeping.save(tmp_path / "session")
    settle(widget, qtbot)
    assert widget.keeping.said.text() == "Saved in session."
    widget.correcting.undo()
    settle(widget, qtbot)
    widget.keeping.open(tmp_path / "session")
    settle(widget, qtbot)
    np.testing.assert_array_equal(np.asarray(tumor(widget).data) != 0, painted)
    assert widget.correcting.editor.corrected == {1}
    assert widget.correcting.log.count() == 2  # painted, session saved
    tables = next(a for a in widget.keeping.menu.actions() if a.data() == "recipe")
    assert not tables.isEnabled() and "files are not known" in tables.toolTip()
    widget.keeping.export("csv", tmp_path / "out")
    settle(widget, qtbot)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_what_a_crash_left_behind_is_brought_back(widget, qtbot, tmp_path, analysis):
    widget.keeping.watch(tmp_path)
    assert widget.keeping.recover_button.isHidden()
    paint(widget, qtbot)
    painted = np.asarray(tumor(widget).data) != 0
    widget.correcting.autosaver.keep()
    settle(widget, qtbot)
    widget.show_analysis(analysis)  # as after a new start: the result as it came
    widget.keeping.look_for_crashes(left_alone_s=0)
    assert not widget.keeping.recover_button.isHidden()
    widget.keeping.recover()
    settle(widget, qtbot)
    np.testing.assert_array_equal(np.asarray(tumor(widget).data) != 0, painted)
    widget.keeping.look_for_crashes(left_alone_s=0)
    widget.keeping.discard()
    assert widget.keeping.recover_button.isHidden()
