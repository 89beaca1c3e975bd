"""Mutations that know JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

from .bytes_mutations import BOUNDARIES, Mutation

_LONG = "x" * 200_000
# Raw JSON texts that stand in for a value.
_TEXTS = (
    "null", "true", "false", "0", "-1", "1e308", "-1e308", "1e-320", "1e999", "NaN", "Infinity", "-Infinity", "1.5",
    "1" + "0" * 400, "9" * 5000, str(2**63), '""', '"../../etc/passwd"', '"\\u0000"', '"\\ud800"', '"é\u202e"',
    '"resnet999"', '"vit_giant_patch14_224"', '"convnext_xxlarge"', '"resnet18"', '"swin_tiny_patch4_window7_224"',
    '"hf_hub:nobody/nothing"', '"local-dir:/tmp"', '"file:///etc/passwd"', '"object"', '"float16"', '"uint8"',
    '"cuda"', '"NORMAL"', '"PNEUMONIA"', '"minmax"', '"crop"', f'"{_LONG}"', '{"pairs": [[[1], 2]]}', '{"pairs": 3}',
    "[]", "{}", "[[]]", "[null]", "[1, 2]", "[NaN]", "[-1, 1e18]", "[0, 0, 1, 1]",
    "[" * 500 + "]" * 500, "[" * 50_000, '{"a":' * 900 + "1" + "}" * 900, "[" + "0," * 50_000 + "0]",
    "{" + ",".join(f'"k{i}":{i}' for i in range(20_000)) + "}",
)  # fmt: skip
_CELLS = (
    b"", b'"', b'"a,b"', b"\x00", b"\xff\xfe", b"NA", b"nan", b"-inf", b"1e999", b"9" * 400, b"true", b"../../x",
    _LONG.encode(), "é\u202e".encode(), b"a,b,c", b"path", b"label", b"'", b"\r", b"2020-01-01", b"0x10",
)  # fmt: skip
_BACKBONES = (
    "vit_giant_patch14_224", "vit_gigantic_patch14_224", "eva_giant_patch14_224", "convnext_xxlarge", "resnetrs420",
    "swin_large_patch4_window12_384", "regnety_2560", "vit_7b_patch16_dinov3", "mvitv2_huge_cls", "resnet18",
    "vit_tiny_patch16_224", "inception_v3", "resnet_x", "hf_hub:nobody/nothing", "local-dir:/tmp", "",
)  # fmt: skip
_MARK = "\ue000"  # stands for a raw text until all is dumped


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value inside."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _edit(container: Any, key: Any, places: list[tuple[Any, Any]], rng: Random, texts: list[str]) -> None:
    """Drop, rename, repeat, move, bend or replace one value; raw texts that stand for values go to `texts`."""
    kind, value = rng.randrange(8), container[key]
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(("x", "", "image_size", "\ue001" + key))] = container.pop(key)
    elif kind == 2 and isinstance(value, list):
        many = len(places) < 1000 and rng.random() < 0.5
        nested = any(
            isinstance(item, list | dict) for item in value
        )  # a long text in one would be there a thousand times
        container[key] = value * (1000 if many and not nested else 2)
    elif kind == 3:
        other, name = rng.choice(places)
        container[key] = json.loads(json.dumps(other[name]))
    elif kind == 4 and isinstance(value, int | float):
        container[key] = rng.choice((-1, 1.0, 1000, -value, *BOUNDARIES))
    elif kind == 5 and isinstance(value, str):
        container[key] = rng.choice((value[::-1], value[1:], value * 2, key))
    elif kind == 5 and isinstance(value, int | float):
        container[key] = value * rng.choice((2, 0.5, 1e6, 1e-12)) + rng.choice((0, 0, 1))
    else:
        container[key] = f"{_MARK}{len(texts)}{_MARK}"
        texts.append(rng.choice(_TEXTS))


def json_values(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change one to four values of the document, if it is one."""
    texts: list[str] = []
    try:
        document = json.loads(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            places = list(islice(_places(document), 2000))
            _edit(*rng.choice(places), places, rng, texts)
        text = json.dumps(document, ensure_ascii=False)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        return data  # no document, an empty one, or one that an earlier mutation has bent too far
    for number, new in enumerate(texts):
        text = text.replace(f'"{_MARK}{number}{_MARK}"', new)
    return text.encode("utf-8", "surrogatepass")


def model_parameters(data: bytes, rng: Random, other: bytes) -> bytes:
    """Ask for another network, consistently: a giant one, one of another size, or for more classes."""
    try:
        config = json.loads(data)
        match rng.randrange(3):
            case 0:
                config["parameters"]["backbone"] = rng.choice(_BACKBONES)
            case 1:
                size = rng.choice((8, 17, 45, 46, 96, 4096, 4097, 10**9))
                config["parameters"]["image_size"] = config["preprocessing"]["image_size"] = size
            case _:
                config["classes"] = {"dtype": "int64", "values": list(range(rng.choice((2, 3, 50_000))))}
                config["pos_label"] = config["active_operating_point"] = None
        return json.dumps(config).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return data


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
    cells[rng.randrange(len(cells))] = rng.choice(_CELLS)
    lines[i] = b",".join(cells)
    if rng.random() < 0.2:
        lines *= rng.choice((2, 20))
    return (rng.choice((b"\n", b"\n", b"\r\n", b"\r", b";")) if rng.random() < 0.2 else b"\n").join(lines)


ON_JSON: tuple[Mutation, ...] = (*[json_values] * 6, json_duplicate, json_encoding)
ON_TABLE: tuple[Mutation, ...] = (table_cells,)
ON_CONFIG: tuple[Mutation, ...] = (*ON_JSON, model_parameters)
