"""How far a repeated explanation of the bundled model is from the first: what the tolerances of receipts rest on.

python benchmarks/receipts.py

One thread and one image at a time is the first case, and the others differ from it in one thing. An older processor is
imitated by the switches of torch and oneDNN, in a process of its own. Phantoms, and real radiographs where CXR_DATA_DIR
is set. Writes raw JSON: the largest difference of a probability, of the score and of a block of the coarse map, and the
least rank correlation, over all images.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import write  # first: it sets OpenMP up

from cxr_estimator import CXRClassifier, load_image_folder, make_phantoms
from cxr_estimator._replaying import coarse, map_difference

# fewer evaluations than by default: rounding is the same
METHODS = {
    "grad_cam": {}, "layer_cam": {}, "saliency": {}, "smooth_grad": {}, "integrated_gradients": {}, "gradient_shap": {},
    "deep_shap": {}, "lrp": {}, "occlusion": {}, "partition_shap": {"n_evaluations": 100},
    "kernel_shap": {"n_samples": 100}, "lime": {"n_samples": 100}, "rise": {"n_masks": 100},
}  # fmt: skip
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
CASES = {  # (case it is compared with, precision, threads, images at once, environment)
    "float32": (None, "float32", 1, 1, {}),
    "float32, again": ("float32", "float32", 1, 1, {}),
    "float32, 2 threads": ("float32", "float32", 2, 1, {}),
    "float32, 4 images at once": ("float32", "float32", 1, 4, {}),
    "bfloat16": (None, "bfloat16", 1, 1, {}),
    "bfloat16, again": ("bfloat16", "bfloat16", 1, 1, {}),
    "bfloat16, 2 threads": ("bfloat16", "bfloat16", 2, 1, {}),
    "bfloat16, 4 images at once": ("bfloat16", "bfloat16", 1, 4, {}),
    "bfloat16 against float32": ("float32", "bfloat16", 1, 1, {}),
    "float32, AVX2": ("float32", "float32", 1, 1, AVX2),
}


def images(number: int) -> list[np.ndarray | str]:
    """Return phantoms, and as many radiographs of the folder in CXR_DATA_DIR."""
    found: list[np.ndarray | str] = list(make_phantoms(number, 256, random_state=0).X)
    if os.environ.get("CXR_DATA_DIR"):
        X = load_image_folder(os.environ["CXR_DATA_DIR"]).X
        found += np.random.default_rng(0).choice(X, number, replace=False).tolist()
    return found


def work(output: Path, number: int, precision: str, threads: int, at_once: int) -> None:
    """Write probabilities, scores and maps of one case."""
    import torch

    torch.set_num_threads(threads)
    clf = CXRClassifier.from_pretrained(device="cpu").set_params(precision=precision)
    X = images(number)
    found: dict[str, np.ndarray] = {}
    for method, options in METHODS.items():
        parts = [
            clf.explain(X[start : start + at_once], method=method, target="PNEUMONIA", random_state=0, **options)
            for start in range(0, len(X), at_once)
        ]
        found[method] = np.concatenate([part.values for part in parts])
        found["proba"] = np.concatenate([part.prediction.proba for part in parts])
        found[f"score of {method}"] = np.concatenate([part.score for part in parts])
        found["label"] = np.concatenate([part.prediction.label == "PNEUMONIA" for part in parts])
    np.savez(output, **found)


def run(case: str, folder: Path, number: int) -> dict[str, np.ndarray]:
    """Return what a case gives; one with an environment runs in a process of its own."""
    _, precision, threads, at_once, environment = CASES[case]
    output = folder / "case.npz"
    if environment:
        arguments = [sys.executable, __file__, "--work", *map(str, (output, number, precision, threads, at_once))]
        subprocess.run(arguments, check=True, env={**os.environ, **environment})
    else:
        work(output, number, precision, threads, at_once)
    with np.load(output) as arrays:
        return dict(arrays)


def difference(found: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> dict[str, object]:
    """Return the largest differences over all images."""
    maps = {}
    for method in METHODS:
        pairs = [map_difference(coarse(a), coarse(b)) for a, b in zip(found[method], first[method], strict=True)]
        maps[method] = {
            "identical_maps": sum(np.array_equal(a, b) for a, b in zip(found[method], first[method], strict=True)),
            "least_correlation": min(correlation for correlation, _ in pairs),
            "largest_block": max(block for _, block in pairs),
            "largest_score": float(np.abs(found[f"score of {method}"] - first[f"score of {method}"]).max()),
        }
    return {
        "largest_probability": float(np.abs(found["proba"] - first["proba"]).max()),
        "changed_decisions": int((found["label"] != first["label"]).sum()),
        "largest_score": max(one["largest_score"] for one in maps.values()),
        "least_correlation": min(one["least_correlation"] for one in maps.values()),
        "largest_block": max(one["largest_block"] for one in maps.values()),
        "methods": maps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8, help="phantoms, and as many radiographs")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        output, number, precision, threads, at_once = options.work
        work(Path(output), int(number), precision, int(threads), int(at_once))
        return
    found: dict[str, dict[str, np.ndarray]] = {}
    differences = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, (first, *_) in CASES.items():
            found[case] = run(case, Path(folder), options.images)
            if first is not None:
                differences[case] = difference(found[case], found[first])
                print(case, {key: value for key, value in differences[case].items() if key != "methods"}, flush=True)
    question = "Largest difference of a repeated explanation of the bundled model from the first"
    n_real = options.images if os.environ.get("CXR_DATA_DIR") else 0
    write("receipts", {"question": question, "n_phantoms": options.images, "n_radiographs": n_real} | differences)


if __name__ == "__main__":
    main()
