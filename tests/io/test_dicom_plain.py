"""Pixels read straight from the file are those that GDCM gives."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from napari_convlstm_tumor.io import dicom, dicom_pixels

make = run_path(str(Path(__file__).with_name("make_dicom.py")))
SERIES = ("dicom/ge", "dicom/siemens-implicit", "dicom/gantry-tilt", "dicom/jpeg-lossless")


@pytest.mark.parametrize("folder", SERIES)
def test_plain_pixels_agree_with_gdcm(shared_data, folder, monkeypatch):
    paths = sorted(p for p in (shared_data / folder).iterdir() if p.is_file())
    straight = dicom.read_dicom(paths, resample_uneven=True)
    monkeypatch.setattr(dicom_pixels, "_plain_pixels", lambda *_: None)
    assert np.array_equal(straight.data, dicom.read_dicom(paths, resample_uneven=True).data)


def test_plain_pixels_are_taken_where_they_may_be(shared_data, monkeypatch):
    paths = sorted(p for p in (shared_data / "dicom/ge").iterdir() if p.is_file())
    monkeypatch.setattr(dicom_pixels, "_decode", lambda *_: pytest.fail("GDCM was asked"))
    assert dicom.read_dicom(paths).data.any()


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "rescale", [("1.67521367521", "-0.37"), ("0.000123456789", "3.1415926"), (3, -7), (300000, -7), (7, "-0.5")]
)
def test_rescaled_pixels_agree_with_gdcm_to_the_last_bit(tmp_path, modality, rescale, monkeypatch):
    stored = np.random.default_rng(0).integers(-500, 500, (5, 4, 6)).astype(np.int16)
    paths = make["write_series"](tmp_path, stored, make["even_positions"](6), modality=modality, rescale=rescale)
    decode = dicom_pixels._decode
    monkeypatch.setattr(dicom_pixels, "_decode", lambda *_: pytest.fail("GDCM was asked"))
    straight = dicom.read_dicom(paths)
    monkeypatch.setattr(dicom_pixels, "_decode", decode)
    monkeypatch.setattr(dicom_pixels, "_plain_pixels", lambda *_: None)
    assert np.array_equal(straight.data, dicom.read_dicom(paths).data)
