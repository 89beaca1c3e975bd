"""Mutations that know JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from .bytes_mutations import BOUNDARIES, Mutation

_LONG = "x" * 200_000
# Raw JSON texts that stand in for a value.
_TEXTS = (
    "null", "true", "false", "0", "-1", "1e308", "-1e308", "1e-320", "1e999", "NaN", "Infinity", "-Infinity", "1.5",
    "1" + "0" * 400, "9" * 5000, str(2**63), '""', '"../../etc/passwd"', '"\\u0000"', '"\\ud800"', '"é\u202e\U0001f9a0"',
    '"resnet999"', '"vit_giant_patch14_224"', '"convnext_xxlarge"', '"resnet18"', '"swin_tiny_patch4_window7_224"',
    '"hf_hub:nobody/nothing"', '"local-dir:/tmp"', '"file:///etc/passwd"', '"object"', '"float16"', '"uint8"', '"cuda"',
    '"NORMAL"', '"PNEUMONIA"', '"minmax"', '"crop"', f'"{_LONG}"',
    "[]", "{}", "[[]]", "[null]", "[1, 2]", "[NaN]", "[-1, 1e18]", "[0, 0, 1, 1]", '{"pairs": [[[1], 2]]}', '{"pairs": 3}',
    "[" * 500 + "]" * 500, "[" * 50_000, '{"a":' * 900 + "1" + "}" * 900, "[" + "0," * 50_000 + "0]",
    "{" + ",".join(f'"k{i}":{i}' for i in range(20_000)) + "}",
)  # fmt: skip
_MARK = "\ue000"  # stands for a raw text until all is dumped


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value inside."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _edited(data: bytes, rng: Random, times: int) -> bytes | None:
    """Return the document with values replaced, or keys dropped, renamed or doubled; None where it is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    texts = []
    for _ in range(times):
        places = list(_places(document)) if isinstance(document, dict | list) else []
        if not places:
            return None
        container, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[rng.choice(("x", "", "image_size", "\ue001" + key))] = container.pop(key)
        elif kind == 2 and isinstance(container[key], list):
            container[key] = container[key] * rng.choice((2, 1000))
        elif kind == 3:
            other, name = rng.choice(places)
            container[key] = json.loads(json.dumps(other[name])) if _holds(other, name) else None
        elif kind == 4 and isinstance(container[key], int | float):
            container[key] = rng.choice((-1, 1.0, 1000, -container[key], *BOUNDARIES))
        else:
            container[key] = f"{_MARK}{len(texts)}{_MARK}"
            texts.append(rng.choice(_TEXTS))
    text = json.dumps(document, ensure_ascii=False)
    for number, new in enumerate(texts):
        text = text.replace(f'"{_MARK}{number}{_MARK}"', new)
    return text.encode("utf-8", "surrogatepass")


def _holds(container: Any, key: Any) -> bool:
    return key in container if isinstance(container, dict) else key < len(container)


def json_values(data: bytes, rng: Random, other: bytes) -> bytes:
    """Replace, drop, rename or move values."""
    edited = _edited(data, rng, rng.choice((1, 1, 1, 2, 4)))
    return data if edited is None else edited


def json_duplicate(data: bytes, rng: Random, other: bytes) -> bytes:
    """Let a key stand twice, the second time with another value."""
    text = data.decode("utf-8", "replace")
    keys = [part.split('"')[-1] for part in text.split('":')[:-1]]
    if not keys:
        return data
    key = rng.choice(keys)
    return text.replace(f'"{key}":', f'"{key}":{rng.choice(_TEXTS[:8])},"{key}":', 1).encode("utf-8", "replace")


def json_encoding(data: bytes, rng: Random, other: bytes) -> bytes:
    """Write the text in another encoding, with another start, or within something deep."""
    text = data.decode("utf-8", "replace")
    return rng.choice(
        (
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + data,
            b"[" * 10_000 + data,
            b"[" + data + b"]",
            data + data,
            text.replace('"', "'").encode(),
            b'{"a": ' + data + b"}",
            b"/* */" + data,
        )
    )


def table_cells(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change a cell, the number of cells, the quoting or the separators of a CSV table."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    cells = lines[i].split(b",")
    cells[rng.randrange(len(cells))] = rng.choice(
        (b"", b'"', b'"a,b"', b"\x00", b"\xff\xfe", b"NA", b"nan", b"-inf", b"1e999", b"9" * 400, b"true", b"../../x")
        + (_LONG.encode(), "é\u202e".encode(), b"a,b,c", b"path", b"label", b"'", b"\r", b"2020-01-01", b"0x10")
    )
    lines[i] = b",".join(cells)
    if rng.random() < 0.2:
        lines *= rng.choice((2, 500))
    return (rng.choice((b"\n", b"\n", b"\r\n", b"\r", b";")) if rng.random() < 0.2 else b"\n").join(lines)


ON_JSON: tuple[Mutation, ...] = (json_values, json_values, json_values, json_duplicate, json_encoding)
ON_TABLE: tuple[Mutation, ...] = (table_cells,)
