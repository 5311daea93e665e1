"""A shipped model: weights (safetensors, cannot run code) and a card (JSON) that says what they are and must be fed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from napari_convlstm_tumor.errors import ModelError
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_MODEL = "growthnet-1"


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
    try:
        network = GrowthNet(NetworkConfig.from_dict(card["network"]))
        weights = {key: tensor.float() for key, tensor in load_file(path).items()}
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ModelError(f"The weights {path.name} do not fit the network its card describes: {error}") from error
    return Model(network.eval(), path.stem, digest, card)


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"The model card {path.stem}.json is not valid JSON: {error}") from error
    if not isinstance(card, dict):
        raise ModelError(f"The model card {path.stem}.json is not a JSON object.")
    return card
