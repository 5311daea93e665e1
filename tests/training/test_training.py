"""Simulated patients have a known truth, samples repeat, training goes on where it stood."""

import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig
from napari_convlstm_tumor.model.prompts import LIKENESS_CARRIED, SIMILARITY_WIDTH
from napari_convlstm_tumor.training import dataset as samples
from napari_convlstm_tumor.training import leakage, losses, material, simulate, train
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.baseline import VisitUNet, load_baseline
from napari_convlstm_tumor.training.crops import ROOM_VOXELS, draw_crop, half, head_crop, wide_crop
from napari_convlstm_tumor.training.dataset import GrowthDataset, Stage, make_fields
from napari_convlstm_tumor.training.parallel import join
from napari_convlstm_tumor.training.patients import PatientPlan, simulate_patient, write_patient
from napari_convlstm_tumor.training.sequences import sequence_of, with_prompts

SMALL = NetworkConfig(channels=(8, 12, 16, 16, 16), hidden=(4, 4, 6, 6))
# The least that can be trained on: four halvings, and 3 voxels of the first axis are left at the deepest level. With 2
# torch 2.13 on the CPU returns memory it never wrote as the bf16 gradient of a 3-D convolution's weights.
CROP = (48, 32, 16)


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
    return GrowthDataset([brain], make_fields([brain], 2, seed=1), seed=3, stage=Stage((2, 3), distance_share=1.0))


@pytest.mark.parametrize(("mode", "carried"), [("click", True), ("click", False), ("click all", True), ("none", True)])
def test_the_tissue_pointed_at_is_known_again_at_the_other_visits(mode: str, carried: bool) -> None:
    masks = torch.zeros(2, 12, 12, 8, dtype=torch.bool)
    masks[:, 3:9, 3:9, 1:7] = True
    images = torch.where(masks, 2.0, 0.0)[:, None]
    images[1] += 0.1  # another scan
    levels = torch.where(masks, -1.0, 1.0)
    levels[:, 6, 6, 4] = -3.0  # the click
    sequence = sequence_of(images, ("t1",), masks, (0, 60), (1.0, 1.0, 1.0), levels)
    sequence["present"] = torch.tensor([True])
    alike = with_prompts(sequence, mode, Always(), 1.0 if carried else 0.0)["alike"]
    first, later = ([float(frame[0, i, 6, 4]) for i in (6, 0)] for frame in alike)
    expected = LIKENESS_CARRIED * np.exp(-((0.1 / SIMILARITY_WIDTH) ** 2)) if carried else 0.0
    if mode == "none":
        assert first == later == [0.0, 0.0]
    else:
        assert first == pytest.approx([1.0, 0.0], abs=1e-4)
        assert later == pytest.approx([1.0 if mode == "click all" else expected, 0.0], abs=1e-4)


@pytest.mark.parametrize("start", [None, "default"])
def test_the_per_visit_network_is_told_nothing_of_other_visits(tmp_path, start) -> None:
    for baseline, carried in ((True, False), (False, True)):
        options = train.TrainOptions(tmp_path, baseline=baseline, start=start)
        assert all((stage.carried_share > 0) == carried for _, stage in train._stages(options))


class Always:
    """A generator whose draws are 0.5: likeness is shown, clicks are deep."""

    def random(self) -> float:
        return 0.5

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

    def integers(self, n: int) -> int:
        return n // 2


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
            assert crop[0] >= CROP[0]
            assert min(spacing) >= 0.8 * native[0]
    assert all(head_crop(rng, search)[0][0] >= CROP[0] for search in (False, True) for _ in range(20))


def test_a_wide_crop_is_as_coarse_as_the_first_look_and_keeps_thick_slices():
    rng = np.random.default_rng(0)
    for through in (1.5, 3.3, 6.5):
        crop, spacing, average = wide_crop(rng, (1.5, 1.5, through))
        assert all(n % 16 == 0 for n in crop) and average == 1
        assert 2.5 <= spacing[0] == spacing[1] <= 3.5
        assert spacing[2] >= 0.95 * max(spacing[0], through)


def test_a_large_lesion_has_room_in_most_crops():
    rng = np.random.default_rng(0)
    cut = 0
    for _ in range(300):
        crop, spacing, _ = draw_crop(50.0, rng)
        cut += 50.0 / spacing[0] + ROOM_VOXELS > max(crop[:2])
    assert 0 < cut < 60  # those left as they were drawn, and none else


def test_half_an_anatomy_is_the_same_place(brain):
    small = half(brain)
    assert small.spacing_mm == (2.0, 2.0, 2.0)
    assert small.tissue[1].mean() == pytest.approx(brain.tissue[1].mean(), rel=0.02)


@pytest.fixture
def options(brain, tmp_path, monkeypatch):
    """A run of four steps on small crops of one small brain, saved and recorded at every second step."""
    monkeypatch.setattr(samples, "draw_crop", lambda *args: (CROP, *draw_crop(*args)[1:]))
    monkeypatch.setattr(samples, "head_crop", lambda *args, **how: (CROP, *head_crop(*args, **how)[1:]))
    monkeypatch.setattr(material, "load_anatomies", lambda data: [brain])
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    monkeypatch.setattr(train, "RECORD_EVERY", 2)
    torch.manual_seed(0)
    return train.TrainOptions(run=tmp_path / "run", steps=4, fields=1, network=SMALL, threads=1, workers=0)


def checkpoint(run):
    return torch.load(run / "last.pt", weights_only=True)


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(options, tmp_path, monkeypatch):
    records = list(train.train(options))
    assert [r["step"] for r in records] == [2, 4]
    assert {"segmentation", "dice", "seconds", "waited"} <= records[0].keys()
    whole = checkpoint(options.run)
    step, taken = train.training_step, []

    def cut_off(*inputs):
        taken.append(1)
        if len(taken) == 4:  # step 2 is saved, step 3 is lost
            raise KeyboardInterrupt
        return step(*inputs)

    monkeypatch.setattr(train, "training_step", cut_off)
    torch.manual_seed(0)
    again = replace(options, run=tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        list(train.train(again))
    assert checkpoint(again.run)["step"] == 2
    list(train.train(again))
    resumed = checkpoint(again.run)
    assert len(taken) == 6 and resumed["step"] == whole["step"] == 4
    for name, value in whole["network"].items():
        assert torch.equal(value, resumed["network"][name]), name
    for name, value in whole["average"].items():
        assert torch.equal(value, resumed["average"][name]), name


@pytest.mark.parametrize("change", [{"baseline": True}, {"network": replace(SMALL, cell="attention")}])
def test_other_networks_are_trained_by_the_same_loop_and_exported(options, tmp_path, change):
    plan = replace(options, steps=1, **change)
    list(train.train(plan))
    train.export(plan.run, tmp_path / "w.safetensors")
    load = load_baseline if plan.baseline else lambda path: load_model(str(path))
    model = load(tmp_path / "w.safetensors")
    assert isinstance(model.network, VisitUNet if plan.baseline else GrowthNet)
    assert model.card["steps"] == 1


def test_what_was_trained_on_goes_into_the_card_and_on_to_what_starts_with_it(options, tmp_path, monkeypatch):
    monkeypatch.setattr(material.leakage, "anatomy_files", lambda names, data: [tmp_path / "image"])
    (tmp_path / "image").write_bytes(b"one")
    seen = leakage.fingerprint(tmp_path / "image")
    first = replace(options, steps=1, data=tmp_path)
    list(train.train(first))
    train.export(first.run, tmp_path / "first.safetensors")
    second = replace(options, steps=1, run=tmp_path / "second", start=str(tmp_path / "first.safetensors"))
    list(train.train(second))
    train.export(second.run, tmp_path / "second.safetensors")
    card = load_model(str(tmp_path / "second.safetensors")).card
    assert card[leakage.CARD_KEY] == [seen]
    assert card["steps"] == 2
    assert "STS-003" in card["held_out"]
    assert any("Soft-tissue-Sarcoma" in line for line in card["trained_on"])


def test_a_run_on_simulation_alone_claims_no_real_patient(options, tmp_path):
    list(train.train(replace(options, steps=1)))
    train.export(options.run, tmp_path / "w.safetensors")
    card = load_model(str(tmp_path / "w.safetensors")).card
    assert card["trained_on"] == ["growth simulated on ICBM152 2009a tissue maps (Fonov et al. 2011)"]
    assert (card[leakage.CARD_KEY], card["held_out"]) == ([], "")


def test_only_networks_of_our_own_truth_say_on_what_the_core_is_outlined():
    """A person's masks may be of the whole tumor: such a network, and what begins with it, uses all images."""
    ours = material.about(True, 0, None, False)
    assert ours["core_on"] == ["t1", "t1c"]
    theirs = material.about(True, 3, ours, False)
    assert theirs["core_on"] == material.about(True, 0, theirs, False)["core_on"] == []


def test_where_outlines_lie_was_measured_for_our_own_truth():
    """A person's masks teach the network their border; what begins with shipped weights keeps what their card says."""
    shipped = {**material.about(True, 0, None, False), "outline_at": {"flair": 0.2}}
    assert material.about(True, 0, None, False)["outline_at"] == {}
    assert material.about(True, 0, shipped, False)["outline_at"] == {"flair": 0.2}
    assert material.about(True, 3, shipped, False)["outline_at"] == {}


def cut_to_tumor(sample):
    """A batch of one: the CROP around the tumor of a sample."""
    middle = torch.nonzero(sample["mask"].any(0)).float().mean(0)
    starts = [
        int(min(max(m - c // 2, 0), n - c)) for m, c, n in zip(middle, CROP, sample["mask"].shape[1:], strict=True)
    ]
    box = tuple(slice(start, start + c) for start, c in zip(starts, CROP, strict=True))
    return {k: v[None][..., *box] if v.ndim >= len(CROP) else v[None] for k, v in sample.items()}


def test_visits_without_a_mask_teach_nothing(dataset):
    torch.manual_seed(0)
    network = GrowthNet(SMALL)
    sample = cut_to_tumor({k: v for k, v in dataset[2].items() if k not in ("phi", "mean_speed")})
    visits = sample["days"].shape[1]
    assert visits > 1
    judged = torch.arange(visits)[None] == 0
    scribbled = sample["mask"].clone()
    scribbled[:, 1:] = ~scribbled[:, 1:]
    with torch.no_grad():
        some = losses.sequence_losses(network, {**sample, "judged": judged})["segmentation"]
        other = losses.sequence_losses(network, {**sample, "judged": judged, "mask": scribbled})["segmentation"]
        whole = losses.sequence_losses(network, sample)["segmentation"]
    assert torch.equal(some, other)
    assert not torch.equal(some, whole)


def test_what_is_tumor_at_some_visits_alone_weighs_more_and_alike_in_both_directions() -> None:
    """Over-drawn at the visit without it, or missed at the visit with it, costs the same and more than elsewhere."""
    first, second = torch.zeros(2, 1, 5, 8, 8).unbind()
    first[:, 0], second[:, 1], first[:, 2], second[:, 2] = 1, 1, 1, 1  # gone, come, at both; never tumor
    masks = torch.stack([first, second], dim=1)
    changing, place = losses._changing(masks), losses._place(masks)
    assert changing[0, 0, :, 0, 0].tolist() == [True, True, False, False, False]
    assert place[0, 0, :, 0, 0].tolist() == [True, True, True, True, False]
    for truth in (first, second):
        weights = losses._weights(truth[:, None], changing, place)[0, 0, :, 0, 0].tolist()
        assert weights == [losses.CHANGING_WEIGHT, losses.CHANGING_WEIGHT, losses.TUMOR_WEIGHT, 1.0, 1.0]
    assert losses._changing(masks[:, :1]).sum() == 0


def test_the_place_of_a_small_tumor_weighs_as_much_as_a_share_of_the_crop_at_every_visit() -> None:
    """Whether it is there or gone: what is missed costs as much as a rest that is outlined."""
    masks = torch.zeros(1, 2, 12, 12, 12)
    masks[0, 0, 5, 5, 5] = 1
    changing, place = losses._changing(masks), losses._place(masks)
    assert place.sum() == 27
    for visit in (0, 1):
        weights = losses._weights(masks[:, visit : visit + 1], changing, place)
        assert float(weights[place].sum()) == pytest.approx(losses.PLACE_SHARE * 12**3)
        assert weights[~place].max() == weights[~place].min() == 1.0
    nothing = torch.zeros_like(place)
    assert torch.equal(losses._weights(masks[:, 1:], nothing, nothing), torch.ones(1, 1, 12, 12, 12))


def test_simulated_tumors_vanish_in_some_sequences(brain, monkeypatch) -> None:
    stage, fields = Stage((3, 3), (1, 0, 0, 0, 0, 0, 0)), make_fields([brain], 1, seed=1)
    monkeypatch.setattr(samples, "GONE_SHARE", 1.0)
    monkeypatch.setattr(samples, "GONE_RADIUS_MM", (-30.0, -30.0))  # less, and oedema may be left
    for n in range(4):
        shown = GrowthDataset([brain], fields, 3, stage)[n]["mask"].flatten(1).any(dim=1).tolist()
        assert shown == sorted(shown, reverse=True) and not shown[-1], "gone for good, at the last visit at the latest"
    kept = GrowthDataset([brain], fields, 3, replace(stage, vanishing=False))
    assert any(bool(kept[n]["mask"].flatten(1).any(dim=1)[-1]) for n in range(4))


@pytest.mark.parametrize(("values", "message"), [({"own_share": 0.0}, "share"), ({"steps": 0}, "steps")])
def test_options_that_make_no_sense_are_refused(tmp_path, values, message):
    with pytest.raises(SettingsError, match=message):
        train.TrainOptions(run=tmp_path, **values)


def test_nothing_is_exported_of_a_run_that_saved_nothing(tmp_path):
    with pytest.raises(SettingsError, match="nothing to export"):
        train.export(tmp_path, tmp_path / "w.safetensors")


def _one_of_two(rank, folder, port):
    """A process of a team of two: one step on a batch of its own, its weights kept."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    team = join("cpu")
    torch.manual_seed(rank)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    network.add_module("unused", torch.nn.Linear(1, 1))
    team.share_weights(network)
    with team.first_alone():
        (folder / "order").open("a").write(str(rank))
    before = [p.detach().clone() for p in network.parameters()]
    network[1](network[0](torch.full((1, 3), float(rank + 1)))).sum().backward()
    own = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    team.average_gradients(network)
    torch.save((before, own, [p.grad for p in network.parameters()]), folder / f"{rank}.pt")
    team.leave()


@pytest.mark.slow
def test_two_processes_take_the_mean_of_their_gradients(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(_one_of_two, (tmp_path, port), nprocs=2, start_method="fork")
    (before, own, mean), (before1, own1, mean1) = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    assert (tmp_path / "order").read_text() == "01"
    for a, b in zip(before, before1, strict=True):
        assert torch.equal(a, b)
    for a, b, c, d in zip(own, own1, mean, mean1, strict=True):
        expected = torch.zeros_like(c) if a is None else (a + b) / 2
        assert torch.allclose(c, expected) and torch.equal(c, d)
    assert not torch.equal(own[0], own1[0])


@pytest.mark.slow
def test_two_processes_train_one_network_by_torchrun(tmp_path):
    """The command that docs/training.md gives, on two CPU processes and the template brain."""
    base = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    run = ["napari_convlstm_tumor", "train", "--run", str(tmp_path / "run"), "--steps", "2", "--fields", "1"]
    export = ["--export", str(tmp_path / "w.safetensors")]
    subprocess.run([*base, *run, *export], check=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert checkpoint(tmp_path / "run")["step"] == 2
    assert load_model(str(tmp_path / "w.safetensors")).card["steps"] == 2


def test_one_sample_can_be_learned(dataset):
    torch.manual_seed(0)
    network = GrowthNet(SMALL)
    sample = cut_to_tumor(dataset[4])
    assert sample["mask"].any()
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
