"""Our network as a MONAI bundle, run by MONAI itself; and other people's bundles in place of our network."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.networks.nets import SegResNet

from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.errors import InputError, ModelError, SettingsError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_mask
from napari_convlstm_tumor.model.card import load_model, save_model
from napari_convlstm_tumor.model.external import segmenter_from_bundle
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig
from napari_convlstm_tumor.pipeline import analyse, load
from napari_convlstm_tumor.series import AlignedSeries, Prompt, Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training.bundle import export_bundle
from napari_convlstm_tumor.volume import Grid

SHAPE = (24, 20, 16)
AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])
# What docs.monai.io/en/stable/mb_specification.html calls mandatory.
MANDATORY = {
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
    "description", "authors", "copyright", "network_data_format",
}  # fmt: skip
TENSOR = {
    "type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data",
    "channel_def",
}  # fmt: skip


# ---- our own bundle ----


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A tiny network of random weights that outlines something."""
    torch.manual_seed(0)
    network = GrowthNet(NetworkConfig(channels=(2, 3, 4, 5, 6), hidden=(2, 3, 4, 5)))
    torch.nn.init.constant_(network.logits.bias, 0.0)  # an untrained network starts from "no tumor"
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(network, path, {"what": "test", "trained_on": ["noise"], "automatic": ["t1c"]})
    return path


@pytest.fixture(scope="module")
def bundle(weights, tmp_path_factory) -> Path:
    return export_bundle(tmp_path_factory.mktemp("bundles") / "tiny", str(weights))


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> Path:
    """Three visits of a bright ball that grows, and a click on it."""
    folder = tmp_path_factory.mktemp("patients") / "P1"
    rng = np.random.default_rng(1)
    distance = np.linalg.norm((np.indices(SHAPE).T - (12, 10, 8)) * (1.5, 1.5, 2.0), axis=-1).T
    for day, radius in ((0, 5.0), (40, 6.5), (95, 8.0)):
        image = rng.normal(100, 5, SHAPE) + 100 * (distance < radius)
        place = folder / f"day-{day:03d}"
        place.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), place / "t1c.nii.gz")
    click = [{"visit": 1, "type": "point", "ras_mm": [18.0, 15.0, 16.0]}]
    (folder.parent / "click.json").write_text(json.dumps(click))
    return folder


def finished(steps):
    for step in steps:
        analysis = step.analysis
    return analysis


def test_monais_runner_writes_the_masks_of_our_pipeline(bundle, patient, weights, tmp_path):
    click = patient.parent / "click.json"
    workflow = create_workflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(patient),
        output_dir=str(tmp_path),
        prompts=str(click),
        device="cpu",
    )
    assert workflow.check_properties() == []
    workflow.run()
    own = finished(analyse(find_patient(patient), Settings(model=str(weights), device="cpu", prompts=click)))
    assert any(mask.data.any() for mask in own.native_masks), "the test is about masks that are not empty"
    for number, mask in enumerate(own.native_masks, start=1):
        written = nib.load(tmp_path / "P1" / "native" / f"visit-{number:02d}" / "mask.nii.gz")
        assert np.array_equal(np.asarray(written.dataobj), mask.data)
    assert own.prediction.model in (tmp_path / "P1" / "run.json").read_text()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("fire") is None, reason="MONAI's command line needs the package fire")
def test_monais_command_line_gives_the_masks_and_tables_of_ours(bundle, patient, weights, tmp_path):
    click = ["--prompts", str(patient.parent / "click.json"), "--device", "cpu"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *click]
    given = ["--dataset_dir", str(patient), "--output_dir", str(tmp_path / "monai")]
    done = subprocess.run([*command, *given], cwd=bundle, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert main(["run", str(patient), "-o", str(tmp_path / "own"), "--model", str(weights), "--quiet", *click]) == 0
    theirs, ours = tmp_path / "monai" / "P1", tmp_path / "own" / "P1"
    same = ("mask.nii.gz", "visits.csv", "lesions.csv")
    names = sorted(p.relative_to(ours) for p in ours.rglob("*") if p.name in same)
    assert len(names) == 6  # three visits, the series, two tables
    for name in names:
        assert (theirs / name).read_bytes() == (ours / name).read_bytes(), name


def test_metadata_says_what_the_format_asks_for(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert set(metadata) >= MANDATORY
    assert metadata["required_packages_version"]["napari-convlstm-tumor"]
    for tensor in (
        *metadata["network_data_format"]["inputs"].values(),
        metadata["network_data_format"]["outputs"]["pred"],
    ):
        assert set(tensor) >= TENSOR
        assert len(tensor["channel_def"]) == tensor["num_channels"]


def test_the_state_dictionary_is_tensors_and_fits_the_network_of_the_config(bundle, weights):
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    for name, tensor in load_model(str(weights)).network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_the_bundle_is_whole_and_shareable(bundle):
    files = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    assert files == {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.pt",
        "models/tiny.json", "models/tiny.safetensors",
    }  # fmt: skip
    assert all(os.stat(bundle / name).st_mode & 0o044 for name in files)
    readme = (bundle / "docs" / "README.md").read_text()
    assert "pip install" in readme
    assert "Research use only" in readme
    assert "BSD 3-Clause" in (bundle / "LICENSE").read_text()
    assert str(bundle.parent) not in "".join((bundle / f).read_text() for f in files if f.endswith((".json", ".md")))


def test_the_command_writes_it_once(weights, tmp_path, capsys):
    assert main(["bundle", str(tmp_path / "new"), "--model", str(weights)]) == 0
    assert "new" in capsys.readouterr().out
    assert main(["bundle", str(tmp_path / "new"), "--model", str(weights)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_prompts_of_one_patient_are_not_used_for_two(bundle, patient, tmp_path):
    for name in ("A", "B"):
        (tmp_path / "both" / name).mkdir(parents=True)
        (tmp_path / "both" / name / "t1c.nii.gz").symlink_to(patient / "day-000" / "t1c.nii.gz")
    workflow = create_workflow(
        config_file=str(bundle / "configs" / "inference.json"), bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "both"), prompts=str(patient.parent / "click.json"), device="cpu",
    )  # fmt: skip
    with pytest.raises(Exception) as caught:
        workflow.run()
    reasons = []
    error: BaseException | None = caught.value
    while error is not None:
        reasons.append(error)
        error = error.__cause__
    assert any(isinstance(reason, SettingsError) for reason in reasons)


# ---- other people's bundles ----


def conv(thresholds, inputs=1):
    """State of a 1x1x1 convolution: output n is the first image less thresholds[n] (None: 0 everywhere)."""
    weight = torch.zeros(len(thresholds), inputs, 1, 1, 1)
    for n, threshold in enumerate(thresholds):
        weight[n, 0] = threshold is not None
    return {"weight": weight, "bias": torch.tensor([-float(t or 0) for t in thresholds])}


OTHER_ORGANS = {"outputs": ("background", "spleen", "liver"), "state": conv([None, 1000, 1000])}
# Class 1 where the image is brighter than 1000, else class 0: its logit is 0 and wins.
ABOVE_1000 = conv([None, 1000])
INVERT = {
    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
    "nearest_interp": False, "to_tensor": True,
}  # fmt: skip
SAVE = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/eval'"}


def write_bundle(
    folder, *, network=None, state=None, channels=("image",), outputs=("background", "tumor"), modality="MR",
    steps=(), discrete=({"_target_": "AsDiscreted", "keys": "pred", "argmax": True},), invert=True, drop=(),
):  # fmt: skip
    """A bundle as those of the MONAI model zoo are."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    sizes = {"in_channels": len(channels), "out_channels": len(outputs), "kernel_size": 1}
    convolution = {"_target_": "torch.nn.Conv3d", **sizes}
    load = {"_target_": "LoadImaged", "keys": "image"}
    first = {"_target_": "EnsureChannelFirstd", "keys": "image"}
    config = {
        "imports": ["$import os"],
        "bundle_root": "/nowhere",
        "device": "$torch.device('cuda:0')",
        "network_def": network or convolution,
        "preprocessing": {"_target_": "Compose", "transforms": [load, first, *steps]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.5},
        "postprocessing": {"_target_": "Compose", "transforms": [*([INVERT] if invert else []), *discrete, SAVE]},
        "run": ["$@evaluator.run()"],
    }
    config = {key: value for key, value in config.items() if key not in drop}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    image = {"modality": modality, "num_channels": len(channels), "channel_def": dict(enumerate(channels))}
    pred = {"num_channels": len(outputs), "channel_def": dict(enumerate(outputs))}
    formats = {"inputs": {"image": image}, "outputs": {"pred": pred}}
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "1.2", "network_data_format": formats}))
    if state is not None:
        torch.save(state, folder / "models" / "model.pt")
    return folder


def aligned_ball(modalities=("t1c",), masks=(None, None)):
    """Two visits; a cuboid of raw intensity 1200 in 200, elsewhere at each visit, and its truth."""
    count, c = len(masks), len(modalities)
    raw = np.full((count, c, *SHAPE), 200, np.float32)
    truth = np.zeros((count, *SHAPE), np.uint8)
    for t in range(count):
        truth[t, 4 + t : 13, 5:12, 3:9] = 1
    raw += np.float32(1000) * truth[:, None]
    series = AlignedSeries(
        patient="P", data=(raw - 300) / 50, present=np.ones((count, c), bool), inside=np.ones((count, *SHAPE), bool),
        modalities=modalities, days=tuple(30 * t for t in range(count)), dated=True, grid=Grid(SHAPE, AFFINE),
        centre=np.full((count, c), 300, np.float32), scale=np.full((count, c), 50, np.float32), masks=masks,
        registrations=(Registration(np.eye(4), 1.0, True),) * count, native_grids=(Grid(SHAPE, AFFINE),) * count,
    )  # fmt: skip
    return series, truth


def answer(segmenter, series, prompts=()):
    work = segmenter(series, prompts, Settings(device="cpu"))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize(
    ("steps", "invert", "least", "reason"),
    [
        ((), True, 1.0, "as it is"),
        (({"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},), True, 1.0, "turned and turned back"),
        (({"_target_": "Orientationd", "keys": "image", "axcodes": "PIR"},), False, 1.0, "turned, answered so"),
        (({"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 2,
           "select_fn": "$lambda x: x > 1000"},), True, 1.0, "cropped and padded back"),
        (({"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0]},), True, 0.9, "finer and back"),
    ],
)  # fmt: skip
def test_a_bundle_answers_on_the_common_grid(tmp_path, steps, invert, least, reason):
    folder = write_bundle(tmp_path / "b", state=ABOVE_1000, steps=steps, invert=invert)
    series, truth = aligned_ball()
    prediction = answer(segmenter_from_bundle(folder), series)
    for t in range(2):
        both = np.count_nonzero(prediction.mask(t) & truth[t])
        dice = 2 * both / (np.count_nonzero(prediction.mask(t)) + np.count_nonzero(truth[t]))
        assert dice >= least, reason
    assert prediction.model.startswith("MONAI bundle b 1.2 (sha256 ")
    assert not (folder / "eval").exists(), "the bundle wrote its own files"


def test_channels_are_found_by_their_names(tmp_path):
    """As brats_mri_segmentation: T1c, T1, T2, FLAIR, sigmoid, nested outputs, all of them tumor."""
    discrete = (
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
    )
    folder = write_bundle(
        tmp_path / "b", channels=("T1c", "T1", "T2", "FLAIR"), outputs=("Tumor core", "Whole tumor", "Enhancing tumor"),
        discrete=discrete, state={"state_dict": conv([9e9, 1000, 9e9], inputs=4)},
    )  # fmt: skip
    series, truth = aligned_ball(("t1", "t1c", "t2", "flair"))
    raw_t1 = series.data[:, 0]
    raw_t1[...] = 0  # were the order not changed, T1 would be read as T1c and nothing found
    assert np.array_equal(answer(segmenter_from_bundle(folder), series).probability, truth)


def test_only_outputs_named_as_tumor_count(tmp_path):
    discrete = ({"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0},)
    outputs = ("background", "liver", "liver tumour")
    state = conv([-9e9, 100, 1000])
    folder = write_bundle(tmp_path / "b", outputs=outputs, discrete=discrete, state=state, modality="CT")
    series, truth = aligned_ball(("ct",))
    assert np.array_equal(answer(segmenter_from_bundle(folder), series).probability, truth)


def test_given_masks_stand_and_prompts_are_told(tmp_path):
    folder = write_bundle(tmp_path / "b", state=ABOVE_1000)
    given = np.zeros(SHAPE, np.uint8)
    given[1:3, 1:3, 1:3] = 1
    series, truth = aligned_ball(masks=(given, None))
    prediction = answer(segmenter_from_bundle(folder), series, (Prompt(2, "point", np.zeros(3)),))
    assert np.array_equal(prediction.mask(0), given)
    assert np.array_equal(prediction.mask(1), truth[1])
    assert "prompts were not used" in prediction.warnings[0]


def test_a_real_network_of_monai(tmp_path):
    """A SegResNet, as the model zoo's BraTS bundle has, random: its answer is that of a plain call."""
    torch.manual_seed(3)
    config = {"init_filters": 8, "in_channels": 1, "out_channels": 2, "blocks_down": [1, 1], "blocks_up": [1]}
    network = SegResNet(**config).eval()
    folder = write_bundle(tmp_path / "b", network={"_target_": "SegResNet", **config}, state=network.state_dict())
    inferer = json.loads((folder / "configs" / "inference.json").read_text())
    inferer["inferer"] = {"_target_": "SimpleInferer"}
    (folder / "configs" / "inference.json").write_text(json.dumps(inferer))
    series, _ = aligned_ball()
    with torch.inference_mode():
        expected = network(torch.from_numpy(series.raw(0, 0))[None, None]).argmax(dim=1)[0].numpy()
    assert 0 < expected.mean() < 1
    assert np.array_equal(answer(segmenter_from_bundle(folder), series).mask(0), expected)


def test_the_pipeline_takes_it(tmp_path, patient):
    folder = write_bundle(tmp_path / "b", state=conv([None, 150]))
    analysis = finished(analyse(find_patient(patient), Settings(device="cpu"), segmenter_from_bundle(folder)))
    volumes = [row["volume_mm3"] for row in analysis.report.visits]
    spheres = [4 / 3 * np.pi * r**3 for r in (5.0, 6.5, 8.0)]
    assert volumes == pytest.approx(spheres, rel=0.1)


def test_the_command_line_takes_it_and_a_recipe_does_not(tmp_path, patient, capsys):
    folder = write_bundle(tmp_path / "b", state=conv([None, 150]))
    run = ["run", str(patient), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    assert main([*run, "--model", str(folder)]) == 0
    assert "sha256" in load(tmp_path / "out" / "P1").prediction.model
    recipe = tmp_path / "out" / "P1" / "recipe.yaml"
    assert "MONAI bundle b" in recipe.read_text().splitlines()[0]
    assert str(tmp_path) not in recipe.read_text()
    recipe.write_text(f"model: {folder}\n")
    assert main([*run, "--recipe", str(recipe)]) == 2
    assert "a recipe cannot ask for one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"drop": ("inferer",)}, ModelError, "has no inferer in inference.json"),
        ({"state": None}, ModelError, "has no models/model.pt"),
        ({"state": {"other": torch.zeros(2)}}, ModelError, "does not hold the tensors of its network_def"),
        ({"state": {"weight": os.getcwd}}, ModelError, "nothing else is loaded from it"),
        ({"network": {"_target_": "no.such.Network"}}, ModelError, "cannot be set up"),
        ({"channels": ("FLAIR",)}, InputError, "Visit 1 has t1c, and the bundle needs flair"),
        ({"modality": "CT"}, InputError, "Visit 1 has t1c, and the bundle needs ct"),
        (OTHER_ORGANS, ModelError, "outlines spleen, liver: none is named as a tumor"),
        ({"discrete": ({"_target_": "Activationsd", "keys": "pred", "sigmoid": True},)}, ModelError, "AsDiscreted"),
        ({"steps": ({"_target_": "ScaleIntensityd", "keys": "absent"},)}, ModelError, "failed on visit 1 with"),
    ],
)  # fmt: skip
def test_bundles_that_cannot_be_used(tmp_path, change, kind, words):
    folder = write_bundle(tmp_path / "b", **{"state": ABOVE_1000, **change})
    series, _ = aligned_ball()
    with pytest.raises(kind) as caught:
        answer(segmenter_from_bundle(folder), series)
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_not_a_bundle_and_our_own_bundle(tmp_path, bundle):
    series, _ = aligned_ball()
    with pytest.raises(ModelError, match="is no MONAI bundle"):
        answer(segmenter_from_bundle(tmp_path), series)
    with pytest.raises(ModelError, match="has no preprocessing"):
        answer(segmenter_from_bundle(bundle), series)


def test_masks_of_any_other_tool_beside_the_images_are_used(patient, tmp_path):
    """The other way in: a mask file per visit, whoever made it."""
    for place in sorted(patient.glob("day-*")):
        target = tmp_path / "P1" / place.name
        target.mkdir(parents=True)
        (target / "t1c.nii.gz").symlink_to(place / "t1c.nii.gz")
        image = nib.load(place / "t1c.nii.gz")
        labels = (np.asarray(image.dataobj) > 150).astype(np.uint8) * 4
        nib.save(nib.Nifti1Image(labels, image.affine), target / "t1c_seg.nii.gz")
    files = find_patient(tmp_path / "P1")
    analysis = finished(analyse(files, Settings(device="cpu")))
    assert analysis.prediction.model == "masks given"
    own = read_mask(files.visits[0].mask, analysis.native_masks[0].grid)
    assert np.array_equal(analysis.native_masks[0].data, own.data)
