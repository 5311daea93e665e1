"""File > Open: a patient's folder or manifest (images as they lie), or a result folder of ``run`` and ``batch``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it brings matplotlib, and napari asks the reader about every file
    from napari_convlstm_tumor._napari.layers import LayerData
    from napari_convlstm_tumor.series import PatientFiles

RESULT_FILE = "run.json"
# A folder is ours when an image is among its first files; a disc with a million other files is let go quickly.
FILES_LOOKED_AT = 300
IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima")
DICOM_MARK, DICOM_MARK_AT = b"DICM", 128

Reader = Callable[[Any], "list[LayerData]"]


def get_reader(path: str | list[str]) -> Reader | None:
    """The reader for one folder, manifest or run.json; None, quickly, for anything that is not ours."""
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    place = Path(path)
    if is_result(place):
        return read_result
    if place.suffix.lower() == ".csv" or (place.is_dir() and _holds_image(place)):
        return read_patient
    return None


def is_result(place: Path) -> bool:
    """True for a result folder, or the run.json in it. Looks at names only: ``results`` would load SimpleITK."""
    return (result_folder(place) / RESULT_FILE).is_file() and (result_folder(place) / "series").is_dir()


def result_folder(place: Path) -> Path:
    """The folder of a run.json; a folder is its own."""
    return place.parent if place.name == RESULT_FILE else place


def read_result(path: Any) -> list[LayerData]:
    """Layers of a result folder: images, growth map, tumor, forecast."""
    from napari_convlstm_tumor import pipeline
    from napari_convlstm_tumor._napari import layers, viewer

    place = _only(path)
    data = layers.to_layers(pipeline.load(result_folder(place)), str(place))
    viewer.attach_current()
    return data


def read_patient(path: Any) -> list[LayerData]:
    """Images of every visit, brought on the grid of the first by their headers alone: quick, and named so."""
    from napari_convlstm_tumor._napari import viewer

    data, warnings = patient_layers(_only(path))
    _tell(warnings)
    viewer.attach_current()
    return data


def patient_layers(place: Path, files: PatientFiles | None = None) -> tuple[list[LayerData], tuple[str, ...]]:
    """Layers of a patient's images as they lie, and what a person should know. InputError when they cannot be used.

    files: the visits as a person corrected them; None = as they are found in ``place``.
    """
    from napari_convlstm_tumor._napari import layers
    from napari_convlstm_tumor.errors import InputError
    from napari_convlstm_tumor.io.discover import find_patient
    from napari_convlstm_tumor.io.read import read_series
    from napari_convlstm_tumor.prepare.preprocess import align
    from napari_convlstm_tumor.settings import Settings

    settings = Settings(register=False)
    files = find_patient(place, settings) if files is None else files
    if files.problems:
        raise InputError(files.problems[0])
    aligned = _result_of(align(read_series(files, settings), settings))
    return layers.unregistered_layers(aligned, str(place)), files.warnings


def _only(path: Any) -> Path:
    return Path(path[0] if isinstance(path, list) else path)


def _result_of(steps: Generator[float, None, Any]) -> Any:
    """Run a generator to its end and take what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _tell(warnings: tuple[str, ...]) -> None:
    from napari.utils.notifications import show_warning

    for warning in warnings:
        show_warning(warning)


def _holds_image(folder: Path) -> bool:
    files = (place for place in folder.rglob("*") if place.is_file())
    return any(_is_image(place) for place in itertools.islice(files, FILES_LOOKED_AT))


def _is_image(place: Path) -> bool:
    if place.name.lower().endswith(IMAGE_ENDINGS):
        return True
    try:
        with place.open("rb") as file:
            file.seek(DICOM_MARK_AT)
            return file.read(len(DICOM_MARK)) == DICOM_MARK
    except OSError:
        return False
