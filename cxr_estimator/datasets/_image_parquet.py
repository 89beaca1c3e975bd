"""Images in a parquet file, as the Hub keeps data sets of them -> image files, in flat memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cxr_estimator._optional import needed
from cxr_estimator.errors import DataError
from cxr_estimator.serialization import atomic_write

_MOST_ROWS = 1_000_000
_MOST_IN_GROUP = 2**31  # bytes, uncompressed, that are in memory at once
_MOST_IN_IMAGE = 50_000_000  # bytes
_BATCH = 32  # images
_MAGIC = {b"\xff\xd8\xff": ".jpeg", b"\x89PNG\r\n\x1a\n": ".png"}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w. -]{0,150}\.(jpe?g|png)", re.ASCII | re.IGNORECASE)


def unpack(
    shard: Path, folder: Path, classes: set[str], *, prefix: str, caller: str, progress: Callable[[float], Any]
) -> int:
    """Write the images of a parquet file as `folder/CLASS/name`, and return how many there are.

    Files that are there already are left alone: each is written beside its place and renamed, so it is whole.

    Parameters
    ----------
    shard : path
        A file with the columns `image` (bytes and path) and `label` (numbers, whose names its metadata tells).
    folder : path
    classes : set of str
        What the labels must be called.
    prefix : str
        Begins the names of images where the file does not tell them, or not as plain ones that differ.
    progress : callable
        Called with the share of the file that is done.

    Raises
    ------
    DataError
        The file is damaged, or not of this form. Nothing is decoded.
    """
    parquet = needed("pyarrow.parquet", "pyarrow", extra="data", caller=caller)
    arrow = needed("pyarrow", "pyarrow", extra="data", caller=caller)
    try:
        with parquet.ParquetFile(shard, pre_buffer=False) as file:
            _check_form(file, arrow)
            labels = _label_names(file, classes)
            names = _names(file, prefix)
            for row, (label, content) in enumerate(_rows(file)):
                if label is None or not 0 <= label < len(labels):
                    raise DataError(f"row {row} has the label {label!r}, which is none of {labels}")
                path = folder / labels[label] / (names[row] if names else f"{prefix}-{row:06d}")
                _write(path, content, row)
                progress((row + 1) / file.metadata.num_rows)
            return int(file.metadata.num_rows)
    except (DataError, arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk rather than of the file's content
            raise DataError(f"{caller}: {folder}: cannot be written to ({error.strerror}).") from error
        raise DataError(f"{caller}: {shard.name}: cannot be used ({error}).") from error


def _check_form(file: Any, arrow: Any) -> None:
    schema, metadata = file.schema_arrow, file.metadata
    wanted = {
        "image": lambda kind: arrow.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind},
        "label": arrow.types.is_integer,
    }
    for name, suits in wanted.items():
        if name not in schema.names or not suits(schema.field(name).type):
            raise DataError(f"it has no column {name!r} of the expected type; its columns are {schema.names!r:.200}")
    groups = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    if metadata.num_rows > _MOST_ROWS or max(groups, default=0) > _MOST_IN_GROUP:
        raise DataError(f"it has more than {_MOST_ROWS:,} rows, or more than {_MOST_IN_GROUP:,} bytes in one part")


def _label_names(file: Any, classes: set[str]) -> list[str]:
    """Return what the numbers 0, 1, ... stand for, as the file itself says."""
    try:
        features = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
    except (LookupError, TypeError, ValueError) as error:
        raise DataError("it does not say what its labels are called") from error
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(classes):
        raise DataError(f"its labels are {names!r:.200}, not {sorted(classes)}")
    return names


def _names(file: Any, prefix: str) -> list[str] | None:
    """Return the file name of each image, or None unless all are plain and no two of a class are the same."""
    table = file.read(columns=["image.path", "label"])
    names = [image["path"] for image in table["image"].to_pylist()]
    keys = {(label, str(name).lower()) for label, name in zip(table["label"].to_pylist(), names, strict=True)}
    usable = len(keys) == len(names) and all(isinstance(name, str) and _PLAIN_NAME.fullmatch(name) for name in names)
    return names if usable else None


def _rows(file: Any) -> Iterator[tuple[int | None, bytes | None]]:
    for batch in file.iter_batches(_BATCH, columns=["image.bytes", "label"]):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            yield label.as_py(), image["bytes"].as_py() if image.is_valid else None


def _write(path: Path, content: bytes | None, row: int) -> None:
    suffix = next((suffix for magic, suffix in _MAGIC.items() if content and content.startswith(magic)), None)
    if content is None or suffix is None or len(content) > _MOST_IN_IMAGE:
        raise DataError(f"row {row} holds no JPEG or PNG image of at most {_MOST_IN_IMAGE:,} bytes")
    if not path.suffix:
        path = path.with_suffix(suffix)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            file.write(content)
