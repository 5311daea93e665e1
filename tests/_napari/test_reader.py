"""File > Open: a patient's folder, a result folder, and everything else let go."""

import time

import numpy as np
import pytest

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor._napari import layers, sample
from napari_convlstm_tumor._napari.reader import get_reader, read_patient, read_result
from napari_convlstm_tumor.errors import InputError


@pytest.fixture
def result(analysis, tmp_path):
    pipeline.save(analysis, tmp_path / "result")
    return tmp_path / "result"


def test_patient_folder_is_one_image_layer_per_modality(patient):
    assert get_reader(str(patient)) is read_patient
    (data, options, kind), *rest = read_patient(str(patient))
    assert not rest
    assert (options["name"], kind, data.shape) == ("t1c (not registered)", "image", (3, 16, 48, 40))
    shown = options["metadata"][layers.METADATA_KEY]
    assert (shown.patient, shown.days, shown.dated) == ("HAND-01", (0, 41, 97), True)


def test_unregistered_visits_lie_where_their_headers_say(patient):
    """The ball stays at RAS (0, 0, 12) at every visit although the grids differ."""
    ((data, options, _),) = read_patient(str(patient))
    for visit in data:
        index = np.argwhere(visit > 0.8 * visit.max()).mean(axis=0)
        world = index * options["scale"][1:] + options["translate"][1:]
        np.testing.assert_allclose(layers.to_ras_mm(world), (0, 0, 12), atol=0.6)


def test_masks_beside_the_images_are_shown(shared_data):
    (image, labels) = read_patient(str(shared_data / "glioblastoma" / "GBM-05"))
    assert image[1]["name"] == "t1c (not registered)"
    assert (labels[1]["name"], labels[2]) == ("mask given (not registered)", "labels")
    assert labels[0].shape == image[0].shape
    assert set(np.unique(labels[0])) == {0, 1}


def test_manifest_reads_as_a_patient(patient, tmp_path):
    manifest = tmp_path / "manifest.csv"
    rows = [f"HAND-01,{day},t1c,HAND-01/day-{day:03d}/t1c.nii.gz" for day in (0, 41, 97)]
    manifest.write_text("\n".join(["patient,day,modality,path", *rows]))
    assert get_reader(str(manifest)) is read_patient
    assert read_patient([str(manifest)])[0][0].shape == (3, 16, 48, 40)


def test_result_folder_gives_the_layers_of_the_analysis(analysis, result):
    assert get_reader(str(result)) is read_result
    assert get_reader(str(result / "run.json")) is read_result
    expected = layers.to_layers(analysis)
    read = read_result(str(result / "run.json"))
    assert [options["name"] for _, options, _ in read] == [options["name"] for _, options, _ in expected]
    for (data, options, _), (wanted, wished, _) in zip(read, expected, strict=True):
        np.testing.assert_allclose(data, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(options["translate"], wished["translate"], atol=1e-4)
        np.testing.assert_allclose(options["scale"], wished["scale"], atol=1e-6)


@pytest.mark.parametrize("name", ["notes.txt", "picture.tif", "image.nii.gz"])
def test_other_files_are_let_go(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert get_reader(str(tmp_path / name)) is None


def test_other_folders_are_let_go_quickly(tmp_path):
    for number in range(2000):
        (tmp_path / f"cell-{number}.tif").write_bytes(b"x" * 200)
    (tmp_path / "run.json").write_text("{}")  # of another program: no series/ beside it
    started = time.perf_counter()
    assert get_reader(str(tmp_path)) is None
    assert time.perf_counter() - started < 0.5


def test_several_paths_at_once_are_let_go(patient):
    assert get_reader([str(patient), str(patient)]) is None
    assert get_reader([str(patient)]) is read_patient


def test_damaged_result_says_what_it_lacks(result):
    (result / "series" / "mask.nii.gz").unlink()
    with pytest.raises(InputError, match=r"mask\.nii\.gz"):
        read_result(str(result))


def test_sample_patients_are_found_beside_the_source(patient, monkeypatch):
    monkeypatch.setattr(sample, "SAMPLE_FOLDERS", (patient.parent / "nowhere", patient.parent))
    assert sample.first_patient()[0][0].shape == (3, 16, 48, 40)
    with pytest.raises(InputError, match="1 patients, not 2"):
        sample.second_patient()
    monkeypatch.setattr(sample, "SAMPLE_FOLDERS", (patient.parent / "nowhere",))
    with pytest.raises(InputError, match="not installed"):
        sample.first_patient()
