"""The command line as people use it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from napari_convlstm_tumor.cli import build_parser, main

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_data"


def test_info_lists_the_sample_as_json(capsys):
    assert main(["info", str(SAMPLE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    patients = {p["patient"]: p for p in found["patients"]}
    assert set(patients) == {"improving", "progressing"}
    assert [v["day"] for v in patients["progressing"]["visits"]] == [0, 40, 100]
    assert all(v["has_mask"] for v in patients["improving"]["visits"])


def test_info_as_a_table(capsys):
    assert main(["info", str(SAMPLE)]) == 0
    assert "2 patients, 2 usable" in capsys.readouterr().out


def test_a_run_writes_its_folder_and_a_bad_patient_is_exit_code_1(tmp_path, capsys):
    assert main(["run", str(SAMPLE / "progressing"), "-o", str(tmp_path), "--spacing", "4", "--quiet"]) == 0
    folder = tmp_path / "progressing"
    assert (folder / "visits.csv").read_text().startswith("visit,day,volume_mm3,volume_change_percent,sgr_per_day")
    assert capsys.readouterr().out == ""
    again = ["run", str(SAMPLE / "progressing"), "-o", str(tmp_path / "b"), "--quiet"]
    assert main([*again, "--recipe", str(folder / "recipe.yaml")]) == 0
    assert (tmp_path / "b" / "progressing" / "visits.csv").read_text() == (folder / "visits.csv").read_text()
    assert main([*again, "--reference", "9"]) == 1
    assert "no visit 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "/nowhere/at/all"], "at all|all"),
        (["run", str(SAMPLE), "-o", "x"], "several|patients"),
        (["run", str(SAMPLE / "progressing"), "-o", "x", "--spacing", "99"], "spacing"),
        (["run", str(SAMPLE / "progressing"), "-o", "x", "--recipe", "/no/recipe.yaml"], "recipe.yaml"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error


def test_help_says_research_use_only(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "Research use only" in capsys.readouterr().out


def test_the_readmes_commands_parse():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^convlstm-tumor ([^#\n]+)", text, flags=re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        build_parser().parse_args(command.split())


def test_the_console_script_is_installed():
    script = Path(sys.executable).with_name("convlstm-tumor")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("convlstm-tumor 0.")
