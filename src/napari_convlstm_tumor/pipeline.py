"""The one place that knows the order of the steps: files -> Series -> AlignedSeries -> Prediction -> Report.

``analyse`` is a generator of Steps. The command line draws a progress bar from them, the viewer's worker a signal; both
can stop between two.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import SeriesError
from napari_convlstm_tumor.io.prompts import read_prompts
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.measure.distance import signed_distance_mm
from napari_convlstm_tumor.measure.growth import front_speed, mean_front_speed, median_front_speed, volume_mm3
from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.prepare.native import mask_to_grid, to_common_mm, to_native
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.report.tables import build_report
from napari_convlstm_tumor.results import load, save
from napari_convlstm_tumor.series import (
    DAYS_PER_MONTH,
    AlignedSeries,
    FloatVolume,
    PatientFiles,
    Prediction,
    Prompt,
    Series,
)
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Volume

__all__ = ["Analysis", "Segmenter", "Step", "analyse", "load", "save"]

PACKAGES = ("napari-convlstm-tumor", "torch", "monai", "SimpleITK", "nibabel", "numpy", "scipy", "pydicom")
# Share of the whole time at which each step ends, for the progress bar (measured on two cores, 4 visits).
ENDS = {"read": 0.08, "align": 0.45, "segment": 0.85, "measure": 0.98}
# A distance of this many mm turns a forecast boundary into probability 0.27: about one voxel.
FORECAST_SOFTNESS_MM = 1.0
# A given mask whose volume changes by more than this on the image's voxels is remarked upon.
SAME_VOLUME = 0.02
Answer = TypeVar("Answer")


class Segmenter(Protocol):
    """Anything that answers an AlignedSeries: the shipped network, given masks, another model."""

    def __call__(
        self, aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
    ) -> Generator[float, None, Prediction]:
        """Yield the fraction done; return the Prediction. Prompts come in the space of the common grid."""


@dataclass(frozen=True)
class Step:
    """Progress for a person: what is being done, the fraction (0..1) of the whole, and at the end the result."""

    name: str
    fraction: float
    analysis: Analysis | None = None


@dataclass
class _Clock:
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
    clock = _Clock()
    yield Step("Reading images", 0.0)
    with _noted() as notes:
        series = read_series(files, settings)
        if settings.prompts is not None:
            prompts = (*prompts, *read_prompts(settings.prompts, series))
    files = replace(files, warnings=(*files.warnings, *notes))
    clock.lap("read")
    aligned = yield from _progress("Aligning visits", "read", "align", align(series, settings))
    common = tuple(_to_common(p, aligned) for p in prompts)
    clock.lap("align")
    run = segmenter or _default_segmenter(aligned)
    prediction = yield from _progress("Segmenting", "align", "segment", run(aligned, common, settings))
    clock.lap("segment")
    growth = yield from _measure_growth(aligned, prediction)
    clock.lap("growth")
    yield Step("Forecasting", 0.95)
    prediction = _forecast(aligned, prediction, growth, settings)
    clock.lap("forecast")
    yield Step("Writing the numbers", 0.98)
    yield Step("Done", 1.0, _finish(series, aligned, prediction, growth, settings, prompts, files, clock))


@contextlib.contextmanager
def _noted() -> Iterator[list[str]]:
    """Collects what the readers log as warnings (a tilt corrected, NaN replaced), so that it stands in the report."""
    notes: list[str] = []
    collector = logging.Handler(logging.WARNING)
    collector.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
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


def _default_segmenter(aligned: AlignedSeries) -> Segmenter:
    return masks_given if all(m is not None for m in aligned.masks) else predict.segment


def _progress(name: str, start: str, end: str, work: Generator[float, None, Answer]) -> Generator[Step, None, Answer]:
    """Steps from a generator of fractions; returns what it returns."""
    low, high = ENDS[start], ENDS[end]
    while True:
        try:
            fraction = next(work)
        except StopIteration as finished:
            result: Answer = finished.value
            return result
        yield Step(name, low + (high - low) * min(max(fraction, 0.0), 1.0))


def _to_common(prompt: Prompt, aligned: AlignedSeries) -> Prompt:
    """A prompt from its visit's scanner space to the space (and for a mask the voxels) of the common grid."""
    registration = aligned.registrations[prompt.visit - 1]
    if prompt.mask is not None:
        data = mask_to_grid(prompt.mask, aligned.grid, registration.ref_to_visit)
        return replace(prompt, mask=Volume(data, aligned.grid))
    assert prompt.ras_mm is not None
    corners = prompt.ras_mm
    if prompt.type == "box":  # all eight corners: a turned box is drawn as the upright box around it
        low, high = corners.min(axis=0), corners.max(axis=0)
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    return replace(prompt, ras_mm=to_common_mm(corners, registration.ref_to_visit))


# ---- measuring ----


def _measure_growth(aligned: AlignedSeries, prediction: Prediction) -> Generator[Step, None, FloatVolume]:
    """Front speed (T, I, J, K) since the visit before; the first visit has none (NaN)."""
    growth = np.full(prediction.probability.shape, np.nan, dtype=np.float32)
    count = len(aligned.days)
    for t in range(1, count):
        yield Step("Measuring growth", ENDS["segment"] + (0.95 - ENDS["segment"]) * t / count)
        growth[t] = front_speed(
            prediction.mask(t - 1),
            prediction.mask(t),
            aligned.grid.spacing_mm,
            aligned.days[t] - aligned.days[t - 1],
            valid=aligned.inside[t - 1] & aligned.inside[t],
            dated=aligned.dated,
        )
    return growth


def _forecast(aligned: AlignedSeries, prediction: Prediction, growth: FloatVolume, settings: Settings) -> Prediction:
    """The prediction with a forecast, or with the reason why there is none."""
    reason = _no_forecast(aligned, prediction)
    if reason:
        return replace(prediction, forecast_note=reason)
    days, spacing = aligned.days, aligned.grid.spacing_mm
    mask = prediction.mask(len(days) - 1)
    horizon = settings.horizon_days or days[-1] - days[-2]
    mean = mean_front_speed(growth[-1], mask, spacing)
    if mean is None:
        return replace(
            prediction, forecast_note="No forecast: no edge of the tumor could be followed to the last visit."
        )
    by_network = prediction.features is not None
    forecast = network_forecast(aligned, prediction, horizon, settings) if by_network else None
    if forecast is None:
        forecast = _soft_mask(signed_distance_mm(mask, spacing) - mean * horizon / DAYS_PER_MONTH)
    how = "as fast as the network expects" if by_network else "at that speed"
    return replace(
        prediction,
        forecast=forecast,
        forecast_day=days[-1] + horizon,
        forecast_note=f"The front moved at {mean:.2f} mm/month; forecast: it moves on {how} for {horizon} days.",
    )


def network_forecast(
    aligned: AlignedSeries, prediction: Prediction, horizon_days: int, settings: Settings
) -> FloatVolume | None:
    """Probability (I, J, K) of tumor ``horizon_days`` after the last visit, from the network's expected front speed.

    None when the last two masks have no front in common.
    """
    last, spacing = len(aligned.days) - 1, aligned.grid.spacing_mm
    mask, before = prediction.mask(last), prediction.mask(last - 1)
    gap = aligned.days[last] - aligned.days[last - 1]
    speed = front_speed(before, mask, spacing, gap, valid=aligned.inside[last] & aligned.inside[last - 1])
    mean = mean_front_speed(speed, mask, spacing)
    if mean is None:
        return None
    phi, phi_before = signed_distance_mm(mask, spacing), signed_distance_mm(before, spacing)
    expected = predict.expected_speed(prediction, phi, phi_before, mean, gap, horizon_days, settings)
    return _soft_mask(phi - expected * horizon_days / DAYS_PER_MONTH)


def _soft_mask(distance_mm: FloatVolume) -> FloatVolume:
    """Signed distance -> probability, 0.5 at the boundary."""
    soft: FloatVolume = 1 / (1 + np.exp(np.clip(distance_mm / FORECAST_SOFTNESS_MM, -30, 30)))
    return soft.astype(np.float32)


def _no_forecast(aligned: AlignedSeries, prediction: Prediction) -> str:
    """Why a forecast would not be honest, or an empty string."""
    last = len(aligned.days) - 1
    if last == 0:
        return "No forecast: a single visit shows no growth."
    if not aligned.dated:
        return "No forecast: the visits have no dates."
    if not prediction.mask(last).any():
        return "No forecast: no tumor at the last visit."
    bad = [t + 1 for t in (last - 1, last) if not aligned.registrations[t].good]
    if bad:
        return f"No forecast: the registration of visit {bad[0]} is below the threshold."
    return ""


# ---- the result ----


def _finish(
    series: Series,
    aligned: AlignedSeries,
    prediction: Prediction,
    growth: FloatVolume,
    settings: Settings,
    prompts: tuple[Prompt, ...],
    files: PatientFiles,
    clock: _Clock,
) -> Analysis:
    count = len(aligned.days)
    native = tuple(_native_mask(series, aligned, prediction, t) for t in range(count))
    measured = [v.mask if v.mask is not None else n for v, n in zip(series.visits, native, strict=True)]
    speeds = [median_front_speed(growth[t], prediction.mask(t), aligned.grid.spacing_mm) for t in range(count)]
    report = build_report(
        aligned.patient,
        aligned.days,
        aligned.dated,
        [volume_mm3(m.data, m.grid.voxel_mm3) for m in measured],
        speeds,
        aligned.registrations,
        touches_edge=[
            _touches_edge(measured[t].data)
            or (series.visits[t].mask is None and _is_cut(prediction.mask(t), aligned.inside[t]))
            for t in range(count)
        ],
        visit_warnings=[_other_grid(m, n) for m, n in zip(measured, native, strict=True)],
        warnings=(*files.warnings, *prediction.warnings),
        provenance={"model": prediction.model, "forecast": prediction.forecast_note},
    )
    clock.lap("report")
    return Analysis(
        patient=aligned.patient,
        days=aligned.days,
        dated=aligned.dated,
        grid=aligned.grid,
        images=_display_images(aligned),
        masks=np.stack([prediction.mask(t) for t in range(count)]),
        growth=growth,
        prediction=prediction,
        native_masks=native,
        registrations=aligned.registrations,
        report=report,
        settings=settings,
        prompts=prompts,
        provenance=_provenance(settings, prediction, clock),
    )


def _native_mask(series: Series, aligned: AlignedSeries, prediction: Prediction, t: int) -> Volume:
    """The mask of a visit on the grid of its image: the person's own voxels where the mask was given."""
    grid, given = aligned.native_grids[t], series.visits[t].mask
    if given is not None:
        same = given.grid.matches(grid)
        return given if same else Volume(mask_to_grid(given, grid, np.eye(4)), grid)
    probability = to_native(prediction.probability[t], aligned, t)
    return Volume((probability >= 0.5).astype(np.uint8), grid)


def _other_grid(measured: Volume, native: Volume) -> list[str]:
    """A given mask on other voxels than the image's: the file on the image's grid may say another volume."""
    own = volume_mm3(measured.data, measured.grid.voxel_mm3)
    written = volume_mm3(native.data, native.grid.voxel_mm3)
    if abs(own - written) <= SAME_VOLUME * own:
        return []
    return [
        f"The mask lies on other voxels than the image: {own / 1000:.2f} mL on its own (used here), "
        f"{written / 1000:.2f} mL on the image's (in native/)."
    ]


def _is_cut(mask: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> bool:
    """True when a mask on the common grid reaches the end of what both the grid and the visit's images show."""
    thick = [axis for axis in range(3) if mask.shape[axis] > 1]
    edge = np.zeros(mask.shape, dtype=bool)
    for axis in thick:
        for step in (-1, 1):
            beyond = np.roll(inside, step, axis)
            np.moveaxis(beyond, axis, 0)[0 if step == 1 else -1] = False
            edge |= ~beyond
    return bool((mask.astype(bool) & edge).any())


def _touches_edge(mask: npt.NDArray[np.uint8]) -> bool:
    """True when the mask reaches the first or last plane along any axis that has more than one."""
    sides = [np.take(mask, index, axis).any() for axis in range(3) if mask.shape[axis] > 1 for index in (0, -1)]
    return bool(any(sides))


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


def _provenance(settings: Settings, prediction: Prediction, clock: _Clock) -> dict[str, Any]:
    """Versions, device, seconds a step, peak memory: a run explains itself."""
    plain = settings.to_dict()
    plain["prompts"] = None if settings.prompts is None else settings.prompts.name
    plain["model"] = (
        settings.model if not settings.model.endswith(".safetensors") else settings.model.rsplit("/", 1)[-1]
    )
    used_network = prediction.model != "masks given"
    return {
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "settings": plain,
        "device": str(predict.pick_device(settings.device)) if used_network else "cpu",
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
