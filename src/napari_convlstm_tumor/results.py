"""The result of one patient and its folder: written whole or not at all, and read back.

PATIENT/
    report.html  visits.csv  lesions.csv  report.json  run.json  recipe.yaml
    prompts.json  links.json  clinical.csv (what was given of these)
    native/visit-01/mask.nii.gz  lesions.nii.gz ...  on the grid of that visit's image, in the order of time
    series/image.nii.gz  image_<modality>  mask  probability  lesions  growth_mm_per_month  growth_reliable
           log_growth_per_month  log_growth_reliable  log_jacobian_per_month  log_jacobian_reliable
           forecast  forecast_band
                                           on the common grid, 4-D with the visit last (those of the forecast are 3-D)
    dicom/                                 SEG, growth maps and SR, when asked for

Every file, column and unit: docs/output.md.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import InputError, TumorError
from napari_convlstm_tumor.io.headers import check_nifti
from napari_convlstm_tumor.io.nifti import NIBABEL_ERRORS
from napari_convlstm_tumor.io.prompts import read_saved_prompts, write_prompts
from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.io.write import write_json, write_nifti, write_text
from napari_convlstm_tumor.report.dicom import write_dicom
from napari_convlstm_tumor.report.html import patient_html
from napari_convlstm_tumor.report.tables import lesions_csv, report_from_json, report_json, visits_csv
from napari_convlstm_tumor.series import FloatVolume, Prediction, Registration, Report
from napari_convlstm_tumor.settings import PATHS, Settings
from napari_convlstm_tumor.volume import Grid, Volume

RUN_FILE = "run.json"
REPORT_FILE = "report.json"
RECIPE_FILE = "recipe.yaml"
PROMPTS_FILE = "prompts.json"
LINKS_FILE = "links.json"
CLINICAL_FILE = "clinical.csv"
IDENTITY_FILE = "identity.csv"
HTML_FILE = "report.html"
DICOM_FOLDER = "dicom"
PROMPT_MASKS = "prompt-masks"
PROVENANCE_KEYS = ("versions", "settings", "device", "timings_s", "peak_memory_mb")
OWN_NAMES = (
    "native",
    "series",
    "visits.csv",
    "lesions.csv",
    REPORT_FILE,
    RUN_FILE,
    RECIPE_FILE,
    PROMPTS_FILE,
    PROMPT_MASKS,
    LINKS_FILE,
    CLINICAL_FILE,
    IDENTITY_FILE,
    HTML_FILE,
    DICOM_FOLDER,
)


def growth_name(dated: bool) -> str:
    """File name (without ending) of the growth map: the unit is in it."""
    return "growth_mm_per_month" if dated else "growth_mm_per_visit"


def log_growth_name(dated: bool) -> str:
    """File name (without ending) of the log-growth map."""
    return "log_growth_per_month" if dated else "log_growth_per_visit"


def log_jacobian_name(dated: bool) -> str:
    """File name (without ending) of the map of the log-Jacobian rate."""
    return "log_jacobian_per_month" if dated else "log_jacobian_per_visit"


def is_result(folder: Path) -> bool:
    """True for a folder that ``save`` wrote."""
    return (folder / RUN_FILE).is_file() and (folder / "series").is_dir()


def save(analysis: Analysis, folder: Path) -> Analysis:
    """Write the result folder: beside its place first, moved in when complete; an older result there is replaced.

    Returns the analysis as written: with a warning more when DICOM output was asked for and could not be made.
    Raises InputError when ``folder`` holds something that is not a result.
    """
    # an unfinished result (stopped while it was moved in) holds only our own names
    foreign = folder.exists() and any(p.name not in OWN_NAMES for p in folder.iterdir())
    if foreign and not is_result(folder):
        raise InputError(
            f"The output folder '{folder.name}' holds files that are not a result of this program. "
            "Choose another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    part.mkdir()
    try:
        analysis = _with_dicom(analysis, part / DICOM_FOLDER)
        _write_all(analysis, part)
        _move_in(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return analysis


def _with_dicom(analysis: Analysis, folder: Path) -> Analysis:
    """DICOM objects where they were asked for; a patient they cannot be made of has everything else."""
    if not analysis.settings.dicom:
        return analysis
    try:
        if analysis.source is None:
            raise InputError("a result that was read back does not know its images; run the analysis again.")
        write_dicom(analysis, analysis.source, analysis.native_lesions, folder)
    except TumorError as error:
        report, said = analysis.report, f"No DICOM output: {error}"
        if any(warning.startswith("No DICOM output") for warning in report.warnings):
            return analysis
        return replace(analysis, report=replace(report, warnings=(*report.warnings, said)))
    return analysis


def _write_all(analysis: Analysis, folder: Path) -> None:
    for name, volumes in (("mask", analysis.native_masks), ("lesions", analysis.native_lesions)):
        for number, volume in enumerate(volumes, start=1):
            write_nifti(folder / "native" / f"visit-{number:02d}" / f"{name}.nii.gz", volume.data, volume.grid)
    _write_series(analysis, folder / "series")
    _write_records(analysis, folder)


def _write_series(analysis: Analysis, series: Path) -> None:
    grid = analysis.grid
    for n, (modality, image) in enumerate(analysis.images.items()):
        name = "image" if n == 0 else f"image_{modality}"
        write_nifti(series / f"{name}.nii.gz", image, grid, last_axis_visits=True)
    stacks: dict[str, npt.NDArray[Any] | None] = {
        "mask": analysis.masks,
        "probability": analysis.prediction.probability,
        growth_name(analysis.dated): analysis.growth,
        "lesions": analysis.lesions,
        "growth_reliable": analysis.reliable,
        log_growth_name(analysis.dated): analysis.log_growth,
        "log_growth_reliable": analysis.log_growth_reliable,
        log_jacobian_name(analysis.dated): analysis.log_jacobian,
        "log_jacobian_reliable": analysis.log_jacobian_reliable,
    }
    for name, stack in stacks.items():
        if stack is not None:
            write_nifti(series / f"{name}.nii.gz", stack, grid, last_axis_visits=True)
    for name, volume in (("forecast", analysis.prediction.forecast), ("forecast_band", analysis.forecast_band)):
        if volume is not None:
            write_nifti(series / f"{name}.nii.gz", volume, grid)


def _write_records(analysis: Analysis, folder: Path) -> None:
    settings = analysis.settings.to_dict()
    if analysis.prompts:
        masks = {n: f"{PROMPT_MASKS}/{n}.nii.gz" for n, p in enumerate(analysis.prompts) if p.mask is not None}
        for n, name in masks.items():
            mask = analysis.prompts[n].mask
            assert mask is not None
            write_nifti(folder / name, mask.data, mask.grid)
        write_prompts(folder / PROMPTS_FILE, analysis.prompts, masks)
        settings["prompts"] = PROMPTS_FILE
    for name, text in analysis.attachments.items():
        write_text(folder / name, text)
    for setting, name in (("links", LINKS_FILE), ("clinical", CLINICAL_FILE)):
        settings[setting] = name if name in analysis.attachments else None
    write_text(folder / "visits.csv", visits_csv(analysis.report))
    write_text(folder / "lesions.csv", lesions_csv(analysis.report))
    forecasts = analysis.report.forecasts or None
    write_text(folder / HTML_FILE, patient_html(analysis, forecasts=forecasts))
    write_text(folder / REPORT_FILE, report_json(analysis.report))
    write_text(folder / RECIPE_FILE, _recipe(settings))
    write_json(folder / RUN_FILE, run_record(analysis))


def run_record(analysis: Analysis) -> dict[str, Any]:
    """What run.json holds."""
    prediction = analysis.prediction
    return {
        "patient": analysis.patient,
        "days": list(analysis.days) if analysis.dated else None,
        "visits": len(analysis.days),
        "dated": analysis.dated,
        "modalities": list(analysis.images),
        "model": prediction.model,
        "forecast": {"day": prediction.forecast_day, "note": prediction.forecast_note},
        "registration": [
            {"quality": r.quality, "good": r.good, "note": r.note, "ref_to_visit": r.ref_to_visit.tolist()}
            for r in analysis.registrations
        ],
        "warnings": list(analysis.report.warnings),
        **analysis.provenance,
        "research_use_only": True,
    }


def _move_in(part: Path, folder: Path) -> None:
    """Put the finished part in place. run.json goes out first and comes in last: a result without it is unfinished."""
    if not folder.exists():
        part.replace(folder)
        return
    (folder / RUN_FILE).unlink(missing_ok=True)
    for name in sorted(OWN_NAMES, key=lambda name: name == RUN_FILE):
        old = folder / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
        if (part / name).exists():
            (part / name).replace(old)


# ---- reading back ----


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


def _recipe(settings: dict[str, Any]) -> str:
    """recipe.yaml; read_recipe says why it cannot name a bundle."""
    note = ""
    if Path(settings["model"]).is_dir():
        note = f"# Outlined by the MONAI bundle {Path(settings.pop('model')).name}: to replay, give --model FOLDER.\n"
    return note + yaml.safe_dump(settings, sort_keys=False)


def read_recipe(path: Path) -> Settings:
    """Settings from a recipe.yaml; files named in it are looked for beside it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid YAML"
        raise InputError(f"The recipe {path.name} cannot be read: {reason}.") from error
    if not isinstance(values, dict):
        raise InputError(f"The recipe {path.name} is not a list of settings (name: value).")
    for name in PATHS:
        if isinstance(values.get(name), str):
            values[name] = path.parent / values[name]
    settings = Settings.from_dict(values)
    if Path(settings.model).is_dir():
        raise InputError(
            f"The recipe {path.name} names the folder '{Path(settings.model).name}' as the model. A MONAI bundle runs "
            "its maker's code, so a recipe cannot ask for one: take the line 'model' out, and give --model yourself if "
            "you trust the bundle."
        )
    return settings


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
