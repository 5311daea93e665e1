"""The network as a MONAI bundle (docs.monai.io/en/stable/mb_specification.html), and what MONAI's runner runs of it.

The bundle holds weights, card, configs and licence, no code: its inference.json names this package's own reader,
network and pipeline, so what MONAI's runner writes is what ``convlstm-tumor run`` writes.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_convlstm_tumor import RESEARCH_USE, __version__
from napari_convlstm_tumor.errors import ModelError, SettingsError
from napari_convlstm_tumor.model.card import Model, load_model, save_model
from napari_convlstm_tumor.model.network import GrowthNet
from napari_convlstm_tumor.pipeline import Segmenter, analyse, save
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings

PACKAGE = "napari_convlstm_tumor"
DISTRIBUTION = "napari-convlstm-tumor"
STATE = "models/model.pt"
# The schema that the MONAI model zoo's newest bundles name; `monai.bundle verify_metadata` fetches it.
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
# Packages whose version the answer depends on, beside those that the format names on its own.
REQUIRED = (DISTRIBUTION, "nibabel", "SimpleITK", "pydicom", "safetensors", "scipy")


def export_bundle(folder: Path, model: str = "default") -> Path:
    """Write the model (a shipped name or a .safetensors file) as a MONAI bundle to a new ``folder``; returns it.

    Raises ModelError when there is no such model, or when ``folder`` exists and is not empty.
    """
    loaded = load_model(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"The folder {folder.name} for the bundle is not empty. Choose a new one.")
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    weights = folder / _weights(loaded)
    save_model(loaded.network, weights, loaded.card)
    weights.chmod(0o644)  # safetensors writes for the owner alone, and a bundle is handed on
    halves = {name: tensor.half() for name, tensor in loaded.network.state_dict().items()}
    torch.save(halves, folder / STATE)
    _write_json(folder / "configs" / "metadata.json", metadata(loaded))
    _write_json(folder / "configs" / "inference.json", inference(loaded))
    (folder / "docs" / "README.md").write_text(_readme(loaded), encoding="utf-8")
    _write_license(folder / "LICENSE")
    return folder


@dataclass(frozen=True)
class SeriesInference:
    """The workflow of inference.json: every patient through the pipeline, into OUTPUT_DIR/PATIENT/.

    inferer: the segmenter, e.g. model.predict.segment. Raises SettingsError when there are prompts (one patient's
    millimetres) and several patients.
    """

    dataset: Sequence[PatientFiles]
    settings: Settings
    inferer: Segmenter
    output_dir: str

    def __post_init__(self) -> None:
        if self.settings.prompts is not None and len(self.dataset) > 1:
            raise SettingsError(
                f"The prompts hold one patient's millimetres, and {len(self.dataset)} patients were found. "
                "Give dataset_dir the folder of that patient."
            )

    def run(self) -> list[Path]:
        """Analyse and save every patient; returns the result folders."""
        return [self._one(files) for files in self.dataset]

    def _one(self, files: PatientFiles) -> Path:
        for step in analyse(files, self.settings, self.inferer):
            analysis = step.analysis
        assert analysis is not None
        folder = Path(self.output_dir) / files.patient
        save(analysis, folder)
        return folder


# ---- configs ----


def inference(model: Model) -> dict[str, Any]:
    """inference.json: every part of it can be overridden from MONAI's command line."""
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/patients'",
        "output_dir": "$@bundle_root + '/eval'",
        "weights": f"$@bundle_root + '/{_weights(model)}'",
        "device": "$'cuda' if torch.cuda.is_available() else 'cpu'",
        "prompts": None,
        "masks": "ignore",
        "network_def": {
            "_target_": f"{PACKAGE}.model.network.GrowthNet",
            "config": {
                "_target_": f"{PACKAGE}.model.network.NetworkConfig.from_dict",
                "values": _plain(model.network),
            },
        },
        "settings": {
            "_target_": f"{PACKAGE}.settings.Settings",
            "model": "@weights",
            "device": "@device",
            "prompts": "@prompts",
            "masks": "@masks",
        },
        "dataset": {
            "_target_": f"{PACKAGE}.io.discover.find_patients",
            "path": "@dataset_dir",
            "settings": "@settings",
        },
        "inferer": {"_target_": f"{PACKAGE}.model.predict.segment", "_mode_": "callable"},
        "evaluator": {
            "_target_": f"{PACKAGE}.training.bundle.SeriesInference",
            "dataset": "@dataset",
            "settings": "@settings",
            "inferer": "@inferer",
            "output_dir": "@output_dir",
        },
        "run": ["$@evaluator.run()"],
    }


def metadata(model: Model) -> dict[str, Any]:
    """metadata.json: the keys that the bundle format asks for, filled from the card."""
    card = model.card
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"exported from {model.id}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {package: _version(package) for package in REQUIRED},
        "name": model.name,
        "task": "Tumor segmentation over the visits of a patient",
        "description": str(card.get("what", "")),
        "authors": "the napari-convlstm-tumor developers",
        "copyright": str(card.get("licence", "BSD-3-Clause")),
        "data_source": "; ".join(card.get("trained_on", ())),
        "data_type": "NIfTI, NRRD, MetaImage or DICOM, a folder per patient",
        "image_classes": str(card.get("fed", "")),
        "label_classes": str(card.get("outlines", "")),
        "pred_classes": "a mask per visit, 1 in the tumor",
        "eval_metrics": eval_metrics(card),
        "intended_use": str(card.get("use", RESEARCH_USE)),
        "references": ["Shi et al., Convolutional LSTM Network, NeurIPS 2015. https://arxiv.org/abs/1506.04214"],
        "network_data_format": {
            "inputs": {"image": _tensor(model.network.config.modalities, "magnitude", [])},
            "outputs": {"pred": _tensor(("tumor",), "segmentation", [0, 1])},
        },
    }


def eval_metrics(card: Mapping[str, Any]) -> dict[str, float]:
    """The network's own rows of the card's accuracy, one name and mean each."""
    rows = [row for row in card.get("accuracy", ()) if row.get("method") == "network"]
    return {"_".join(f"{row['set']} {row['prompt']} {row['measure']}".split()): row["mean"] for row in rows}


def _tensor(channels: Sequence[str], kind: str, values: Sequence[float]) -> dict[str, Any]:
    """A tensor of one visit, channel first, in the words of the bundle format."""
    return {
        "type": "image",
        "format": kind,
        "modality": "MR or CT",
        "num_channels": len(channels),
        "spatial_shape": ["16*n", "16*n", "16*n"],
        "dtype": "float32",
        "value_range": list(values),
        "is_patch_data": True,
        "channel_def": {str(n): name for n, name in enumerate(channels)},
    }


def _weights(model: Model) -> str:
    """Named as the model, so that results say which model they come from."""
    return f"models/{model.name}.safetensors"


def _plain(network: GrowthNet) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(network.config.to_dict()))
    return plain


def _version(package: str) -> str:
    """What is installed, without a local part such as +cpu."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return __version__ if package == DISTRIBUTION else "0"


# ---- files ----


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _write_license(path: Path) -> None:
    """The licence of the package: from its metadata when installed, else from the source tree."""
    installed = importlib.metadata.files(DISTRIBUTION) or ()
    for entry in installed:
        if entry.name == "LICENSE":
            shutil.copyfile(str(entry.locate()), path)
            return
    raise ModelError(f"The licence of {DISTRIBUTION} is missing from its installation. Install the package again.")


def _readme(model: Model) -> str:
    card = model.card
    return f"""# {model.name}: tumor segmentation over the visits of a patient

{card.get("use", RESEARCH_USE)}

{card.get("what", "")}

It outlines {card.get("outlines", "the tumor")}. It is fed {card.get("fed", "")}.

## Before it runs

    pip install "{DISTRIBUTION}=={__version__}" "monai[fire]"

The bundle holds weights and configuration, no code: configs/inference.json names the classes of {DISTRIBUTION}, which
must be installed.

## Run it

    python -m monai.bundle run --config_file configs/inference.json --dataset_dir PATIENTS --output_dir OUT

from the bundle's folder (or with `--bundle_root`). PATIENTS is a patient's folder, a folder of patients or a CSV
manifest, as `convlstm-tumor info PATIENTS` lists it: any number of visits, dated or numbered, any of
{", ".join(model.network.config.modalities)}. The masks are OUT/PATIENT/native/visit-01/mask.nii.gz ...,
on each visit's own grid; beside them are the numbers (visits.csv, report.json).

    --prompts FILE.json    clicks or boxes, in each visit's scanner space; without them it works alone on
                           {", ".join(card.get("automatic", ())) or "no kind of image"}
    --masks use            masks found beside the images stand as they are and prompt the network elsewhere
    --device cpu           where it runs

{_weights(model)} (checked against the sha256 in its card beside it) is what runs; models/model.pt holds the same
numbers as a state dictionary for tools that ask for one. One call of the network is one visit of the six kinds of
image, with state, prompt channels and the days since the visit before (GrowthNet.forward), so MONAI's
`verify_net_in_out` and `ckpt_export`, which feed a network one image, do not apply.

## Trained on

{chr(10).join("- " + text for text in card.get("trained_on", ()))}

Kept back: {card.get("held_out", "not stated")}.

## Accuracy

{_accuracy(card)}

Licence: {card.get("licence", "BSD-3-Clause")}
"""


def _accuracy(card: Mapping[str, Any]) -> str:
    rows = card.get("accuracy", ())
    if not rows:
        return "Not measured."
    head = "| set | prompt | method | measure | mean (95 % interval) | n |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {r['set']} | {r['prompt']} | {r['method']} | {r['measure']} "
        f"| {r['mean']:.3f} ({r['low']:.3f} to {r['high']:.3f}) | {r['n']} |"
        for r in rows
    )
