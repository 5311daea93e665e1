"""Registration against known transforms, and on real patients."""

import numpy as np
import pytest

from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.prepare.register import QUALITY_THRESHOLD, agreement, register
from napari_convlstm_tumor.volume import Grid, Volume


def target_error_mm(found, truth, head):
    """Mean distance between where two transforms send points of the head."""
    points = head.grid.to_mm(np.argwhere(head.data > 150)[::500])

    def sent(matrix):
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    return float(np.linalg.norm(sent(found) - sent(truth), axis=1).mean())


def test_a_known_motion_is_found(head, moved_head):
    moving, truth = moved_head
    found = register(moving, head)
    # a tenth of a 2.5 mm voxel; on 1 mm brains the same code gave less (docs/first-results.md)
    assert target_error_mm(found.ref_to_visit, truth, head) < 0.25
    assert found.good
    assert found.quality > 0.85


def test_scanner_spaces_far_apart_are_brought_together(head):
    shifted = head.grid.affine.copy()
    shifted[:3, 3] += (250, -180, 90)
    found = register(Volume(head.data, Grid(head.grid.shape, shifted)), head)
    assert np.allclose(found.ref_to_visit[:3, 3], (250, -180, 90), atol=1)
    assert found.good


def test_the_headers_stay_when_they_are_right(head):
    found = register(head, head)
    assert np.allclose(found.ref_to_visit, np.eye(4))
    assert "headers" in found.note


def test_two_runs_agree_exactly(head, moved_head):
    first, second = register(moved_head[0], head), register(moved_head[0], head)
    assert np.array_equal(first.ref_to_visit, second.ref_to_visit)
    assert first.quality == second.quality


def test_a_hopeless_pair_is_marked(head):
    noise = np.random.default_rng(0).normal(100, 30, head.data.shape).astype(np.float32)
    found = register(Volume(noise, head.grid), head)
    assert found.quality < QUALITY_THRESHOLD
    assert not found.good


def test_a_visit_that_shows_a_corner_of_the_body_is_not_called_good(head):
    corner = Volume(head.data[:12, :14, :], Grid((12, 14, head.data.shape[2]), head.grid.affine))
    assert agreement(corner, head, np.eye(4)) == 0.0


def test_three_millimetres_of_error_lower_the_quality(head):
    shifted = np.eye(4)
    shifted[0, 3] = 3.0
    assert agreement(head, head, np.eye(4)) > 0.99
    assert agreement(head, head, shifted) < 0.8


def test_without_a_shared_sequence_the_match_is_not_judged(head, moved_head):
    found = register(moved_head[0], head, same_modality=False)
    assert np.isnan(found.quality)
    assert not found.good
    assert "no sequence shared" in found.note


@pytest.mark.parametrize("patient", ["MS-01", "MS-19"])
def test_real_pairs_reach_the_published_transforms(shared_data, patient):
    """benchmarks/registration.py gives the figures; here ours may fall short of the published ones by 0.03."""
    sitk = pytest.importorskip("SimpleITK")
    folder = shared_data / "ms" / patient
    visits = [read_volume([folder / f"visit-{n}" / "flair.nii.gz"]) for n in (1, 2)]
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])

    def published(n):
        transform = sitk.ReadTransform(str(folder / f"visit-{n}_flair_to_common_space.txt"))
        corners = np.vstack([np.zeros(3), np.eye(3) * 100])
        sent = np.array([transform.TransformPoint(c.tolist()) for c in corners])
        matrix = np.eye(4)
        matrix[:3, :3] = (sent[1:] - sent[0]).T / 100
        matrix[:3, 3] = sent[0]
        return flip @ matrix @ flip

    reference = published(2) @ np.linalg.inv(published(1))
    ours = register(visits[1], visits[0])
    theirs = agreement(visits[1], visits[0], reference)
    assert ours.quality >= theirs - 0.03
    assert ours.quality > agreement(visits[1], visits[0], np.eye(4)) + 0.2


@pytest.mark.parametrize("patient", ["GBM-01", "GBM-03", "GBM-05", "GBM-08", "GBM-09"])
def test_thick_slices_are_not_made_worse(shared_data, patient):
    visits = [read_volume([d / "t1c.nii.gz"]) for d in sorted((shared_data / "glioblastoma" / patient).iterdir())]
    found = register(visits[1], visits[0])
    assert found.quality > agreement(visits[1], visits[0], np.eye(4)) + 0.05
