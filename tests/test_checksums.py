"""SHA256SUMS."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from cxr_estimator.checksums import SUMS_NAME, differing, parse_sums, read_sums, sha256_of, verify, write_sums
from cxr_estimator.errors import ModelFolderError

ZERO = 64 * "0"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "member_0").mkdir()
    for name in ("a", "b", "member_0/a"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path, {name: hashlib.sha256(name.encode()).hexdigest() for name in ("b", "a", "member_0/a")})
    return tmp_path


def test_come_back_as_they_were(folder):
    assert read_sums(folder) == {name: sha256_of(folder / name) for name in ("a", "b", "member_0/a")}
    assert verify(folder, ["a"]) == []


def test_coreutils_read_them(folder):
    def check():
        return subprocess.run(["sha256sum", "--check", "--strict", SUMS_NAME], cwd=folder, capture_output=True)

    assert check().returncode == 0
    (folder / "b").write_text("c")
    assert b"b: FAILED" in check().stdout


def test_tell_what_changed(folder):
    (folder / "b").write_text("c")
    (folder / "member_0" / "a").unlink()
    assert differing(folder, read_sums(folder)) == ["b", "member_0/a"]
    assert verify(folder, ["a"]) == ["b", "member_0/a"]
    with pytest.raises(ModelFolderError, match=r"b: is not the file that SHA256SUMS records"):
        verify(folder, ["a", "b"])
    with pytest.raises(ModelFolderError, match="SHA256SUMS: says nothing of c;"):
        verify(folder, ["c"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not a SHA-256 and a name"),
        (f"{ZERO}  ", "not a SHA-256 and a name"),
        (f"{ZERO[1:]}  a", "not a SHA-256 and a name"),
        (f"{ZERO.replace('0', 'A')}  a", "not a SHA-256 and a name"),
        (f"{ZERO}  ../a", "may lead out"),
        (f"{ZERO}  a/../../b", "may lead out"),
        (f"{ZERO}  /etc/passwd", "may lead out"),
        (f"{ZERO}  a//b", "may lead out"),
        (f"{ZERO}  ..\\a", "may lead out"),
        (f"{ZERO}  a\n{ZERO}  a", "stands twice"),
        (f"{ZERO}  a/{'é' * 128}", "none that files can have everywhere"),
        (f"{ZERO}  a\0b", "none that files can have everywhere"),
        (f"{ZERO}  \x1b[2Jb", "none that files can have everywhere"),
    ],
)
def test_bad_ones_are_refused(folder, text, message):
    with pytest.raises(ValueError, match=message):
        parse_sums(text)
    (folder / SUMS_NAME).write_text(text)
    with pytest.raises(ModelFolderError, match=message):
        read_sums(folder)


def test_none_too_large_or_no_text(folder):
    with (folder / SUMS_NAME).open("wb") as file:
        file.truncate(1_000_001)
    with pytest.raises(ModelFolderError, match="more than the limit of 1,000,000 bytes"):
        read_sums(folder)
    (folder / SUMS_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFolderError, match=SUMS_NAME):
        read_sums(folder)
    (folder / SUMS_NAME).unlink()
    with pytest.raises(ModelFolderError, match="there is no such file, without which nothing tells"):
        read_sums(folder)
