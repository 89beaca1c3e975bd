"""Training on real radiographs: `fit` beside a plain PyTorch loop, and beside bare forward and backward passes.

python benchmarks/training_speed.py --data DIR

The peer is the loop of the PyTorch tutorials: a Dataset that decodes and resizes in the workers of a DataLoader,
float32, AdamW, no augmentation. Ours is `fit` with its defaults: augmentation, averaged weights and all. "bare" is the
same network in the precision and memory layout that `fit` chooses, forward and backward on one random batch again and
again. Timed is the second epoch of each, so `fit`, which decodes once, has decoded; each runs in a process of its own,
and they take turns. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial

import numpy as np
import timm
import torch
import torch.nn.functional as F
from _common import in_process, interleaved, ratio, raw_execution, write  # first: it sets OpenMP up
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cxr_estimator import CXRClassifier, load_image_folder

BATCH, SIZE, BACKBONE = 32, 224, "resnet18"


class Radiographs(Dataset):
    """Files and labels, decoded on demand."""

    def __init__(self, paths, labels):
        self.paths, self.labels = paths, labels

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).float().div(255).unsqueeze(0)
        return (pixels - 0.449) / 0.226, torch.tensor(float(self.labels[index]))


def fit(paths, labels, groups):
    clf = CXRClassifier(BACKBONE, image_size=SIZE, max_epochs=2, validation_fraction=0, random_state=0)
    return float(clf.fit(paths, labels, groups=groups).history_["seconds"].iloc[1])


def plain_loop(paths, labels, workers):
    torch.manual_seed(0)
    device = raw_execution(BATCH).device
    model = timm.create_model(BACKBONE, num_classes=1, in_chans=1).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(Radiographs(paths, labels), BATCH, shuffle=True, num_workers=workers)
    for _ in range(2):
        started = time.perf_counter()
        for x, y in loader:
            loss = F.binary_cross_entropy_with_logits(model(x.to(device))[:, 0], y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        seconds = time.perf_counter() - started
    return seconds


def bare(steps):
    torch.manual_seed(0)
    how = raw_execution(BATCH)
    model = timm.create_model(BACKBONE, num_classes=1, in_chans=1)
    model = model.to(how.device, memory_format=torch.channels_last).train()
    x = torch.randn(BATCH, 1, SIZE, SIZE, device=how.device).contiguous(memory_format=torch.channels_last)
    y = torch.ones(BATCH, device=how.device)
    for _ in range(2):
        started = time.perf_counter()
        for _ in range(steps):
            with how.autocast():
                logits = model(x)
            model.zero_grad()
            loss = F.binary_cross_entropy_with_logits(logits.float()[:, 0], y)
            loss.backward()
            loss.item()
        seconds = time.perf_counter() - started
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()

    data = load_image_folder(options.data)
    rows = np.random.default_rng(0).permutation(len(data.X))[: options.images]
    paths, labels, groups = data.X[rows], (data.y[rows] == "PNEUMONIA").astype(int), data.groups[rows]

    plain = partial(plain_loop, paths, labels)
    contestants = {
        "fit": partial(fit, paths, labels, groups),
        "plain loop, 2 workers": partial(plain, 2),
        "plain loop, no workers": partial(plain, 0),
        "bare": partial(bare, options.images // BATCH),
    }
    contestants = {name: in_process(work) for name, work in contestants.items()}
    seconds = interleaved(contestants, options.repeats)
    write(
        "training_speed",
        {
            "question": f"{BACKBONE} at {SIZE} px, batches of {BATCH}: seconds for the second epoch of "
            f"{options.images} real radiographs",
            "images": options.images,
            "seconds": seconds,
            "plain_loop_without_workers_ratio": ratio(seconds, "fit", "plain loop, no workers"),
            "plain_loop_with_2_workers_ratio": ratio(seconds, "fit", "plain loop, 2 workers"),
            "bare_ratio": ratio(seconds, "fit", "bare"),
        },
    )


if __name__ == "__main__":
    main()
