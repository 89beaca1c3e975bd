"""What is uploaded is decoded as the estimator would, and no message names a place."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.errors import DataError
from cxr_estimator.images import as_images


def test_sixteen_bits_are_kept(tmp_path):
    pixels = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_upload(tmp_path / "a.png")
    assert found.pixels.dtype == np.uint16
    assert np.array_equal(found.pixels, pixels)
    assert found.content_id == as_images([pixels])[0].content_id
    assert found.source == "the uploaded image"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("secret_patient.png", b"", "empty"),
        ("secret_patient.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no readable PNG"),
        ("secret_patient.dcm", b"\0" * 128 + b"DICM" + b"\0" * 40, "cannot be used"),
        ("secret_patient.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 40, "cannot be used"),
    ],
)
def test_bad_files_are_told_without_their_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_upload(str(tmp_path / name))
    assert str(tmp_path) not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nothing_uploaded_and_deleted_meanwhile(tmp_path):
    with pytest.raises(DataError, match="Choose a radiograph first"):
        read_upload(None)
    with pytest.raises(DataError, match="has been deleted meanwhile"):
        read_upload(tmp_path / "gone.png")
    with pytest.raises(DataError, match="this is a folder"):
        read_upload(tmp_path)
