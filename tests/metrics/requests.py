"""How tests ask for metrics of a network of their own."""

from __future__ import annotations

import dataclasses

from cxr_estimator.attribution import METHODS, Problem
from cxr_estimator.metrics import Context
from tests.attribution.networks import positive


def explained_by(explain_values, model, x, method, *, seed=0, mean=None, std=None, **options):
    """Return the explanation of images (n, C, H, W), n at most 8, by a network, and its context."""
    problem = Problem(model, x, positive(len(x)), seed=seed, mean=mean, std=std)

    def explain(variant):
        return METHODS[method].function(variant, **options).values

    explanation = explain_values(explain(problem).numpy())
    random = METHODS[method].random
    return dataclasses.replace(explanation, method=method, seed=seed if random else None), Context(problem, explain)


def answering(x, answers, model=None):
    """Return a context whose `explain` gives one answer (n, H, W) after the other, and what it was asked."""
    asked = []

    def explain(variant):
        asked.append(variant)
        return answers[len(asked) - 1]

    return Context(Problem(model, x, positive(len(x))), explain), asked
