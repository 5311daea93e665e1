"""Which segmenter the setting ``model`` names: our network, or a MONAI bundle of somebody else."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.model.card import load_model
from napari_convlstm_tumor.series import AlignedSeries, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings


class Segmenter(Protocol):
    """Anything that answers an AlignedSeries: the shipped network, given masks, another model."""

    def __call__(
        self, aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
    ) -> Generator[float, None, Prediction]:
        """Yield the fraction done; return the Prediction. Prompts come in the space of the common grid."""


def is_bundle(model: str) -> bool:
    """A folder is a MONAI bundle, which runs its maker's code; anything else names weights of our network."""
    return Path(model).is_dir()


def segmenter_of(model: str) -> Segmenter:
    """The segmenter that the setting ``model`` names."""
    return _bundle(model) if is_bundle(model) else predict.segment


@functools.lru_cache(maxsize=4)
def _bundle(folder: str) -> Segmenter:
    from napari_convlstm_tumor.model.external import segmenter_from_bundle  # loads all of MONAI

    return segmenter_from_bundle(Path(folder))


@functools.lru_cache(maxsize=4)
def model_sha256(model: str) -> str:
    """sha256 of the weights, verified against their card, or of all files of a bundle; once per process."""
    if not is_bundle(model):
        return load_model(model).sha256
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(model).rglob("*") if p.is_file()):
        digest.update(path.relative_to(model).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
