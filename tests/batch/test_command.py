"""`convlstm-tumor batch`: what it says, and its exit codes. What fails is told with what to do."""

import errno
import json
import os
import signal

import pytest

from napari_convlstm_tumor.batch.outcome import SAVING, explain, failure
from napari_convlstm_tumor.cli import main
from napari_convlstm_tumor.errors import InputError, MissingDependency, ModelError, SettingsError
from napari_convlstm_tumor.pipeline import Step
from napari_convlstm_tumor.terminal import BatchScreen


def test_the_whole_way(folder, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    command = ["batch", str(folder), "-o", str(tmp_path / "out"), "--no-register", "--json-log", str(log)]
    assert main([*command, "--dry-run"]) == 0
    assert "4 to do. Nothing was computed." in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main([*command, "--exclude", "P-03", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(command) == 1
    shown = capsys.readouterr()
    assert "3 of 4 patients done, 3 of them by an earlier run, 1 failed." in shown.out
    assert "P-03: failed (Reading images)." in shown.err
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["event"] for e in events if e["event"] in ("start", "end")] == ["start", "end"] * 2
    assert sorted(e["patient"] for e in events if e["event"] == "earlier") == ["P-01", "P-02", "P-04"]
    assert str(tmp_path) not in log.read_text()
    assert main([*command, "--dry-run", "--part", "2/2"]) == 0
    assert capsys.readouterr().out.startswith("P-02: finished\nP-04: finished\n2 finished.")
    assert main([*command, "--dry-run", "--part", "9/9"]) == 0
    assert capsys.readouterr().out == "No patient in this part. Nothing was computed.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "3/2"], "--part is K/N"),
        (["--jobs", "0"], "--jobs is at least 1"),
        (["--memory-limit", "lots"], "like 6GB"),
        (["--memory-limit", "900TB"], "are free here"),
        (["--only", "nobody"], "No patient is left"),
        (["--scheduler", "somewhere"], "tcp://host:8786"),
        (["--json-log", "/no/such/folder/log"], "The log log cannot be written"),
    ],
)
def test_wrong_usage_is_exit_code_2(folder, tmp_path, capsys, options, message):
    assert main(["batch", str(folder), "-o", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/P-*"))


def test_resume_and_overwrite_exclude_each_other(folder, tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["batch", str(folder), "-o", str(tmp_path), "--resume", "--overwrite"])
    assert end.value.code == 2


def test_what_is_wrong_with_the_folders_is_not_said_of_an_earlier_result(tmp_path, kit, capsys):
    kit.write_patient(tmp_path / "in" / "P-01")
    kit.write_patient(tmp_path / "in" / "P-02")
    (tmp_path / "in" / "P-02" / "day-050").rename(tmp_path / "in" / "P-02" / "day-00")
    assert main(["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--no-register"]) == 1
    assert "P-02: failed (Finding images and visits). Two visits fall on the same day" in capsys.readouterr().err


@pytest.fixture
def interruptible():
    """A shell starts what runs in the background with Ctrl-C ignored: a test of it must not depend on that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_stopped_it_keeps_what_is_done_and_leaves_nothing_half_done(folder, tmp_path, monkeypatch, sent, code, jobs):
    show, out, log = BatchScreen.show, tmp_path / "out", tmp_path / "log.jsonl"
    before = signal.getsignal(signal.SIGTERM)

    def show_and_stop(screen, patient, event):
        show(screen, patient, event)
        if screen.counts()["done"] and isinstance(event, Step):
            (out / f".{patient}.0123abcd.part").mkdir()  # as a worker that is ended while it saves
            os.kill(os.getpid(), sent)

    monkeypatch.setattr(BatchScreen, "show", show_and_stop)
    command = ["batch", str(folder), "-o", str(out), "--no-register", "--quiet", "--exclude", "P-03", "--jobs", jobs]
    assert main([*command, "--json-log", str(log)]) == code
    done = [path.parent.name for path in out.glob("P-*/run.json")]
    assert 1 <= len(done) < 3
    assert [line.split(",")[0] for line in (out / "summary.csv").read_text().splitlines()[1:]] == sorted(done)
    assert not list(out.glob(".*.part"))
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "stopped"
    assert signal.getsignal(signal.SIGTERM) == before


class OutOfMemoryError(RuntimeError):
    """As torch's own."""


@pytest.mark.parametrize(
    ("error", "sentence", "advice"),
    [
        (InputError("t1.nii is torn."), "t1.nii is torn.", "info"),
        (SettingsError("No visit 9."), "No visit 9.", "Change the setting"),
        (ModelError("No weights."), "No weights.", "Change the setting"),
        (MissingDependency("SEG", "highdicom", "dicom"), "needs the package 'highdicom'", "Install"),
        (MemoryError(), "Not enough memory", "--spacing"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate"), "Not enough memory", "--spacing"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Not enough memory", "--memory-limit"),
        (OSError(errno.EIO, "Input/output error", "/secret/name.nii"), "failed: Input/output error.", "read"),
        (ZeroDivisionError("division by zero"), "Unexpected ZeroDivisionError: division by zero", "report it"),
    ],
)
def test_every_error_has_a_sentence_and_what_to_do(error, sentence, advice):
    told = explain(error)
    assert sentence in told[0]
    assert advice in told[1]
    assert "secret" not in " ".join(told)


@pytest.mark.parametrize(
    ("step", "number", "fatal"),
    [
        (SAVING, errno.ENOSPC, True),
        (SAVING, errno.EROFS, True),
        (SAVING, errno.EIO, False),
        ("Read", errno.EROFS, False),
    ],
)
def test_only_a_disk_that_no_patient_can_be_written_to_ends_a_batch(tmp_path, step, number, fatal):
    try:
        try:
            raise OSError(number, "reason")
        except OSError as cause:
            raise InputError("mask.nii.gz cannot be written: reason.") from cause
    except InputError as error:
        assert failure("P", tmp_path, step, error).fatal is fatal
