"""The widget runs the real pipeline with a stand-in for the network, and can be stopped."""

import dataclasses
import shutil
import threading

import numpy as np
import pytest

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor._napari import layers
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid

WAIT_MS = 60_000


@pytest.fixture
def opened(make_napari_viewer, bright_voxels):
    """(viewer, widget) with the stand-in and registration off."""
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget

    viewer = make_napari_viewer()
    widget = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.segmenter = bright_voxels()
    widget.form.set(Settings(register=False))
    return viewer, widget


def run(qtbot, widget):
    widget.run()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=WAIT_MS)


def test_run_shows_layers_and_numbers(qtbot, opened, patient):
    viewer, widget = opened
    widget.folder.setText(str(patient))
    run(qtbot, widget)
    assert widget.status.text() == "Done"
    assert widget.progress.value() == widget.progress.maximum()
    assert [layer.name for layer in viewer.layers][:2] == ["t1c", "front speed (mm/month)"]
    assert viewer.layers["tumor"].n_edit_dimensions == 3
    assert viewer.layers["front speed (mm/month)"].colorbar.visible
    assert widget.measuring.visits.rowCount() == 3
    assert widget.measuring.visits.item(2, 1).text() == "97"
    ball_ml = 4 / 3 * np.pi * 10**3 / 1000
    assert float(widget.measuring.visits.item(2, 2).text().split()[0]) == pytest.approx(ball_ml, rel=0.05)
    assert "not judged" in widget.warnings.text() or "below the threshold" in widget.warnings.text()
    assert widget.measuring.patient.text() == "Patient: HAND-01. Outlines: bright"
    assert widget.save_button.isEnabled()


def test_masks_found_are_said_before_and_after(qtbot, opened, patient, analysis):
    """Or a person takes an annotator's outlines for the network's."""
    _, widget = opened
    for day in patient.iterdir():
        shutil.copy(day / "t1c.nii.gz", day / "tumor.nii.gz")
    widget.opening.open(patient)
    qtbot.waitUntil(lambda: widget.opening.found is not None, timeout=WAIT_MS)
    assert "Tumor masks lie beside the images" in widget.status.text()
    given = dataclasses.replace(analysis.prediction, model="masks given")
    widget.show_analysis(dataclasses.replace(analysis, prediction=given))
    assert widget.measuring.patient.text().endswith("the masks found beside the images, not the network's")


def test_words_follow_the_slider(qtbot, opened, analysis):
    viewer, widget = opened
    widget.show_analysis(analysis)
    assert viewer.dims.current_step[0] == 2  # begins at the last visit
    assert viewer.canvas.overlays.text.text.startswith("visit 3/3, day 97")
    viewer.dims.set_current_step(0, 1)
    assert viewer.canvas.overlays.text.text == "visit 2/3, day 41\ncolours: front speed (mm/month)"
    viewer.layers["front speed (mm/month)"].visible = False
    assert viewer.canvas.overlays.text.text == "visit 2/3, day 41"
    viewer.layers["forecast day 153"].visible = True
    assert viewer.canvas.overlays.text.text == "visit 2/3, day 41\ncyan outline: forecast day 153"
    viewer.layers.clear()
    assert not viewer.canvas.overlays.text.visible


def test_cancel_stops_between_two_steps_and_leaves_the_layers(qtbot, opened, patient, bright_voxels):
    viewer, widget = opened
    widget.segmenter = bright_voxels(pause_s=0.2)
    widget.folder.setText(str(patient))
    widget.run()
    assert widget.running.run_button.text() == "Cancel"
    qtbot.waitUntil(lambda: bool(widget.segmenter.seen), timeout=WAIT_MS)
    widget.running.run_button.click()
    qtbot.waitUntil(lambda: widget.worker is None, timeout=WAIT_MS)
    assert widget.status.text() == "Cancelled."
    assert widget.running.run_button.text() == "Run"
    assert len(viewer.layers) == 0
    assert widget.analysis is None


def test_the_work_is_done_off_the_main_thread(qtbot, opened, patient):
    _, widget = opened
    inner, threads = widget.segmenter, []

    def segment(*given):
        threads.append(threading.current_thread())
        return inner(*given)

    widget.segmenter = segment
    widget.folder.setText(str(patient))
    run(qtbot, widget)
    assert threads and threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory"), "Something unexpected went wrong (RuntimeError)."),
        (KeyError("layer"), "Something unexpected went wrong (KeyError)."),
    ],
)
def test_unexpected_error_is_a_sentence_with_details(qtbot, opened, patient, bright_voxels, error, sentence):
    """RuntimeError too: a thread worker swallows it by itself."""
    viewer, widget = opened
    widget.segmenter = bright_voxels(error=error)
    widget.folder.setText(str(patient))
    run(qtbot, widget)
    assert widget.status.text() == sentence
    assert not widget.details_button.isHidden()
    assert type(error).__name__ in widget._details and "Traceback" in widget._details
    assert len(viewer.layers) == 0


def test_wrong_input_is_said_in_the_pipelines_own_words(qtbot, opened, tmp_path):
    _, widget = opened
    widget.run()
    assert widget.status.text() == "Choose a patient's folder first."
    (tmp_path / "empty").mkdir()
    widget.folder.setText(str(tmp_path / "empty"))
    run(qtbot, widget)
    assert "empty" in widget.status.text() and "unexpected" not in widget.status.text()
    widget.form.editors["spacing"].setText("fine")
    widget.run()
    assert "wrong kind" in widget.status.text()
    assert widget.worker is None


def test_clicks_reach_the_segmenter_in_millimetres(qtbot, opened, patient):
    viewer, widget = opened
    viewer.open(str(patient), plugin="napari-convlstm-tumor")
    assert widget.folder.text() == str(patient)
    widget.running.click_button.click()
    points = viewer.layers["clicks on the tumor"]
    assert points.mode == "add"
    points.add(points.world_to_data((1, *layers.to_world((1.0, 2.0, 12.0)))))
    run(qtbot, widget)
    _, prompts, settings = widget.segmenter.seen[0]
    assert settings.prompts is None
    assert [(p.visit, p.type) for p in prompts] == [(2, "point")]
    np.testing.assert_allclose(prompts[0].ras_mm, (1, 2, 12), atol=1e-6)
    again = viewer.layers["clicks on the tumor"]  # still there, on the result
    np.testing.assert_allclose(layers.to_ras_mm(again.data_to_world(again.data[0])), (1, 2, 12), atol=1e-6)


def test_clicks_that_change_nothing_are_named(opened, analysis):
    _, widget = opened
    given = dataclasses.replace(analysis, prediction=dataclasses.replace(analysis.prediction, model="masks given"))
    widget.show_analysis(given)
    assert "changed nothing" not in widget.status.text()
    widget.running.click_button.click()
    widget.running.points().add((0, 3, 3, 3))
    widget.show_analysis(given)
    assert "changed nothing" in widget.status.text()


def test_clicks_of_another_patient_are_refused(qtbot, opened, analysis, patient):
    _, widget = opened
    widget.show_analysis(dataclasses.replace(analysis, patient="OTHER"))
    widget.running.click_button.click()
    points = widget.running.points()
    points.add((0, 3, 3, 3))
    widget.folder.setText(str(patient))
    run(qtbot, widget)
    assert "another patient" in widget.status.text()
    assert not widget.segmenter.seen


def test_clicks_on_other_visits_are_refused(qtbot, opened, patient):
    """With fewer visits a click's number would point at another visit."""
    viewer, widget = opened
    viewer.open(str(patient), plugin="napari-convlstm-tumor")
    widget.running.click_button.click()
    widget.running.points().add((2, 3, 3, 3))
    shutil.rmtree(patient / "day-041")
    run(qtbot, widget)
    assert "(0, 41, 97)" in widget.status.text() and "(0, 97)" in widget.status.text()
    assert not widget.segmenter.seen


def test_numbers_of_one_patient_never_stand_beside_another(opened, analysis, patient, tmp_path):
    viewer, widget = opened
    report = dataclasses.replace(analysis.report, patient="OTHER")
    other = dataclasses.replace(analysis, patient="OTHER", report=report)
    widget.show_analysis(other)
    assert not widget.measuring.visits.isHidden() and widget.save_button.isEnabled()
    viewer.open(str(patient), plugin="napari-convlstm-tumor")
    assert "HAND-01" in widget.status.text()
    assert widget.measuring.visits.isHidden() and widget.measuring.patient.isHidden()
    assert not widget.save_button.isEnabled()
    pipeline.save(other, tmp_path / "OTHER")
    viewer.open(str(tmp_path / "OTHER"), plugin="napari-convlstm-tumor")
    assert not widget.measuring.visits.isHidden()
    assert widget.measuring.patient.text() == "Patient: OTHER. Outlines: made"
    viewer.open(str(patient), plugin="napari-convlstm-tumor")
    assert widget.measuring.visits.isHidden()


def test_closing_the_widget_stops_the_work(qtbot, opened, patient, bright_voxels):
    viewer, widget = opened
    widget.segmenter = bright_voxels(pause_s=0.2)
    widget.folder.setText(str(patient))
    widget.run()
    worker = widget.worker
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    qtbot.waitUntil(lambda: worker.abort_requested and not worker.is_running, timeout=WAIT_MS)


def test_click_needs_something_to_click_on(opened):
    viewer, widget = opened
    widget.running.click_button.click()
    assert "Open the patient first" in widget.status.text()
    assert len(viewer.layers) == 0


def test_save_and_open_again(qtbot, opened, analysis, tmp_path):
    viewer, widget = opened
    widget.show_analysis(analysis)
    viewer.layers["tumor"].data[0, 0, 0, 0] = 1  # as if painted
    widget.save(tmp_path)
    qtbot.waitUntil(lambda: widget.worker is None, timeout=WAIT_MS)
    assert "painted in the viewer is not in it" in widget.status.text()
    np.testing.assert_array_equal(pipeline.load(tmp_path / "HAND-01").masks, analysis.masks)
    widget.analysis = None
    widget.folder.setText(str(tmp_path / "HAND-01"))
    run(qtbot, widget)
    assert widget.analysis.patient == "HAND-01"
    assert not widget.segmenter.seen  # read, not computed
    assert [layer.name for layer in viewer.layers if "painted" in layer.name] == ["tumor (painted)"]


def test_opening_a_result_brings_its_numbers(opened, analysis, tmp_path):
    viewer, widget = opened
    pipeline.save(analysis, tmp_path / "HAND-01")
    viewer.open(str(tmp_path / "HAND-01"), plugin="napari-convlstm-tumor")
    assert widget.measuring.visits.rowCount() == 3
    assert "0.47 is below the threshold" in widget.warnings.text()
    assert viewer.canvas.overlays.text.text.startswith("visit 3/3")


def test_all_layers_share_units_and_axes(opened, analysis):
    viewer, widget = opened
    widget.show_analysis(analysis)
    widget.running.click_button.click()
    assert [str(unit) for unit in viewer.layers.extent.units] == ["pixel", "millimeter", "millimeter", "millimeter"]
    assert viewer.dims.axis_labels == layers.AXIS_LABELS
    assert viewer.dims.range[1].step == 3.0
    assert viewer.dims.nsteps[0] == 3


def test_three_d_view_is_not_a_mirror_image(make_napari_viewer):
    """Seen from the feet (the plate there hides the one at the head), face up: the patient's left is on the right."""
    from napari.layers import Labels

    grid = Grid((30, 30, 30), np.eye(4))
    feet, head, left, front = 1, 2, 3, 4
    scene = np.zeros((1, 30, 30, 30), np.uint8)  # indices rise to the patient's right, front and head
    scene[0, 12:18, 12:18, 5] = feet
    scene[0, 12:18, 12:18, 25] = head
    scene[0, 2:6, 12:18, 15] = left
    scene[0, 12:18, 24:28, 15] = front
    viewer = make_napari_viewer(show=True)
    colours = {None: "black", feet: "red", head: "green", left: "blue", front: "white"}
    viewer.add_layer(Labels(layers.to_display(scene, grid).copy(), colormap=colours, **layers.placement(grid)))
    viewer.dims.ndisplay = 3
    picture = viewer.screenshot(size=(300, 300), flash=False)[..., :3].astype(int)
    lit = picture.sum(axis=-1) > 100
    red, green, blue = (lit & (picture[..., n] > picture.sum(axis=-1) * 0.8) for n in range(3))
    white = lit & (np.ptp(picture, axis=-1) < 20)
    assert red.sum() > 20 * max(green.sum(), 1)
    assert np.argwhere(blue)[:, 1].min() > np.argwhere(red)[:, 1].max()
    assert np.argwhere(white)[:, 0].max() < np.argwhere(red)[:, 0].min()


def test_growth_map_is_coloured_on_the_screen(make_napari_viewer, analysis):
    """Red where the ball grew, the image's grey where nothing is known; NaN does not paint the 3-D view."""
    from napari.layers import Layer

    from napari_convlstm_tumor._napari.viewer import attach

    viewer = make_napari_viewer(show=True)
    attach(viewer)
    for data, options, kind in layers.to_layers(analysis):
        viewer.add_layer(Layer.create(data, options, kind))
    viewer.layers["tumor"].visible = False
    viewer.layers["front speed (mm/month)"].colorbar.visible = False
    flat = viewer.screenshot(size=(400, 400), flash=False).astype(int)
    red = (flat[..., 0] > 180) & (flat[..., 1] < 60) & (flat[..., 2] < 60)
    blue = (flat[..., 2] > 180) & (flat[..., 0] < 60)
    assert 500 < red.sum() < 40_000
    assert blue.sum() < 50
    viewer.dims.ndisplay = 3
    deep = viewer.screenshot(size=(400, 400), flash=False).astype(int)
    assert ((deep[..., 2] > 180) & (deep[..., 0] < 60)).sum() < 50
    viewer.dims.ndisplay = 2
    assert np.isnan(viewer.layers["front speed (mm/month)"].data[0]).all()
