"""DICOM Parametric Maps of the change between two visits, in the frame of reference of the reference visit."""

from __future__ import annotations

from typing import Any, NamedTuple

import highdicom as hd
import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.analysis import FRONT_SPEED, LOG_GROWTH, LOG_JACOBIAN, ChangeMap
from napari_convlstm_tumor.report.dicom_common import Origin, private_scheme, to_highdicom
from napari_convlstm_tumor.report.dicom_quantities import JACOBIAN, LOG_VOLUME, SPEED
from napari_convlstm_tumor.volume import Volume

# The window shows up to this share of the values, so that a few fast voxels do not grey out the rest.
WINDOW_PERCENTILE = 99.0
SMALLEST_WINDOW = 0.1


class Kind(NamedTuple):
    """How a map is filed: begin of the file name, number of the series before the first, label, what it is, code."""

    file: str
    series_number: int
    label: str
    explanation: str
    code: tuple[str, str, str]


KINDS = {
    FRONT_SPEED: Kind("growth", 9100, "GROWTH", "Speed of the tumor front, positive outward", SPEED),
    LOG_GROWTH: Kind("log-growth", 9300, "LOG_GROWTH", "Growth rate of the tumor volume in 12 mm around", LOG_VOLUME),
    LOG_JACOBIAN: Kind("log-jacobian", 9400, "LOG_JACOBIAN", "Expansion rate of the tissue", JACOBIAN),
}
# UCUM's month is 30.4375 days, ours 30.44 (0.01 % apart).
UNITS = {
    "mm/month": ("mm/mo", "UCUM", "millimeter per month"),
    "mm/visit": ("mm/{visit}", "UCUM", "millimeter per visit"),
    "1/month": ("/mo", "UCUM", "per month"),
    "1/visit": ("/{visit}", "UCUM", "per visit"),
}


def maps_of_change(origin: Origin) -> dict[str, Any]:
    """File name -> dataset, of every map and visit that has a reliable voxel."""
    found = {}
    for one in origin.analysis.change_maps:
        for visit in range(1, len(origin.sources)):
            dataset = _map(origin, one, visit)
            if dataset is not None:
                found[f"{KINDS[one.name].file}-visit-{visit + 1:02d}.dcm"] = dataset
    return found


def _map(origin: Origin, one: ChangeMap, visit: int) -> Any | None:
    """The change since the visit before (0-based visit, at least 1); None where nothing is reliable.

    Float32 on the common grid, turned to the slices of the reference visit's images; slices without any value are left
    out. NaN (declared as padding) where no value can be trusted: an archive's viewer has no grey to say so.
    """
    analysis, reference = origin.analysis, origin.analysis.settings.reference - 1
    kind, source = KINDS[one.name], origin.sources[reference]
    frame = source.first.FrameOfReferenceUID
    volume = to_highdicom(Volume(one.trusted(visit), analysis.grid), frame)
    native = to_highdicom(analysis.native_masks[reference], frame)
    volume = volume.to_patient_orientation(native.get_closest_patient_orientation())
    there = np.flatnonzero(np.isfinite(volume.array).any(axis=(1, 2)))
    if not there.size:
        return None
    volume = volume[int(there[0]) : int(there[-1]) + 1]
    values = volume.array[np.isfinite(volume.array)]
    title = f"{one.name[0].upper()}{one.name[1:]}, visit {visit} to {visit + 1}"
    dataset = hd.pm.ParametricMap(
        source_images=list(source.headers),
        pixel_array=volume,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(values, kind, one.unit)],
        voi_lut_transformations=[_window(values)],
        content_description=f"{title}, {one.unit}, where reliable",
        content_label=kind.label,
        coding_schemes=[private_scheme()],
        **origin.instance(title, kind.series_number + visit),
    )
    dataset.FloatPixelPaddingValue = dataset.FloatPixelPaddingRangeLimit = float("nan")
    dataset.Laterality = source.first.get("Laterality") or ""  # asked for by the standard, empty when unknown
    return origin.stamp(dataset, reference)


def _mapping(values: npt.NDArray[np.float32], kind: Kind, unit: str) -> Any:
    """Stored value = the quantity."""
    return hd.pm.RealWorldValueMapping(
        lut_label=kind.code[0],
        lut_explanation=kind.explanation,
        unit=hd.sr.CodedConcept(*UNITS[unit]),
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=hd.sr.CodedConcept(*kind.code),
    )


def _window(values: npt.NDArray[np.float32]) -> Any:
    """Symmetric around standing still; exact, as LINEAR has no window below 1 (PS3.3 C.11.2.1.2)."""
    reach = max(float(np.percentile(np.abs(values), WINDOW_PERCENTILE)), SMALLEST_WINDOW)
    return hd.VOILUTTransformation(
        window_center=0.0, window_width=2 * reach, window_explanation="growth", voi_lut_function="LINEAR_EXACT"
    )
