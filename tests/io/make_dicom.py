"""A tiny DICOM writer for tests: series, enhanced files and RTSTRUCTs with known pixels and positions."""

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

AXIAL = (1, 0, 0, 0, 1, 0)


def _dataset(storage, syntax):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = storage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.PatientName, dataset.PatientID = "Private^Name", "PRIVATE-ID"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.StudyDate, dataset.StudyTime = "20010203", "040506"
    return dataset


def _pixels(dataset, frames):
    """frames (n, J, I) int16."""
    dataset.Rows, dataset.Columns = frames.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = np.ascontiguousarray(frames, dtype="<i2").tobytes()


def even_positions(count, first=(-10.0, -20.0, 30.0), step=(0.0, 0.0, 3.0)):
    return np.array(first) + np.arange(count)[:, None] * np.array(step)


def write_series(
    folder, stored, positions, *, modality="CT", spacing=(1.0, 1.0), orientation=AXIAL, rescale=None,
    syntax=ExplicitVRLittleEndian, series="series", frame="frame", change=None,
):  # fmt: skip
    """Write stored (I, J, K) integers, slice k at positions[k] (LPS mm); spacing along (i, j).

    rescale: one (slope, intercept) or one per slice. change(k, dataset): a last word on each file.
    Returns the paths in an order that is not that of space.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(stored.shape[2]):
        dataset = _dataset(CTImageStorage if modality == "CT" else MRImageStorage, ExplicitVRLittleEndian)
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, k + 1
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
        dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[frame])
        dataset.ImagePositionPatient = [f"{v:.8g}" for v in positions[k]]
        dataset.ImageOrientationPatient = [f"{v:.10g}" for v in orientation]
        dataset.PixelSpacing = [float(spacing[1]), float(spacing[0])]  # between rows, between columns
        dataset.SliceThickness = 1.0
        if rescale is not None:
            pair = rescale[k] if np.ndim(rescale) == 2 else rescale
            dataset.RescaleSlope, dataset.RescaleIntercept = pair
        _pixels(dataset, stored[:, :, k].T[None])  # (i, j) -> (1, j, i)
        if change:
            change(k, dataset)
        if syntax.is_compressed:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = syntax
        path = folder / f"{(k * 7) % 101:03d}.dcm"
        implicit = syntax.is_implicit_VR
        dataset.save_as(path, enforce_file_format=True, implicit_vr=implicit, little_endian=True)
        paths.append(path)
    return sorted(paths)


def write_enhanced(path, stored, positions, rescales, spacing=(1.0, 1.0)):
    """One enhanced MR file of stored (I, J, K), frames in the order given, a (slope, intercept) per frame."""
    dataset = _dataset(EnhancedMRImageStorage, ExplicitVRLittleEndian)
    dataset.Modality, dataset.SeriesInstanceUID = "MR", generate_uid()
    dataset.NumberOfFrames = stored.shape[2]
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing = [spacing[1], spacing[0]]
    measures.SliceThickness = 1.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = (
        Sequence([orientation]),
        Sequence([measures]),
    )
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for position, (slope, intercept) in zip(positions, rescales, strict=True):
        frame, plane, transform = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [float(v) for v in position]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = slope, intercept, "US"
        frame.PlanePositionSequence = Sequence([plane])
        frame.PixelValueTransformationSequence = Sequence([transform])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    _pixels(dataset, stored.transpose(2, 1, 0))
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_rtstruct(path, regions, series="series", frame="frame", types=None):
    """regions: {name: [contour (n, 3) LPS mm or raw coordinates, ...]}; types: {name: interpreted type}."""
    dataset = _dataset(RTStructureSetStorage, ExplicitVRLittleEndian)
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    reference, study, of_series = Dataset(), Dataset(), Dataset()
    of_series.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    study.RTReferencedSeriesSequence = Sequence([of_series])
    reference.FrameOfReferenceUID = generate_uid(entropy_srcs=[frame])
    reference.RTReferencedStudySequence = Sequence([study])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([reference])
    structures, contours, observations = [], [], []
    for number, (name, outlines) in enumerate(regions.items(), start=1):
        structure, region, observation = Dataset(), Dataset(), Dataset()
        structure.ROINumber, structure.ROIName = number, name
        region.ReferencedROINumber, observation.ReferencedROINumber = number, number
        observation.RTROIInterpretedType = (types or {}).get(name, "")
        region.ContourSequence = Sequence([_contour(outline) for outline in outlines])
        structures.append(structure)
        contours.append(region)
        observations.append(observation)
    dataset.StructureSetROISequence = Sequence(structures)
    dataset.ROIContourSequence = Sequence(contours)
    dataset.RTROIObservationsSequence = Sequence(observations)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _contour(outline):
    item = Dataset()
    values = np.ravel(outline)
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = -(-len(values) // 3)
    item.ContourData = [f"{v:.8g}" for v in values]
    return item
