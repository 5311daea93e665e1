"""A person's own patients become sequences: masks where they are, nothing judged where they are not."""

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import own
from napari_convlstm_tumor.training.dataset import Stage
from napari_convlstm_tumor.training.sequences import PROMPT_MODES

SHAPE, SPACING = (48, 48, 40), (1.0, 1.0, 1.5)
PLAIN = Settings(register=False)


def ball(radius, centre=(24, 24, 20)):
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    squared = sum(((x - c) * s) ** 2 for x, c, s in zip(axes, centre, SPACING, strict=True))
    return (squared <= radius**2).astype(np.uint8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([*SPACING, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_patient(folder, masks, modality="t1c"):
    """T1c (or another kind of image) at every visit, a mask where ``masks`` has one: {day: (truth, given)}."""
    rng = np.random.default_rng(0)
    for day, (truth, given) in masks.items():
        image = 300 + 400.0 * truth + 20 * rng.standard_normal(SHAPE)
        write(folder / f"day-{day:03d}" / f"{modality}.nii.gz", image.astype(np.float32))
        if given:
            write(folder / f"day-{day:03d}" / "mask.nii.gz", truth)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One patient of three visits with masks at the first and the last; another lesion lies apart."""
    folder = tmp_path_factory.mktemp("own")
    other = ball(3, (5, 43, 34))
    masks = {0: (ball(6) | other, True), 50: (ball(7) | other, False), 110: (ball(8) | other, True)}
    write_patient(folder / "P1", masks)
    return folder


@pytest.fixture(scope="module")
def patient(folder, tmp_path_factory):
    (patient,) = own.own_patients(folder, tmp_path_factory.mktemp("cache"), PLAIN)
    return patient


def test_the_cache_names_nobody_and_is_read_again(folder, patient, monkeypatch):
    assert "P1" not in str(patient.folder)
    assert patient.days == (0, 50, 110)
    assert patient.judged == (True, False, True)
    monkeypatch.setattr(own, "_aligned", lambda *_: pytest.fail("aligned again"))
    (again,) = own.own_patients(folder, patient.folder.parent, PLAIN)
    assert again == own.load_kept(patient.folder) or again.folder == patient.folder


def test_the_levels_are_averages_of_the_same_place(patient):
    fine, coarse = patient.mask(0)[0], patient.mask(1)[0]
    assert patient.spacing_mm[1] == (2.0, 2.0, 1.5)
    assert coarse.shape == (24, 24, 40)
    assert coarse.mean() == pytest.approx(fine.mean(), rel=0.05)
    assert patient.data(2).dtype == np.float16


def test_a_changed_mask_is_read_anew(folder, patient, tmp_path):
    write_patient(tmp_path / "P1", {0: (ball(9), True), 50: (ball(9), False)})
    (other,) = own.own_patients(tmp_path, patient.folder.parent, PLAIN)
    assert other.folder != patient.folder


def stage(mode, visits=(3, 3)):
    return Stage(visits, tuple(float(m == mode) for m in own.PROMPT_MODES))


def test_a_sequence_is_what_the_loop_takes(patient):
    sample = own.OwnDataset([patient], 1, stage("click"))[0]
    again = own.OwnDataset([patient], 1, stage("click"))[0]
    assert all(torch.equal(value, again[name]) for name, value in sample.items())
    visits = len(sample["days"])
    assert sample["images"].shape[:2] == (visits, 6)
    assert sample["mask"].dtype == torch.bool
    assert sample["images"].shape[2:] == sample["mask"].shape[1:]
    assert sample["present"].tolist() == [False, True, False, False, False, False]
    assert all(n % 16 == 0 for n in sample["mask"].shape[1:])
    assert torch.isfinite(sample["images"]).all()


def test_only_visits_with_a_mask_are_judged(patient):
    dataset = own.OwnDataset([patient], 1, stage("click"))
    long = [s for s in (dataset[n] for n in range(8)) if len(s["days"]) == 3]
    assert long, "a sequence of all three visits is preferred"
    for sample in long:
        assert sample["judged"].tolist() == [True, False, True]
        assert sample["days"].tolist() in ([0, 50, 110], [0, 60, 110])  # forward or backward
        assert not sample["mask"][1].any()
        assert "phi" not in sample


def test_masks_and_images_stay_together(patient):
    dataset = own.OwnDataset([patient], 2, stage("mask", (1, 1)))
    for n in range(6):
        sample = dataset[n]
        image, mask = sample["images"][0, 1], sample["mask"][0]
        shell = torch.nn.functional.max_pool3d(mask[None, None].float(), 5, 1, 2)[0, 0].bool() & ~mask
        if mask.sum() > 50 and shell.any():
            assert image[mask].mean() > image[shell].mean() + 0.5


def test_a_click_means_the_lesion_it_lies_on(patient):
    """The two balls are too far apart to be one lesion: with a click one of them is the truth, with a mask both."""

    def lesions(mode):
        found = set()
        for n in range(10):
            sample = own.OwnDataset([patient], 3, stage(mode, (1, 1)))[n]
            _, count = own.ndimage.label(sample["mask"][0].numpy(), np.ones((3, 3, 3)))
            near = sample["prompt"][0][0]
            if mode == "click" and bool((near > 0.99).any()):
                assert bool(sample["mask"][0][near > 0.99].any())
            found.add(count)
        return found

    assert max(lesions("click")) == 1
    assert max(lesions("mask")) == 2


def test_own_and_simulated_are_mixed_by_their_share():
    mine, theirs = ["own"] * 400, ["simulated"] * 400
    mixed = own.MixedDataset(mine, theirs, 0.25, seed=0)
    drawn = [mixed[n] for n in range(400)]
    assert drawn == [mixed[n] for n in range(400)]
    assert 0.18 < drawn.count("own") / 400 < 0.32
    with pytest.raises(InputError, match="between 0 and 1"):
        own.MixedDataset(mine, theirs, 1.5, seed=0)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({0: (ball(6), False), 9: (ball(6), False)}, "no visit has a mask"),
        ({0: (ball(0) * 0, True), 9: (ball(6), False)}, "every mask is empty, and on ct"),
    ],
)
def test_a_patient_that_teaches_nothing_is_refused(tmp_path, masks, message):
    write_patient(tmp_path / "P7", masks, modality="ct")
    with pytest.raises(InputError, match=message):
        own.own_patient(find_patient(tmp_path / "P7"), tmp_path / "cache", PLAIN)
    with pytest.raises(InputError, match="No patient in") as caught:
        own.own_patients(tmp_path, tmp_path / "cache", PLAIN)
    assert str(tmp_path) not in str(caught.value)


def test_a_patient_without_a_tumor_teaches_that_there_may_be_none(tmp_path):
    write_patient(tmp_path / "P8", {0: (ball(0) * 0, True), 30: (ball(0) * 0, True)})
    patient = own.own_patient(find_patient(tmp_path / "P8"), tmp_path / "cache", PLAIN)
    sample = own.OwnDataset([patient], 1, Stage((2, 2), (1, 0, 0, 0, 0, 0, 0), distance_share=1.0, backward_share=0.0))[
        0
    ]
    assert sample["images"].abs().sum() > 0
    assert not sample["mask"].any()
    assert not sample["prompt"].any(), "nothing is there to click"
    assert torch.isfinite(sample["phi"]).all()


def test_without_a_prompt_a_sequence_may_begin_before_the_tumor(tmp_path):
    write_patient(tmp_path / "P9", {0: (ball(0) * 0, True), 30: (ball(6), True)})
    patient = own.own_patient(find_patient(tmp_path / "P9"), tmp_path / "cache", PLAIN)

    def first_shows(mode):
        stage = Stage((1, 1), tuple(float(m == mode) for m in PROMPT_MODES), backward_share=0.0)
        dataset = own.OwnDataset([patient], 1, stage)
        return {bool(dataset[n]["mask"].any()) for n in range(12)}

    assert first_shows("click") == {True}
    assert first_shows("none") == {True, False}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sequences_come_to_the_visit_without_the_tumor_where_they_can(tmp_path, monkeypatch, share):
    monkeypatch.setattr(own, "GONE_SHARE", share)
    write_patient(
        tmp_path / "P10", {0: (ball(6), True), 30: (ball(5), True), 60: (ball(4), True), 90: (ball(0) * 0, True)}
    )
    patient = own.own_patient(find_patient(tmp_path / "P10"), tmp_path / "cache", PLAIN)
    for count, always in ((2, {(2, 3)} if share else {(0, 1), (1, 2), (2, 3)}), (1, {(0,), (1,), (2,)})):
        stage, rng = Stage((count, count), backward_share=0.0), np.random.default_rng(2)
        drawn = {tuple(own._draw_visits(patient, patient.shows_tumor, stage, rng)) for _ in range(40)}
        assert drawn == always
    stage = Stage((2, 2), backward_share=0.0, vanishing=False)
    drawn = {tuple(own._draw_visits(patient, patient.shows_tumor, stage, rng)) for _ in range(40)}
    assert drawn == {(0, 1), (1, 2), (2, 3)}, "no more often than others"
