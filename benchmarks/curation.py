"""Does curation find what was planted? Wrong labels and duplicates, on phantoms and on real radiographs.

python benchmarks/curation.py [--data DIR] [--only phantoms labels duplicates]

Labels: 5% are flipped; precision among as many of the least believed labels as were flipped. Duplicates: exact groups
against a hash of the files' bytes; recall of planted near duplicates, and pairs among images nobody planted. Writes raw
JSON; parts that are not run keep their former figures.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import RESULTS, write  # first: it sets OpenMP up
from PIL import Image

from cxr_estimator import CXRClassifier, load_image_folder, make_phantoms
from cxr_estimator.curation import duplicates, label_issues
from cxr_estimator.curation._pictures import hash_distances, hashes, read_pictures
from cxr_estimator.statistics import wilson

SHARE, KINDS = 0.05, ("re-encoded", "resized", "cropped_3_percent", "cropped_6_percent", "brighter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--only", nargs="*", default=["phantoms", "duplicates", "labels"])
    parser.add_argument("--planted", type=int, default=300)
    options = parser.parse_args()
    for part in options.only:
        found = phantoms() if part == "phantoms" else PARTS[part](load_image_folder(options.data), options)
        print(part, json.dumps(found, indent=1), flush=True)
        former = RESULTS / "curation.json"
        kept = json.loads(former.read_text()) if former.exists() else {}
        write("curation", {**kept, part: found})


def flipped(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, 5% of them the other one of two, and which those are."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(y), round(SHARE * len(y)), replace=False)
    first, second = np.unique(y)
    wrong = y.copy()
    wrong[rows] = np.where(y[rows] == first, second, first)
    return wrong, rows


def judged(issues: pd.DataFrame, planted: np.ndarray, seconds: float) -> dict[str, Any]:
    """Return how many of the planted labels come first, and how many are suspected."""
    hits = int(issues["position"][: len(planted)].isin(planted).sum())
    suspects = issues.loc[issues["suspected"], "position"]
    return {
        "planted": len(planted),
        "precision_among_as_many": hits / len(planted),
        "interval": list(wilson(hits / len(planted), len(planted))),
        "suspected": len(suspects),
        "suspected_precision": float(suspects.isin(planted).mean()),
        "suspected_recall": float(np.isin(planted, suspects).mean()),
        "seconds": seconds,
    }


def network(size: int, epochs: int, **options: Any) -> CXRClassifier:
    return CXRClassifier("plain_cnn", image_size=size, max_epochs=epochs, n_jobs=2, random_state=0, **options)


def phantoms() -> dict[str, Any]:
    found = {}
    for seed in range(2):
        data = make_phantoms(1600, 64, difficulty=0.0, random_state=seed)
        y, rows = flipped(data.y, seed)
        started = time.perf_counter()
        clf = network(64, 16, batch_size=16, learning_rate=5e-3, validation_fraction=0)
        issues = label_issues(clf, data.X, y, groups=data.groups, cv=5, n_jobs=2)
        found[f"seed_{seed}"] = judged(issues, rows, time.perf_counter() - started)
        print(found[f"seed_{seed}"], flush=True)
    size = "1600 phantoms of 800 patients at 64 px"
    return {"question": f"5% flipped labels among {size}, plain_cnn, 16 epochs, 5 folds by patient", **found}


def labels(data: Any, options: argparse.Namespace) -> dict[str, Any]:
    y, rows = flipped(data.y, 0)
    started = time.perf_counter()
    clf = network(64, 6, learning_rate=3e-3)
    issues = label_issues(clf, data.X, y, groups=data.groups, cv=3)
    question = f"5% flipped labels among {len(y)} real radiographs, plain_cnn at 64 px, 6 epochs, 3 folds by patient"
    return {"question": question, **judged(issues, rows, time.perf_counter() - started)}


def doubles(data: Any, options: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    found = duplicates(data.X, y=data.y, groups=data.groups, n_jobs=2)
    seconds = time.perf_counter() - started
    by_bytes = pd.Series([hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in data.X])
    exact = found[found["kind"] == "exact"]
    copies = by_bytes[by_bytes.duplicated(keep=False)]
    near = found[found["kind"] == "near"]
    return {
        "question": f"duplicates among {len(data.X)} real radiographs, and planted ones",
        "seconds": seconds,
        "byte_identical_groups": int(copies.nunique()),
        "exact_groups_found": int(exact["group"].nunique()),
        "exact_images_are_the_byte_identical_ones": sorted(exact["position"]) == sorted(copies.index),
        "near_groups_nobody_planted": int(near["group"].nunique()),
        "near_groups_under_different_patients": int(near.loc[near["patients_differ"], "group"].nunique()),
        "recall_of_planted": planted(data.X, options.planted),
        "cosine_of_embeddings": cosines(data, options.planted),
    }


def planted(paths: np.ndarray, number: int) -> dict[str, Any]:
    """Return the share of changed copies, beside their originals and others, that are found with the original."""
    rows = np.random.default_rng(0).choice(len(paths), number, replace=False)
    images = [np.asarray(Image.open(path).convert("L")) for path in paths[rows]]
    recall: dict[str, Any] = {}
    for kind in KINDS:
        found = duplicates([*images, *(changed(image, kind) for image in images)], n_jobs=2)
        group = found.set_index("position")["group"]
        both = [i in group and number + i in group and group[i] == group[number + i] for i in range(number)]
        recall[kind] = {"recall": sum(both) / number, "interval": list(wilson(sum(both) / number, number))}
    return recall


def changed(image: np.ndarray, kind: str) -> np.ndarray:
    picture = Image.fromarray(image)
    if kind == "re-encoded":
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=60)
        return np.asarray(Image.open(buffer))
    if kind == "resized":
        return np.asarray(picture.resize((150, 150), Image.Resampling.LANCZOS))
    if kind == "brighter":
        return np.clip(image * 1.2, 0, 255).astype(np.uint8)
    share = 0.03 if kind == "cropped_3_percent" else 0.06
    top, left = (round(share * side / 2) for side in image.shape)
    return image[top:-top, left:-left]


def cosines(data: Any, number: int) -> dict[str, Any]:
    """Return why embeddings do not confirm: quantiles of their cosine for planted copies and for other candidates."""
    clf = network(64, 2, learning_rate=3e-3).fit(data.X, data.y, groups=data.groups)
    rows = np.random.default_rng(0).choice(len(data.X), number, replace=False)
    images = [np.asarray(Image.open(path).convert("L")) for path in data.X[rows]]
    unit = normalised(clf.transform(data.X))
    found: dict[str, Any] = {}
    for kind in KINDS:
        copies = normalised(clf.transform([changed(image, kind) for image in images]))
        found[f"{kind}_quantile_0.05"] = float(np.quantile((copies * unit[rows]).sum(axis=1), 0.05))
    pictures = read_pictures(data.X, n_jobs=2, verbose=0, caller="benchmark")
    by_cosines, by_gradients = hashes(pictures.pixels, caller="benchmark")
    everything = slice(0, len(by_cosines))
    close = (hash_distances(by_cosines, everything) <= 10) & (hash_distances(by_gradients, everything) <= 8)
    first, second = np.nonzero(np.triu(close, 1))
    strangers = data.groups[first] != data.groups[second]
    cosine = (unit[first[strangers]] * unit[second[strangers]]).sum(axis=1)
    found["candidates_of_different_patients"] = len(cosine)
    found["their_quantiles_0.5_0.9_0.99"] = np.quantile(cosine, [0.5, 0.9, 0.99]).tolist()
    return found


def normalised(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"labels": labels, "duplicates": doubles}


if __name__ == "__main__":
    main()
