"""A result folder, written whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import InputError, TumorError
from napari_convlstm_tumor.io.prompts import write_prompts
from napari_convlstm_tumor.io.write import write_json, write_nifti, write_text
from napari_convlstm_tumor.report.dicom import write_dicom
from napari_convlstm_tumor.report.html import patient_html
from napari_convlstm_tumor.report.tables import lesions_csv, report_json, visits_csv
from napari_convlstm_tumor.results.names import (
    CLINICAL_FILE,
    DICOM_FOLDER,
    HTML_FILE,
    LINKS_FILE,
    OWN_NAMES,
    PROMPT_MASKS,
    PROMPTS_FILE,
    RECIPE_FILE,
    REPORT_FILE,
    RUN_FILE,
    growth_name,
    is_result,
    log_growth_name,
    log_jacobian_name,
)
from napari_convlstm_tumor.results.recipe import recipe_text

WRITERS = 4  # threads; more gain little, as the disk and Python itself take their share
Write = Callable[[], None]


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
    """Volumes in a few threads (packing them takes the time, and one core each); the records meanwhile."""
    pool = ThreadPoolExecutor(WRITERS)
    try:
        volumes = [
            pool.submit(write)
            for write in (*_native(analysis, folder / "native"), *_series(analysis, folder / "series"))
        ]
        _write_records(analysis, folder)
        for volume in volumes:
            volume.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _native(analysis: Analysis, folder: Path) -> Iterator[Write]:
    """Masks and lesions of every visit on its own voxels."""
    for name, volumes in (("mask", analysis.native_masks), ("lesions", analysis.native_lesions)):
        for number, volume in enumerate(volumes, start=1):
            yield partial(write_nifti, folder / f"visit-{number:02d}" / f"{name}.nii.gz", volume.data, volume.grid)


def _series(analysis: Analysis, folder: Path) -> Iterator[Write]:
    """What lies on the common grid."""
    images = {("image" if n == 0 else f"image_{m}"): image for n, (m, image) in enumerate(analysis.images.items())}
    stacks: dict[str, npt.NDArray[Any] | None] = {
        **images,
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
            yield partial(write_nifti, folder / f"{name}.nii.gz", stack, analysis.grid, last_axis_visits=True)
    for name, volume in (("forecast", analysis.prediction.forecast), ("forecast_band", analysis.forecast_band)):
        if volume is not None:
            yield partial(write_nifti, folder / f"{name}.nii.gz", volume, analysis.grid)


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
    write_text(folder / RECIPE_FILE, recipe_text(settings))
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
