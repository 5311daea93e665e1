"""Pixels read straight from the file are those that GDCM gives."""

import numpy as np
import pytest

from napari_convlstm_tumor.io import dicom

SERIES = ("dicom/ge", "dicom/siemens-implicit", "dicom/gantry-tilt", "dicom/jpeg-lossless")


@pytest.mark.parametrize("folder", SERIES)
def test_plain_pixels_agree_with_gdcm(shared_data, folder, monkeypatch):
    paths = sorted(p for p in (shared_data / folder).iterdir() if p.is_file())
    straight = dicom.read_dicom(paths, resample_uneven=True)
    monkeypatch.setattr(dicom, "_plain_pixels", lambda *_: None)
    assert np.array_equal(straight.data, dicom.read_dicom(paths, resample_uneven=True).data)


def test_plain_pixels_are_taken_where_they_may_be(shared_data, monkeypatch):
    paths = sorted(p for p in (shared_data / "dicom/ge").iterdir() if p.is_file())
    monkeypatch.setattr(dicom, "_decode", lambda *_: pytest.fail("GDCM was asked"))
    assert dicom.read_dicom(paths).data.any()
