"""The result of one patient, whole: what pipeline makes, results keeps, report and the viewer show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.series import FloatVolume, PatientFiles, Prediction, Prompt, Registration, Report
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid, Volume

FRONT_SPEED, LOG_GROWTH, LOG_JACOBIAN = "front speed", "log-growth", "log-Jacobian"


@dataclass(frozen=True, eq=False)
class ChangeMap:
    """A map of the change since the visit before, (T, I, J, K) in ``unit``; NaN where undefined (visit 0: everywhere).

    name: FRONT_SPEED, LOG_GROWTH or LOG_JACOBIAN. reliable: bool, more than measurement error; None = not known.
    """

    name: str
    unit: str
    values: FloatVolume
    reliable: npt.NDArray[np.bool_] | None

    def trusted(self, visit: int) -> FloatVolume:
        """The values (I, J, K) of a 0-based visit that can be trusted, NaN elsewhere."""
        if self.reliable is None:
            return self.values[visit]
        return np.where(self.reliable[visit], self.values[visit], np.float32(np.nan))


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything one patient's run produced.

    images: modality -> (T, I, J, K) float32 in the scanner's intensities. masks: (T, I, J, K) uint8 on grid.
    growth: (T, I, J, K) float32 front speed since the visit before, NaN where undefined (visit 0: all NaN);
    mm per month, or mm per visit when not dated. native_masks: per visit, on the grid of that visit's image.
    lesions: (T, I, J, K) uint16, the id of the lesion of every voxel of masks (the same id at every visit), 0 outside.
    native_lesions: per visit, the same ids (uint16) on the voxels of native_masks; empty when not followed.
    reliable: (T, I, J, K) bool, where the growth map is more than measurement error (visit 0: nowhere).
    log_growth: (T, I, J, K) float32 per month (per visit when not dated), NaN where undefined, and log_growth_reliable;
    None when not asked for. log_jacobian, log_jacobian_reliable: likewise, the log-Jacobian rate of the tissue,
    positive = expansion (measure/jacobian).
    forecast_band: (I, J, K) uint8, 2 = within the inner surface of the forecast's band, 1 = between inner and outer,
    0 = outside; None without a band.
    attachments: file name -> text of small inputs kept with the result (links.json, clinical.csv).
    source: the files it was read from; never written, None when read back.
    provenance: what run.json says (versions, settings, model, device, timings, peak memory, warnings).
    """

    patient: str
    days: tuple[int, ...]
    dated: bool
    grid: Grid
    images: Mapping[str, FloatVolume]
    masks: npt.NDArray[np.uint8]
    growth: FloatVolume
    prediction: Prediction
    native_masks: tuple[Volume, ...]
    registrations: tuple[Registration, ...]
    report: Report
    lesions: npt.NDArray[np.uint16] | None = None
    settings: Settings = field(default_factory=Settings)
    prompts: tuple[Prompt, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    native_lesions: tuple[Volume, ...] = ()
    reliable: npt.NDArray[np.bool_] | None = None
    log_growth: FloatVolume | None = None
    log_growth_reliable: npt.NDArray[np.bool_] | None = None
    log_jacobian: FloatVolume | None = None
    log_jacobian_reliable: npt.NDArray[np.bool_] | None = None
    forecast_band: npt.NDArray[np.uint8] | None = None
    attachments: Mapping[str, str] = field(default_factory=dict)
    source: PatientFiles | None = None

    @property
    def growth_unit(self) -> str:
        """Unit of the growth map."""
        return "mm/month" if self.dated else "mm/visit"

    @property
    def change_maps(self) -> tuple[ChangeMap, ...]:
        """The growth map, and those that were asked for besides."""
        rate = "1/month" if self.dated else "1/visit"
        asked = [
            ChangeMap(name, rate, values, reliable)
            for name, values, reliable in (
                (LOG_GROWTH, self.log_growth, self.log_growth_reliable),
                (LOG_JACOBIAN, self.log_jacobian, self.log_jacobian_reliable),
            )
            if values is not None
        ]
        return ChangeMap(FRONT_SPEED, self.growth_unit, self.growth, self.reliable), *asked
