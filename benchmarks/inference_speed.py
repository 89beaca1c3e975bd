"""`predict_proba` beside the bare network: from arrays, from files; and what bfloat16 does to a probability.

python benchmarks/inference_speed.py --data DIR

From files, decoding and network overlap; the time to beat is that of the slower of the two alone. The files are real
radiographs of 224 px, and the same scaled up to 1,120 px, which is nearer to what hospitals have. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import interleaved, ratio, raw_execution, write  # first: it sets OpenMP up
from PIL import Image

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator.images import as_images
from cxr_estimator.inference import evaluating
from cxr_estimator.reading import Reading, prepare

BATCH, SIZE, BACKBONE = 32, 224, "resnet18"


def bare(model, x):
    how = raw_execution(BATCH)
    with evaluating(model), torch.no_grad(), how.autocast():
        for start in range(0, len(x), BATCH):
            model(x[start : start + BATCH].to(how.device)).cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    data = load_image_folder(options.data)
    rows = np.random.default_rng(0).permutation(len(data.X))
    used, rest = data.X[rows[: options.images]], rows[options.images :][:256]
    clf = CXRClassifier(
        BACKBONE, image_size=SIZE, batch_size=BATCH, max_epochs=2, validation_fraction=0, random_state=0
    )
    clf.fit(data.X[rest], data.y[rest], groups=data.groups[rest])

    arrays = prepare(as_images(used), clf.preprocessing_).pixels[:, 0]
    x = torch.randn(len(used), 1, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    threads = Reading(n_jobs=torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        large = []
        for number, path in enumerate(used):
            large.append(str(Path(folder) / f"{number}.jpeg"))
            Image.open(path).resize((1120, 1120), Image.Resampling.BICUBIC).save(large[-1], quality=90)
        contestants = {
            "bare": lambda: bare(clf.model_, x),
            "arrays": lambda: clf.predict_proba(arrays),
            "decode": lambda: prepare(as_images(used), clf.preprocessing_, threads),
            "files": lambda: clf.predict_proba(used),
            "decode large": lambda: prepare(as_images(large), clf.preprocessing_, threads),
            "files large": lambda: clf.predict_proba(large),
        }
        seconds = interleaved(contestants, options.repeats)
    exact = clf.set_params(precision="float32").predict_proba(used)
    rough = clf.set_params(precision="bfloat16").predict_proba(used)
    write(
        "inference_speed",
        {
            "question": f"{BACKBONE} at {SIZE} px, batches of {BATCH}: seconds for {options.images} images",
            "backbone": BACKBONE,
            "images": options.images,
            "seconds": seconds,
            "arrays_ratio": ratio(seconds, "arrays", "bare"),
            "files_ratio": ratio(seconds, "files", max("bare", "decode", key=lambda name: sum(seconds[name]))),
            "large_files_ratio": ratio(
                seconds, "files large", max("bare", "decode large", key=lambda name: sum(seconds[name]))
            ),
            "bfloat16_change_at_fit": clf.bfloat16_change_,
            "bfloat16_largest_change_of_a_probability": float(np.abs(exact - rough).max()),
            "probabilities": exact[:, 1].tolist(),
        },
    )


if __name__ == "__main__":
    main()
