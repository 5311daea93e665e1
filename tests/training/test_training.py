"""Simulated patients have a known truth, samples repeat, training goes on where it stood."""

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig
from napari_convlstm_tumor.training import simulate, train
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.dataset import GrowthDataset, Stage, draw_crop, half, make_fields
from napari_convlstm_tumor.training.patients import PatientPlan, simulate_patient, write_patient

SMALL = NetworkConfig(channels=(8, 12, 16, 16, 16), hidden=(4, 4, 6, 6))


@pytest.fixture(scope="module")
def brain():
    """A small brain: white matter in a shell of grey, all on 1 mm."""
    shape = (72, 72, 64)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    radius = np.sqrt(sum((x - (n - 1) / 2) ** 2 for x, n in zip(axes, shape, strict=True)))
    tissue = np.zeros((3, *shape), np.uint8)
    tissue[1][radius < 22] = 255
    tissue[0][(radius >= 22) & (radius < 27)] = 255
    outside = np.clip(radius - 27, 0, None).astype(np.float16)
    return Anatomy("small", (1.0, 1.0, 1.0), {}, tissue, outside)


@pytest.fixture(scope="module")
def dataset(brain):
    return GrowthDataset([brain], make_fields([brain], 2, seed=1), seed=3, stage=Stage((2, 3)), distance_share=1.0)


def test_the_front_travels_a_millimetre_per_millimetre_of_white_matter(brain):
    quiet = np.random.default_rng(0)
    field = simulate.arrival_field(brain.tissue, (36, 36, 32), quiet).astype(float)
    assert field[36, 36, 32] < 1
    assert field[48, 36, 32] == pytest.approx(12, rel=0.6)  # the speed is uneven on purpose
    assert field[36 + 25, 36, 32] - field[36 + 20, 36, 32] > 5 * 1.2  # grey matter slows it


def test_radii_follow_the_speed_and_the_days():
    course = simulate.draw_course(np.random.default_rng(1), 6, 2)
    assert len(course.days) == 6
    assert all(14 <= b - a <= 240 for a, b in zip(course.days, course.days[1:], strict=False))
    for radii, speed in zip(course.radii_mm, course.speeds, strict=True):
        changes = np.diff(radii)
        assert np.all(changes * np.sign(speed) >= -1e-5)


def test_a_larger_radius_is_a_larger_tumor(brain):
    rng = np.random.default_rng(2)
    arrival = simulate.arrival_field(brain.tissue, (36, 36, 32), rng)[None]
    scene = simulate.scene_of(brain, arrival, (slice(None),) * 3)
    course = simulate.Course((0, 60, 120), np.array([[4, 8, 12]], np.float32), (2.0,))
    levels = simulate.level_fields(scene, course, rng)
    sizes = [(level < 0).sum().item() for level in levels]
    assert sizes[0] < sizes[1] < sizes[2]


def test_the_same_sample_twice_is_the_same(dataset):
    first, second = dataset[5], dataset[5]
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert not torch.equal(dataset[6]["days"], first["days"]) or not torch.equal(dataset[6]["mask"], first["mask"])


def test_a_sample_is_consistent(dataset):
    sample = dataset[2]
    visits = len(sample["days"])
    assert sample["images"].shape[:2] == (visits, 6)
    assert sample["images"].shape[2:] == sample["mask"].shape[1:]
    absent = ~sample["present"]
    assert not sample["images"][:, absent].any()
    assert torch.isfinite(sample["images"]).all()
    assert torch.all(sample["days"][1:] > sample["days"][:-1])
    inside = sample["phi"][sample["mask"]]
    assert inside.numel() == 0 or inside.max() <= 0


def test_crops_fit_the_poolings():
    rng = np.random.default_rng(0)
    for native in ((1.0, 1.0, 1.0), (1.5, 1.5, 3.3)):
        for extent in np.linspace(3, 250, 50):
            crop, spacing, _ = draw_crop(float(extent), rng, native)
            assert all(n % 16 == 0 for n in crop)
            assert min(spacing) >= 0.8 * native[0]


def test_half_an_anatomy_is_the_same_place(brain):
    small = half(brain)
    assert small.spacing_mm == (2.0, 2.0, 2.0)
    assert small.tissue[1].mean() == pytest.approx(brain.tissue[1].mean(), rel=0.02)


def test_training_learns_and_goes_on_where_it_stood(dataset, brain, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_anatomies", lambda data: [brain])
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    torch.manual_seed(0)
    options = train.TrainOptions(run=tmp_path / "run", steps=4, fields=1, network=SMALL, threads=1, workers=0)
    assert list(train.train(options)) == []  # records come every 50 steps
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["step"] == 4
    longer = train.TrainOptions(run=tmp_path / "run", steps=6, fields=1, network=SMALL, threads=1, workers=0)
    list(train.train(longer))
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 6
    train.export(tmp_path / "run", tmp_path / "w.safetensors")
    assert (tmp_path / "w.json").exists()


def test_one_sample_can_be_learned(dataset):
    torch.manual_seed(0)
    network = GrowthNet(SMALL)
    sample = {k: v[None] for k, v in dataset[2].items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = [train.training_step(network, sample, optimiser)["segmentation"] for _ in range(25)]
    assert losses[-1] < 0.75 * losses[0]


def test_a_simulated_patient_repeats_and_is_read_back(brain, tmp_path):
    plan = PatientPlan(seed=4, visits=3, course="growing", modalities=("t1c", "flair"), spacing_mm=(2.0, 2.0, 3.0))
    first, second = simulate_patient(plan, brain), simulate_patient(plan, brain)
    assert np.array_equal(first.images["t1c"], second.images["t1c"])
    assert np.array_equal(first.masks, second.masks)
    assert np.all(np.diff(first.still.sum(axis=(1, 2, 3))) > 0)
    folder = write_patient(plan, tmp_path / "sim", anatomy=brain)
    files = find_patient(folder)
    assert files.days == first.days
    assert files.modalities == ("t1c", "flair")
    assert all(v.mask is not None for v in files.visits)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"visits": 1}, "2 to 8"),
        ({"modalities": ("pet",)}, "modalities"),
        ({"spacing_mm": (1.0, 1.0, 99.0)}, "spacing"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        PatientPlan(seed=1, **values)
