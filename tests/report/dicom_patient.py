"""A synthetic patient with DICOM images of two visits, and an analysis of it, for the tests of DICOM output."""

from dataclasses import dataclass, replace
from pathlib import Path
from runpy import run_path

import nibabel as nib
import numpy as np

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.io.dicom import read_dicom
from napari_convlstm_tumor.measure.uncertainty import Interval
from napari_convlstm_tumor.report.tables import build_report
from napari_convlstm_tumor.series import PatientFiles, Prediction, Registration, VisitFiles
from napari_convlstm_tumor.volume import Grid, Volume

make = run_path(str(Path(__file__).parents[1] / "io" / "make_dicom.py"))
SHAPE = (14, 12, 8)
SPACING = (0.9, 1.1, 3.0)
OBLIQUE = (0.96, 0.28, 0, -0.28, 0.96, 0)  # turned by 16 degrees about the patient's long axis
UIDS = {1: "2.25.111", 2: "2.25.222"}
PRIVATE = ("Private", "PRIVATE-ID", "20010203", "20010315", "ACC-77", "Dr^Secret", "040506")


@dataclass
class Patient:
    analysis: Analysis
    files: PatientFiles
    labels: list[Volume]


def header_of(visit, **more):
    """change(k, dataset) for make_dicom: one study per visit, with everything private that a scanner writes."""

    def change(k, dataset):
        del k
        dataset.StudyInstanceUID = make["generate_uid"](entropy_srcs=[f"study {visit}"])
        dataset.StudyDate = dataset.AcquisitionDate = ("20010203", "20010315")[visit]
        dataset.AccessionNumber, dataset.ReferringPhysicianName = "ACC-77", "Dr^Secret"
        for name, value in more.items():
            setattr(dataset, name, value)

    return change


def write_visit(folder, visit, *, orientation=make["AXIAL"], step=(0, 0, 3.0), count=SHAPE[2], **more):
    """Slices of one MR series; the paths."""
    stored = np.random.default_rng(visit).integers(0, 900, (*SHAPE[:2], count))
    positions = make["even_positions"](count, step=step)
    return make["write_series"](
        folder, stored.astype(np.int16), positions, modality="MR", spacing=SPACING[:2], orientation=orientation,
        series=f"series {folder.name}", frame=f"frame {visit}", change=header_of(visit, **more),
    )  # fmt: skip


def visit_labels(visit):
    """Two lesions at the first visit, the larger one alone at the second."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[3:8, 4:9, 2:5] = 1
    if visit == 0:
        labels[10:12, 2:4, 6] = 2
    else:
        labels[8, 4:9, 3] = 1
    return labels


def rows(labels, days, dated):
    """Lesion rows as report.json has them."""
    found = []
    for t, label in enumerate(labels):
        for lesion, uid in UIDS.items():
            volume = float(np.count_nonzero(label.data == lesion) * label.grid.voxel_mm3)
            row = {"lesion": lesion, "visit": t + 1, "day": days[t] if dated else None, "tracking_uid": uid}
            row |= {"state": "persistent" if volume else "vanished", "volume_mm3": volume}
            row |= {"volume_low_mm3": 0.9 * volume, "volume_high_mm3": 1.2 * volume}
            row |= {"longest_axial_mm": 7.0 / 3 if volume else None, "perpendicular_axial_mm": 1.1 if volume else None}
            found.append(row)
    return tuple(found)


def report_of(labels, grid, days, dated):
    registration = Registration(np.eye(4), 1.0, True)
    volumes = [float(np.count_nonzero(v.data) * v.grid.voxel_mm3) for v in labels]
    speeds = [None, *[Interval(1.25, 0.5, 2.0)] * (len(days) - 1)]
    report = build_report("patient", days, dated, volumes, speeds, [registration] * len(days))
    reason = "PD: volume ≥ 40 % over the nadir of day 0"
    response = tuple(
        {"visit": t + 1, "category": "PD" if t else "baseline", "reason": reason, "missing": ("steroid dose",)}
        for t in range(len(days))
    )
    return replace(report, lesions=rows(labels, days, dated), responses={"RECIST 1.1": response})


def growth_of(grid, count):
    """NaN but for a band of known values."""
    growth = np.full((count, *grid.shape), np.nan, np.float32)
    if count > 1:
        growth[1:, 2:10, 3:9, 2:6] = np.linspace(-1, 3, 8 * 6 * 4).reshape(8, 6, 4)
    return growth


def build(paths, labels=None, days=(0, 40), dated=True, modality="t1c", **settings):
    """Patient from the DICOM files of every visit."""
    grids = [read_dicom(p, resample_uneven=True).grid for p in paths]
    labels = [visit_labels(t) for t in range(len(paths))] if labels is None else labels
    native = [Volume(label, grid) for label, grid in zip(labels, grids, strict=True)]
    canonical = nib.as_closest_canonical(nib.Nifti1Image(np.zeros(grids[0].shape, np.uint8), grids[0].affine))
    grid = Grid(canonical.shape, canonical.affine)
    masks = np.zeros((len(paths), *grid.shape), np.uint8)
    analysis = Analysis(
        patient="patient",
        days=days,
        dated=dated,
        grid=grid,
        images={modality: np.zeros((len(paths), *grid.shape), np.float32)},
        masks=masks,
        growth=growth_of(grid, len(paths)),
        prediction=Prediction(masks.astype(np.float32), days, grid, "growthnet-2 (sha256 0123456789ab)"),
        native_masks=tuple(Volume((v.data > 0).astype(np.uint8), v.grid) for v in native),
        registrations=(Registration(np.eye(4), 1.0, True),) * len(paths),
        report=report_of(native, grid, days, dated),
        **settings,
    )
    visits = tuple(VisitFiles(f"v{t}", {modality: tuple(p)}, day=d) for t, (p, d) in enumerate(zip(paths, days)))  # noqa: B905
    return Patient(analysis, PatientFiles("patient", visits), native)
