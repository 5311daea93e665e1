"""Names from somebody else's disk: bytes that are no text, commands to a terminal, markup, more than a disk takes."""

import csv
import json
import os

import pytest

from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.edit.review import read_queue

LATIN_1 = os.fsdecode(b"M\xfcller")


@pytest.fixture
def batch(own_folder, tmp_path):
    """Runs the patients with P-01 under another name: (exit code, rows of summary.csv)."""

    def run(name):
        try:
            (own_folder / "P-01").rename(own_folder / name)
        except OSError:
            pytest.skip("this disk takes no such name")
        log = tmp_path / "log.jsonl"
        code = main(["batch", str(own_folder), "-o", str(tmp_path / "out"), "--no-register", "--json-log", str(log)])
        events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        assert events[-1]["event"] == "end"
        with (tmp_path / "out" / "summary.csv").open(encoding="utf-8", newline="") as stream:
            return code, {row["patient"]: row for row in csv.DictReader(stream)}

    return run


@pytest.mark.parametrize("name", [LATIN_1, "P\n01", "P\x1b[2J", "P\u2028", "P\u202egnp"])
def test_a_name_that_is_no_text_fails_its_patient_alone(batch, name, capsys):
    code, rows = batch(name)
    assert code == 1
    failed, done = sorted(rows.values(), key=lambda row: row["status"] == "done")
    assert "Rename it" in failed["error"]
    assert (done["patient"], done["status"]) == ("P-02", "done")
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


@pytest.mark.parametrize("damaged", [False, True])
def test_a_name_is_no_formula_in_the_tables(own_folder, tmp_path, kit, damaged):
    name, out = "=HYPERLINK(P-01)", tmp_path / "out"
    (own_folder / "P-01").rename(own_folder / name)
    if damaged:
        kit.damage(own_folder / name)
    command = ["batch", str(own_folder), "-o", str(out), "--no-register", "--quiet"]
    tables = []
    for _ in range(2):  # a second run adds to the rows of the first
        assert main(command) == damaged
        tables.append([(out / table).read_text() for table in ("summary.csv", "failures.csv")])
    assert tables[0] == tables[1]
    cells = [line.split(",")[0] for text in tables[0] for line in text.splitlines()[1:]]
    assert cells == ["'" + name, "P-02"] + ["'" + name] * damaged
    assert [item.patient for item in read_queue(out)] == [name, "P-02"]


def test_a_name_too_long_for_its_result_fails_its_patient_alone(batch):
    name = "n" * 245
    code, rows = batch(name)
    assert code == 1
    assert "longer than the 240 bytes" in rows[name]["error"]
    assert rows["P-02"]["status"] == "done"


def test_a_name_of_a_manifest_longer_than_any_folders_fails_its_patient_alone(own_folder, tmp_path, capsys):
    table, out = own_folder / "manifest.csv", tmp_path / "out"
    rows = [f"{name},{day},t1c,P-01/day-{day:03d}/t1c.nii.gz,P-01/day-{day:03d}/mask.nii.gz"
            for name in ("n" * 300, "P") for day in (0, 50)]  # fmt: skip
    table.write_text("\n".join(["patient,day,modality,path,mask", *rows]))
    assert main(["batch", str(table), "-o", str(out), "--no-register", "--dry-run"]) == 0
    assert main(["batch", str(table), "-o", str(out), "--no-register"]) == 1
    shown = capsys.readouterr()
    assert "longer than the 240 bytes" in shown.err
    assert str(tmp_path) not in shown.err
    assert (out / "P" / "run.json").is_file()


@pytest.mark.parametrize("name", ["p-02", "P-02 "])
def test_patients_whose_results_many_disks_would_put_into_one_folder(batch, own_folder, name):
    code, rows = batch(name)
    alike = name.casefold() == "p-02"
    assert code == alike
    assert ["the same but for capitals" in row["error"] for row in rows.values()] == [alike] * 2


@pytest.mark.parametrize("damaged", [False, True])
def test_an_image_whose_name_is_no_text(own_folder, tmp_path, damaged):
    image = own_folder / "P-01" / "day-000" / f"t1c_{LATIN_1}.nii.gz"
    try:
        (own_folder / "P-01" / "day-000" / "t1c.nii.gz").rename(image)
    except OSError:
        pytest.skip("this disk takes no such name")
    if damaged:
        image.write_bytes(b"no image")
    out = tmp_path / "out"
    assert main(["batch", str(own_folder), "-o", str(out), "--no-register", "--quiet"]) == damaged
    assert (out / "P-02" / "run.json").is_file()
    assert "M\N{REPLACEMENT CHARACTER}ller" in (out / "failures.csv").read_text(encoding="utf-8") or not damaged


def test_square_brackets_in_a_name_are_no_markup(own_folder, tmp_path, capsys):
    (own_folder / "P-01").rename(own_folder / "P-01 [bold]")
    assert main(["info", str(own_folder)]) == 0
    assert "P-01 [bold]" in capsys.readouterr().out
    assert main(["run", str(own_folder / "P-01 [bold]"), "-o", str(tmp_path / "out"), "--no-register"]) == 0
    assert "P-01 [bold]" in capsys.readouterr().out.split("visit")[0]
