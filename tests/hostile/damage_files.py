"""Damage to single-file images (NIfTI, NRRD, MetaImage): each function spoils the file of the second visit.

CASES: (what is wrong, make(folder of the patient), outcome, a part of what is said). outcome: "refused" = an error,
"told" = read, with a warning, "read" = rightly taken as it is.
"""

import gzip
import io
import struct
import zlib

import nibabel as nib
import numpy as np
import SimpleITK as sitk

SHAPE = (24, 20, 16)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
IMAGE = np.random.default_rng(0).normal(300, 80, SHAPE).astype(np.float32)
# Offsets in a NIfTI-1 header (nifti.nimh.nih.gov, nifti1.h).
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, UNITS, QFORM_CODE, SROW = 40, 70, 76, 108, 112, 123, 252, 280


def healthy(patient):
    """Two visits of one T1c; the second is what the cases spoil."""
    noise = np.random.default_rng(1)
    for day in ("day-000", "day-040"):
        (patient / day).mkdir(parents=True)
        save(patient / day / "t1c.nii.gz", IMAGE + noise.normal(0, 5, SHAPE).astype(np.float32))
    return patient


def save(path, data, affine=AFFINE, **header):
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)


def second(patient):
    return patient / "day-040" / "t1c.nii.gz"


def plain(data=IMAGE, affine=AFFINE):
    """The bytes of an uncompressed NIfTI."""
    return bytearray(nib.Nifti1Image(data, affine).to_bytes())


def content(make):
    """The second visit's file is these bytes."""
    return lambda patient: second(patient).write_bytes(make())


def header(offset, fmt, *values, packed=True):
    """The second visit's header has other values at a place."""

    def make():
        raw = plain()
        struct.pack_into("<" + fmt, raw, offset, *values)
        return gzip.compress(raw) if packed else raw

    return content(make)


def array(data, affine=AFFINE):
    return lambda patient: save(second(patient), data, affine)


def instead(name, make):
    """The second visit has a file of this name in place of its NIfTI."""

    def change(patient):
        second(patient).unlink()
        make(patient / "day-040" / name)

    return change


def raw_file(data):
    return lambda path: path.write_bytes(data)


def flipped(place):
    """One bit of the packed file turned over."""

    def make():
        packed = bytearray(gzip.compress(plain(), mtime=0))
        packed[int(len(packed) * place)] ^= 0x10
        return packed

    return content(make)


def with_values(change):
    data = IMAGE.copy()
    change(data)
    return data


def put(share, value):
    def change(data):
        data.ravel()[: max(1, round(share * data.size))] = value

    return with_values(change)


def zeros(count):
    """``count`` zero bytes packed, without ever holding them."""
    buffer = io.BytesIO()
    block = bytes(1 << 20)
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream:
        for _ in range(count >> 20):
            stream.write(block)
    return buffer.getvalue()


def bomb():
    """A header that promises 900 x 900 x 900 float64 in a few kilobytes, and zeros enough to look like it."""
    raw = plain(IMAGE.astype(np.float64))
    struct.pack_into("<8h", raw, DIM, 3, 900, 900, 900, 1, 1, 1, 1)
    return gzip.compress(raw[:352]) + zeros(64 << 20)


def late_bomb():
    """The image begins after 2 GB of zeros."""
    raw = plain()
    struct.pack_into("<f", raw, VOX_OFFSET, float(2 << 30))
    return gzip.compress(raw[:352]) + zeros(512 << 20)


def rgb():
    data = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    data["R"] = 100
    return data


def shear():
    affine = AFFINE.copy()
    affine[0, 1] = 0.5
    return affine


def qform(patient):
    image = nib.Nifti1Image(IMAGE, AFFINE)
    other = AFFINE.copy()
    other[:3, 3] = (0, 25, 0)
    image.set_qform(other, 1)
    image.set_sform(AFFINE, 1)
    nib.save(image, second(patient))


def no_position(patient):
    raw = plain()
    struct.pack_into("<2h", raw, QFORM_CODE, 0, 0)
    second(patient).write_bytes(gzip.compress(raw))


def no_voxel_size(patient):
    raw = plain()
    struct.pack_into("<2h", raw, QFORM_CODE, 0, 0)
    struct.pack_into("<3f", raw, PIXDIM + 4, 1, 1, 0)
    second(patient).write_bytes(gzip.compress(raw))


def nrrd(**fields):
    """A raw NRRD of the healthy image with header fields replaced (None: left out)."""
    lines = {
        "type": "float",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "24 20 16",
        "space directions": "(1,0,0) (0,1,0) (0,0,2)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    text = "NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None) + "\n"
    return raw_file(text.encode() + IMAGE.tobytes(order="F"))


def mhd(data_file="LOCAL", size="24 20 16"):
    lines = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 2", "DimSize": size,
        "ElementType": "MET_FLOAT", "ElementDataFile": data_file,
    }  # fmt: skip
    text = "".join(f"{k} = {v}\n" for k, v in lines.items())
    return raw_file(text.encode() + (IMAGE.tobytes(order="F") if data_file == "LOCAL" else b""))


def itk(image):
    return lambda path: sitk.WriteImage(image, str(path))


def big_numbers():
    data = IMAGE.astype(np.float64)
    data[::2] = 1e300
    return data


def unfinished(path):
    path.write_bytes(gzip.compress(plain())[:-8])


def qform_alone(offset, fmt, *values):
    """Placed by a qform only, a field of which is spoilt."""

    def change(patient):
        image = nib.Nifti1Image(IMAGE, None)
        image.set_qform(AFFINE, 1)
        image.set_sform(None, 0)
        raw = bytearray(image.to_bytes())
        struct.pack_into("<" + fmt, raw, offset, *values)
        second(patient).write_bytes(gzip.compress(raw))

    return change


def other_sform(patient):
    """The sform alone, with voxels of another size than the header says elsewhere."""
    raw = plain()
    struct.pack_into("<h", raw, QFORM_CODE, 0)
    struct.pack_into("<3f", raw, PIXDIM + 4, 3, 3, 3)
    second(patient).write_bytes(gzip.compress(raw))


def pair(patient):
    second(patient).unlink()
    nib.save(nib.Nifti1Pair(IMAGE, AFFINE), patient / "day-040" / "t1c.img")


def metaimage(old, new):
    """The healthy MetaImage with a part of its header replaced."""

    def make(path):
        mhd()(path)
        path.write_bytes(path.read_bytes().replace(old, new))

    return make


DAMAGED = "damaged, truncated or of another kind"
NIFTI = [
    ("zero bytes", content(bytes), "refused", "The file is empty (0 bytes)"),
    ("packed file cut in half", content(lambda: gzip.compress(plain())[:8000]), "refused", DAMAGED),
    ("packed file without its last 8 bytes (checksum)", lambda p: unfinished(second(p)), "refused", DAMAGED),
    ("unpacked file cut in half", instead("t1c.nii", raw_file(plain()[:9000])), "refused", "of the image are there"),
    ("header cut off", instead("t1c.nii", raw_file(plain()[:200])), "refused", DAMAGED),
    ("one bit flipped early in the packed file", flipped(0.1), "refused", DAMAGED),
    ("one bit flipped in the middle", flipped(0.5), "refused", DAMAGED),
    ("one bit flipped near the end", flipped(0.98), "refused", DAMAGED),
    ("a web page saved as .nii.gz", content(lambda: b"<html>Please log in</html>"), "refused", DAMAGED),
    ("a packed text", content(lambda: gzip.compress(b"not an image " * 90)), "refused", DAMAGED),
    ("a packed archive of zlib, not gzip", content(lambda: zlib.compress(plain())), "refused", DAMAGED),
    ("a header whose size field is wrong", header(0, "i", 999), "refused", DAMAGED),
    ("an unknown data type", header(DATATYPE, "h", 7777), "refused", DAMAGED),
    ("no dimensions", header(DIM, "h", 0), "refused", "dimensions"),
    ("a negative size", header(DIM + 2, "h", -24), "refused", "size"),
    ("a size of zero", header(DIM + 4, "h", 0), "refused", "size"),
    ("twelve dimensions", header(DIM, "h", 12), "refused", "dimensions"),
    ("huge dimensions in a small packed file", header(DIM + 2, "3h", 2000, 2000, 2000), "refused", "voxels"),
    ("huge dimensions in a small file", instead("t1c.nii", lambda p: p.write_bytes(bytes(
        plain()[:42] + struct.pack("<3h", 900, 900, 900) + plain()[48:]))), "refused", "of the image are there"),
    ("a gzip bomb: 64 MB of zeros for an image of 5.8 GB", content(bomb), "refused", "cannot hold"),
    ("an image that begins behind 2 GB of nothing", content(late_bomb), "refused", "begins at byte"),
    ("an image that begins inside its header", header(VOX_OFFSET, "f", 10.0), "refused", "begins at byte"),
    ("a slope that is infinite", header(SLOPE, "2f", np.inf, 0.0), "refused", "scaled by"),
    ("a shift that is NaN", header(SLOPE, "2f", 1.0, np.nan), "refused", "scaled by 1 and nan"),
    ("values beyond what float32 holds", array(big_numbers()), "refused", "NaN or infinite"),
    ("one voxel in two is NaN", array(put(0.5, np.nan)), "refused", "NaN or infinite"),
    ("every voxel is NaN", array(put(1.0, np.nan)), "refused", "NaN or infinite"),
    ("every voxel is infinite", array(put(1.0, np.inf)), "refused", "NaN or infinite"),
    ("two NaN voxels", array(put(2 / IMAGE.size, np.nan)), "told", "2 voxels were NaN or infinite"),
    ("constant image", array(np.full(SHAPE, 7, np.int16)), "refused", "Every voxel has the value 7"),
    ("all zeros", array(np.zeros(SHAPE, np.int16)), "refused", "Every voxel has the value 0"),
    ("a mask in place of the image", array((IMAGE > 300).astype(np.uint8)), "told", "no values but 0 and 1"),
    ("4-D where 3-D is meant", array(np.stack([IMAGE] * 3, axis=-1)), "refused", "several volumes in one file"),
    ("2-D", array(IMAGE[:, :, 0], AFFINE), "refused", "2 dimensions"),
    ("one slice", array(IMAGE[:, :, :1]), "refused", "slices"),
    ("one row", array(IMAGE[:, :1]), "refused", "slices"),
    ("RGB", array(rgb()), "refused", "colour, vector or complex"),
    ("complex numbers", array(IMAGE.astype(np.complex64)), "refused", "colour, vector or complex"),
    ("sheared affine", array(IMAGE, shear()), "refused", "sheared or singular"),
    ("singular affine", header(SROW, "12f", *[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0]), "refused", "voxel size"),
    ("an affine of zeros", header(SROW, "12f", *[0] * 12), "refused", "voxel size"),
    ("an affine with NaN", header(SROW, "f", np.nan), "refused", "not finite"),
    ("sform and qform disagree", qform, "refused", "two positions (sform and qform)"),
    ("no position at all", no_position, "told", "left and right may be swapped"),
    ("voxel size 0", no_voxel_size, "refused", "voxel size of [1.0, 1.0, 0.0]"),
    ("metres that are millimetres", header(UNITS, "b", 1), "refused", "1000"),
    ("a unit that is none", header(UNITS, "b", 7), "refused", "unit"),
    ("voxels of 500 mm", array(IMAGE, np.diag([500.0, 500, 500, 1])), "refused", "500"),
    ("bits as voxels", header(DATATYPE, "2h", 1, 1), "refused", DAMAGED),
    ("64-bit whole numbers", array(IMAGE.astype(np.int64)), "read", ""),
    ("values beyond any scanner's", array((IMAGE * 1e6).astype(np.int64) * 10**9), "refused", "which no scanner gives"),
    ("values too small for float32 to square", header(SLOPE, "2f", 1e-38, 0.0), "refused", "which no scanner gives"),
    ("values so far from 0 that float32 rounds them off", header(SLOPE, "2f", 1.0, 1e9), "refused", "cannot hold"),
    ("a slope of 0: not scaled", header(SLOPE, "2f", 0.0, 5.0), "read", ""),
    ("a slope that is NaN: not scaled", header(SLOPE, "2f", np.nan, 5.0), "read", ""),
    ("a slope below 0", header(SLOPE, "2f", -1.0, 0.0), "refused", "scaled by -1"),
    ("fewer slices in the header than in the file", header(DIM + 2, "3h", 24, 20, 8), "refused", "bytes more"),
    ("rows a voxel shorter than they are", header(DIM + 2, "3h", 23, 20, 16), "refused", "bytes more"),
    ("two dimensions by the header, three in the file", header(DIM, "h", 2), "refused", "2 dimensions"),
    ("vectors (a fifth dimension)", array(np.stack([IMAGE] * 3, -1)[:, :, :, None]), "refused", "several volumes"),
    ("a fourth dimension of 1", array(IMAGE[..., None]), "read", ""),
    ("voxel sizes of pixdim and sform that disagree", other_sform, "refused", "two voxel sizes"),
    ("a negative voxel size beside a sound sform", header(PIXDIM + 4, "3f", -1, -1, -2), "read", ""),
    ("a voxel size of NaN, no position", lambda p: [header(PIXDIM + 4, "f2f2h", np.nan, 1, 2, 0, 0)(p),
                                                    qform_alone(PIXDIM + 4, "f", np.nan)(p)], "refused", "nan"),
    ("lengths in micrometres", header(UNITS, "b", 3), "refused", "outside 0.01"),
    ("a qform handedness of 0", qform_alone(PIXDIM, "f", 0.0), "read", ""),
    ("a qform with a rotation that is none", qform_alone(QFORM_CODE + 4, "3f", 0.9, 0.9, 0.9), "refused", DAMAGED),
    ("a qform with NaN", qform_alone(QFORM_CODE + 4, "f", np.nan), "refused", "not finite"),
    ("a position code that is none", header(QFORM_CODE, "2h", 0, 99), "told", "left and right may be swapped"),
    ("packed twice", content(lambda: gzip.compress(gzip.compress(plain()))), "refused", DAMAGED),
    ("not packed, named .nii.gz", content(lambda: bytes(plain())), "read", ""),
    ("packed, named .nii", instead("t1c.nii", lambda p: p.write_bytes(gzip.compress(plain()))), "read", ""),
    ("something else behind the packed image", content(lambda: gzip.compress(plain()) + b"junk"), "refused", DAMAGED),
    ("a pair of .hdr and .img", pair, "told", "convert it to NIfTI"),
    ("NIfTI-2", instead("t1c.nii", lambda p: nib.save(nib.Nifti2Image(IMAGE, AFFINE), p)), "read", ""),
    ("a header of the other byte order", instead("t1c.nii", lambda p: nib.save(nib.Nifti1Image(
        IMAGE, AFFINE, nib.Nifti1Header(endianness=">")), p)), "read", ""),
]  # fmt: skip
ITK = [
    ("NRRD without its pixels", instead("t1c.nrrd", nrrd(sizes="24 20 160")), "refused", "of the image are there"),
    ("NRRD that promises 200 TB", instead("t1c.nrrd", nrrd(sizes="40000 40000 40000")), "refused", "voxels"),
    ("NRRD with too few sizes", instead("t1c.nrrd", nrrd(sizes="24 20")), "refused", DAMAGED),
    ("NRRD with NaN directions", instead("t1c.nrrd", nrrd(space_directions="(nan,0,0) (0,1,0) (0,0,1)")),
     "refused", ""),
    ("NRRD whose pixels lie in a file outside its folder",
     instead("t1c.nhdr", nrrd(data_file="../../../etc/passwd")), "refused", "another folder"),
    ("MetaImage cut off", instead("t1c.mha", lambda p: (mhd()(p), p.write_bytes(p.read_bytes()[:3000]))),
     "refused", "of the image are there"),
    ("MetaImage that promises 200 TB", instead("t1c.mha", mhd(size="40000 40000 40000")), "refused", "voxels"),
    ("MetaImage whose pixels are not there", instead("t1c.mhd", mhd("gone.raw")), "refused", "(gone.raw) is missing"),
    ("MetaImage whose pixels are /dev/zero", instead("t1c.mhd", mhd("/dev/zero")), "refused", "another folder"),
    ("MetaImage that names a list of files", instead("t1c.mhd", mhd("LIST")), "refused", "one file"),
    ("MetaImage of vectors", instead("t1c.mha", itk(sitk.Image([8, 8, 8], sitk.sitkVectorFloat32, 3))),
     "refused", "colour, vector"),
    ("NRRD without voxel size", instead("t1c.nrrd", nrrd(space=None, space_directions=None, space_origin=None)),
     "refused", "voxel size"),
    ("NRRD without position", instead("t1c.nrrd", nrrd(space=None, space_directions=None, space_origin=None,
                                                       spacings="1 1 2")), "told", "left and right may be swapped"),
    ("NRRD in micrometres", instead("t1c.nrrd", nrrd(space_units='"um" "um" "um"')), "refused", "lengths in um"),
    ("NRRD of the wrong byte order", instead("t1c.nrrd", nrrd(endian="big")), "refused", "NaN or infinite"),
    ("NRRD that is sheared", instead("t1c.nrrd", nrrd(space_directions="(1,0,0) (0.5,1,0) (0,0,2)")),
     "refused", "sheared"),
    ("MetaImage without voxel size", instead("t1c.mha", metaimage(b"ElementSpacing = 1 1 2\n", b"")),
     "refused", "voxel size"),
    ("MetaImage with a negative voxel size", instead("t1c.mha", metaimage(b"= 1 1 2\n", b"= -1 1 2\n")),
     "refused", "voxel size"),
    ("MetaImage whose values are to be scaled", instead("t1c.mha", metaimage(
        b"NDims", b"ElementToIntensityFunctionOffset = -1024\nNDims")), "refused", "scaled by 1 and -1024"),
    ("MetaImage whose pixels begin 7 bytes late", instead("t1c.mha", metaimage(b"NDims", b"HeaderSize = 7\nNDims")),
     "refused", "which no scanner gives"),
    ("a text named .nrrd", instead("t1c.nrrd", raw_file(b"hello")), "refused", DAMAGED),
]  # fmt: skip
CASES = [("NIfTI", *case) for case in NIFTI] + [("NRRD, MetaImage", *case) for case in ITK]
