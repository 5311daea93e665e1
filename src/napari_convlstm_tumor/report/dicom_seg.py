"""DICOM Segmentation of one visit: every lesion a segment that keeps its Tracking UID over the visits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import highdicom as hd
import numpy as np

from napari_convlstm_tumor import __version__
from napari_convlstm_tumor.report.dicom_common import MAKER, Origin, neoplasm, to_highdicom
from napari_convlstm_tumor.volume import Volume

SERIES_NUMBER = 9000
MASKS_GIVEN = "masks given"
# One colour a lesion, the same at every visit and as in report.html (told apart by the colour-blind, too).
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0))


def segment_numbers(labels: Volume) -> dict[int, int]:
    """Lesion id -> segment number (1, 2, ...) of the lesions that a visit shows."""
    return {int(lesion): n for n, lesion in enumerate(np.unique(labels.data[labels.data > 0]), start=1)}


def segmentation(origin: Origin, visit: int, labels: Volume, tracking: Mapping[int, str], given: bool) -> Any | None:
    """The Segmentation of a 0-based visit from lesion ids (I, J, K) on its native grid; None without a lesion.

    given: the mask is the person's own. Frames are those of the source series where it was not resampled.
    """
    numbers = segment_numbers(labels)
    if not numbers:
        return None
    source = origin.sources[visit]
    segments = np.zeros(max(numbers) + 1, np.uint8 if len(numbers) < 256 else np.uint16)
    segments[list(numbers)] = list(numbers.values())
    numbered = to_highdicom(Volume(segments[labels.data], labels.grid), source.first.FrameOfReferenceUID)
    dataset = hd.seg.Segmentation(
        source_images=list(source.headers),
        pixel_array=numbered if source.slices is None else numbered.array[list(source.slices)],
        segmentation_type="BINARY",
        segment_descriptions=[_segment(origin, n, lesion, tracking[lesion], given) for lesion, n in numbers.items()],
        content_description=f"Tumor lesions, visit {visit + 1}, research use only",
        content_label="TUMOR",
        **origin.instance(f"Tumor lesions, visit {visit + 1}", SERIES_NUMBER),
    )
    return origin.stamp(dataset, visit)


def _segment(origin: Origin, number: int, lesion: int, tracking_uid: str, given: bool) -> Any:
    category, kind = neoplasm()
    by_hand = given or origin.analysis.prediction.model == MASKS_GIVEN
    helped = "SEMIAUTOMATIC" if origin.analysis.prompts else "AUTOMATIC"
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"Lesion {lesion}",
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type="MANUAL" if by_hand else helped,
        algorithm_identification=None if by_hand else _algorithm(origin.analysis.prediction.model),
        tracking_uid=tracking_uid,
        tracking_id=f"Lesion {lesion}",
        display_color=hd.color.CIELabColor.from_rgb(*COLOURS[(lesion - 1) % len(COLOURS)]),
    )


def _algorithm(model: str) -> Any:
    """model: name and sha256 of the weights."""
    return hd.AlgorithmIdentificationSequence(
        name=f"{MAKER} {model.split(' ')[0]}",
        family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        version=__version__,
        source=MAKER,
        parameters={"model": model, "purpose": "research use only"},
    )
