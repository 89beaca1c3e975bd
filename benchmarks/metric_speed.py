"""Deletion, insertion and AOPC beside their references: Quantus and a plain loop against one shared loop.

python benchmarks/metric_speed.py [--images 64] [--parts metrics scorer]

resnet18 at 224 px, 16 steps, HiResCAM (Quantus refuses maps of zeros) and five reference maps of every image. The
peers get ready-made tensors and the same maps: deletion and AOPC are Quantus' PixelFlipping (batches of 32, one call
per metric and map), insertion is the loop of the RISE paper, image by image with its steps in one batch. Ours shares
what metrics have in common, so it evaluates fewer images; "evaluations" says how many. "overhead" is our time over that
of the bare forward passes of the distinct images evaluated; "scorer" that of `xai_scorer` over explaining and measuring
by hand. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from _common import RESULTS, interleaved, ratio, raw_execution, write  # first: it sets OpenMP up
from quantus import PixelFlipping

from cxr_estimator import CXRClassifier, xai_scorer
from cxr_estimator._explaining import ExplanationPlan
from cxr_estimator.attribution import baseline_images
from cxr_estimator.inference import evaluating
from cxr_estimator.metrics import N_REFERENCES, Context, Request, measure_all
from cxr_estimator.metrics._reference import moved

SIZE, STEPS, BATCH = 224, 16, 32
FEATURES = SIZE * SIZE // STEPS  # 16 steps, not 20: Quantus wants a divisor of the number of pixels
METRICS = {name: Request(name, {"steps": STEPS, "baseline": "black"}) for name in ("deletion_auc", "aopc")}
METRICS["insertion_auc"] = Request("insertion_auc", {"steps": STEPS})


class TwoOutputs(torch.nn.Module):
    """Probabilities of both classes, as Quantus wants them."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, 2)."""
        proba = torch.sigmoid(self.model(x))
        return torch.cat([1 - proba, proba], dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="the others stay as measured")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Quantus'
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (options.images, SIZE, SIZE), dtype=np.uint8)
    clf = CXRClassifier("resnet18", image_size=SIZE, max_epochs=1, validation_fraction=0, random_state=0)
    clf.fit(rng.integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8), [0, 1, 0, 1])
    result = json.loads((RESULTS / "metric_speed.json").read_text()) if len(options.parts) < len(PARTS) else {}
    result["question"] = f"seconds for three metrics with {N_REFERENCES} references each, resnet18 at {SIZE} px"
    for name in options.parts:
        result |= PARTS[name](clf, X, options.repeats)
    write("metric_speed", result)


def time_metrics(clf: CXRClassifier, X: np.ndarray, repeats: int) -> dict[str, Any]:
    """Time ours, the peers, and bare forward passes."""
    clf.set_params(batch_size=len(X))
    plan = ExplanationPlan.check(clf, X, None, ["hi_res_cam"], target=1)
    (batch,) = plan.run(lambda one: one)
    explanation, problem = batch.found["hi_res_cam"], batch.problem
    explanation = replace(explanation, values=np.abs(explanation.values))  # Quantus refuses maps below zero
    problem.execution = replace(problem.execution, batch_size=BATCH)
    problem.limit.size = BATCH
    plain = TwoOutputs(copy.deepcopy(clf.model_).to(memory_format=torch.contiguous_format)).eval()
    maps = [explanation.values, *(moved(explanation.values, problem, draw) for draw in range(N_REFERENCES))]
    x, blur = problem.x.contiguous(), baseline_images(problem, "blur", caller="benchmark").images.contiguous()
    black = float(problem.normalised(torch.zeros(1, 1, 1))[0, 0, 0])

    def ours() -> None:
        with evaluating(clf.model_):
            measure_all(METRICS, explanation, Context(problem))

    def theirs() -> None:
        flipping = PixelFlipping(
            features_in_step=FEATURES,
            normalise=False,
            abs=False,
            perturb_baseline=black,
            disable_warnings=True,
        )
        data = {"x_batch": x.numpy(), "y_batch": np.ones(len(x), dtype=int), "softmax": False}
        for values in maps:
            for _ in ("deletion", "aopc"):
                flipping(model=plain, a_batch=values[:, None], batch_size=BATCH, **data)
            for image, start, each in zip(x, blur, values, strict=True):
                insertion(plain, image, start, each)

    before = problem.evaluations
    ours()
    evaluations = problem.evaluations - before
    forwards = -(-evaluations // BATCH)
    how = raw_execution(BATCH)
    fast = torch.randn(BATCH, 1, SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        with evaluating(clf.model_), torch.no_grad(), how.autocast():
            for _ in range(forwards):
                clf.model_(fast).cpu()

    seconds = interleaved({"ours": ours, "library": theirs, "forward": bare}, repeats)
    return {
        "images": len(X),
        "evaluations": {"ours": evaluations, "library": (1 + N_REFERENCES) * 3 * (STEPS + 1) * len(X)},
        "seconds": seconds,
        "library_ratio": ratio(seconds, "ours", "library"),
        "times_the_forward_pass_ratio": ratio(seconds, "forward", "ours") * forwards * BATCH / evaluations,
    }


def time_scorer(clf: CXRClassifier, X: np.ndarray, repeats: int) -> dict[str, Any]:
    """Time `xai_scorer` beside explaining and measuring by hand."""
    X = X[:16]
    clf.set_params(batch_size=BATCH)
    scorer = xai_scorer("grad_cam:deletion_auc", steps=STEPS, n_references=1, target=1)

    def scored() -> None:
        scorer(clf, X)

    def by_hand() -> None:
        def use(one) -> None:
            request = {"deletion_auc": Request("deletion_auc", {"steps": STEPS})}
            measure_all(request, one.found["grad_cam"], Context(one.problem), n_references=1)

        list(ExplanationPlan.check(clf, X, None, ["grad_cam"], target=1, random_state=0).run(use))

    seconds = interleaved({"scorer": scored, "by_hand": by_hand}, max(repeats, 5))
    return {"scorer_seconds": seconds, "scorer_overhead_ratio": ratio(seconds, "by_hand", "scorer")}


PARTS = {"metrics": time_metrics, "scorer": time_scorer}


def insertion(model: torch.nn.Module, image: torch.Tensor, start: torch.Tensor, values: np.ndarray) -> float:
    """Return the area under the insertion curve of one image, all steps in one batch."""
    order = np.argsort(-values.ravel())
    n = len(order)
    steps = []
    for step in range(STEPS + 1):
        shown = start.clone().flatten()
        chosen = order[: round(step / STEPS * n)].copy()
        shown[chosen] = image.flatten()[chosen]
        steps.append(shown.view_as(image))
    with torch.no_grad():
        proba = model(torch.stack(steps))[:, 1]
    return float((proba[1:] + proba[:-1]).mean() / 2)


if __name__ == "__main__":
    main()
