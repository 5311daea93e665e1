"""Damage to masks, folders and manifests around healthy images. CASES as in damage_files.py."""

import gzip
import os
import shutil
from pathlib import Path
from runpy import run_path

import numpy as np

files = run_path(str(Path(__file__).with_name("damage_files.py")))
healthy, save, second = files["healthy"], files["save"], files["second"]
SHAPE, AFFINE, IMAGE = files["SHAPE"], files["AFFINE"], files["IMAGE"]
TUMOR = np.zeros(SHAPE, np.uint8)
TUMOR[8:14, 8:12, 5:9] = 1
LABELS = TUMOR.copy()  # as BraTS has them: necrosis, edema, enhancing tumor
LABELS[8:10, 8:12, 5:9], LABELS[12:14, 8:12, 5:9] = 2, 4


def mask(data=TUMOR, affine=AFFINE):
    return lambda patient: save(patient / "day-040" / "mask.nii.gz", data, affine)


def mask_bytes(make):
    return lambda patient: (patient / "day-040" / "mask.nii.gz").write_bytes(make())


def moved(*mm):
    affine = AFFINE.copy()
    affine[:3, 3] = mm
    return affine


def scaled():
    """An image of 0..1 by mistake: neither labels nor a decided map of probabilities."""
    return np.clip(IMAGE / IMAGE.max(), 0, 1).astype(np.float32)


def with_nan():
    data = TUMOR.astype(np.float32)
    data[:12] = np.nan
    return data


def same_mask(patient):
    for day in ("day-000", "day-040"):
        save(patient / day / "mask.nii.gz", TUMOR)


def unplaced(patient):
    """The image lies somewhere, its mask was saved without a position."""
    save(second(patient), IMAGE, moved(-90, -120, 40))
    mask()(patient)


# ---- folders ----


def latin_1(patient):
    """A folder from an old archive: its name is no UTF-8."""
    target = patient.with_name(os.fsdecode(b"M\xfcller"))
    patient.rename(target)
    return target


def rename(day, name):
    def make(patient):
        (patient / day).rename(patient / name)

    return make


def copy_of_first(patient):
    second(patient).write_bytes((patient / "day-000" / "t1c.nii.gz").read_bytes())


def same_day(patient):
    (patient / "day-40").mkdir()
    (patient / "day-40" / "t1c.nii.gz").write_bytes(second(patient).read_bytes())


def loop(patient):
    (patient / "day-040" / "again").symlink_to(patient, target_is_directory=True)


def visit_elsewhere(patient):
    other = patient.parent / "another"
    other.mkdir()
    (patient / "day-040").rename(other / "day-040")
    (patient / "day-040").symlink_to(other / "day-040")


def broken_link(patient):
    second(patient).unlink()
    second(patient).symlink_to(patient / "gone.nii.gz")


def link_to_itself(patient):
    second(patient).unlink()
    second(patient).symlink_to(second(patient))


def device(patient):
    second(patient).unlink()
    second(patient).symlink_to("/dev/zero")


def pipe(name):
    def make(patient):
        second(patient).unlink(missing_ok=True)
        os.mkfifo(patient / "day-040" / name)

    return make


def folder_for_file(patient):
    second(patient).unlink()
    second(patient).mkdir()


def many_files(patient):
    for n in range(10_000):
        (patient / "day-040" / f"note-{n}.txt").touch()


def many_texts_as_dicom(patient):
    for n in range(1000):
        (patient / "day-040" / f"{n}.dcm").write_bytes(b"no image")


def deep(patient):
    place = patient / "day-040"
    for n in range(40):
        place = place / f"level-{n}"
    place.mkdir(parents=True)
    (place / "t1c.nii.gz").write_bytes(second(patient).read_bytes())


def odd_names(patient):
    for name in ("día 1 – ü", "a\nb", "x" * 200, "-rf", "'; drop table"):
        (patient / "day-040" / name).mkdir()
        (patient / "day-040" / name / "readme.txt").touch()


def stray(make):
    """A folder of two patients, with something beside them that belongs to neither."""

    def change(patient):
        folder = patient.with_name("two")
        shutil.copytree(patient, folder / "Q")
        patient.rename(folder / "P")
        make(folder)
        return folder

    return change


def backup(folder):
    shutil.copytree(folder / "P" / "day-040", folder / "copy of 2019-03-01")


def without(day):
    return lambda patient: (patient / day / "t1c.nii.gz").unlink()


def nothing(patient):
    without("day-000")(patient)
    without("day-040")(patient)


def modality(name):
    def make(patient):
        second(patient).rename(patient / "day-040" / name)

    return make


def ct_without_air(patient):
    for day in ("day-000", "day-040"):
        (patient / day / "t1c.nii.gz").rename(patient / day / "ct.nii.gz")
        save(patient / day / "ct.nii.gz", np.abs(IMAGE) + (day == "day-040"))


# ---- manifests ----


def manifest(*rows, raw=None):
    """Beside the patient a manifest.csv, which is then what is read."""

    def make(patient):
        path = patient.parent / "manifest.csv"
        text = "patient,day,modality,path,mask\n" + "\n".join(rows)
        path.write_bytes(text.encode() if raw is None else raw)
        return path

    return make


FIRST, SECOND = "P,0,t1c,P/day-000/t1c.nii.gz,", "P,40,t1c,P/day-040/t1c.nii.gz,"


def lines(change):
    """The healthy manifest with its text changed to other bytes."""
    return manifest(raw=change("patient,day,modality,path,mask\n" + "\n".join([FIRST, SECOND]) + "\n"))


def dated(first, second):
    """A manifest of dates, or of dates and days: "2020-01-31" or "2020-01-31,0"."""
    columns = "date,day" if "," in first else "date"
    rows = (f"P,{first},P/day-000/t1c.nii.gz", f"P,{second},P/day-040/t1c.nii.gz")
    return manifest(raw="\n".join([f"patient,{columns},path", *rows]).encode())


MASKS = [
    ("an empty mask", mask(np.zeros(SHAPE, np.uint8)), "read", ""),
    ("label 4 alone", mask(TUMOR * 4), "read", ""),
    ("labels 1, 2 and 4", mask(LABELS), "told", "labels 1, 2, 4: all of them count as tumor"),
    ("a mask on another grid that overlaps", mask(TUMOR[::2, ::2, ::2], np.diag([2.0, 2, 4, 1])), "read", ""),
    ("a mask that lies elsewhere", mask(TUMOR, moved(500, 0, 0)), "refused", "The mask lies outside its image"),
    ("a mask half outside its image", mask(TUMOR, moved(12, 0, 0)), "told", "of the tumor lies outside the image"),
    ("a mask without position on an image with one", unplaced, "refused", "no position"),
    ("a mask inside out", mask(1 - TUMOR), "told", "inside out"),
    ("the first visit's mask as the second's", same_mask, "told", "very mask of visit 1"),
    ("negative labels", mask(TUMOR.astype(np.int16) - 1), "refused", "negative values (down to -1)"),
    ("an image given as mask", mask(IMAGE), "refused", "mask"),
    ("an image of whole numbers given as mask", mask(np.abs(IMAGE).astype(np.int16)), "refused", "different values"),
    ("a scaled image given as mask", mask(scaled()), "refused", "not clearly a map of probabilities"),
    ("a mask of NaN", mask(with_nan()), "refused", "NaN or infinite"),
    ("a 4-D mask", mask(np.stack([TUMOR] * 2, axis=-1)), "refused", "several volumes in one file"),
    ("a mask in colour", mask(files["rgb"]()), "refused", "colour, vector or complex"),
    ("a mask of zero bytes", mask_bytes(bytes), "refused", "empty (0 bytes)"),
    ("a mask cut in half", mask_bytes(lambda: gzip.compress(files["plain"](TUMOR))[:100]), "refused", "damaged"),
    ("a brain mask", lambda p: save(p / "day-040" / "brain_mask.nii.gz", TUMOR, AFFINE), "told", "not a tumor mask"),
    ("two masks", lambda p: [mask()(p), save(p / "day-040" / "mask2.nii.gz", TUMOR, AFFINE)], "told", "mask"),
    ("a mask and no image", lambda p: [mask()(p), without("day-040")(p)], "told", "no image that is used"),
]  # fmt: skip
FOLDERS = [
    ("no such folder", lambda p: p / "gone", "refused", "does not exist"),
    ("a patient without files", nothing, "refused", "No image in 'P'"),
    ("a file in place of a folder", second, "refused", "is a file"),
    ("a visit without image", without("day-040"), "told", "Only one visit"),
    ("a copy of the first visit as the second", copy_of_first, "told", "very image (t1c) of visit 1"),
    ("the same day twice", same_day, "refused", "the same day"),
    ("a day that is March or April", rename("day-040", "03-04-2019"), "refused", "order"),
    ("a visit without day among dated ones", rename("day-040", "later"), "refused", "order"),
    ("a date and a day", rename("day-040", "2019-03-01"), "refused", "some a day number"),
    ("a link back to the patient", loop, "read", ""),
    ("a link to the folder around the patient", lambda p: (p / "all").symlink_to(p.parent), "told", "is a link"),
    ("a visit that is a link to another patient's", visit_elsewhere, "told", "outside the patient's"),
    ("a link to nothing", broken_link, "refused", "does not exist"),
    ("a link to itself", link_to_itself, "refused", "does not exist"),
    ("a link to /dev/zero", device, "refused", "does not exist"),
    ("a pipe named as NIfTI", pipe("t1c.nii.gz"), "refused", "does not exist"),
    ("a pipe named as DICOM beside an image", lambda p: os.mkfifo(p / "day-040" / "1.dcm"), "told", "not readable"),
    ("a folder named as a NIfTI", folder_for_file, "told", "Only one visit"),
    ("10,000 texts beside the image", many_files, "read", ""),
    ("1,000 texts named as DICOM", many_texts_as_dicom, "told", "not readable as DICOM"),
    ("folders 40 deep", deep, "told", "folders deep"),
    ("odd names", odd_names, "read", ""),
    ("an image beside two patients", stray(lambda f: save(f / "t1c.nii.gz", IMAGE)), "refused", "holds 2 patients"),
    ("a visit beside two patients", stray(backup), "refused", "one patient or several?"),
    ("a PET image only", modality("pet.nii.gz"), "told", "has no t1, t1c, t2, flair or ct image"),
    ("an image in an atlas space", modality("t1c_space-MNI152.nii.gz"), "told", "atlas"),
    ("another kind of image at each visit", modality("flair.nii.gz"), "told", "different kinds of image"),
    ("an unread format", modality("t1c.mgz"), "told", "convert it to NIfTI"),
    ("a patient's name that is no text", latin_1, "refused", "Rename it"),
    ("a CT that is not in Hounsfield units", ct_without_air, "told", "are these Hounsfield units"),
]  # fmt: skip
MANIFESTS = [
    ("an empty manifest", manifest(raw=b""), "refused", "has no column"),
    ("a manifest without rows", manifest(), "refused", "no rows"),
    ("a manifest of noise", manifest(raw=bytes(range(256)) * 9), "refused", "cannot be read as UTF-8 text"),
    ("a manifest with NUL bytes", manifest(raw=b"patient,path\nP\0,x\0"), "refused", "patient"),
    ("a cell of 200,000 letters", manifest(FIRST, "P,40,t1c," + "x" * 200_000), "refused", ""),
    ("a path to nothing", manifest(FIRST, "P,40,t1c,gone.nii.gz,"), "refused", "does not exist"),
    ("a path to a device", manifest(FIRST, "P,40,t1c,/dev/zero,"), "refused", ""),
    ("a patient named ../../x", manifest("../../x,0,t1c,P/day-000/t1c.nii.gz,"), "refused", "no name for a folder"),
    ("a day that is no number", manifest(FIRST, "P,soon,t1c,P/day-040/t1c.nii.gz,"), "refused", "whole number"),
    ("a modality that is none", manifest(FIRST, "P,40,xray,P/day-040/t1c.nii.gz,"), "refused", "Unknown modality"),
    ("one image twice", manifest(FIRST, SECOND, SECOND), "refused", "second t1c image"),
    ("the mask is the image", manifest(FIRST, SECOND + "P/day-040/t1c.nii.gz"), "refused", "mask"),
    ("no day in one row", manifest(FIRST, "P,,t1c,P/day-040/t1c.nii.gz,"), "refused", "order"),
    ("a byte-order mark and Windows line ends", lines(lambda t: b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode()),
     "read", ""),
    ("old Macintosh line ends", lines(lambda t: t.replace("\n", "\r").encode()), "read", ""),
    ("semicolons", lines(lambda t: t.replace(",", ";").encode()), "read", ""),
    ("UTF-16, as some spreadsheets save", lines(lambda t: t.encode("utf-16")), "refused", "UTF-8"),
    ("Latin-1 letters", lines(lambda t: t.replace("P,", "Pé,").encode("latin-1")), "refused", "UTF-8"),
    ("a quote that is not closed", manifest(FIRST, '"P,40,t1c,P/day-040/t1c.nii.gz,', "Q,0,t1c,q.nii.gz,"),
     "refused", "no line of a CSV table"),
    ("a line end in a patient's name", manifest(FIRST, '"P\nQ",40,t1c,P/day-040/t1c.nii.gz,'), "refused", "no name"),
    ("a command to the terminal in a name", manifest("P\x1b[2J,0,t1c,P/day-000/t1c.nii.gz,"), "refused", "no name"),
    ("a name that shows backwards", manifest("P\u202egnp,0,t1c,P/day-000/t1c.nii.gz,"), "refused", "no name"),
    ("a patient named =cmd()", manifest(FIRST.replace("P,", "=cmd(),", 1), SECOND.replace("P,", "=cmd(),", 1)),
     "read", ""),
    ("the column day twice", lines(lambda t: t.replace("day,", "day,day,", 1).encode()), "refused", "day' twice"),
    ("more cells than columns", manifest(FIRST, SECOND + ",v2"), "refused", "more cells than columns"),
    ("a day before the first", manifest(FIRST.replace("0", "-40", 1), SECOND.replace("40", "0", 1)), "read", ""),
    ("days that are not in order", manifest(SECOND, FIRST), "read", ""),
    ("a day with a decimal point", manifest(FIRST, "P,40.0,t1c,P/day-040/t1c.nii.gz,"), "refused", "whole number"),
    ("a day in other digits", manifest(FIRST, "P,٤٠,t1c,P/day-040/t1c.nii.gz,"), "refused", "whole number"),
    ("the 29th of February 2021", dated("2020-02-29", "2021-02-29"), "refused", "year-month-day"),
    ("the 29th of February 2020", dated("2020-02-29", "2021-03-01"), "read", ""),
    ("a date in a thousand years", dated("2020-02-29", "3020-03-01"), "refused", "longer than a life"),
    ("a day and a date that do not fit", dated("2020-02-29,0", "2021-03-01,40"), "refused", "do not fit"),
    ("a path through the folder above", manifest(FIRST, "P,40,t1c,P/../P/day-040/t1c.nii.gz,"), "read", ""),
    ("a path to a text", manifest(FIRST, "P,40,t1c,manifest.csv,"), "refused", "neither DICOM nor"),
    ("a day far beyond a life", manifest(FIRST, "P,99999999,t1c,P/day-040/t1c.nii.gz,"), "refused", "day"),
]  # fmt: skip
CASES = (
    [("Masks", *case) for case in MASKS]
    + [("Folders", *case) for case in FOLDERS]
    + [("Manifests", *case) for case in MANIFESTS]
)
