"""A result folder, read back as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.headers import check_nifti
from napari_convlstm_tumor.io.nifti import NIBABEL_ERRORS
from napari_convlstm_tumor.io.prompts import read_saved_prompts
from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.report.tables import report_from_json
from napari_convlstm_tumor.results.names import (
    CLINICAL_FILE,
    IDENTITY_FILE,
    LINKS_FILE,
    RECIPE_FILE,
    REPORT_FILE,
    RUN_FILE,
    growth_name,
    is_result,
    log_growth_name,
    log_jacobian_name,
)
from napari_convlstm_tumor.results.recipe import read_recipe
from napari_convlstm_tumor.series import FloatVolume, Prediction, Registration, Report
from napari_convlstm_tumor.volume import Grid, Volume

PROVENANCE_KEYS = ("versions", "settings", "device", "precision", "timings_s", "peak_memory_mb")


@dataclass(frozen=True, eq=False)
class FirstImage:
    """What of a result can be seen before the rest is read: one image (T, I, J, K), and whose it is."""

    patient: str
    days: tuple[int, ...]
    dated: bool
    modalities: tuple[str, ...]  # of the whole result; the image is of the first
    registrations: tuple[Registration, ...]
    grid: Grid
    image: FloatVolume


def load_first_image(folder: Path) -> FirstImage:
    """A fraction of what ``load`` reads. Raises InputError when it is incomplete or damaged."""
    record = _record(folder)
    try:
        patient, days = str(record["patient"]), tuple(record["days"] or range(int(record["visits"])))
        dated, modalities = bool(record["dated"]), tuple(record["modalities"])
        registrations = tuple(_registration(r) for r in record["registration"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{RUN_FILE} of '{folder.name}' lacks {error}: not a result of this version.") from error
    image, grid = _stack(folder / "series" / "image.nii.gz")
    return FirstImage(patient, days, dated, modalities, registrations, grid, image)


def load(folder: Path, first: FirstImage | None = None) -> Analysis:
    """A result folder as ``save`` wrote it. Raises InputError when it is incomplete or damaged.

    first: what ``load_first_image`` has read of it already.
    """
    record = _record(folder)
    first = load_first_image(folder) if first is None else first
    days, dated, grid = first.days, first.dated, first.grid
    series = folder / "series"
    mask, _ = _stack(series / "mask.nii.gz")
    probability, _ = _stack(series / "probability.nii.gz")
    growth, _ = _stack(series / f"{growth_name(dated)}.nii.gz")
    images = {
        modality: first.image if n == 0 else _stack(series / f"image_{modality}.nii.gz")[0]
        for n, modality in enumerate(first.modalities)
    }
    settings = read_recipe(folder / RECIPE_FILE)
    prompts = read_saved_prompts(settings.prompts) if settings.prompts is not None else ()
    forecast, band = _volume(series / "forecast.nii.gz"), _volume(series / "forecast_band.nii.gz")
    lesions = _optional(series / "lesions.nii.gz")
    prediction = Prediction(
        probability,
        days,
        grid,
        str(record["model"]),
        forecast=forecast,
        forecast_day=record["forecast"]["day"],
        forecast_note=record["forecast"]["note"],
    )
    analysis = Analysis(
        patient=first.patient,
        days=days,
        dated=dated,
        grid=grid,
        images=images,
        masks=(mask > 0.5).astype(np.uint8),
        growth=growth,
        prediction=prediction,
        native_masks=tuple(_native(folder, n) for n in range(1, len(days) + 1)),
        native_lesions=_native_lesions(folder, len(days)),
        reliable=_flags(series / "growth_reliable.nii.gz"),
        log_growth=_optional(series / f"{log_growth_name(dated)}.nii.gz"),
        log_growth_reliable=_flags(series / "log_growth_reliable.nii.gz"),
        log_jacobian=_optional(series / f"{log_jacobian_name(dated)}.nii.gz"),
        log_jacobian_reliable=_flags(series / "log_jacobian_reliable.nii.gz"),
        forecast_band=None if band is None else np.rint(band).astype(np.uint8),
        attachments=_attachments(folder),
        registrations=first.registrations,
        report=_report(folder / REPORT_FILE),
        lesions=None if lesions is None else lesions.astype(np.uint16),
        settings=replace(settings, prompts=None),
        prompts=prompts,
        provenance={k: record[k] for k in PROVENANCE_KEYS if k in record},
    )
    _check_shapes(analysis, folder)
    return analysis


def _check_shapes(analysis: Analysis, folder: Path) -> None:
    """Every stack has the visits and the grid of the result."""
    meant = (len(analysis.days), *analysis.grid.shape)
    maps = [stack for one in analysis.change_maps for stack in (one.values, one.reliable)]
    for stack in (analysis.masks, analysis.prediction.probability, analysis.lesions, *analysis.images.values(), *maps):
        if stack is not None and stack.shape != meant:
            raise InputError(
                f"The images in series/ of '{folder.name}' differ in shape or visits: {stack.shape} where {meant} is "
                "meant. Run the analysis again."
            )


def _record(folder: Path) -> dict[str, Any]:
    if not is_result(folder):
        raise InputError(f"'{folder.name}' is not a result folder: it has no {RUN_FILE} or no series/.")
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{RUN_FILE} of '{folder.name}' is not valid JSON.") from error
    if not isinstance(record, dict):
        raise InputError(f"{RUN_FILE} of '{folder.name}' is not a JSON object.")
    return record


def _report(path: Path) -> Report:
    try:
        return report_from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} of '{path.parent.name}' cannot be read.") from error


def _registration(record: Mapping[str, Any]) -> Registration:
    quality = record["quality"]
    matrix = np.array(record["ref_to_visit"], dtype=np.float64).reshape(4, 4)
    return Registration(
        matrix, float("nan") if quality is None else float(quality), bool(record["good"]), record["note"]
    )


def _stack(path: Path) -> tuple[FloatVolume, Grid]:
    """A 4-D result file with the visit last -> (T, I, J, K) and its grid. NaN stays NaN."""
    import nibabel as nib

    if not path.is_file():
        raise InputError(f"The result lacks series/{path.name}. Run the analysis again.")
    try:
        check_nifti(path)
        image = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (InputError, *NIBABEL_ERRORS) as error:
        raise InputError(f"series/{path.name} of the result is damaged. Run the analysis again.") from error
    data = data.reshape(*data.shape[:3], -1)
    i, j, k = data.shape[:3]
    return np.ascontiguousarray(np.moveaxis(data, -1, 0)), Grid((i, j, k), np.array(image.affine))


def _optional(path: Path) -> FloatVolume | None:
    """A 4-D result file that a result may lack."""
    return _stack(path)[0] if path.exists() else None


def _flags(path: Path) -> npt.NDArray[np.bool_] | None:
    stack = _optional(path)
    return None if stack is None else stack > 0.5


def _volume(path: Path) -> FloatVolume | None:
    """A 3-D result file that a result may lack."""
    return read_volume([path]).data if path.exists() else None


def _attachments(folder: Path) -> dict[str, str]:
    names = (name for name in (LINKS_FILE, CLINICAL_FILE, IDENTITY_FILE) if (folder / name).exists())
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def _native_lesions(folder: Path, visits: int) -> tuple[Volume, ...]:
    """Lesion ids per visit on its own grid; none when the result has no lesions."""
    paths = [folder / "native" / f"visit-{n:02d}" / "lesions.nii.gz" for n in range(1, visits + 1)]
    if not all(path.exists() for path in paths):
        return ()
    volumes = [read_volume([path]) for path in paths]
    return tuple(Volume(np.rint(v.data).astype(np.uint16), v.grid) for v in volumes)


def _native(folder: Path, number: int) -> Volume:
    volume = read_volume([folder / "native" / f"visit-{number:02d}" / "mask.nii.gz"])
    return Volume((volume.data > 0.5).astype(np.uint8), volume.grid)
