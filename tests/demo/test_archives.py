"""Zip files of strangers: every trick is refused with its reason, and nothing is written anywhere."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr_estimator.demo._archives import Limits, Member, count, is_archive, members
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.errors import DataError
from tests.demo.archives import link, patched, png, write_zip

NOISE = np.random.default_rng(0).bytes(4 * MEBIBYTE)  # which nothing compresses
LIMITS = Limits(files=5, file_bytes=3 * MEBIBYTE, total_bytes=8 * MEBIBYTE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "upload.zip"


def test_good_members_are_read_as_they_are(path):
    contents = {"PNEUMONIA/a.png": png(0), "b.png": png(1)}
    found = list(members(write_zip(path, contents.items()), LIMITS))
    assert found == [
        Member("a.png", contents["PNEUMONIA/a.png"], folder="PNEUMONIA"),
        Member("b.png", contents["b.png"]),
    ]
    assert count(path, LIMITS) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd.png", "out of the archive"),
        ("../../up.png", "out of the archive"),
        ("a/../../up.png", "out of the archive"),
        ("a\\..\\up.png", "out of the archive"),
        ("C:/windows/a.png", "out of the archive"),
        ("c:a.png", "out of the archive"),
        ("..", "out of the archive"),
    ],
)
def test_names_that_lead_out_are_refused(path, name, reason):
    write_zip(path, [(name, png()), ("good.png", png())])
    bad, good = members(path, LIMITS)
    assert bad.content is None
    assert reason in bad.reason
    assert good.content == png()


@pytest.mark.parametrize("name", ["folder/", "__MACOSX/._a.png", ".hidden.png", "a/.DS_Store"])
def test_folders_and_hidden_files_are_nobodys_wish(path, name):
    write_zip(path, [(name, b""), ("good.png", png())])
    noise, good = members(path, LIMITS)
    assert noise.is_noise
    assert noise.content is None
    assert noise.reason
    assert not good.is_noise
    assert count(path, LIMITS) == 1


def test_links_are_refused(path):
    (found,) = members(write_zip(path, [link("a.png")]), LIMITS)
    assert (found.content, found.reason) == (None, "it is a link or a device, not a file.")


def test_archives_within_are_not_opened(path, tmp_path):
    inner = write_zip(tmp_path / "inner.zip", [("a.png", png())]).read_bytes()
    (found,) = members(write_zip(path, [("looks_like.png", inner)]), LIMITS)
    assert found.content is None
    assert "an archive within" in found.reason


def test_encrypted_and_oddly_compressed_members_are_refused(path):
    write_zip(path, [("a.png", png())])
    (found,) = members(patched(path, flags=1), LIMITS)
    assert "encrypted" in found.reason
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        (found,) = members(write_zip(path, [("a.png", png())], method), LIMITS)
        assert "compressed in a way that is not read here" in found.reason
    (found,) = members(patched(write_zip(path, [("a.png", png())]), method=99), LIMITS)
    assert found.content is None


def test_an_empty_member_says_so(path):
    (found,) = members(write_zip(path, [("a.png", b"")]), LIMITS)
    assert found.reason == "the file is empty (0 bytes)."


def test_a_bomb_ends_as_soon_as_its_ratio_shows(path, monkeypatch):
    """Zeros shrink a thousand times: not more than two pieces of 1 MiB are unpacked."""
    write_zip(path, [("bomb.png", bytes(60 * MEBIBYTE)), ("good.png", png())])
    pieces = []
    real = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n: pieces.append(n) or real(self, n))
    bomb, good = members(path, LIMITS._replace(ratio=20))
    assert "as bombs do" in bomb.reason
    assert bomb.content is None
    assert good.content == png()
    assert len(pieces) <= 2 + 2


def test_a_member_that_is_too_large_is_refused_by_what_it_unpacks_to(path):
    write_zip(path, [("large.png", NOISE[: 4 * MEBIBYTE])])
    (found,) = members(path, LIMITS)
    assert found.reason == "unpacked, it holds more than 3 MiB."


@pytest.mark.parametrize("size", [10, 0])
def test_a_header_that_says_less_than_there_is_is_no_way_around(path, size):
    """A member that claims 10 bytes: no more are taken, and then its checksum is wrong."""
    write_zip(path, [("small.png", png())])
    (found,) = members(patched(path, size=size), LIMITS)
    assert found.content is None
    assert found.reason in ("this member of the archive is damaged.", "the file is empty (0 bytes).")


def test_a_header_that_claims_many_compressed_bytes_does_not_hide_a_bomb(path):
    write_zip(path, [("bomb.png", bytes(60 * MEBIBYTE))])
    (found,) = members(patched(path, compressed=2**31), LIMITS)
    assert found.content is None
    assert found.reason.startswith(("unpacked, it holds more", "this member", "it grows"))


def test_the_whole_has_a_limit_that_refused_members_count_against(path):
    each = NOISE[: 5 * MEBIBYTE // 2]
    found = list(members(write_zip(path, [(f"{i}.bin", each) for i in range(5)], zipfile.ZIP_STORED), LIMITS))
    assert [member.content is not None for member in found] == [True, True, True, False]
    assert found[-1].reason == "unpacked, the archive holds more than 8 MiB."
    found = list(members(write_zip(path, [(f"{i}.bin", NOISE) for i in range(5)], zipfile.ZIP_STORED), LIMITS))
    assert [member.name for member in found] == ["0.bin", "1.bin", "(the rest)"]


def test_the_number_of_files_has_a_limit(path):
    found = list(members(write_zip(path, [(f"{i}.png", png(i)) for i in range(9)]), LIMITS))
    assert len(found) == 6
    assert found[-1] == Member("(the rest)", reason="only the first 5 files of an archive are read.")
    assert count(path, LIMITS) == 5


def test_a_long_list_of_members_is_refused_before_it_is_read(path, monkeypatch):
    write_zip(path, [(f"{i}.png", b"") for i in range(1100)])
    monkeypatch.setattr("zipfile.ZipFile", lambda *_: pytest.fail("the list was read"))
    with pytest.raises(DataError, match="more than 1,050 members"):
        list(members(path, LIMITS))
    assert count(path, LIMITS) == 0


def test_two_members_of_the_same_bytes_are_damaged(path):
    """Bombs that unpack the same bytes many times: what lies over something else is refused, or counted each time."""
    write_zip(path, [("a.png", png())])
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry, tail = content[start:end], bytearray(content[end:])
    tail[8:12] = b"\x03\x00\x03\x00"
    tail[12:16] = (3 * len(entry)).to_bytes(4, "little")
    path.write_bytes(content[:start] + 3 * entry + tail)
    tight = LIMITS._replace(total_bytes=2 * len(png()))
    found = list(members(path, tight))
    assert sum(len(member.content or b"") for member in found) <= 2 * len(png())


def test_names_for_people_hold_no_control_characters(path):
    (found,) = members(write_zip(path, [("x\x1b[31m\u202ebad.png", png())]), LIMITS)
    assert found.name == "x?[31m?bad.png"
    assert found.content == png()


def test_what_is_no_zip_file_is_refused(path):
    for content in (b"", b"PK\x03\x04 and nothing else", png()):
        path.write_bytes(content)
        with pytest.raises(DataError, match="zip file"):
            list(members(path, LIMITS))
    assert not is_archive(path.with_name("missing"))


def test_nothing_is_written(path, tmp_path, monkeypatch):
    write_zip(path, [("../escaped.png", png()), ("inside.png", png())])
    monkeypatch.chdir(tmp_path)
    list(members(path, LIMITS))
    assert [one.name for one in tmp_path.rglob("*")] == ["upload.zip"]


def test_limits_are_those_of_the_settings():
    settings = Settings(max_batch_files=7, max_file_bytes=8, max_batch_bytes=9)
    assert Limits.of(settings)[:3] == (7, 8, 9)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12), st.integers(0, 400))
def test_damaged_archives_end_in_a_message(tmp_path, changes, cut):
    """Any bytes changed, any tail cut off: members with content or reason, or a DataError; never more than allowed."""
    buffer = io.BytesIO()
    write_zip(buffer, [("a/one.png", png(0, (9, 9))), ("two.dcm", bytes(300)), link("three")])
    content = bytearray(buffer.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "damaged.zip"
    path.write_bytes(content[: len(content) - cut])
    try:
        found = list(members(path, LIMITS))
    except DataError:
        return
    assert len(found) <= 4
    assert all((member.content is None) != (member.reason is None) for member in found)
