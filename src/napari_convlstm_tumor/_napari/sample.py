"""File > Open Sample: the two simulated patients of the repository's sample_data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_convlstm_tumor.errors import InputError

if TYPE_CHECKING:
    from napari_convlstm_tumor._napari.layers import LayerData

PACKAGE = Path(__file__).resolve().parents[1]
# Inside the package when the wheel carries it, else beside src/ in a source checkout.
SAMPLE_FOLDERS = (PACKAGE / "sample_data", PACKAGE.parents[1] / "sample_data")


def first_patient() -> list[LayerData]:
    """Images of the first simulated patient."""
    return _patient(0)


def second_patient() -> list[LayerData]:
    """Images of the second simulated patient."""
    return _patient(1)


def sample_folder() -> Path:
    """Where the sample patients lie. Raises InputError when they are not installed."""
    for folder in SAMPLE_FOLDERS:
        if folder.is_dir():
            return folder
    raise InputError(
        "The sample patients are not installed with this package. "
        "Get the folder sample_data from the source repository and open a patient in it with File > Open Folder."
    )


def _patient(number: int) -> list[LayerData]:
    from napari_convlstm_tumor._napari.reader import read_patient

    folder = sample_folder()
    patients = sorted(place for place in folder.iterdir() if place.is_dir())
    if number >= len(patients):
        raise InputError(f"The folder {folder.name} holds {len(patients)} patients, not {number + 1}.")
    return read_patient(str(patients[number]))
