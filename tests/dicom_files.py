"""DICOM files for tests, written with pydicom."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)


def dataset(pixels, *, stored=None, photometric=None, **tags):
    """A data set of grey (H, W) or RGB (H, W, 3) pixels, explicit little endian; `tags` come on top."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientName = SecondaryCaptureImageStorage, "1.2.3.4", "Doe^Jane"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = photometric or ("RGB" if pixels.ndim == 3 else "MONOCHROME2")
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OW" if ds.BitsAllocated == 16 else "OB", content + bytes(len(content) % 2))
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def lut(first, data, bits, *, vr="US"):
    """An item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(data) if len(data) < 65536 else 0, first, bits])
    if len(data) < 32768:
        item.add_new("LUTData", "US", list(data))
    else:  # too long for US
        item.add_new("LUTData", "OW", np.array(data, dtype="<u2").tobytes())
    return item


def encapsulated(ds, syntax, codestream):
    """`ds` with `codestream` as its pixel data."""
    ds.PixelData = encapsulate([codestream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return content_of(ds, syntax)


def content_of(ds, syntax=ExplicitVRLittleEndian):
    """The bytes of a file, encoded as `syntax` asks for."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if "PixelData" not in ds or ds["PixelData"].is_undefined_length:
        pass  # no image, or encoded already
    elif syntax in (RLELossless, JPEG2000Lossless):
        ds.compress(syntax, generate_instance_uid=False)
    elif syntax == JPEGBaseline8Bit:
        shape = (ds.Rows, ds.Columns) if ds.SamplesPerPixel == 1 else (ds.Rows, ds.Columns, 3)
        buffer = io.BytesIO()
        Image.fromarray(np.frombuffer(ds.PixelData, np.uint8)[: np.prod(shape)].reshape(shape)).save(
            buffer, "JPEG", quality=100, subsampling=0
        )
        return encapsulated(ds, syntax, buffer.getvalue())
    elif syntax == ExplicitVRBigEndian and ds.BitsAllocated == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds["PixelData"].VR = "OW"
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom(pixels, syntax=ExplicitVRLittleEndian, **options):
    """The bytes of a DICOM file of `pixels`."""
    return content_of(dataset(pixels, **options), syntax)


def without_preamble(content):
    """The bare data set of an implicit or explicit file."""
    length = int.from_bytes(content[140:144], "little")  # of the file meta information after its first element
    return content[144 + length :]


def deflated_file(start, block, repeat):
    """A deflated file whose data set is `start`, and then `block` again and again."""
    meta = content_of(no_image(), DeflatedExplicitVRLittleEndian)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    body = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)  # which refers to nothing before it
    return meta[: 144 + int.from_bytes(meta[140:144], "little")] + head + body * repeat + deflate.flush()


def no_image():
    """A data set that is no image."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    return ds
