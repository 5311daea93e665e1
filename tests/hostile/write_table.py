"""docs/hostile-input.md from the generators of damage: `.venv/bin/python tests/hostile/write_table.py`."""

import tempfile
from pathlib import Path
from runpy import run_path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "hostile-input.md"
OUTCOMES = {"refused": "error", "told": "warning", "read": "read"}
# A thousand unreadable files are a thousand lines; the table shows the beginning.
LONGEST = 260
HEAD = """# Hostile input: what is wrong, and what the program says

Made by `.venv/bin/python tests/hostile/write_table.py`, which spoils a healthy patient of two visits in {count} ways
(tests/hostile/damage_*.py) and reads it as every command does. Tested by `pytest tests/hostile/test_damage.py`: each
kind gives this very message, within 5 s of CPU and 64 MB, and none raises anything but an error of this package.

- **error** ({refused}): the patient is refused with this sentence; a batch goes on with the next one.
- **warning** ({told}): it is analysed without what is wrong. The sentence stands on the screen and in the report; which
  single files were left out stands in `info`.
- **read** ({read}): there is nothing wrong for the program: the test compares the pixels with the healthy ones.

Fuzzing (tests/hostile/test_fuzz.py), files from strangers (test_strangers.py) and identity (test_identity.py) are
described at the end.
"""
TAIL = """
## Files from strangers

tests/hostile/test_strangers.py, each with a malicious file: weights that are a pickle are refused, whatever their name;
weights are run only when their sha256 is that of the card; recipes are plain YAML (no Python tags); a patient of a
manifest cannot be named as a path; a result folder with links to other places is not written or emptied through them.
Paths in a manifest, prompts file or recipe are read (they are the person's own list of files), never written.
A foreign MONAI bundle is code and is run as such: docs/bundle.md.

## Identity

tests/hostile/test_identity.py plants a name, birth date, patient ID, dates and times, accession number, physicians,
operator, institution, address and descriptions in DICOM headers and looks for them in every file of a result and of a
batch, in its names, on the screen, in warnings and in errors. None is there. The DICOM objects of `--dicom` are the
one exception: they are filed with their patient (docs/dicom-output.md). A date in the name of a visit's file or folder,
also within a UID, is shown as `(date)`; the number of the visit says which one is meant. A patient is called by the
folder's name: do not name folders by people. Only where one folder holds several patients without folders of their own
are they told apart by PatientID, as `info` shows.

## Fuzzing

tests/hostile/test_fuzz.py: Hypothesis turns bytes and values of NIfTI, NRRD, MetaImage and DICOM files, manifests,
prompts, links, clinical tables and recipes; 30 examples each in the suite, more with
`HOSTILE_EXAMPLES=2000 pytest tests/hostile/test_fuzz.py`. Guided by coverage, by hand: tests/hostile/fuzz_atheris.py
(atheris 3.0.0, from a valid file, 150 s each beside other work, 2026-11-23: 3,186 NIfTI, 1,687 NRRD, 1,271 MetaImage,
1,485 DICOM files, 4,003 manifests, 4,429 prompts, 140,510 links, 43,795 clinical tables: no crash, no hang, nothing but
the errors that are meant for people; again, 60 to 90 s each, on 2026-11-29 with what had changed: 7,001 NIfTI, 3,026
DICOM, 3,623 RTSTRUCT files, 7,382 manifests, 8,358 prompts, with the same outcome). It is not every road: on a contour
with a text for a number, which Hypothesis found that day, it had not been tried before.
"""


def row(outcome, said):
    """The two right columns of the table."""
    short = " ".join(said.split())
    short = short if len(short) <= LONGEST else short[:LONGEST].rsplit(" ", 1)[0] + " ..."
    return OUTCOMES[outcome], short.replace("|", "\\|").replace("<", "&lt;")


def read_rows():
    """{(group, kind): (outcome, what is said)} of the document as it stands, in its order."""
    rows, group = {}, ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            group = line[3:]
        elif line.startswith("| ") and not line.startswith(("| what is wrong", "|---")):
            kind, outcome, said = (cell.strip() for cell in line.strip("|").split(" | ", 2))
            rows[group, kind] = (outcome, said)
    return rows


def main():
    """Spoil, look, write."""
    looking = run_path(str(Path(__file__).with_name("looking.py")))
    groups, counts = {}, dict.fromkeys(OUTCOMES, 0)
    for group, kind, healthy, damage, *_ in looking["kinds"]():
        with tempfile.TemporaryDirectory() as folder:
            found, said, _ = looking["look"](looking["spoil"](healthy, damage, Path(folder)))
        counts[found] += 1
        groups.setdefault(group, []).append("| " + " | ".join((kind, *row(found, said))) + " |")
    head = HEAD.format(count=sum(counts.values()), **counts)
    parts = [f"\n## {group}\n\n| what is wrong | | what is said |\n|---|---|---|\n" + "\n".join(rows) + "\n"
             for group, rows in groups.items()]  # fmt: skip
    DOCUMENT.write_text(head + "".join(parts) + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
