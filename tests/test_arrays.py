"""Reading .npz archives without `numpy.load`."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp

from cxr_estimator._arrays import label_array, read_arrays
from cxr_estimator.errors import DataError

INTEGERS = hnp.integer_dtypes() | hnp.unsigned_integer_dtypes()
NUMBERS = INTEGERS | hnp.boolean_dtypes() | hnp.floating_dtypes(sizes=(32, 64))


@given(array=hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, min_side=0)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_numpy_writes_comes_back(tmp_path, array):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", a=array, b=np.asarray(array, order="F"))
        for again in read_arrays(tmp_path / "a.npz", ("a", "b")).values():
            assert (again.dtype, again.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(again, array)


def member(header, content=b"", magic=b"\x93NUMPY\x01\x00"):
    header = header.encode()
    return magic + len(header).to_bytes(2, "little") + header + content


def write(path, content, name="a.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member(PLAIN, bytes(7)), "another size than its shape"),
        (member(PLAIN, bytes(9)), "another size than its shape"),
        (member(PLAIN.replace("(2,)", "(1000000000000,)"), bytes(8)), "another size than its shape"),
        (member(PLAIN.replace("(2,)", "(-2,)"), bytes(8)), "header is damaged"),
        (member(PLAIN.replace("(2,)", "(2L,)"), bytes(8)), "header is damaged"),
        (member(PLAIN.replace("'<f4'", "1if 1 else 2"), bytes(8)), "header is damaged"),
        (member(PLAIN.replace("<f4", "|O"), bytes(8)), "something else than plain numbers"),
        (member(PLAIN.replace("<f4", "<U1"), bytes(8)), "something else than plain numbers"),
        (member("(" * 5000), "header is damaged"),
        (member(PLAIN, bytes(8), magic=b"\x93NUMPY\x09\x00"), "no .npy file"),
        (b"", "no .npy file"),
    ],
)
def test_other_headers_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_arrays(write(tmp_path / "a.npz", content), ["a"])


def test_memory_is_taken_for_what_is_there_only(tmp_path):
    """The header and the directory of the archive both promise 40 gigabytes."""
    path = write(tmp_path / "a.npz", member(PLAIN.replace("(2,)", "(10000000000,)"), bytes(64)))
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("a.npy").file_size
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot be as large"):
        read_arrays(path, ["a"])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_missing_and_optional_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    assert read_arrays(tmp_path / "a.npz", ["a"], optional=["b"]).keys() == {"a"}
    assert read_arrays(tmp_path / "a.npz", [], optional=["a"]).keys() == {"a"}
    with pytest.raises(DataError, match="no array 'b'"):
        read_arrays(tmp_path / "a.npz", ["a", "b"])


def test_a_wrong_checksum_is_noticed(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(100))
    content = bytearray(buffer.getvalue())
    content[content.index(b"NUMPY") + 300] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        read_arrays(tmp_path / "a.npz", ["a"])


def test_labels_out_of_json():
    assert label_array(["a", "bb"]).tolist() == ["a", "bb"]
    assert label_array([True, False]).dtype == bool
    assert label_array(["a", "b"], "object").dtype == object
    for bad in ([2**70, 1], [None, 1], "ab", ["a", 1], {"a": 1}):
        with pytest.raises(DataError, match="labels"):
            label_array(bad)
