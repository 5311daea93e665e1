"""Damage to DICOM series, made with tests/io/make_dicom.py: each case writes the patient P with two dated series, the
second of which is spoilt. CASES as in damage_files.py.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from runpy import run_path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

make = run_path(str(Path(__file__).parents[1] / "io" / "make_dicom.py"))
STORED = np.random.default_rng(0).integers(0, 1000, (12, 10, 8)).astype(np.int16)
POSITIONS = make["even_positions"](8)
# The tag of the pixels, of the kind OW, before their length.
PIXELS = b"\xe0\x7f\x10\x00OW\x00\x00"


def write(patient, day, change=None, stored=STORED, positions=POSITIONS, **more):
    """One CT series of a visit, with the day in its header."""

    def dated(k, dataset):
        dataset.StudyDate = f"2001020{1 + day}"
        dataset.StudyInstanceUID = f"1.2.3.{day}"
        if change:
            change(k, dataset)

    options = {"series": f"series {day}", "frame": f"frame {day}", "rescale": (1, -1024), **more}
    folder = patient / f"visit-{day + 1}"
    return make["write_series"](folder, stored + np.int16(day), positions, change=dated, **options)


def healthy(patient):
    write(patient, 0)
    return patient


def series(change=None, then=None, **more):
    """The second visit's series with a change to every dataset, and then to its files."""

    def damage(patient):
        paths = write(patient, 1, change, **more)
        if then:
            then(paths)

    return damage


def tag(**values):
    """Every slice has these values; None: the tag is taken out."""

    def change(k, dataset):
        for name, value in values.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return change


def one(**values):
    """Only the fourth slice has these values."""
    return lambda k, dataset: tag(**values)(k, dataset) if k == 3 else None


def file(change):
    """The bytes of one file changed."""

    def then(paths):
        paths[2].write_bytes(change(paths[2].read_bytes()))

    return then


def unsigned(k, dataset):
    if k % 2:  # the same small numbers, once signed and once unsigned
        dataset.PixelRepresentation = 0


def raw_tag(name, text, kind="DS"):
    """A value that the library would not write, written all the same."""

    def change(k, dataset):
        dataset[name] = RawDataElement(Tag(name), kind, len(text), text.encode(), 0, False, True)

    return change


def infinite_frames(raw):
    """The number of frames is the text inf, which the library would not write."""
    return raw.replace(b"\x28\x00\x08\x00IS\x02\x001 ", b"\x28\x00\x08\x00IS\x04\x00inf ")


def last_two(k, dataset):
    """One slice at the end would be lost unseen: no gap tells of it."""
    if k >= 6:
        dataset.SOPInstanceUID = "1.2.3.4"


def compressed(paths):
    """One slice run-length coded, one with implicit tags, one of the other byte order; the rest plain."""
    dataset = pydicom.dcmread(paths[0])
    dataset.compress(RLELossless)
    dataset.save_as(paths[0])
    dataset = pydicom.dcmread(paths[1])
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(paths[1], implicit_vr=True, little_endian=True)
    dataset = pydicom.dcmread(paths[2])
    dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(paths[2], dataset, implicit_vr=False, little_endian=False, force_encoding=True)


def private(k, dataset):
    dataset.private_block(0x0029, "MAKER", create=True).add_new(1, "PN", "Private^Name")
    person = Dataset()
    person.PatientName = "Private^Name"
    dataset.RequestAttributesSequence = Sequence([person])


def nested(k, dataset):
    inner = Dataset()
    for _ in range(200):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([inner])
        inner = outer
    dataset.ReferencedSeriesSequence = Sequence([inner])


def lying_length(raw):
    """The pixels' length field says 2 GB."""
    at = raw.rindex(PIXELS)
    return raw[: at + 8] + struct.pack("<I", 2_000_000_000) + raw[at + 12 :]


def two_series(patient):
    for path in write(patient, 1, series="b"):
        path.rename(path.with_name("b" + path.name))
    write(patient, 1, series="a")


def duplicated(patient):
    for path in write(patient, 1):
        path.with_name("copy-" + path.name).write_bytes(path.read_bytes())


def another_person(patient):
    """A series of somebody else strayed into the folder."""
    write(patient, 1, tag(PatientID="OTHER-ID", PatientName="Other^Name"))


def deflated(paths):
    """A file of 600 KB that unpacks to 600 MB."""
    dataset = pydicom.dcmread(paths[2])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    target = BytesIO()
    pydicom.filewriter.write_file_meta_info(target, dataset.file_meta)
    whole = paths[2].read_bytes()
    packer = zlib.compressobj(9, wbits=-15)
    tags = whole[whole.index(b"\x08\x00\x16\x00UI") : whole.rindex(PIXELS)]
    body = packer.compress(tags + PIXELS + struct.pack("<I", 600 << 20))
    body += b"".join(packer.compress(bytes(1 << 20)) for _ in range(600))
    paths[2].write_bytes(bytes(128) + b"DICM" + target.getvalue() + body + packer.flush())


CASES = [("DICOM", *case) for case in [
    ("one slice of zero bytes", series(then=file(lambda raw: b"")), "refused", "Slices are missing or uneven"),
    ("one slice cut in half", series(then=file(lambda raw: raw[: len(raw) // 2])), "refused", "missing"),
    ("one slice without the end of its pixels", series(then=file(lambda raw: raw[:-60])), "refused",
     "cannot be decoded"),
    ("pixels shorter than rows times columns", series(one(PixelData=b"\0" * 20)), "refused", "bytes of pixels"),
    ("a pixel length of 2 GB in a file of 2 KB", series(then=file(lying_length)), "refused", "truncated"),
    ("a text named .dcm", series(then=file(lambda raw: b"no image at all")), "refused", "Slices are missing"),
    ("one slice lost", series(then=lambda paths: paths[3].unlink()), "refused", "Slices are missing or uneven"),
    ("two slices only", series(stored=STORED[:, :, :2]), "told", "only 2 slices"),
    ("two slices at one place", series(one(ImagePositionPatient=[-10, -20, 33])), "refused", "more than once"),
    ("every file twice", duplicated, "read", ""),
    ("no position", series(tag(ImagePositionPatient=None)), "refused", "lacks its position"),
    ("a position that is no number", series(raw_tag("ImagePositionPatient", "nan\\0\\0 ")), "refused", "position"),
    ("no orientation", series(tag(ImageOrientationPatient=None)), "refused", "orientation"),
    ("one slice turned", series(one(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])), "refused", "orientations"),
    ("axes that are not at right angles", series(tag(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0])), "refused",
     "no right angle"),
    ("no pixel spacing", series(tag(PixelSpacing=None)), "refused", "pixel spacing"),
    ("a pixel spacing of zero", series(tag(PixelSpacing=[0, 1])), "refused", "pixel spacing of (0.0, 1.0) mm"),
    ("a negative pixel spacing", series(tag(PixelSpacing=[-1, 1])), "refused", "spacing"),
    ("pixel spacings that differ", series(one(PixelSpacing=[2, 2])), "refused", "different pixel sizes"),
    ("slices of different sizes", series(one(Rows=5, PixelData=STORED[:, :5, 0].tobytes())), "refused", "sizes"),
    ("65,000 rows and columns", series(tag(Rows=65000, Columns=65000)), "refused", "voxels, at most"),
    ("no rows", series(tag(Rows=0)), "refused", "size"),
    ("a billion frames", series(tag(NumberOfFrames=10**9)), "refused", "lacks its position"),
    ("an infinite number of frames", series(tag(NumberOfFrames=1), then=file(infinite_frames)), "refused", ""),
    ("a series number that is none", series(raw_tag("SeriesNumber", "--5 ", "IS")), "read", ""),
    ("RGB", series(tag(SamplesPerPixel=3, PhotometricInterpretation="RGB")), "told", "colour image"),
    ("inverted grey values (MONOCHROME1)", series(tag(PhotometricInterpretation="MONOCHROME1")), "refused",
     "MONOCHROME1"),
    ("a palette", series(tag(PhotometricInterpretation="PALETTE COLOR")), "refused", "PALETTE COLOR"),
    ("signed and unsigned slices mixed", series(unsigned), "read", ""),
    ("a rescale slope of zero", series(tag(RescaleSlope=0, RescaleIntercept=-1024)), "refused", "slope"),
    ("a rescale slope that is no number", series(raw_tag("RescaleSlope", "nan ")), "refused", "slope"),
    ("a rescale slope below 0", series(tag(RescaleSlope=-1)), "refused", "slope of -1"),
    ("a rescale slope of 1e30", series(tag(RescaleSlope="1e30")), "refused", "which no scanner gives"),
    ("an intercept without a slope", series(tag(RescaleSlope=None)), "read", ""),
    ("CT that is not rescaled to HU", series(tag(RescaleSlope=None, RescaleIntercept=None)), "told", "Hounsfield"),
    ("a look-up table for its values", series(lambda k, d: setattr(
        d, "ModalityLUTSequence", Sequence([Dataset()]))), "refused", "look-up table"),
    ("one instance number for all", series(tag(InstanceNumber=1)), "read", ""),
    ("one instance UID for all", series(tag(SOPInstanceUID="1.2.3.4")), "read", ""),
    ("the last two slices with one instance UID", series(last_two), "read", ""),
    ("slices of four compressions", series(then=compressed), "read", ""),
    ("private tags and nested persons", series(private), "read", ""),
    ("one slice without position", series(lambda k, d: tag(ImagePositionPatient=None)(k, d) if k == 3 else None),
     "refused", "lacks its position"),
    ("two stacks in one series", series(lambda k, d: tag(ImagePositionPatient=[-10, -20, 30 + 3 * (k // 2)])(k, d)),
     "refused", "more than once"),
    ("one slice mirrored", series(one(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])), "refused", "orientations"),
    ("slices 400 mm apart", series(positions=make["even_positions"](8, step=(0, 0, 400.0))), "refused", "voxel size"),
    ("a date in two hundred years", series(tag(StudyDate="21990101")), "refused", "longer than a life"),
    ("the 30th of February", series(tag(StudyDate="20010230")), "refused", "order is unknown"),
    ("a private compression", series(then=file(lambda raw: raw.replace(b"1.2.840.10008.1.2.1\0",
                                                                       b"1.2.840.113619.5.2\0\0"))), "refused", ""),
    ("implicit tags said, explicit ones written", series(then=file(lambda raw: raw.replace(
        b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"))), "read", ""),
    ("junk behind the pixels", series(then=file(lambda raw: raw + b"junk" * 100)), "read", ""),
    ("files without preamble", series(then=file(lambda raw: raw[132:])), "read", ""),
    ("pixels as floating-point numbers", series(lambda k, d: [setattr(d, "FloatPixelData", d.PixelData),
                                                              delattr(d, "PixelData")]), "refused", "no whole pixel"),
    ("bits that cannot be", series(tag(BitsAllocated=13)), "refused", ""),
    ("an unknown compression", series(then=file(lambda raw: raw.replace(b"1.2.840.10008.1.2.1\0",
                                                                        b"1.2.840.10008.9.9.9\0"))), "refused", ""),
    ("ultrasound", series(tag(Modality="US")), "told", "is not MR or CT"),
    ("a dose image (RTDOSE)", series(tag(Modality="RTDOSE")), "told", "is not MR or CT"),
    ("no modality", series(tag(Modality=None)), "told", "missing is not MR or CT"),
    ("no series UID", series(tag(SeriesInstanceUID=None)), "told", "not readable as DICOM"),
    ("two series in one folder", two_series, "told", "several ct images"),
    ("a series of another patient", another_person, "refused", "2 patient IDs"),
    ("sequences 200 deep", series(nested), "read", ""),
    ("a deflated file that unpacks to 600 MB", series(then=deflated), "refused", "missing"),
    ("a localiser of mixed orientations", series(lambda k, d: tag(
        ImageOrientationPatient=[[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]][k % 3])(k, d)),
     "refused", "orientations"),
    ("a tilted gantry", series(positions=make["even_positions"](8, step=(0, 0.9, 3.0))), "told", "tilt"),
    ("slices that step sideways", series(one(ImagePositionPatient=[-3, -20, 39])), "refused", "off to the side"),
    ("constant", series(tag(PixelData=np.full((10, 12), 5, np.int16).tobytes())), "refused", "Every voxel has"),
]]  # fmt: skip
