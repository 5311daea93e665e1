"""Weights: verified, safe, with a card."""

import json

import pytest
import torch

from napari_convlstm_tumor.errors import ModelError
from napari_convlstm_tumor.model.card import WEIGHTS_FOLDER, load_model, save_model
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig

SMALL = NetworkConfig(channels=(4, 6, 8), hidden=(3, 3))


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_model(GrowthNet(SMALL), path, {"automatic": ["t1c"]})
    return path


def test_round_trip(saved):
    model = load_model(str(saved))
    assert model.name == "tiny"
    assert model.card["automatic"] == ["t1c"]
    assert model.sha256[:12] in model.id
    assert model.network.config == SMALL


def test_changed_weights_are_refused(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ModelError, match="not those its card describes"):
        load_model(str(saved))


def test_a_card_of_another_network_is_refused(saved):
    card_path = saved.with_suffix(".json")
    card = json.loads(card_path.read_text())
    card["network"]["channels"] = [4, 6, 10]
    card_path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match="do not fit"):
        load_model(str(saved))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "missing"), ("{", "not valid JSON"), ("[1]", "not a JSON object")]
)
def test_a_bad_card_is_refused(saved, content, message):
    card = saved.with_suffix(".json")
    card.unlink() if content is None else card.write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(str(saved))


@pytest.mark.parametrize("name", ["no-such-model", "/nowhere/w.safetensors"])
def test_an_unknown_model_is_refused(name):
    with pytest.raises(ModelError, match="no"):
        load_model(name)


def test_the_shipped_weights_load_and_are_small():
    model = load_model()
    assert model.card["use"].startswith("Research use only")
    assert sum(f.stat().st_size for f in WEIGHTS_FOLDER.iterdir()) <= 16_000_000
