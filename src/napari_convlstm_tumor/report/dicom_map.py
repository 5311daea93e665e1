"""DICOM Parametric Map of the front speed between two visits, in the frame of reference of the reference visit."""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.report.dicom_common import Origin, private_scheme, to_highdicom
from napari_convlstm_tumor.report.dicom_quantities import SPEED
from napari_convlstm_tumor.volume import Volume

SERIES_NUMBER = 9100
# The window shows up to this share of the speeds, so that a few fast voxels do not grey out the rest.
WINDOW_PERCENTILE = 99.0
SMALLEST_WINDOW = 0.1


def growth_map(origin: Origin, visit: int) -> Any | None:
    """The map of the speed since the visit before (0-based visit, at least 1); None where no voxel has a speed.

    Float32 on the common grid, turned to the slices of the reference visit's images; slices without any speed are left
    out. NaN (declared as padding) where the speed is undefined.
    """
    analysis, reference = origin.analysis, origin.analysis.settings.reference - 1
    source = origin.sources[reference]
    frame = source.first.FrameOfReferenceUID
    speed = to_highdicom(Volume(analysis.growth[visit], analysis.grid), frame)
    native = to_highdicom(analysis.native_masks[reference], frame)
    speed = speed.to_patient_orientation(native.get_closest_patient_orientation())
    there = np.flatnonzero(np.isfinite(speed.array).any(axis=(1, 2)))
    if not there.size:
        return None
    speed = speed[int(there[0]) : int(there[-1]) + 1]
    values = speed.array[np.isfinite(speed.array)]
    dataset = hd.pm.ParametricMap(
        source_images=list(source.headers),
        pixel_array=speed,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(values, analysis.dated)],
        voi_lut_transformations=[_window(values)],
        content_description=f"Front speed, visit {visit} to {visit + 1}, {analysis.growth_unit}",
        content_label="GROWTH",
        coding_schemes=[private_scheme()],
        **origin.instance(f"Growth, visit {visit} to {visit + 1}", SERIES_NUMBER + visit),
    )
    dataset.FloatPixelPaddingValue = dataset.FloatPixelPaddingRangeLimit = float("nan")
    dataset.Laterality = source.first.get("Laterality") or ""  # asked for by the standard, empty when unknown
    return origin.stamp(dataset, reference)


def _speed_unit(dated: bool) -> Any:
    """UCUM: its month is 30.4375 days, ours 30.44 (0.01 % apart)."""
    if dated:
        return hd.sr.CodedConcept("mm/mo", "UCUM", "millimeter per month")
    return hd.sr.CodedConcept("mm/{visit}", "UCUM", "millimeter per visit")


def _mapping(values: npt.NDArray[np.float32], dated: bool) -> Any:
    """Stored value = speed."""
    return hd.pm.RealWorldValueMapping(
        lut_label="FRONT_SPEED",
        lut_explanation="Speed of the tumor front, positive outward",
        unit=_speed_unit(dated),
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=hd.sr.CodedConcept(*SPEED),
    )


def _window(values: npt.NDArray[np.float32]) -> Any:
    """Symmetric around standing still."""
    reach = max(float(np.percentile(np.abs(values), WINDOW_PERCENTILE)), SMALLEST_WINDOW)
    return hd.VOILUTTransformation(window_center=0.0, window_width=2 * reach, window_explanation="growth")
