"""The files of receipts: what is written is read, and nothing else is."""

from __future__ import annotations

import json

import pytest

from cxr_estimator import receipts
from cxr_estimator.errors import InvalidTypeError, ModelFolderError
from cxr_estimator.receipts import Receipt


def test_files(receipt, tmp_path):
    path = receipt.save(tmp_path / "new" / "a.receipt.json")
    assert Receipt.load(path) == Receipt.load(str(path)) == receipt
    assert Receipt.from_json(path.read_bytes()) == receipt
    assert path.stat().st_size < 10_000
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    with pytest.raises(ModelFolderError, match="there is no such file"):
        Receipt.load(tmp_path / "none.json")
    path.write_text('{"format": 1}')
    with pytest.raises(ModelFolderError, match=r"a\.receipt\.json: not a receipt of version 1"):
        Receipt.load(path)
    path.write_bytes(b" " * 1_000_001)
    with pytest.raises(ModelFolderError, match="limit of 1,000,000 bytes"):
        Receipt.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "not a receipt of version 1"),
        ('{"format": "cxr_estimator.receipt", "version": true}', "not a receipt of version 1"),
        ('{"format": "cxr_estimator.receipt", "version": 2}', "not a receipt of version 1"),
        ('{"format": "cxr_estimator.receipt", "version": 1, "format": 1}', "'format' stands twice"),
        ('{"format": "cxr_estimator.receipt", "version": 1, "x": 1}', r"unknown: \['x'\]; missing: \['batch_size'"),
        ('{"a": NaN}', "NaN is not allowed"),
        ('{"a": 1e999}', "too large"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("x" * 1_000_001, "limit of 1,000,000 bytes"),
        ('"\ud800"', "cannot be read as JSON"),
    ],
)
def test_what_is_no_receipt(text, message):
    with pytest.raises(ModelFolderError, match=message):
        Receipt.from_json(text)


WRONG = {
    "created": ["today", "2026-13-01", "20260101", 3, None],
    "image_id": ["abc", "G" * 64, "A" * 64, None, 1, "0" * 64 + "\n"],
    "model_name": ["/etc/passwd", "../model", None, ["bundled"]],
    "model_revision": ["main", "..", 3],  # of a folder there is none
    "model_digest": ["", None],
    "operating_point": [{}, [], "default", {"name": "a"}],
    "method": ["Grad-CAM", "", None, "x" * 65],
    "target": [None, [], "", "x" * 201, "a\u202eb", 10**400],
    "error_bars": [0, None, "no"],
    "options": [[], None, {"A": 1}, {"n": {}}, {"n": [[1]]}, {"n": [0] * 65}, {"n": "x" * 201}],
    "seed": [-1, 2**32, 1.0, True, "0"],
    "batch_size": [0, 1.5, None, True, 10**6],
    "device": ["cuda:0; rm", "", None],
    "precision": ["auto", "float64", None],
    "threads": [0, "1"],
    "versions": [[], {"torch": 2}, {"torch": ""}, {"torch": "2\n"}],
    "machine": [{}, {"system": "Linux"}, {"system": "a", "processor": "b", "instructions": "c", "host": "d"}],
    "probabilities": [[], {}, [["a", 0.5]], [["a", 0.5], ["a", 0.5]], [["a", 1.5], ["b", 0]], [["a", True], ["b", 0]]],
    "decision": [None, {}, [1]],
    "explained": [None],
    "score": ["1", None, True, 10**400, 1e39],
    "map_sha256": ["0" * 63],
    "coarse_map": [[], [[]], [[1], [1, 2]], [["a"]], [[True]], [[0] * 17], [[0]] * 17, [[1e39]], {}],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_entries_are_named(receipt, name):
    content = json.loads(receipt.to_json())
    assert set(WRONG) | {"format", "version"} == set(content)
    for value in WRONG[name]:
        with pytest.raises(ModelFolderError, match=f"'{name}'"):
            Receipt.from_json(json.dumps(content | {name: value}))
    del content[name]
    with pytest.raises(ModelFolderError, match=f"missing: .'{name}'"):
        Receipt.from_json(json.dumps(content))


def test_wrong_types_of_text():
    with pytest.raises(InvalidTypeError, match="text or bytes"):
        Receipt.from_json({})


def test_names_are_there():
    assert all(hasattr(receipts, name) for name in receipts.__all__)
