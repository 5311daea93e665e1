"""The review queue as a person uses it: open, step, look, mark."""

import csv

import numpy as np
import pytest

pytest.importorskip("napari")

from qtpy.QtCore import QTimer

from napari_convlstm_tumor._napari import viewer as view
from napari_convlstm_tumor._napari.review import ReviewQueue
from napari_convlstm_tumor.results import save


@pytest.fixture
def batch(tmp_path, analysis_of):
    """Two results and a failure; the hand-made analysis has a registration that is not good."""
    from dataclasses import replace

    for name in ("P1", "P2"):
        made = analysis_of()
        save(replace(made, patient=name, report=replace(made.report, patient=name)), tmp_path / name)
    rows = [("patient", "status", "error"), ("P1", "done", ""), ("P2", "done", ""), ("P0", "failed", "No image.")]
    with (tmp_path / "summary.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path


@pytest.fixture
def queue(make_napari_viewer, qtbot, batch):
    dock = ReviewQueue(make_napari_viewer())
    qtbot.addWidget(dock)
    dock.open(batch)
    yield dock
    qtbot.waitUntil(lambda: dock.job is None, timeout=20000)


def test_failed_first_then_step_and_mark(queue, qtbot, batch):
    assert [queue.list.item(n).text().split()[1] for n in range(3)] == ["P0", "P1", "P2"]
    assert queue.why.text() == "No image." and not queue.show_button.isEnabled()
    queue.accept_button.click()
    assert queue.current.patient == "P1"
    assert "registration is not good" in queue.why.text()
    queue.show_button.click()
    qtbot.waitUntil(lambda: queue.job is None, timeout=20000)
    tumor = next(layer for layer in queue.viewer.layers if view.kind_of(layer) == "tumor")
    assert np.asarray(tumor.data).any() and view.shown_by(tumor).patient == "P1"
    queue.correct_button.click()
    assert queue.count.text() == "2 of 3 patients reviewed"
    with (batch / "review.csv").open() as stream:
        assert {r["patient"]: r["mark"] for r in csv.DictReader(stream)} == {"P0": "accepted", "P1": "corrected"}


def test_next_passes_over_what_is_marked(queue, qtbot):
    queue.accept_button.click()
    queue.list.setCurrentRow(0)
    queue.next_button.click()
    assert queue.current.patient == "P1"
    qtbot.waitUntil(lambda: queue.job is None, timeout=20000)


def test_a_folder_that_is_no_batch_is_said(queue, tmp_path):
    (tmp_path / "x").mkdir()
    queue.open(tmp_path / "x")
    assert "no summary.csv" in queue.why.text()


def test_the_widget_shows_the_numbers_of_the_patient_on_show_and_keeps_what_was_painted(queue, qtbot, analysis):
    """One layer a turn; not the numbers of the patient before beside another's images, nor a painted mask lost."""
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget

    widget = TumorGrowthWidget(queue.viewer)
    qtbot.addWidget(widget)
    widget.show_analysis(analysis)
    queue.viewer.layers["tumor"].paint((1, 8, 24, 6), 1)
    turns, seen, patients = [0], [], []
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(turns.pop() + 1))
    timer.start(0)
    queue.viewer.layers.events.inserted.connect(lambda event: seen.append(turns[0]))
    queue.viewer.layers.events.inserted.connect(lambda event: patients.append(widget._numbers_of))
    queue.list.setCurrentRow(1)
    queue.show_button.click()
    qtbot.waitUntil(lambda: queue.job is None, timeout=20000)
    timer.stop()
    assert len(set(seen)) == len(seen) > 4
    assert "HAND-01" not in patients and widget.analysis.patient == "P1"
    assert "Patient: P1" in widget.measuring.patient.text()
    assert "tumor (painted)" in queue.viewer.layers
    qtbot.waitUntil(lambda: widget.correcting.idle, timeout=20000)
