"""A shipped model: weights (safetensors, cannot run code) and a card (JSON) that says what they are and must be fed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from napari_convlstm_tumor.errors import ModelError
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_MODEL = "growthnet-10"


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready to run, its name, the sha256 of its weights and its card."""

    network: GrowthNet
    name: str
    sha256: str
    card: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Name and the first 12 digits of the weights' sha256, for run.json and tables."""
        return f"{self.name} (sha256 {self.sha256[:12]})"


def load_model(name: str = "default") -> Model:
    """A shipped model by name, or one by the path of its .safetensors file (its card lies beside it as .json).

    Raises ModelError: not found, no card, weights that do not match the card's sha256 or network.
    """
    path = _find(name)
    card = _read_card(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card.get("sha256"):
        raise ModelError(
            f"The weights {path.name} are not those its card describes (sha256 {digest[:12]}..., the card says "
            f"{str(card.get('sha256'))[:12]}...). Copy both files again from their source."
        )
    weights = _tensors(path)
    network = _network(card, {name: tensor.shape for name, tensor in weights.items()}, path.name)
    network.load_state_dict(weights)
    return Model(network.eval(), path.stem, digest, card)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The weights as float32. Only tensors are ever read: a pickle is no safetensors file, whatever its name."""
    try:
        weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{path.name} is no safetensors file of weights. Copy it again from its source.") from error
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise ModelError(f"The weights {path.name} hold NaN or infinite numbers (in {bad[0]}): they cannot be used.")
    return weights


def _network(card: Mapping[str, Any], shapes: Mapping[str, torch.Size], name: str) -> GrowthNet:
    """The network of the card, built without memory first: a card may promise more of it than there is."""
    try:
        config = NetworkConfig.from_dict(card["network"])
        with torch.device("meta"):
            wanted = {key: tensor.shape for key, tensor in GrowthNet(config).state_dict().items()}
    except Exception as error:  # a card can be wrong in any way
        raise ModelError(f"The card of {name} describes no network that can be built. Copy both again.") from error
    odd = sorted(key for key in wanted.keys() | shapes.keys() if wanted.get(key) != shapes.get(key))
    if odd:
        raise ModelError(
            f"The weights {name} do not fit the network its card describes: {len(odd)} tensors differ, the first is "
            f"{odd[0]}. Copy both files again from their source."
        )
    return GrowthNet(config)


def save_model(network: GrowthNet, path: Path, card: Mapping[str, Any]) -> None:
    """Write weights (half precision: they were trained in bf16) and the card beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    parameters = sum(p.numel() for p in network.parameters())
    full = {
        "name": path.stem,
        **card,
        "network": network.config.to_dict(),
        "parameters": parameters,
        "sha256": digest,
    }
    path.with_suffix(".json").write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")


def write_accuracy(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Put a table of measured accuracy (rows of training/evaluate) into a model's card; returns the card's path."""
    path = _find(name)
    card = {**_read_card(path), "accuracy": list(rows)}
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path.with_suffix(".json")


def _find(name: str) -> Path:
    if name.endswith(".safetensors"):
        path = Path(name)
        if not path.is_file():
            raise ModelError(f"There is no weights file {path.name} where --model points to.")
        return path
    path = WEIGHTS_FOLDER / f"{DEFAULT_MODEL if name == 'default' else name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in WEIGHTS_FOLDER.glob("*.safetensors"))) or "none"
        raise ModelError(f"There is no shipped model '{name}'. Shipped: {shipped}. Or give a .safetensors file.")
    return path


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"The model card {path.stem}.json is missing beside {path.name}.") from error
    except (OSError, ValueError, RecursionError) as error:  # unreadable, not UTF-8, not JSON, nested beyond all use
        raise ModelError(f"The model card {path.stem}.json is not valid JSON. Copy it again.") from error
    if not isinstance(card, dict):
        raise ModelError(f"The model card {path.stem}.json is not a JSON object.")
    return card
