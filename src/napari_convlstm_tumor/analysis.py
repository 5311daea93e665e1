"""The result of one patient, whole: what pipeline makes, results keeps, report and the viewer show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.series import FloatVolume, Prediction, Prompt, Registration, Report
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything one patient's run produced.

    images: modality -> (T, I, J, K) float32 in the scanner's intensities. masks: (T, I, J, K) uint8 on grid.
    growth: (T, I, J, K) float32 front speed since the visit before, NaN where undefined (visit 0: all NaN);
    mm per month, or mm per visit when not dated. native_masks: per visit, on the grid of that visit's image.
    lesions: (T, I, J, K) uint16, the id of the lesion of every voxel of masks (the same id at every visit), 0 outside.
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

    @property
    def growth_unit(self) -> str:
        """Unit of the growth map."""
        return "mm/month" if self.dated else "mm/visit"
