"""The one place that knows the order of the steps: files -> Series -> AlignedSeries -> Prediction -> Report.

``analyse`` is a generator of Steps. The command line draws a progress bar from them, the viewer's worker a signal; both
can stop between two.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import platform
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import MissingDependency, SeriesError
from napari_convlstm_tumor.io.clinical import ClinicalInputs, clinical_text, read_clinical
from napari_convlstm_tumor.io.identity import identity_csv
from napari_convlstm_tumor.io.links import Link, links_text, read_links
from napari_convlstm_tumor.io.names import printable
from napari_convlstm_tumor.io.nifti import is_single_file
from napari_convlstm_tumor.io.prompts import read_prompts
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.model.device import pick_device, precision_of
from napari_convlstm_tumor.model.segmenters import Segmenter, segmenter_of
from napari_convlstm_tumor.prepare.native import mask_to_grid, to_common_mm
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.report.tables import build_report
from napari_convlstm_tumor.results import CLINICAL_FILE, IDENTITY_FILE, LINKS_FILE, load, save
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, PatientFiles, Prediction, Prompt, Report, Series
from napari_convlstm_tumor.settings import PATHS, Settings
from napari_convlstm_tumor.steps.carrying import is_carried, outline
from napari_convlstm_tumor.steps.deforming import Expansion, expansion
from napari_convlstm_tumor.steps.forecasting import Outlook, look_ahead, network_forecast
from napari_convlstm_tumor.steps.measuring import Measured, measure
from napari_convlstm_tumor.steps.progress import relayed
from napari_convlstm_tumor.steps.responding import (
    check_baseline,
    choose_baseline,
    choose_criterion,
    describe_response,
    respond,
)
from napari_convlstm_tumor.volume import Volume

__all__ = ["Analysis", "Segmenter", "Step", "analyse", "is_carried", "load", "network_forecast", "outline", "save"]

PACKAGES = ("napari-convlstm-tumor", "torch", "monai", "SimpleITK", "nibabel", "numpy", "scipy", "pydicom")
# Share of the whole time at which each step ends, for the progress bar (measured on two cores, 4 visits).
ENDS = {"read": 0.08, "align": 0.45, "segment": 0.82, "measure": 0.94, "forecast": 0.96, "deform": 0.98}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Step:
    """Progress for a person: what is being done, the fraction (0..1) of the whole, and at the end the result."""

    name: str
    fraction: float
    analysis: Analysis | None = None


@dataclass
class Clock:
    """Seconds spent in each step."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self.started, 3)
        self.started = now


def analyse(
    files: PatientFiles,
    settings: Settings,
    segmenter: Segmenter | None = None,
    prompts: tuple[Prompt, ...] = (),
) -> Iterator[Step]:
    """One patient from files to numbers; the last Step carries the Analysis.

    prompts: besides those of settings.prompts, in each visit's own scanner space. Raises TumorError with a sentence for
    the person when the input cannot be used.
    """
    if files.problems:
        raise SeriesError(" ".join(files.problems))
    _check(files, settings)
    clock = Clock()
    yield Step("Reading images", 0.0)
    with _noted() as notes:
        series = read_series(files, settings)
        inputs = _read_inputs(series, settings, prompts)
    files = replace(files, warnings=(*files.warnings, *notes))
    clock.lap("read")
    aligned = yield from _progress("Aligning visits", "read", "align", align(series, settings))
    common = tuple(to_common_space(p, aligned) for p in inputs.prompts)
    clock.lap("align")
    run = segmenter or _default_segmenter(aligned, settings)
    prediction = yield from _progress("Segmenting", "align", "segment", outline(run, aligned, common, settings))
    clock.lap("segment")
    work = measure(series, aligned, prediction, inputs.links, settings.log_growth)
    measured = yield from _progress("Measuring", "segment", "measure", work)
    clock.lap("measure")
    yield Step("Forecasting", ENDS["measure"])
    outlook = look_ahead(aligned, prediction, measured.volumes_mm3, settings)
    clock.lap("forecast")
    expanded = None
    if settings.log_jacobian:
        expanded = yield from _progress("Deforming", "forecast", "deform", expansion(aligned))
        clock.lap("deform")
    yield Step("Writing the numbers", ENDS["deform"])
    yield Step("Done", 1.0, finish(aligned, measured, outlook, inputs, settings, files, clock, expanded))


@dataclass(frozen=True)
class Inputs:
    """What a person gave besides images."""

    prompts: tuple[Prompt, ...] = ()
    links: tuple[Link, ...] = ()
    clinical: ClinicalInputs | None = None


def _check(files: PatientFiles, settings: Settings) -> None:
    """What can be refused before anything is computed."""
    check_baseline(files, settings)
    if settings.dicom and importlib.util.find_spec("highdicom") is None:
        raise MissingDependency("DICOM output", "highdicom", "dicom")


def _read_inputs(series: Series, settings: Settings, prompts: tuple[Prompt, ...]) -> Inputs:
    if settings.prompts is not None:
        prompts = (*prompts, *read_prompts(settings.prompts, series))
    links = () if settings.links is None else read_links(settings.links, len(series.visits))
    clinical = None
    if settings.clinical is not None:
        clinical = read_clinical(settings.clinical, series.patient, series.days, series.dated)
    return Inputs(prompts, links, clinical)


@contextlib.contextmanager
def _noted() -> Iterator[list[str]]:
    """Collects what the readers log as warnings (a tilt corrected, NaN replaced), so that it stands in the report."""
    notes: list[str] = []
    collector = logging.Handler(logging.WARNING)
    collector.emit = lambda record: notes.append(printable(record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger(__package__)
    logger.addHandler(collector)
    try:
        yield notes
    finally:
        logger.removeHandler(collector)


def masks_given(
    aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
) -> Generator[float, None, Prediction]:
    """The segmenter for a patient whose every visit has a mask: the masks as they are."""
    del prompts, settings
    yield 0.0
    masks = np.stack([m for m in aligned.masks if m is not None])
    return Prediction(masks.astype(np.float32), aligned.days, aligned.grid, "masks given")


def _default_segmenter(aligned: AlignedSeries, settings: Settings) -> Segmenter:
    return masks_given if all(m is not None for m in aligned.masks) else segmenter_of(settings.model)


def _progress(name: str, start: str, end: str, work: Generator[float, None, Answer]) -> Generator[Step, None, Answer]:
    """Steps from a generator of fractions; returns what it returns."""
    low, high = ENDS[start], ENDS[end]
    return (yield from relayed(work, lambda part: Step(name, low + (high - low) * min(max(part, 0.0), 1.0))))


def to_common_space(prompt: Prompt, aligned: AlignedSeries) -> Prompt:
    """A prompt from its visit's scanner space to the space (and for a mask the voxels) of the common grid."""
    registration = aligned.registrations[prompt.visit - 1]
    if prompt.mask is not None:
        data = mask_to_grid(prompt.mask, aligned.grid, registration.ref_to_visit)
        return replace(prompt, mask=Volume(data, aligned.grid))
    assert prompt.ras_mm is not None
    if prompt.type != "box":
        return replace(prompt, ras_mm=to_common_mm(prompt.ras_mm, registration.ref_to_visit))
    low, high = prompt.ras_mm.min(axis=0), prompt.ras_mm.max(axis=0)
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    turned = to_common_mm(corners, registration.ref_to_visit)
    return replace(prompt, ras_mm=np.stack([turned.min(axis=0), turned.max(axis=0)]))  # the upright box around it


# ---- the result ----


def finish(
    aligned: AlignedSeries,
    measured: Measured,
    outlook: Outlook,
    inputs: Inputs,
    settings: Settings,
    files: PatientFiles,
    clock: Clock,
    expanded: Expansion | None = None,
) -> Analysis:
    prediction = outlook.prediction
    report = report_of(aligned, measured, outlook, inputs, settings, files)
    clock.lap("report")
    return Analysis(
        patient=aligned.patient,
        days=aligned.days,
        dated=aligned.dated,
        grid=aligned.grid,
        images=_display_images(aligned),
        masks=np.stack([prediction.mask(t) for t in range(len(aligned.days))]),
        growth=measured.maps.growth,
        prediction=prediction,
        native_masks=measured.native_masks,
        registrations=aligned.registrations,
        report=report,
        lesions=measured.labels,
        settings=settings,
        prompts=inputs.prompts,
        provenance=_provenance(settings, prediction, clock),
        native_lesions=measured.native_labels,
        reliable=measured.maps.reliable,
        log_growth=measured.maps.log_growth,
        log_growth_reliable=measured.maps.log_growth_reliable,
        log_jacobian=None if expanded is None else expanded.rate,
        log_jacobian_reliable=None if expanded is None else expanded.reliable,
        forecast_band=outlook.band,
        attachments=_attachments(inputs, files, settings),
        source=files,
    )


def report_of(
    aligned: AlignedSeries,
    measured: Measured,
    outlook: Outlook,
    inputs: Inputs,
    settings: Settings,
    files: PatientFiles,
) -> Report:
    criterion, why = choose_criterion(settings, aligned.modalities)
    baseline = choose_baseline(settings, criterion, aligned.days, inputs.clinical)
    responses, trouble = respond(measured, aligned.days, aligned.dated, settings, criterion, inputs.clinical)
    prediction = outlook.prediction
    no_dicom = _no_dicom(files) if settings.dicom else ""
    return build_report(
        aligned.patient,
        aligned.days,
        aligned.dated,
        measured.volumes_mm3,
        measured.front_speeds,
        aligned.registrations,
        sizes=measured.totals,
        baseline=baseline,
        lesions=measured.lesions,
        events=measured.events,
        responses=responses,
        forecasts=outlook.rows,
        touches_edge=measured.cut,
        visit_warnings=measured.warnings,
        warnings=[w for w in (*files.warnings, *prediction.warnings, trouble, no_dicom) if w],
        provenance={
            "model": prediction.model,
            "forecast": prediction.forecast_note,
            "baseline_visit": baseline + 1,
            "response": describe_response(criterion, why),
        },
    )


def _no_dicom(files: PatientFiles) -> str:
    """Why there can be no DICOM output, or an empty string."""
    for number, visit in enumerate(files.visits, start=1):
        if all(is_single_file(paths[0]) for paths in visit.images.values()):
            return f"No DICOM output: the images of visit {number} were not read from DICOM files."
    return ""


def _attachments(inputs: Inputs, files: PatientFiles, settings: Settings) -> dict[str, str]:
    """The small inputs that the recipe needs to be replayed, of the clinical file this patient's rows alone; who and
    when, if that is to be kept.
    """
    found = {}
    if inputs.links:
        found[LINKS_FILE] = links_text(inputs.links)
    if inputs.clinical is not None:
        found[CLINICAL_FILE] = clinical_text(inputs.clinical)
    if settings.keep_dates or settings.keep_ids:
        found[IDENTITY_FILE] = identity_csv(files, settings.keep_dates, settings.keep_ids)
    return found


def _display_images(aligned: AlignedSeries) -> dict[str, FloatVolume]:
    """modality -> (T, I, J, K) in the scanner's intensities; its darkest where a visit lacks it or does not reach."""
    images = {}
    for c, modality in enumerate(aligned.modalities):
        frames = [aligned.raw(t, c) for t in range(len(aligned.days))]
        air = min(float(f.min()) for f, there in zip(frames, aligned.present[:, c], strict=True) if there)
        for frame, there in zip(frames, aligned.present[:, c], strict=True):
            if not there:
                frame[...] = air
        images[modality] = np.stack(frames)
    return images


def _provenance(settings: Settings, prediction: Prediction, clock: Clock) -> dict[str, Any]:
    """Versions, device, precision of our network, seconds a step, peak memory: a run explains itself."""
    plain = settings.to_dict()
    plain |= {name: Path(plain[name]).name for name in PATHS if plain[name] is not None}
    plain["model"] = Path(settings.model).name
    used_network = prediction.model != "masks given"
    device = pick_device(settings.device if used_network else "cpu")
    ours = prediction.features is not None  # another segmenter has a precision of its own
    return {
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "settings": plain,
        "device": str(device),
        "precision": precision_of(device) if ours else None,
        "timings_s": clock.seconds,
        "peak_memory_mb": _peak_memory_mb(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _peak_memory_mb() -> int | None:
    """Largest memory this process has held so far; kilobytes on Linux, bytes on macOS, unknown on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))
