"""Nothing of a DICOM header that tells who or when is in any output: planted words are looked for everywhere."""

import base64
import contextlib
import copy
import gzip
import logging
import re
import shutil
import struct
import warnings
import zlib
from pathlib import Path
from runpy import run_path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.edit.editor import Editor
from napari_convlstm_tumor.edit.exports import can_export, export
from napari_convlstm_tumor.edit.session import Autosave, save_session
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
make = run_path(str(ROOT / "io" / "make_dicom.py"))
SHAPE = (24, 20, 12)
# Who, where and what: no two alike, none a part of anything the program could say by itself.
TEXTS = {
    "PatientName": "Zwickelhuber^Ottokar", "PatientID": "QX7731905", "OtherPatientIDs": "OPID55172",
    "AccessionNumber": "ACC9081726", "StudyID": "STID4471", "InstitutionName": "Quellbrunn Klinikum",
    "InstitutionAddress": "Wispelgasse 7", "ReferringPhysicianName": "Drosselbart^Ilse",
    "PerformingPhysicianName": "Kaspertaler^Veit", "OperatorsName": "Nebelkraehe^Jost",
    "StationName": "SCANNERVOLK3", "StudyDescription": "Zwickelhuber follow-up", "PatientAddress": "Mirabellweg 3",
    "PatientTelephoneNumbers": "0555-918273", "PatientComments": "cousin of Borstenvieh", "DeviceSerialNumber":
    "SN-66190-K", "ImageComments": "for Drosselbart",
}  # fmt: skip
TIMES = {
    "PatientBirthDate": ("19430712",) * 2, "StudyDate": ("20170329", "20170614"),
    "SeriesDate": ("20170329", "20170614"), "AcquisitionDate": ("20170329", "20170614"),
    "ContentDate": ("20170329", "20170614"), "StudyTime": ("131517.250", "142639.750"),
    "AcquisitionTime": ("131621.125", "142741.375"),
}  # fmt: skip
SECRETS = [
    "zwickelhuber", "ottokar", "qx7731905", "opid55172", "acc9081726", "stid4471", "quellbrunn", "wispelgasse",
    "drosselbart", "kaspertaler", "nebelkraehe", "scannervolk3", "mirabellweg", "918273", "borstenvieh", "66190",
    "19430712", "1943-07-12", "12.07.1943", "07/12/1943",
    *(form for y, m, d in (("2017", "03", "29"), ("2017", "06", "14")) for form in
      (f"{y}{m}{d}", f"{y}-{m}-{d}", f"{d}.{m}.{y}", f"{m}/{d}/{y}", f"{d}/{m}/{y}", f"{y}_{m}_{d}")),
    "131517", "142639", "131621", "142741", "13:15:17", "14:26:39",
]  # fmt: skip


def write_visit(folder, visit, **changed):
    """A CT of a ball in air that grows, with everything planted in its header; and its contour."""

    def plant(k, dataset):
        for name, value in {**TEXTS, **{n: v[visit] for n, v in TIMES.items()}, **changed}.items():
            setattr(dataset, name, value)
        dataset.StudyInstanceUID = f"1.2.3.{visit}"
        dataset.SeriesDescription, dataset.ProtocolName = "Thorax Zwickelhuber", "for Drosselbart"
        dataset.private_block(0x0029, "MAKER", create=True).add_new(1, "PN", TEXTS["PatientName"])
        person = pydicom.Dataset()
        person.PatientName = TEXTS["PatientName"]
        dataset.RequestAttributesSequence = [person]

    distance = np.linalg.norm((np.indices(SHAPE).T - (12, 10, 6)) * (1, 1, 2), axis=-1).T
    stored = np.where(distance < 5 + visit, 60, -900) + np.random.default_rng(visit).integers(0, 30, SHAPE)
    return make["write_series"](folder, stored.astype(np.int16), make["even_positions"](12, step=(0, 0, 2.0)),
                                series=f"s{visit}", frame=f"f{visit}", rescale=(1, 0), change=plant)  # fmt: skip


def contour(folder, visit):
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    z = make["even_positions"](12, step=(0, 0, 2.0))[:, 2]
    rings = [np.column_stack([-10 + 12 + 4 * np.cos(angles), -20 + 10 + 4 * np.sin(angles), np.full(24, z[k])])
             for k in (5, 6, 7)]  # fmt: skip
    path = make["write_rtstruct"](folder / "rt.dcm", {"GTV": rings}, series=f"s{visit}", frame=f"f{visit}")
    dataset = pydicom.dcmread(path)
    for name, value in {**TEXTS, **{n: v[visit] for n, v in TIMES.items()}}.items():
        setattr(dataset, name, value)
    dataset.StudyInstanceUID = f"1.2.3.{visit}"
    dataset.save_as(path)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """CASE-1 with two visits and contours."""
    folder = tmp_path_factory.mktemp("dicom") / "CASE-1"
    for visit in range(2):
        write_visit(folder / f"study-{visit}", visit)
        contour(folder / f"study-{visit}", visit)
    return folder


def found_in(blob):
    text = blob.lower()
    return [s for s in SECRETS if s.encode() in text or s.encode("utf-16-le") in text]


PICTURE = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


def unpacked(blob):
    """What is packed in a file: gzip, the pictures of a page, the compressed texts and profiles of a picture."""
    if blob.startswith(b"\x1f\x8b"):
        return gzip.decompress(blob)
    pictures = [blob] if blob.startswith(b"\x89PNG") else [base64.b64decode(found) for found in PICTURE.findall(blob)]
    return b"".join(picture + chunk for picture in pictures for chunk in compressed_chunks(picture))


def compressed_chunks(picture):
    """The parts of a PNG that a search of its bytes would not see into, and at least one empty one."""
    place, found = 8, [b""]
    while place < len(picture):
        length, kind = struct.unpack_from(">I4s", picture, place)
        body = picture[place + 8 : place + 8 + length]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            start = max(body.find(b"\x78"), 0)
            with contextlib.suppress(zlib.error):
                found.append(zlib.decompress(body[start:]))
        place += 12 + length
    return found


def leaks(out, *, but=()):
    """{file: the planted words in its name or in it, unpacked where it is packed}; ``but``: folders not looked into."""
    found = {}
    for path in out.rglob("*"):
        name = path.relative_to(out)
        if but and set(but) & set(name.parts):
            continue
        blob = path.read_bytes() if path.is_file() else b""
        blob += unpacked(blob)
        if words := found_in(str(name).encode() + b"\n" + blob):
            found[str(name)] = words
    return found


@contextlib.contextmanager
def heard(caplog, capfd):
    """What is logged at any level, warned of and written on the screen within."""
    words = []
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield words
    out, err = capfd.readouterr()
    words += [caplog.text, out, err, *(str(w.message) for w in warned)]


def test_the_search_finds_what_is_planted(case):
    assert set(found_in(b"".join(p.read_bytes() for p in case.rglob("*.dcm")))) >= {
        "zwickelhuber", "qx7731905", "19430712", "20170329", "20170614", "acc9081726", "drosselbart", "quellbrunn",
    }  # fmt: skip


def test_the_search_finds_what_is_packed(tmp_path):
    """In a page's picture, as text and as compressed text."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    for name, packed in (("plain", False), ("packed", True)):
        info = PngInfo()
        info.add_text("Comment", f"of {TEXTS['PatientName']}", zip=packed)
        Image.new("L", (4, 4)).save(tmp_path / f"{name}.png", pnginfo=info)
        picture = base64.b64encode((tmp_path / f"{name}.png").read_bytes()).decode()
        (tmp_path / f"{name}.html").write_text(f'<img src="data:image/png;base64,{picture}">')
    found = leaks(tmp_path)
    assert set(found) == {"plain.png", "packed.png", "plain.html", "packed.html"}
    assert all(words == ["zwickelhuber", "ottokar"] for words in found.values())


@pytest.mark.parametrize("command", ["run", "batch"])
def test_no_output_of_a_dicom_patient_tells_who_or_when(case, tmp_path, command, caplog, capfd):
    given = case if command == "run" else case.parent
    extra = ["--json-log", str(tmp_path / "log.jsonl")] if command == "batch" else []
    with heard(caplog, capfd) as words:
        assert main([command, str(given), "-o", str(tmp_path / "out"), "--device", "cpu", "--log-growth", *extra]) == 0
        assert main(["info", str(given)]) == 0
        assert main(["info", str(given), "--json"]) == 0
    written = {path.name for path in (tmp_path / "out" / "CASE-1").iterdir()}
    assert {"run.json", "visits.csv", "lesions.csv", "report.html", "report.json", "recipe.yaml"} <= written
    assert leaks(tmp_path) == {}
    assert found_in("\n".join(words).encode()) == []


def test_dates_and_ids_are_kept_in_one_file_when_asked_for(case, tmp_path, caplog, capfd):
    with heard(caplog, capfd) as words:
        assert main(["run", str(case), "-o", str(tmp_path), "--device", "cpu", "--keep-dates", "--keep-ids"]) == 0
    expected = "visit,day,date,patient_id\n1,0,2017-03-29,QX7731905\n2,77,2017-06-14,QX7731905\n"
    assert (tmp_path / "CASE-1" / "identity.csv").read_text() == expected
    assert set(leaks(tmp_path)) == {"CASE-1/identity.csv"}
    assert found_in("\n".join(words).encode()) == []


@pytest.mark.parametrize(("flag", "gone"), [("--keep-dates", "QX7731905"), ("--keep-ids", "2017")])
def test_one_of_the_two_does_not_keep_the_other(case, tmp_path, flag, gone):
    assert main(["run", str(case), "-o", str(tmp_path), "--device", "cpu", "--quiet", flag]) == 0
    assert gone not in (tmp_path / "CASE-1" / "identity.csv").read_text()


def test_dicom_objects_carry_their_patient_and_nothing_else_does(case, tmp_path, caplog, capfd):
    """--dicom is asked for by name, and its objects are filed with their patient: docs/dicom-output.md."""
    pytest.importorskip("highdicom")
    with heard(caplog, capfd) as words:
        assert main(["run", str(case), "-o", str(tmp_path), "--device", "cpu", "--dicom"]) == 0
    objects = list((tmp_path / "CASE-1" / "dicom").glob("*.dcm"))
    assert objects, (tmp_path / "CASE-1" / "report.json").read_text()
    assert all(pydicom.dcmread(p, stop_before_pixels=True).PatientID == TEXTS["PatientID"] for p in objects)
    assert leaks(tmp_path, but=("dicom",)) == {}
    assert not any(found_in(p.name.encode()) for p in objects)
    assert found_in("\n".join(words).encode()) == []


def cut(folder):
    path = sorted((folder / "study-1").glob("0*.dcm"))[3]
    path.write_bytes(path.read_bytes()[:-40])


def lose(folder):
    sorted((folder / "study-1").glob("0*.dcm"))[3].unlink()


def odd_regions(folder):
    """No region is named as a tumor; their names are a person's."""
    path = folder / "study-1" / "rt.dcm"
    dataset = pydicom.dcmread(path)
    for name in ("Zwickelhuber left", "Zwickelhuber right"):
        dataset.StructureSetROISequence.append(copy.deepcopy(dataset.StructureSetROISequence[0]))
        dataset.StructureSetROISequence[-1].ROIName = name
        dataset.StructureSetROISequence[-1].ROINumber = len(dataset.StructureSetROISequence)
    del dataset.StructureSetROISequence[0]
    dataset.save_as(path)


def odd_date(folder):
    write_visit(folder / "study-1", 1, StudyDate="Zwickelhuber", PatientBirthDate="12.07.1943", StudyTime="noon")


def another(folder):
    write_visit(folder / "study-2", 1, PatientID="OPID55172", StudyInstanceUID="1.2.9")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("spoil", [cut, lose, odd_regions, odd_date, another])
def test_errors_and_failures_do_not_tell_either(case, tmp_path, spoil, caplog, capfd):
    folder = tmp_path / "in" / "CASE-1"
    shutil.copytree(case, folder)
    spoil(folder)
    out = tmp_path / "out"
    caplog.clear()
    capfd.readouterr()
    with heard(caplog, capfd) as words:
        codes = [main([command, str(place), "-o", str(out), "--device", "cpu"])
                 for command, place in (("run", folder), ("batch", folder.parent))]  # fmt: skip
        main(["info", str(folder), "--json"])
    assert any(codes) or spoil in (odd_date, another)
    assert leaks(out) == {}
    assert found_in("\n".join(words).encode()) == []


def dated_volumes(folder):
    """NIfTI whose every name and folder says the day: one that is no image, and a mask beside it on another grid."""
    for day, shape in (("2017-03-29", SHAPE), ("2017-06-14", (0, 0, 0))):
        short, place = day.replace("-", ""), folder / f"ses-{day}"
        place.mkdir(parents=True)
        image = nib.Nifti1Image(np.random.default_rng(1).normal(100, 10, SHAPE).astype(np.float32), np.eye(4))
        mask = nib.Nifti1Image(np.ones((6, 6, 6), np.uint8), np.diag([1, 1, 1, 1]))
        nib.save(image, place / f"CASE-1_ses-{short}_t1c.nii.gz")
        nib.save(mask, place / f"CASE-1_ses-{short}_mask.nii.gz")
        if shape != SHAPE:
            (place / f"CASE-1_ses-{short}_t1c.nii.gz").write_bytes(b"no image")


def dated_dicom(folder):
    """Slices that are named by a UID with the day in it; one is cut off."""
    for visit, day in enumerate(("20170329", "20170614")):
        for k, path in enumerate(write_visit(folder / f"{day}_CT", visit)):
            name = path.with_name(f"CT.1.3.12.2.1107.5.{day}13151725069{k:02d}.dcm")
            name.write_bytes(path.read_bytes()[: -40 if visit and k == 3 else None])
            path.unlink()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make_files", [dated_volumes, dated_dicom])
def test_dates_in_the_names_of_files_and_folders_are_not_told(tmp_path, make_files, caplog, capfd):
    folder, out = tmp_path / "in" / "CASE-1", tmp_path / "out"
    make_files(folder)
    log = ["--json-log", str(tmp_path / "out.jsonl")]
    with heard(caplog, capfd) as words:
        run = main(["run", str(folder), "-o", str(out), "--device", "cpu"])
        batch = main(["batch", str(folder.parent), "-o", str(out), "--device", "cpu", *log])
        main(["info", str(folder)]), main(["info", str(folder), "--json"])
    assert (run, batch) == (1, 1)
    said = (out / "failures.csv").read_text()
    assert "(date)" in said and "Visit 2" in said
    shutil.rmtree(tmp_path / "in")
    assert leaks(tmp_path) == {}
    assert found_in("\n".join(words).encode()) == []


def test_patients_in_one_folder_are_told_apart_without_their_ids(tmp_path, caplog, capfd):
    """No folder names a patient here: the key is a salted hash."""
    for number, key in enumerate(("QX7731905", "OPID55172")):
        for path in write_visit(tmp_path / "new", number, PatientID=key):
            (tmp_path / "in").mkdir(exist_ok=True)
            path.rename(tmp_path / "in" / f"{number}-{path.name}")
    with heard(caplog, capfd) as words:
        main(["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"])
    tables = "".join(p.read_text() for p in (tmp_path / "out").rglob("*.csv"))
    assert len(set(re.findall(r"patient-[0-9a-f]{10}", tables))) == 2
    assert leaks(tmp_path / "out") == {}
    assert found_in("\n".join(words).encode()) == []


def test_sessions_and_exports_of_a_corrected_patient_do_not_tell_either(case, tmp_path, caplog, capfd):
    with heard(caplog, capfd) as words:
        *_, last = pipeline.analyse(find_patient(case), Settings(device="cpu", register=False))
        editor = Editor(last.analysis)
        editor.paint(1, last.analysis.masks[0])
        save_session(editor, tmp_path / "session")
        Autosave(tmp_path / "autosave", editor).keep()
        kinds = [kind for kind, why_not in can_export(last.analysis).items() if not why_not and kind != "dicom"]
        for kind in kinds:
            export(editor, kind, tmp_path / kind)
    assert {"report", "csv", "nifti", "png", "recipe"} <= set(kinds)
    assert {p.name for p in tmp_path.iterdir()} == {"session", "autosave", *kinds}
    assert leaks(tmp_path) == {}
    assert found_in("\n".join(words).encode()) == []


def test_there_is_no_setting_that_would_let_them_out_unseen():
    """Only --dicom and these two do; another that keeps dates or IDs needs tests of its own here."""
    found = {name: value for name, value in Settings().to_dict().items() if "keep" in name or "dates" in name}
    assert found == {"keep_dates": False, "keep_ids": False}
