"""Attribution methods beside the libraries they come from: same network, same images, same number of evaluations.

python benchmarks/method_speed.py [--only NAME ...]

resnet18 at 224 px. The peers (pytorch-grad-cam, captum, lime, shap) get ready-made tensors and are called as their
documentation shows, in batches as large as ours where they have batches. Ours starts from pixels and returns an
`Explanation`. "overhead" is the time of a perturbation method over its number of evaluations times the bare forward
pass of one image in batches of 32. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytorch_grad_cam
import torch
from _common import RESULTS, interleaved, ratio, raw_execution, write  # first: it sets OpenMP up
from captum.attr import IntegratedGradients, Occlusion
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from cxr_estimator import CXRClassifier
from cxr_estimator.backbones import default_cam_layer, named_layer
from cxr_estimator.inference import evaluating

BATCH, SIZE = 32, 224
CAMS = {
    "grad_cam": "GradCAM", "grad_cam_plus_plus": "GradCAMPlusPlus", "x_grad_cam": "XGradCAM",
    "hi_res_cam": "HiResCAM", "layer_cam": "LayerCAM", "eigen_cam": "EigenCAM", "score_cam": "ScoreCAM",
}  # fmt: skip


class Setting:
    """The network, the images, and how peers see both."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.X = rng.integers(0, 256, (BATCH, SIZE, SIZE), dtype=np.uint8)
        self.clf = CXRClassifier(
            "resnet18", image_size=SIZE, batch_size=BATCH, max_epochs=1, validation_fraction=0, random_state=0
        )
        self.clf.fit(self.X[:4], [0, 1, 0, 1])
        self.how = raw_execution(BATCH)
        self.fast = torch.randn(BATCH, 1, SIZE, SIZE).contiguous(memory_format=torch.channels_last).to(self.how.device)
        self.plain = copy.deepcopy(self.clf.model_).to(memory_format=torch.contiguous_format).eval()
        self.x = torch.randn(BATCH, 1, SIZE, SIZE, device=self.how.device)

    def forward(self) -> None:
        """Run the bare network on one batch."""
        with evaluating(self.clf.model_), torch.no_grad(), self.how.autocast():
            self.clf.model_(self.fast).cpu()

    def proba(self, images: np.ndarray) -> np.ndarray:
        """Return (m, 2) for float images (m, H, W, 3), as lime and shap call it."""
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(images[..., :1])).float().permute(0, 3, 1, 2)
            p = torch.sigmoid(self.plain((x - 0.449) / 0.226)).numpy()
        return np.concatenate([1 - p, p], axis=1)


def cam(setting: Setting, name: str) -> tuple[Callable, Callable, int]:
    n = 2 if name == "score_cam" else BATCH
    plain = setting.plain
    peer = getattr(pytorch_grad_cam, CAMS[name])(plain, [named_layer(plain, default_cam_layer(plain, setting.x[:1]))])
    if name == "score_cam":
        peer.batch_size = BATCH

    def theirs() -> None:
        peer(input_tensor=setting.x[:n], targets=[ClassifierOutputTarget(0)] * n)

    return partial(setting.clf.explain, setting.X[:n], method=name), theirs, n


def occlusion(setting: Setting) -> tuple[Callable, Callable, int]:
    def theirs() -> None:
        Occlusion(setting.plain).attribute(
            setting.x[:2], (1, 28, 28), (1, 14, 14), target=0, perturbations_per_eval=BATCH // 2
        )

    return partial(setting.clf.explain, setting.X[:2], method="occlusion", window=28, stride=14), theirs, 2


def integrated_gradients(setting: Setting) -> tuple[Callable, Callable, int]:
    def theirs() -> None:
        IntegratedGradients(setting.plain).attribute(
            setting.x[:2], target=0, n_steps=64, method="riemann_middle", internal_batch_size=BATCH
        )

    return partial(setting.clf.explain, setting.X[:2], method="integrated_gradients", n_steps=64), theirs, 2


def lime(setting: Setting) -> tuple[Callable, Callable, int]:
    from lime.lime_image import LimeImageExplainer

    colour = np.repeat(setting.X[0, :, :, None] / 255.0, 3, axis=2)

    def theirs() -> None:
        LimeImageExplainer(random_state=0).explain_instance(
            colour, setting.proba, num_samples=256, batch_size=BATCH, random_seed=0
        )

    return partial(setting.clf.explain, setting.X[:1], method="lime", n_samples=256), theirs, 1


def partition_shap(setting: Setting) -> tuple[Callable, Callable, int]:
    import shap

    colour = np.repeat(setting.X[:1, :, :, None] / 255.0, 3, axis=3).astype(np.float32)
    explainer = shap.Explainer(setting.proba, shap.maskers.Image(np.zeros(colour.shape[1:]), colour.shape[1:]))

    def theirs() -> None:
        explainer(colour, max_evals=256, batch_size=BATCH, outputs=[1], silent=True)

    return partial(setting.clf.explain, setting.X[:1], method="partition_shap", n_evaluations=256), theirs, 1


PAIRS = {
    **{name: partial(cam, name=name) for name in CAMS},
    "occlusion": occlusion,
    "integrated_gradients": integrated_gradients,
    "lime": lime,
    "partition_shap": partition_shap,
}
PERTURBATION = {
    "occlusion": {"window": 28, "stride": 14}, "superpixel_occlusion": {"n_segments": 64}, "rise": {"n_masks": 256},
    "lime": {"n_samples": 256}, "kernel_shap": {"n_samples": 256}, "score_cam": {"channels": 256},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*PAIRS, "overhead"], default=[*PAIRS, "overhead"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    setting = Setting()
    path = RESULTS / "method_speed.json"
    result = json.loads(path.read_text()) if path.is_file() else {}
    result["question"] = f"resnet18 at {SIZE} px: seconds per turn, ours and the library's in turns"
    for name in options.only:
        if name == "overhead":
            continue
        print(name)
        ours, theirs, images = PAIRS[name](setting)
        seconds = interleaved({"ours": ours, "library": theirs}, options.repeats)
        result[name] = {"images": images, "seconds": seconds, "ratio": ratio(seconds, "ours", "library")}
        print(f"  {result[name]['ratio']:.2f} times as fast")
        write("method_speed", result)
    if "overhead" in options.only:
        result["overhead"] = overhead(setting, options.repeats)
        write("method_speed", result)


def overhead(setting: Setting, repeats: int) -> dict:
    """Return how many times longer a method takes than its evaluations of the network alone."""
    found = {}
    for name, request in PERTURBATION.items():
        print("overhead of", name)
        ours = partial(setting.clf.explain, setting.X[:2], method=name, **request)
        evaluations = int(ours().evaluations.sum())
        forwards = -(-evaluations // BATCH)

        def bare(count: int = forwards) -> None:
            for _ in range(count):
                setting.forward()

        seconds = interleaved({"ours": ours, "forward": bare}, repeats)
        times = ratio(seconds, "forward", "ours") * forwards * BATCH / evaluations
        found[name] = {"evaluations": evaluations, "seconds": seconds, "times_the_forward_pass": times}
        print(f"  {times:.2f} times the forward pass")
    return found


if __name__ == "__main__":
    main()
