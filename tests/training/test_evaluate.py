"""The table says what the numbers are; a patient trained on is refused; every method answers a case."""

import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.errors import ModelError, SettingsError
from napari_convlstm_tumor.model.card import load_model, save_model
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig, pool_strides
from napari_convlstm_tumor.series import AlignedSeries, Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import baseline, evaluate, goals, kept, leakage, methods, testsets
from napari_convlstm_tumor.training.evaluate import Plan, Score
from napari_convlstm_tumor.training.material import HELD_OUT_SARCOMAS
from napari_convlstm_tumor.training.patients import PatientPlan
from napari_convlstm_tumor.volume import Grid, Volume

SMALL = NetworkConfig(channels=(8, 12, 16, 16, 16), hidden=(4, 4, 6, 6))
SHAPE = (32, 32, 32)


def ball(radius):
    squared = sum((x - 16) ** 2 for x in np.ogrid[tuple(slice(n) for n in SHAPE)])
    return (squared <= radius**2).astype(np.uint8)


@pytest.fixture
def case():
    """A bright ball that grows from 5 to 9 mm in three visits."""
    grid = Grid(SHAPE, np.eye(4))
    truths = tuple(ball(r) for r in (5, 7, 9))
    rng = np.random.default_rng(0)
    data = np.stack([3 * t + 0.1 * rng.standard_normal(SHAPE) for t in truths])[:, None].astype(np.float32)
    aligned = AlignedSeries(
        patient="ball",
        data=data,
        present=np.ones((3, 1), bool),
        inside=np.ones((3, *SHAPE), bool),
        modalities=("t1c",),
        days=(0, 60, 120),
        dated=True,
        grid=grid,
        centre=np.zeros((3, 1), np.float32),
        scale=np.ones((3, 1), np.float32),
        masks=(None,) * 3,
        registrations=(Registration(np.eye(4), 1.0, True),) * 3,
        native_grids=(grid,) * 3,
    )
    clicks = tuple(testsets.click(Volume(t, grid), n + 1) for n, t in enumerate(truths))
    nothing = (None,) * 3
    shown = {"click at visit 1": (nothing, clicks[:1]), "mask at visit 1": ((truths[0], None, None), ())}
    return testsets.Case(
        "balls", "ball", aligned, truths, ((1.0, 1.0, 1.0),) * 3, lambda m, t: m, shown, (1, 2), "", truths
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(GrowthNet(SMALL), path, {"automatic": ["t1c"]})
    return path


# ---- the table ----


def scored(values, method="network", measure="Dice", prompt="click"):
    return [Score("s", prompt, method, measure, f"p{n}", v, visit=2) for n, v in enumerate(values)]


def rows_of(found):
    return {(r["method"], r["measure"]): r for r in evaluate.table(found)}


def test_a_patient_counts_once_however_many_visits():
    many = [Score("s", "click", "network", "Dice", "a", 0.0, v) for v in (2, 3, 4)]
    row = rows_of([*many, Score("s", "click", "network", "Dice", "b", 1.0, 2)])["network", "Dice"]
    assert (row["mean"], row["n"], row["statistic"]) == (0.5, 2, "mean")
    assert row["low"] <= 0.5 <= row["high"]


def test_missed_tumors_worsen_a_median_and_more_than_half_leave_no_number():
    name = "abs. error of ln(V2/V1)"
    few = rows_of(scored([0.1, 0.2, math.inf], measure=name))["network", name]
    assert (few["mean"], few["statistic"]) == (0.2, "median")
    assert few["high"] is None  # an interval may reach the missed ones
    assert rows_of(scored([0.1, math.inf, math.inf], measure=name))["network", name]["mean"] is None


def test_what_memory_is_worth_is_counted_on_the_same_patients():
    found = scored([0.9, 0.7, 0.8]) + scored([0.5, 0.4], "memory cleared")
    row = rows_of(found)["network minus memory cleared", "Dice"]
    assert row["mean"] == pytest.approx(0.35)
    assert row["n"] == 2
    assert row["low"] == pytest.approx(0.3) and row["high"] == pytest.approx(0.4)


def test_the_speed_error_is_a_share_of_that_of_zero_speed():
    found = scored([1.0, 2.0], measure=evaluate.SPEED) + scored([2.0, 4.0], "zero speed", evaluate.SPEED)
    row = rows_of(found)["network against zero speed", "front-speed error, share lower"]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.5, 0.5, 0.5))


def test_the_markdown_has_a_line_a_method_and_the_csv_a_line_a_number():
    found = scored([0.9, 0.7]) + scored([0.5], "U-Net per visit") + scored([2.0, math.inf], measure="95 % Hausdorff mm")
    text = evaluate.to_markdown(evaluate.table(found))
    assert text.count("| click |") == 3  # network, U-Net, their difference
    assert "| click | network | 2 | 0.800 (" in text
    assert "95 % Hausdorff mm (median)" in text
    lines = evaluate.to_csv(found).splitlines()
    assert lines[0] == "set,prompt,method,measure,patient,value,visit"
    assert len(lines) == 6 and lines[-1].endswith("inf,2")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"sets": ("lung",)}, "sets 'lung'"), ({"measures": ("auc",)}, "measures 'auc'"), ({"patients": 0}, "at least 1")],
)
def test_a_plan_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        Plan(**{"sets": ("simulated",), **values})


# ---- leakage ----


def test_a_patient_of_whom_an_image_was_trained_on_is_left_out_under_any_name(tmp_path):
    seen, new = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    seen.write_bytes(b"one"), new.write_bytes(b"two")
    leakage.record(tmp_path / "run", leakage.fingerprints([seen]))
    leakage.record(tmp_path / "run", (), {leakage.CARD_KEY: ["0123"]})
    trained = leakage.recorded(tmp_path / "run")
    assert len(trained) == 2
    renamed = tmp_path / "c.nii.gz"
    renamed.write_bytes(b"one")
    card = {leakage.CARD_KEY: sorted(trained)}
    assert leakage.unseen({"P1": [new, renamed], "P2": [new]}, card) == {"P2"}


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        ("sarcomas STS-003; all glioblastoma patients", {"STS-003", "GBM-01", "GBM-05"}),
        ("sarcomas STS-003, STS-013; glioblastomas GBM-05", {"STS-003", "GBM-05"}),
    ],
)
def test_a_card_without_a_list_is_judged_by_whom_it_holds_out(held_out, expected):
    patients = {name: [] for name in ("STS-001", "STS-003", "GBM-01", "GBM-05")}
    assert leakage.unseen(patients, {"held_out": held_out}) == expected


def test_a_card_that_says_nothing_lets_nobody_be_scored():
    with pytest.raises(SettingsError, match="neither which images"):
        leakage.unseen({"P1": []}, {"name": "m"})


def test_the_shipped_weights_are_scored_on_patients_they_never_saw(shared_data):
    plan = Plan(("sarcoma", "glioblastoma"), shared_data)
    told = evaluate.check_leakage(plan)
    assert "7 sarcoma" in told and "glioblastoma patients are scored" in told
    sources = testsets.Sources(shared_data, (load_model().card,))
    assert "STS-001" not in {f.name for f in testsets.unseen_patients("sarcoma", sources)}


def test_a_model_that_saw_everybody_is_not_scored(shared_data, tmp_path):
    images = [*shared_data.glob("sarcoma/*/ct.nii.gz")]
    path = tmp_path / "leaky.safetensors"
    save_model(GrowthNet(SMALL), path, {leakage.CARD_KEY: sorted(leakage.fingerprints(images))})
    with pytest.raises(SettingsError, match="trained on every sarcoma patient"):
        evaluate.check_leakage(Plan(("sarcoma",), shared_data, str(path)))


def test_a_set_without_its_folder_is_refused(tmp_path, model):
    with pytest.raises(SettingsError, match="--data"):
        next(testsets.cases("sarcoma", testsets.Sources(tmp_path)))


def test_without_names_everything_that_the_data_allows_is_measured(tmp_path):
    (tmp_path / "sarcoma").mkdir()
    assert evaluate.plan_of(None, None, False, data=None).sets == ("simulated", "brains")
    plan = evaluate.plan_of(None, None, True, data=tmp_path, patients=50)
    assert plan.sets == ("sarcoma", "warped", "simulated", "brains")
    assert (plan.patients, plan.measures) == (evaluate.QUICK_PATIENTS, evaluate.QUICK_MEASURES)
    assert evaluate.plan_of("brains, simulated", "dice", True, data=None, patients=2).sets == ("brains", "simulated")


def test_real_tumors_are_followed_over_visits_whose_change_is_known(shared_data):
    case = next(testsets.cases("warped", testsets.Sources(shared_data, (load_model("default").card,))))
    assert case.set == "warped sarcoma, ct" and case.patient in HELD_OUT_SARCOMAS
    assert case.scored == (1, 2, 3) and len(case.truths) == 4
    assert list(case.shown) == [testsets.CLICK_FIRST, testsets.CLICK_EVERY, testsets.BOX_FIRST, testsets.MASK_FIRST]
    given, prompts = case.shown[testsets.MASK_FIRST]
    assert not prompts and np.array_equal(given[0], case.truths[0]) and given[1:] == (None, None, None)
    for image, truth in zip(case.aligned.data[:, 0], case.truths, strict=True):  # the tumor moves with its image
        assert abs(float(image[truth > 0].mean() - case.aligned.data[0, 0][case.truths[0] > 0].mean())) < 0.3


# ---- simulated patients ----


def test_simulated_patients_are_kept_and_made_anew_when_the_simulator_changes(tmp_path, monkeypatch):
    plan = PatientPlan(3, 2, "any", ("t1c",), (2.0, 2.0, 2.0), motion=False)
    made = []

    def simulate(plan, anatomy):
        made.append(plan)
        shape = (2, 4, 4, 4)
        return SimpleNamespace(
            days=(0, 30),
            masks=np.ones(shape, np.uint8),
            affine=np.diag([2.0, 2, 2, 1]),
            images={"t1c": np.full(shape, 5.0, np.float32)},
        )

    monkeypatch.setattr(kept, "simulate_patient", simulate)
    first, second = (kept.simulated_series(plan, None, tmp_path) for _ in range(2))
    assert len(made) == 1
    assert [v.day for v in second.visits] == [0, 30]
    assert np.array_equal(first.visits[1].images["t1c"].data, second.visits[1].images["t1c"].data)
    assert second.visits[0].images["t1c"].data.dtype == np.float32
    kept.simulated_series(replace(plan, seed=4), None, tmp_path)
    monkeypatch.setattr(kept, "SIMULATOR", ("simulate",))
    kept.simulated_series(plan, None, tmp_path)
    assert len(made) == 3


def test_what_is_made_ahead_is_the_same_and_its_errors_are_told():
    assert list(kept.ahead(iter(range(4)))) == [0, 1, 2, 3]

    def broken():
        yield 1
        raise SettingsError("broken")

    items = kept.ahead(broken())
    assert next(items) == 1
    with pytest.raises(SettingsError, match="broken"):
        next(items)


def test_every_lesion_is_clicked_the_largest_first_but_no_speck():
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[2:8, 2:8, 2:8] = 1
    mask[20:32, 20:32, 20:32] = 1
    mask[9:10, 4, 4] = 1  # a piece of the first
    mask[38, 38, 2] = 1  # a speck
    prompts = testsets.clicks(Volume(mask, Grid(mask.shape, np.eye(4))), 2)
    places = [tuple(p.ras_mm.ravel()) for p in prompts]
    assert len(places) == 2
    assert all(20 <= x < 32 for x in places[0]) and all(2 <= x < 8 for x in places[1])
    assert {p.visit for p in prompts} == {2}
    assert testsets.clicks(Volume(mask * 0, Grid(mask.shape, np.eye(4))), 1) == ()


# ---- what is to be reached ----


def row(value, **names):
    blank = {"set": "sarcoma ct", "prompt": "click", "method": "network", "measure": "Dice", "n": 7}
    return {**blank, "mean": value, "low": value, "high": value, **names}


@pytest.mark.parametrize(("value", "expected"), [(0.8, "aim"), (0.6, "must"), (0.59, "no"), (None, "no")])
def test_a_goal_is_reached_or_not(value, expected):
    goal = goals.GOALS[0]
    assert goals.reached(goal, goals.measured(goal, [row(value), row(0.99, prompt="box")])) == expected
    assert goals.measured(goal, []) is None


def test_less_is_better_for_errors_and_the_best_baseline_counts():
    change, forecast = goals.GOALS[-1], next(g for g in goals.GOALS if g.name.startswith("forecast"))
    assert [goals.reached(change, row(v)) for v in (0.1, 0.2, 0.3)] == ["aim", "must", "no"]
    names = {"set": "simulated brain", "prompt": "true masks", "measure": "forecast Dice"}
    rows = [row(v, **names, method=m) for v, m in zip((0.05, -0.01, 0.02), forecast.methods, strict=True)]
    assert goals.measured(forecast, rows)["mean"] == -0.01
    assert goals.measured(forecast, rows[:2]) is None  # not all baselines are there


EVERY_METHOD = [f"{m}{kept}" for m in ("network", "memory cleared") for kept in ("", ", nothing followed")]


def test_every_goal_finds_its_row_under_the_names_that_evaluate_gives():
    pooled = {"simulated brain": "simulated t1c", "warped sarcoma": "warped sarcoma, ct"}
    found = [
        Score(pooled.get(g.set, g.set), g.prompt, method, g.measure, "p", 0.5)
        for g in goals.GOALS
        for method in (*EVERY_METHOD, "persistence", "linear, mean speed", "linear, pointwise")
    ]
    speeds = [Score("simulated t1c", "true masks", m, evaluate.SPEED, "p", 0.5) for m in ("network", "zero speed")]
    text = goals.to_markdown(evaluate.table([*found, *speeds]))
    assert "not measured" not in text
    assert text.count("\n") == len(goals.GOALS) + 1


# ---- methods ----


def test_every_method_answers_every_visit(case, model):
    networks = methods.Networks(Settings(model=str(model), device="cpu"))
    networks = replace(networks, cleared=baseline.forgetful(load_model(str(model))))
    given = dict(methods.answers(case, "mask at visit 1", networks))
    assert list(given) == [*EVERY_METHOD, "persistence"]
    for method in ("network", "memory cleared"):
        shown, outlined = given[method], given[f"{method}, nothing followed"]
        assert all((outlined[t] >= shown[t]).all() for t in (1, 2)), "what is kept is part of what was outlined"
    assert all(len(masks) == 3 for masks in given.values())
    assert np.array_equal(given["persistence"][2], case.truths[0])
    assert np.array_equal(given["network"][0], case.truths[0])  # a given mask stands
    again = dict(methods.answers(case, "mask at visit 1", replace(networks, cleared=None)))
    assert list(again) == ["network", "persistence"]
    assert np.array_equal(again["network"][2], given["network"][2])  # the model that is lent is given back


def test_true_masks_give_forecasts_and_their_baselines(case, model):
    found = methods.forecast_last(case, Settings(model=str(model), device="cpu"))
    assert found is not None
    assert {"network", "persistence", "linear, mean speed", "linear, pointwise", "exponential"} <= set(found.masks)
    assert np.array_equal(found.masks["persistence"] > 0, case.truths[1] > 0)
    linear = evaluate.dice(found.masks["linear, mean speed"], case.truths[2])
    assert linear > evaluate.dice(case.truths[1], case.truths[2]) + 0.1
    assert methods.forecast_last(replace(case, common_truths=case.truths[:2]), Settings()) is None


def test_what_is_outlined_where_there_is_no_tumor_is_counted(case):
    nothing = np.zeros_like(case.truths[0])
    free = replace(case, truths=(nothing,) * len(case.truths))
    blank = evaluate.Score(case.set, "none", "network", "", case.patient, 0.0)

    def found(mask):
        scored = evaluate.mask_scores(free, [mask] * len(case.truths), ("dice", "volume"), blank)
        return {s.measure.split(" at ")[0]: s.value for s in scored if not np.isnan(s.value)}

    voxel_ml = np.prod(case.spacing_mm[0]) / 1000
    wrong = found(case.truths[0])
    assert wrong["falsely outlined"] == 1
    assert wrong["falsely outlined mL"] == pytest.approx(np.count_nonzero(case.truths[0]) * voxel_ml)
    assert "tumor missed" not in wrong
    assert found(nothing)["falsely outlined"] == 0


def test_the_numbers_of_a_case_are_those_asked_for(case, model):
    networks = methods.Networks(Settings(model=str(model), device="cpu"))
    found = list(evaluate._case_scores(case, Plan(("simulated",), measures=("dice", "forecast")), networks))
    assert {s.measure for s in found if s.prompt != "true masks"} == {"Dice", "tumor missed", "falsely outlined"}
    assert {s.visit for s in found if s.prompt != "true masks"} == {2, 3}
    assert evaluate.FORECAST_DICE in {s.measure for s in found}
    speeds = {s.method: s.value for s in found if s.measure == evaluate.SPEED}
    assert speeds["linear, mean speed"] < 0.5 < speeds["zero speed"]


def test_one_command_prints_the_goals_and_tables_and_fills_the_card(case, model, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "m.safetensors"
    for suffix in (".safetensors", ".json"):
        shutil.copy(model.with_suffix(suffix), weights.with_suffix(suffix))
    named = replace(case, set="simulated flair", where=" at visits 2-4")
    monkeypatch.setattr(testsets, "SETS", {"simulated": lambda sources: iter([named])})
    options = ["--sets", "simulated", "--measures", "dice,memory", "--device", "cpu", "--into-card"]
    code = main(["evaluate", "--model", str(weights), "--csv", str(tmp_path / "s.csv"), *options])
    printed = capsys.readouterr()
    assert code == 0
    assert "Leakage check" in printed.out and "simulated flair: ball" in printed.err
    goal = next(
        line for line in printed.out.splitlines() if line.startswith("| simulated brain, visits 2-4, Dice | click")
    )
    assert goal.count("|") == 8 and "not measured" not in goal
    assert "network minus memory cleared" in printed.out
    scores = (tmp_path / "s.csv").read_text().splitlines()
    assert len(scores) > 10 and all("ball" in line for line in scores[1:])
    rows = load_model(str(weights)).card["accuracy"]
    assert {"simulated flair", "simulated brain"} == {r["set"] for r in rows}
    assert all(r["n"] == 1 for r in rows)


def test_the_same_tumor_scanned_again_is_the_same_tumor(case):
    repeated = methods.again(case, np.random.default_rng(0))
    data = repeated.aligned.data
    assert len(data) == methods.AGAIN_VISITS
    assert not np.array_equal(data[0], data[1])
    assert np.corrcoef(data[0].ravel(), data[1].ravel())[0, 1] > 0.9
    given, clicks = repeated.shown["click at every visit"]
    assert len(given) == len(clicks) == methods.AGAIN_VISITS
    for click in clicks:
        assert case.truths[0][tuple(np.round(case.aligned.grid.to_index(click.ras_mm)).astype(int))]


def test_an_ellipsoid_fills_its_box(case):
    prompt = testsets.box(Volume(case.truths[1], case.aligned.grid), 1)
    assert np.array_equal(testsets.ellipsoid(prompt, case.aligned.grid), ball(7.5))  # to the voxels' outer faces


# ---- the baseline ----


@pytest.mark.parametrize(("spacing", "shape"), [((1, 1, 1), (16, 16, 16)), ((1, 1, 6.5), (16, 16, 4))])
def test_the_unet_takes_and_gives_what_the_network_does(spacing, shape):
    strides = pool_strides(spacing, SMALL_LEVELS)
    images, prompt = torch.randn(1, 6, *shape), torch.zeros(1, 4, *shape)
    unet, network = baseline.VisitUNet(SMALL), GrowthNet(SMALL)
    present = [True] + [False] * 5
    with torch.no_grad():
        ours = unet(images, images, present, prompt, strides)
        other = images.clone()
        other[:, 1:] = 7.0
        assert torch.equal(ours[0], unet(other, other, present, prompt, strides)[0])  # what is absent has no influence
        theirs = network(images, images, present, prompt, strides)
    assert [x.shape for x in ours[:3]] == [x.shape for x in theirs[:3]]


SMALL_LEVELS = len(SMALL.channels) - 1


def test_the_unet_is_about_as_large_as_the_network():
    sizes = [sum(p.numel() for p in net(NetworkConfig()).parameters()) for net in (baseline.VisitUNet, GrowthNet)]
    assert 0.95 < sizes[0] / sizes[1] < 1.05


def test_a_forgetful_network_answers_as_at_a_first_visit(model):
    loaded = load_model(str(model))
    network = baseline.forgetful(loaded).network
    x, prompt = torch.randn(1, 6, 16, 16, 16), torch.zeros(1, 4, 16, 16, 16)
    strides = pool_strides((1, 1, 1), SMALL_LEVELS)
    present = [True] * 6
    with torch.no_grad():
        first, *_, state = loaded.network(x, x, present, prompt, strides)
        later = loaded.network(x, x, present, prompt, strides, state)[0]
        forgot = network(x, x, present, prompt, strides, state, torch.tensor([30.0]))[0]
    assert torch.equal(forgot, first)
    assert not torch.equal(later, first)


def test_baseline_weights_are_told_from_others(tmp_path, model):
    path = tmp_path / "unet.safetensors"
    save_model(baseline.VisitUNet(SMALL), path, {})
    assert isinstance(baseline.load_baseline(path).network, baseline.VisitUNet)
    with pytest.raises(ModelError, match="not those of a per-visit U-Net"):
        baseline.load_baseline(model)
    with pytest.raises(ModelError, match=r"absent\.safetensors"):
        baseline.load_baseline(tmp_path / "absent.safetensors")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match="Export both again"):
        baseline.load_baseline(path)
