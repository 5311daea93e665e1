"""Any MONAI bundle that segments one image as the segmenter: run on each visit's image, without memory between visits.

A bundle's configs can run any code of whoever made it (``_target_`` and ``$`` expressions): only give one that is
trusted. Its weights are read as tensors alone. What is used of it: network_def, inferer, preprocessing and
postprocessing of configs/inference.json (or .yaml), models/model.pt or model.safetensors, and configs/metadata.json for
the kinds of image it wants and the names of what it outlines.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, SaveImage, SaveImaged, SpatialResample
from safetensors.torch import load_file

from napari_convlstm_tumor.errors import InputError, ModelError, TumorError
from napari_convlstm_tumor.model.device import pick_device
from napari_convlstm_tumor.model.segmenters import Segmenter
from napari_convlstm_tumor.series import AlignedSeries, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings

Mask = npt.NDArray[np.uint8]

NEEDED = ("network_def", "inferer", "preprocessing", "postprocessing")
CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
WEIGHTS = ("model.safetensors", "model.pt")
# How bundles of the MONAI model zoo call the kinds of image, letters and digits only, in lower case.
KINDS = {
    "t1": "t1", "t1w": "t1", "t1n": "t1", "t1c": "t1c", "t1ce": "t1c", "t1gd": "t1c", "t1wce": "t1c", "t1post": "t1c",
    "t2": "t2", "t2w": "t2", "flair": "flair", "t2flair": "flair", "t2f": "flair", "ct": "ct",
}  # fmt: skip
TUMOR_NAME = re.compile(r"tumou?r|lesion|neoplasm|metasta|nodule|cancer|glioma|gtv|enhanc|necro|o?edema", re.IGNORECASE)
BACKGROUND = re.compile(r"back ?ground|bg|none|outside", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class _Bundle:
    """A bundle ready to run. channels: the kind of image of each input channel; tumor: which outputs are tumor, None =
    all that is not 0.
    """

    id: str
    network: torch.nn.Module
    inferer: Callable[..., Any]
    preprocessing: Callable[..., Any]
    postprocessing: Callable[..., Any]
    image_key: str
    channels: tuple[str, ...]
    modality: str
    tumor: tuple[int, ...] | None
    device: torch.device


def segmenter_from_bundle(folder: Path) -> Segmenter:
    """A segmenter that runs the MONAI bundle in ``folder`` on every visit.

    It runs code of the bundle's maker: only give one that is trusted. Masks given at a visit stand as they are; prompts
    are not passed on, and the answer says so. The bundle is loaded once, at the first patient; then ModelError: no such
    bundle, a part missing or of another kind; InputError: a visit lacks a kind of image that it needs.
    """
    loaded: dict[torch.device, _Bundle] = {}

    def segment(
        aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
    ) -> Generator[float, None, Prediction]:
        device = pick_device(settings.device)
        if device not in loaded:
            loaded[device] = _load(folder, device)
        bundle = loaded[device]
        # every visit is checked before the first is run
        plan = [None if m is not None else _channels(bundle, aligned, t) for t, m in enumerate(aligned.masks)]
        probability = np.zeros((len(aligned.days), *aligned.grid.shape), dtype=np.float32)
        for t, channels in enumerate(plan):
            yield t / len(plan)
            if channels is None:
                probability[t] = aligned.masks[t]
            else:
                probability[t] = _segment_visit(bundle, aligned, t, channels) * aligned.inside[t]
        notes = ("The prompts were not used: a MONAI bundle takes none.",) if prompts else ()
        return Prediction(probability, aligned.days, aligned.grid, bundle.id, warnings=notes)

    return segment


# ---- loading ----


def _load(folder: Path, device: torch.device) -> _Bundle:
    metadata = _read_json(folder / "configs" / "metadata.json")
    parser = _parser(folder, device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network, *steps = (parser.get_parsed_content(part) for part in NEEDED)
    except Exception as error:  # the configuration is code: it can fail in any way
        raise ModelError(
            f"The bundle {folder.name} cannot be set up ({type(error).__name__} in configs). Is a package that it "
            "needs missing? Try it with: python -m monai.bundle run"
        ) from error
    inferer, preprocessing, postprocessing = steps
    inputs, outputs = _formats(metadata, folder.name)
    key, image = next(iter(inputs.items()))
    return _Bundle(
        id=f"MONAI bundle {folder.name} {metadata.get('version', '')} (sha256 {_load_weights(network, folder)})",
        network=network.to(device).eval(),
        inferer=inferer,
        preprocessing=preprocessing,
        postprocessing=_without_saving(postprocessing),
        image_key=str(key),
        channels=_in_order(image.get("channel_def")) or ("image",) * int(image.get("num_channels", 1)),
        modality=str(image.get("modality", "")),
        tumor=_tumor_outputs(_names(next(iter(outputs.values())).get("channel_def")), folder.name),
        device=device,
    )


def _parser(folder: Path, device: torch.device) -> ConfigParser:
    config = next((folder / "configs" / n for n in CONFIGS if (folder / "configs" / n).is_file()), None)
    if config is None:
        raise ModelError(f"The folder {folder.name} is no MONAI bundle: it has no configs/inference.json.")
    parser = ConfigParser()
    try:
        parser.read_config(str(config))
        parser.read_meta(str(folder / "configs" / "metadata.json"))
        missing = [part for part in NEEDED if part not in parser]
    except Exception as error:  # a YAML or JSON parser's own kinds
        raise ModelError(f"{config.name} of the bundle {folder.name} cannot be read.") from error
    if missing:
        raise ModelError(
            f"The bundle {folder.name} has no {missing[0]} in {config.name}, so it cannot be run on one image at a "
            "time. Run it with its own tool, save its masks beside the images and use them (--masks use)."
        )
    parser["bundle_root"] = str(folder)
    parser["device"] = f"$torch.device('{device}')"
    return parser


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = ConfigParser.load_config_file(str(path))
    except Exception as error:  # missing, unreadable or no JSON
        raise ModelError(f"{path.parent.parent.name} is no MONAI bundle: its configs/metadata.json is not there or not "
                         "readable.") from error  # fmt: skip
    if not isinstance(content, Mapping):
        raise ModelError(f"configs/metadata.json of the bundle {path.parent.parent.name} is not a JSON object.")
    return content


def _formats(metadata: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    formats = metadata.get("network_data_format")
    sides = [formats.get(side) for side in ("inputs", "outputs")] if isinstance(formats, Mapping) else []
    if len(sides) != 2 or any(not isinstance(s, Mapping) or len(s) != 1 for s in sides):
        raise ModelError(
            f"The bundle {name} does not take one image and give one segmentation (network_data_format in its "
            "metadata.json), so it cannot stand in as the segmenter."
        )
    return sides[0], sides[1]  # type: ignore[return-value]


def _load_weights(network: Any, folder: Path) -> str:
    """Fill the network; first 12 digits of the file's sha256. Pickled code in a .pt file is never run."""
    path = next((folder / "models" / n for n in WEIGHTS if (folder / "models" / n).is_file()), None)
    if path is None:
        raise ModelError(f"The bundle {folder.name} has no models/model.pt or models/model.safetensors.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        network.load_state_dict(state.get("model", state.get("state_dict", state)))
    except Exception as error:  # damaged file, pickled code, another network
        raise ModelError(
            f"{path.name} of the bundle {folder.name} does not hold the tensors of its network_def, and nothing else "
            "is loaded from it."
        ) from error
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _without_saving(postprocessing: Any) -> Any:
    """The steps without those that write files: the pipeline does that."""
    if not isinstance(postprocessing, Compose):
        return postprocessing
    return Compose([step for step in postprocessing.transforms if not isinstance(step, (SaveImage, SaveImaged))])


def _names(definition: Any) -> dict[int, str]:
    if not isinstance(definition, Mapping):
        return {}
    return {int(n): str(name) for n, name in definition.items() if str(n).isdecimal()}


def _in_order(definition: Any) -> tuple[str, ...]:
    names = _names(definition)
    return tuple(names[n] for n in sorted(names))


def _tumor_outputs(names: Mapping[int, str], bundle: str) -> tuple[int, ...] | None:
    """Which channels or labels are tumor; None when everything outlined is (or when there is but one thing)."""
    things = {n: name for n, name in names.items() if not BACKGROUND.fullmatch(name.strip())}
    tumor = tuple(n for n, name in things.items() if TUMOR_NAME.search(name))
    if len(things) <= 1 or len(tumor) == len(things):
        return None
    if not tumor:
        raise ModelError(
            f"The bundle {bundle} outlines {', '.join(things.values())}: none is named as a tumor. Name the tumor in "
            "channel_def of its metadata.json."
        )
    return tumor


# ---- one visit ----


def _channels(bundle: _Bundle, aligned: AlignedSeries, visit: int) -> list[int]:
    """The channel of the series for each input channel of the bundle."""
    here = [m for m, there in zip(aligned.modalities, aligned.present[visit], strict=True) if there]
    kinds = [_kind(name) for name in bundle.channels]
    if kinds == [""]:
        kinds = ["ct" if bundle.modality.upper() == "CT" else here[0] if len(here) == 1 else ""]
    lacking = [kind or name for kind, name in zip(kinds, bundle.channels, strict=True) if kind not in here]
    if lacking:
        raise InputError(
            f"Visit {visit + 1} has {', '.join(here)}, and the bundle needs {', '.join(lacking)}. Choose the image "
            "with --modality, or another bundle."
        )
    return [aligned.modalities.index(kind) for kind in kinds]


def _kind(name: str) -> str:
    return KINDS.get(re.sub(r"[^a-z0-9]", "", name.lower()), "")


def _segment_visit(bundle: _Bundle, aligned: AlignedSeries, visit: int, channels: Sequence[int]) -> Mask:
    """Mask (I, J, K) of a visit: its images go through files, as the bundle's own loader wants them."""
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            files = [_write(Path(folder) / f"{n}.nii", aligned, visit, c) for n, c in enumerate(channels)]
            item = bundle.preprocessing({bundle.image_key: files if len(files) > 1 else files[0]})
            batch = list_data_collate([item])
            batch["pred"] = bundle.inferer(batch[bundle.image_key].to(bundle.device), bundle.network)
            answer = bundle.postprocessing(decollate_batch(batch)[0])["pred"]
    except TumorError:
        raise
    except Exception as error:  # code of the bundle, which can fail in any way; its own words may hold paths
        raise ModelError(
            f"The {bundle.id} failed on visit {visit + 1} with {type(error).__name__}. Try it with: python -m "
            "monai.bundle run"
        ) from error
    return _mask(answer, bundle, aligned)


def _write(path: Path, aligned: AlignedSeries, visit: int, channel: int) -> str:
    nib.save(nib.Nifti1Image(aligned.raw(visit, channel), aligned.grid.affine), path)
    return str(path)


def _mask(answer: Any, bundle: _Bundle, aligned: AlignedSeries) -> Mask:
    """(C, I, J, K) labels (C = 1) or a channel per thing, on any grid -> (I, J, K) on the common grid."""
    if not isinstance(answer, MetaTensor) or answer.ndim != 4:
        raise ModelError(f"The {bundle.id} does not answer with a 3-D segmentation that knows where it lies.")
    values = answer.as_tensor().detach().cpu()
    if not torch.equal(values, values.round()) or float(values.min()) < 0:
        raise ModelError(
            f"The {bundle.id} answers with values between whole numbers, not with labels. Its postprocessing must end "
            "with AsDiscreted."
        )
    tumor = _tumor_voxels(values, bundle.tumor)
    to_grid = SpatialResample(mode="nearest", padding_mode="zeros", align_corners=False)
    affine = torch.from_numpy(np.array(aligned.grid.affine))
    moved = to_grid(MetaTensor(tumor.float(), affine=answer.affine), affine, aligned.grid.shape)
    return (moved.numpy()[0] > 0.5).astype(np.uint8)


def _tumor_voxels(values: torch.Tensor, tumor: tuple[int, ...] | None) -> torch.Tensor:
    """(1, I, J, K) bool."""
    if len(values) == 1:
        return values > 0 if tumor is None else torch.isin(values.long(), torch.tensor(tumor))
    chosen = values if tumor is None else values[list(tumor)]
    return (chosen > 0).any(dim=0, keepdim=True)
