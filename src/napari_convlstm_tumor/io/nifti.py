"""One image from one file: NIfTI through nibabel; NRRD, MHA and MHD through SimpleITK.

Both come out as an array in (i, j, k) order and a Grid whose affine goes to RAS+ mm.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.headers import (
    check_bytes,
    check_nifti,
    check_size,
    check_text_header,
    open_packed,
    overflow_ignored,
    read_to_the_end,
)
from napari_convlstm_tumor.io.names import shown
from napari_convlstm_tumor.volume import Grid, Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
# A header that places a corner of the image in two places this far apart cannot be trusted with growth in mm.
SFORM_QFORM_TOLERANCE_MM = 1.0
# Headers hold voxel sizes in single precision and round them; 1 % is 3 % of a volume.
VOXEL_SIZE_TOLERANCE = 0.01
# More non-finite voxels than this are no stray artefact but a region without image.
LARGEST_NONFINITE_FRACTION = 0.001
UNIT_TO_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# What nibabel raises on damaged, truncated and foreign files.
NIBABEL_ERRORS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, KeyError, zlib.error)

_log = logging.getLogger(__name__)


def is_single_file(path: Path) -> bool:
    """True for the file kinds that read_single knows, by name."""
    return path.name.lower().endswith(NIFTI_SUFFIXES + ITK_SUFFIXES)


def read_single(path: Path, dtype: npt.DTypeLike | None = np.float32) -> Volume:
    """The image (I, J, K) in one NIfTI, NRRD, MHA or MHD file, as dtype (None: as stored).

    A 4-D file with one volume is taken as 3-D. Refused with InputError or GeometryError: missing, empty or
    damaged files, other 4-D files, colour, and headers that contradict themselves. Values may be NaN: see
    ``finite``.
    """
    if not path.is_file():
        raise InputError("The file does not exist.")
    if path.stat().st_size == 0:
        raise InputError("The file is empty (0 bytes). Copy or export it again.")
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return _read_nifti(path, dtype)
    return _read_itk(path, dtype)


def finite(data: npt.NDArray[Any], name: str, fill: float | None = None) -> npt.NDArray[Any]:
    """Replace NaN and infinite voxels, in place, by ``fill`` (None: the smallest finite value, i.e.
    background or air).

    Zero would be water in CT and bright in a normalised MR. More than 0.1 % of them are refused with
    InputError; fewer are replaced and logged.
    """
    if data.dtype.kind != "f":
        return data
    good = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(good))
    if bad == 0:
        return data
    if bad > LARGEST_NONFINITE_FRACTION * data.size:
        raise InputError(
            f"{bad} of {data.size} voxels ({100 * bad / data.size:.2f} %) are NaN or infinite, at most "
            f"{100 * LARGEST_NONFINITE_FRACTION:g} % can be repaired. Replace them first, e.g. with "
            "fslmaths -nan."
        )
    data[~good] = np.min(data, where=good, initial=np.inf) if fill is None else fill
    _log.warning("%s: %d voxels were NaN or infinite and count as background.", name, bad)
    return data


def volume_from_sitk(image: sitk.Image) -> Volume:
    """A 3-D scalar SimpleITK image (LPS) as a Volume (RAS). The array is a copy, stored as the image stores
    it.
    """
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(_colour_message(f"{image.GetNumberOfComponentsPerPixel()} values"))
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(_shape_message(image.GetSize()))
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)  # (k, j, i) -> (i, j, k)
    return Volume(data, Grid(data.shape, LPS_TO_RAS @ affine))


def _read_itk(path: Path, dtype: npt.DTypeLike | None) -> Volume:
    pixels, packed = check_text_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        voxels = check_size(reader.GetSize()) * reader.GetNumberOfComponents()
        check_bytes(voxels * _itk_bytes(reader), pixels, packed)
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(_damaged_message(path)) from error
    volume = volume_from_sitk(image)
    if volume.data.dtype.kind == "c":
        raise InputError(_colour_message("a complex number"))
    if dtype is None:
        return volume
    with overflow_ignored():
        return Volume(volume.data.astype(dtype, copy=False), volume.grid)


def _itk_bytes(reader: sitk.ImageFileReader) -> int:
    """Bytes of one number as ITK stores it."""
    return int(sitk.GetArrayViewFromImage(sitk.Image(1, 1, 1, reader.GetPixelID())).itemsize)


def _read_nifti(path: Path, dtype: npt.DTypeLike | None) -> Volume:
    try:
        kind = nib.Nifti2Image if check_nifti(path) else nib.Nifti1Image
        # nibabel would write what it mends to the screen; that is looked at here
        with open_packed(path) as stream, overflow_ignored(), LoggingOutputSuppressor():
            image = kind.from_file_map(kind.make_file_map({"image": stream}), mmap=False)  # a mapped file could change
            _refuse_colour(image)
            shape = _shape_3d(image.shape)
            affine = _nifti_affine(image, path)
            data = np.asanyarray(image.dataobj, dtype=dtype)
            _refuse_rest(read_to_the_end(stream), image)
    except NIBABEL_ERRORS as error:
        raise InputError(_damaged_message(path)) from error
    return Volume(data.reshape(shape, order="F"), Grid(shape, affine))


def _refuse_colour(image: Any) -> None:
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(_colour_message(f"the type {image.get_data_dtype()}"))


def _shape_3d(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The first three sizes; more than three must be 1 beyond the third."""
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise InputError(_shape_message(shape))
    return shape[0], shape[1], shape[2]


def _refuse_rest(size: int, image: Any) -> None:
    """A row of voxels or more behind the image: the header says another size than the one that was written."""
    if size >= image.shape[0] * image.get_data_dtype().itemsize:
        raise InputError(
            f"Behind the image of {image.shape} lie {size} bytes more: its header says a wrong size or kind of number. "
            "Export the image again."
        )


def _nifti_affine(image: Any, path: Path) -> npt.NDArray[np.float64]:
    """(4, 4) to RAS+ mm: the sform, else the qform, else voxel sizes alone (logged)."""
    header = image.header
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sizes = _raw_voxel_size(image, path)
    if sform_code == 0 and not np.all(sizes > 0):
        raise GeometryError(
            f"The header says a voxel size of {sizes.tolist()}. Export the image again, with its voxel size."
        )
    try:
        unit = header.get_xyzt_units()[0]
        sform, qform = header.get_sform(), header.get_qform() if qform_code else None
    except NIBABEL_ERRORS as error:
        raise GeometryError("The header has a unit or a qform that makes no sense. Export the image again.") from error
    if sform_code and qform is not None:
        _refuse_conflict(sform, qform, image.shape[:3], UNIT_TO_MM[unit])
    if sform_code:
        _refuse_two_sizes(sizes, np.linalg.norm(sform[:3, :3], axis=0))
    if not sform_code and qform is None:
        _log.warning("%s: the header gives no position; left and right may be swapped.", shown(path))
    to_mm = np.diag([UNIT_TO_MM[unit]] * 3 + [1.0])
    affine: npt.NDArray[np.float64] = to_mm @ image.affine
    return affine


def _refuse_conflict(sform: Any, qform: Any, shape: tuple[int, ...], unit_mm: float) -> None:
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
    apart = float(np.max(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0))) * unit_mm
    if not apart <= SFORM_QFORM_TOLERANCE_MM:
        raise GeometryError(
            f"The header gives two positions (sform and qform) that lie up to {apart:.1f} mm apart. "
            "Keep the right "
            "one, e.g. with fslorient -copysform2qform or -copyqform2sform."
        )


def _raw_voxel_size(image: Any, path: Path) -> npt.NDArray[np.float64]:
    """(3,) as the file says it: nibabel silently puts 1 mm where it says 0, and makes negative sizes positive."""
    with open_packed(path) as stream:
        raw = image.header_class.from_fileobj(stream, check=False)
    return np.array(raw["pixdim"][1:4], dtype=np.float64)


def _refuse_two_sizes(sizes: npt.NDArray[np.float64], of_sform: npt.NDArray[np.float64]) -> None:
    """Some programs measure with the one, some with the other; sizes that are not said (0, NaN) are no size."""
    said = np.isfinite(sizes) & (sizes != 0)
    if np.any(np.abs(np.abs(sizes[said]) - of_sform[said]) > VOXEL_SIZE_TOLERANCE * np.abs(sizes[said])):
        raise GeometryError(
            f"The header gives two voxel sizes, {np.abs(sizes).round(4).tolist()} (pixdim) and "
            f"{of_sform.round(4).tolist()} (sform). Export the image again, with the right one in both."
        )


def _shape_message(shape: tuple[int, ...]) -> str:
    kind = "several volumes in one file" if len(shape) > 3 else f"{len(shape)} dimensions"
    return f"The shape is {tuple(shape)}: {kind}. Give one 3-D file per visit and modality."


def _colour_message(found: str) -> str:
    return f"A voxel holds {found}: colour, vector or complex images cannot be used. Give a grey-value image."


def _damaged_message(path: Path) -> str:
    kind = "NIfTI" if path.name.lower().endswith(NIFTI_SUFFIXES) else "NRRD or MetaImage"
    return f"It cannot be read as {kind}: damaged, truncated or of another kind. Copy or export it again."
