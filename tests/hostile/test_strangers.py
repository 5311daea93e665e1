"""Weights, recipes, manifests, prompts and result folders from strangers: nothing of them runs, nothing is written
elsewhere, and the error is one of this package.
"""

import hashlib
import json
import os
import pickle
from pathlib import Path
from runpy import run_path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.errors import InputError, ModelError, TumorError
from napari_convlstm_tumor.io.discover import find_patient, find_patients
from napari_convlstm_tumor.io.prompts import read_prompts
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.model.card import load_model, save_model
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig
from napari_convlstm_tumor.results import load, read_recipe
from napari_convlstm_tumor.settings import Settings

files = run_path(str(Path(__file__).with_name("damage_files.py")))
SMALL = NetworkConfig(channels=(2, 3, 4, 5, 6), hidden=(2, 3, 4, 5))


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """The folder that appears when something of a stranger's file has run."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists(), "code of a file was run"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model" / "tiny.safetensors"
    save_model(GrowthNet(SMALL), path, {"what": "test", "automatic": ["t1c"]})
    return path


@pytest.fixture
def patient(tmp_path):
    """Two visits with a mask each."""
    folder = files["healthy"](tmp_path / "in" / "P")
    mask = np.zeros(files["SHAPE"], np.uint8)
    mask[8:14, 8:12, 5:9] = 1
    for day in ("day-000", "day-040"):
        files["save"](folder / day / "mask.nii.gz", mask)
    return folder


def sign(path):
    """Put the sha256 of whatever the weights file is now into its card: the stranger made both."""
    card = path.with_suffix(".json")
    text = json.loads(card.read_text())
    card.write_text(json.dumps({**text, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))


def tree(folder):
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- weights ----


@pytest.mark.parametrize("write", [lambda e, p: p.write_bytes(pickle.dumps(e)), torch.save], ids=["pickle", "torch"])
def test_weights_that_are_a_pickle_do_not_run(weights, mark, write):
    write(Evil(mark), weights)
    sign(weights)
    with pytest.raises(ModelError, match=r"tiny\.safetensors"):
        load_model(str(weights))


def test_a_pt_file_is_no_model(weights, mark):
    other = weights.with_suffix(".pt")
    torch.save(Evil(mark), other)
    with pytest.raises(ModelError, match="no shipped model"):
        load_model(str(other))


def test_the_evil_file_would_run(tmp_path):
    """The tests above can fail: the pickle does what it is for when it is loaded."""
    with pytest.raises(TypeError):  # mkdir gives None
        iter(pickle.loads(pickle.dumps(Evil(tmp_path / "ran"))))
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("change", [
    lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),  # one bit
    lambda raw: raw + b"\0",
    lambda raw: raw[: len(raw) // 2],
    lambda raw: b"",
], ids=["one bit", "longer", "half", "empty"])  # fmt: skip
def test_tampered_weights_are_refused_by_their_sha256(weights, change):
    weights.write_bytes(change(weights.read_bytes()))
    with pytest.raises(ModelError, match="sha256"):
        load_model(str(weights))


@pytest.mark.parametrize("content", [
    b"", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}", b"\x10\0\0\0\0\0\0\0not json at all!",
], ids=["empty", "a header of 2**64", "no tensors", "no json"])  # fmt: skip
def test_damaged_weights_with_a_card_to_match(weights, content):
    weights.write_bytes(content)
    sign(weights)
    with pytest.raises(ModelError):
        load_model(str(weights))


@pytest.mark.parametrize("network", [
    {"channels": [10**7] * 5, "hidden": [10**7] * 4}, {"channels": []}, {"channels": "abc"}, {"no": "such key"},
    {"channels": [-1] * 5}, {"channels": [2.5] * 5}, [], None, 7,
], ids=str)  # fmt: skip
def test_cards_of_networks_that_cannot_be(weights, network):
    """The first one would fill any memory: 10 million channels."""
    card = json.loads(weights.with_suffix(".json").read_text())
    given = {**card["network"], **network} if isinstance(network, dict) else network
    weights.with_suffix(".json").write_text(json.dumps({**card, "network": given}))
    looking = run_path(str(Path(__file__).with_name("looking.py")))
    looking["forget_peak"]()
    before = looking["peak_mb"]()
    with pytest.raises(ModelError):
        load_model(str(weights))
    assert looking["peak_mb"]() - before < 200


def test_nan_in_weights_is_refused(weights):
    """Weights of NaN would answer nothing anywhere, which reads as no tumor."""
    state = {key: tensor.half() for key, tensor in GrowthNet(SMALL).state_dict().items()}
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, weights)
    sign(weights)
    with pytest.raises(ModelError, match="NaN"):
        load_model(str(weights))


# ---- recipes ----


@pytest.mark.parametrize("text", [
    "!!python/object/apply:os.mkdir ['{mark}']",
    "model: !!python/object/apply:os.mkdir ['{mark}']",
    "model: !!python/object/new:os.mkdir ['{mark}']",
    "masks: !!python/name:os.mkdir",
    "!!python/module:os",
], ids=["apply", "in a value", "new", "name", "module"])  # fmt: skip
def test_python_tags_in_a_recipe_do_not_run(tmp_path, mark, text):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text.format(mark=mark))
    with pytest.raises(InputError, match="not valid YAML"):
        read_recipe(recipe)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("key", ["model", "modality", "spacing", "prompts", "reference", "unknown"])
def test_a_recipe_that_unfolds_to_a_billion_words(tmp_path, key):
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("\n".join(lines) + f"\n{key}: *a9\n")
    with pytest.raises(TumorError):
        read_recipe(recipe)


# ---- paths ----


@pytest.mark.parametrize("name", ["../out", "..", ".", "a/b", "/tmp/x", "a\\b", "", "../../P"])
def test_a_patient_of_a_manifest_is_no_path(patient, tmp_path, name):
    table = tmp_path / "in" / "manifest.csv"
    table.write_text(f"patient,day,modality,path\n{name},0,t1c,P/day-000/t1c.nii.gz\n")
    before = tree(tmp_path)
    assert main(["batch", str(table), "-o", str(tmp_path / "out" / "deep"), "--device", "cpu"]) != 0
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("out/deep/")} == before


@pytest.mark.parametrize("place", ["/etc/passwd", "../../../../../../etc/passwd", "/dev/zero", "~/.bashrc", "."])
def test_texts_and_devices_named_as_images_are_not_shown(patient, tmp_path, place):
    table = tmp_path / "manifest.csv"
    table.write_text(f"patient,day,modality,path,mask\nP,0,t1c,{patient}/day-000/t1c.nii.gz,{place}\n")
    with pytest.raises(TumorError) as of_manifest:
        read_series(find_patients(table)[0], Settings())
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"visit": 1, "type": "mask", "path": place}]))
    with pytest.raises(TumorError) as of_prompts:
        read_prompts(prompts, read_series(find_patient(patient), Settings()))
    for error in (of_manifest, of_prompts):
        assert "root:" not in str(error.value)
        assert "/etc" not in str(error.value)


def analysed(patient, out):
    assert main(["run", str(patient), "-o", str(out), "--device", "cpu", "--quiet"]) == 0
    return out / patient.name


@pytest.mark.parametrize("name", ["native", "series", "visits.csv", "run.json", "report.html", "dicom"])
def test_a_result_with_links_elsewhere_is_not_written_or_emptied_through_them(patient, tmp_path, name):
    result = analysed(patient, tmp_path / "out")
    outside = tmp_path / "outside"
    if (result / name).exists():
        (result / name).rename(outside)
    else:
        outside.mkdir()
        (outside / "precious").write_text("x")
    (result / name).symlink_to(outside)
    before = tree(tmp_path / "outside") if outside.is_dir() else outside.read_bytes()
    main(["run", str(patient), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet", "--log-growth"])
    assert (tree(outside) if outside.is_dir() else outside.read_bytes()) == before
    assert not any(".part" in p.name for p in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("change", [
    pytest.param(
        lambda r: (r / "run.json").write_text("[" * 100_000),
        id="deep json",
    ),
    pytest.param(lambda r: (r / "run.json").write_text('{"days": [1e400, "x"]}'), id="odd days"),
    pytest.param(lambda r: (r / "report.json").write_text("{}"), id="no report"),
    pytest.param(
        lambda r: (r / "report.json").write_bytes(b"\xff\xfe"),
        id="bytes",
    ),
    pytest.param(lambda r: (r / "recipe.yaml").write_text("prompts: ../../x.json"), id="a recipe of gone prompts"),
    pytest.param(lambda r: (r / "series" / "mask.nii.gz").write_bytes(files["bomb"]()), id="bomb"),
    pytest.param(
        lambda r: (r / "series" / "mask.nii.gz").write_bytes(b"no image"),
        id="text",
    ),
    pytest.param(lambda r: (r / "native" / "visit-01" / "mask.nii.gz").write_bytes(files["bomb"]()), id="native bomb"),
    pytest.param(
        lambda r: nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 5), np.uint8), np.eye(4)), r / "series" / "mask.nii.gz"),
        id="other shape",
    ),
])  # fmt: skip
def test_result_folders_of_strangers_are_refused(patient, tmp_path, change):
    result = analysed(patient, tmp_path / "out")
    change(result)
    with pytest.raises(TumorError) as caught:
        load(result)
    assert str(tmp_path) not in str(caught.value)


def test_names_are_no_markup_in_the_report(patient, tmp_path):
    evil = patient.rename(patient.parent / "<img src=x onerror=alert(1)>")
    result = analysed(evil, tmp_path / "out")
    assert "<img src=x" not in (result / "report.html").read_text()
    assert main(["batch", str(evil.parent), "-o", str(tmp_path / "all"), "--device", "cpu"]) == 0
    assert "<img src=x" not in (tmp_path / "all" / "index.html").read_text()
