"""Grad-CAM: `explain` from arrays beside the bare forward pass and beside pytorch-grad-cam.

python benchmarks/grad_cam_speed.py

The peer gets its tensors ready-made and runs as its README shows it. Ours starts from images and returns an
`Explanation`. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import copy

import numpy as np
import torch
from _common import interleaved, ratio, raw_execution, write  # first: it sets OpenMP up
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from cxr_estimator import CXRClassifier
from cxr_estimator.backbones import default_cam_layer, named_layer
from cxr_estimator.inference import evaluating

BATCH, SIZE = 32, 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=6)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (options.images, SIZE, SIZE), dtype=np.uint8)
    how = raw_execution(BATCH)
    result = {"question": f"seconds for {options.images} images of {SIZE} px in batches of {BATCH}", "seconds": {}}
    for name in ("resnet18", "densenet121"):
        print(name)
        clf = CXRClassifier(
            name, image_size=SIZE, batch_size=BATCH, max_epochs=1, validation_fraction=0, random_state=0
        )
        clf.fit(X[:4], [0, 1, 0, 1])
        x = torch.randn(options.images, 1, SIZE, SIZE, device=how.device)
        fast = x.contiguous(memory_format=torch.channels_last)
        plain = copy.deepcopy(clf.model_).to(memory_format=torch.contiguous_format)
        peer = GradCAM(model=plain, target_layers=[named_layer(plain, default_cam_layer(plain, x[:1]))])
        starts = range(0, options.images, BATCH)

        def forward(model=clf.model_, x=fast, starts=starts):
            with evaluating(model), torch.no_grad(), how.autocast():
                for start in starts:
                    model(x[start : start + BATCH]).cpu()

        def theirs(peer=peer, x=x, starts=starts):
            for start in starts:
                peer(input_tensor=x[start : start + BATCH], targets=[ClassifierOutputTarget(0)] * BATCH)

        contestants = {"forward": forward, "explain": lambda clf=clf: clf.explain(X), "pytorch-grad-cam": theirs}
        seconds = interleaved(contestants, options.repeats)
        result["seconds"][name] = seconds
        result[f"{name}_forward_ratio"] = ratio(seconds, "explain", "forward")
        result[f"{name}_peer_ratio"] = ratio(seconds, "explain", "pytorch-grad-cam")
    write("grad_cam_speed", result)


if __name__ == "__main__":
    main()
