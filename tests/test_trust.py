"""Trust cards: what they measure, what they conclude, and that their sentences say what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator import CXRClassifier, _map_checks, trust
from cxr_estimator._map_checks import Deletion, Maps
from cxr_estimator.attribution import METHODS, Problem
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.metrics import Context, measure
from cxr_estimator.trust import CARD, TrustCard, TrustCheck, examine
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS, SHOW, WARN, WITHHOLD
from tests.attribution.requests import CHEAP, GAPS
from tests.metrics.networks import linear
from tests.test_multilabel import OPTIONS, squares

VERDICTS = [PASS, NO_DATA, DOUBTFUL, FAIL]  # of a check
BETTER = [SHOW, WARN, WITHHOLD]  # of a card, the best first
FEW = {"n_references": 2, "steps": 2}


def deletion(own, references):
    """Curves whose areas are the given numbers."""
    curves = [np.full(3, area) for area in references]
    return Deletion(np.linspace(0, 1, 3), np.full(3, own), np.array(curves))


@pytest.fixture(scope="module")
def maps(fitted, phantoms):
    """A function that returns an explanation by a method with the given maps."""
    template = fitted.explain(phantoms.X[:2])

    def make(values, method="grad_cam", **changes):
        values = np.asarray(values, dtype=np.float32)
        return replace(template[: len(values)], values=values, method=method, **changes)

    return make


def found(name, explanation, *, deletions=(), others=None, context=None):
    maps = Maps(explanation, context or Context(), others or {})
    maps.deletions = deletions
    return [TrustCheck(name, *one) for one in CARD[name](maps)]


# --- the gain


def test_the_gain_is_that_of_the_metric(fitted, phantoms, explained):
    rows = slice(0, 4)
    explanation, context = explained(rows)
    (batch,) = examine(fitted, phantoms.X[rows], ["occlusion"], target="PNEUMONIA", random_state=0)
    gains = [card.deletion.gain for card in batch.cards["occlusion"]]
    assert np.ptp(gains) > 0
    of_each = [
        measure("deletion_auc", explanation, context, relative=True, n_references=9, steps=5, baseline=baseline)
        for baseline in ("black", "mean")
    ]
    np.testing.assert_allclose(gains, np.mean(of_each, axis=0), atol=1e-7)
    for card, proba in zip(batch.cards["occlusion"], fitted.predict_proba(phantoms.X[rows])[:, 1], strict=True):
        assert card.gain == card.deletion.gain == card.checks[0].value
        assert card.deletion.curve[0] == pytest.approx(proba, abs=1e-6)
        assert card.deletion.references.shape == (9, 6)
        assert card.deletion.fractions.tolist() == pytest.approx(np.arange(6) / 5)


def test_gain_and_copies_beaten_by_hand():
    curves = Deletion(np.array([0, 0.5, 1.0]), np.array([1.0, 0.2, 0.0]), np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert curves.gain == pytest.approx((0.75 + 0.25) / 2 - 0.35)
    assert curves.beaten == 1


@pytest.mark.parametrize(
    ("own", "references", "verdict", "said"),
    [
        (0.30, [0.5] * 9, PASS, "more than hiding other places does: it outdoes 9 of 9"),
        (0.30, [0.5] * 8 + [0.1], DOUBTFUL, "more than hiding most other places does, but not all: it outdoes 8 of 9"),
        (0.30, [0.5] * 7 + [0.1] * 2, DOUBTFUL, "but not all: it outdoes 7 of 9"),
        (0.30, [0.9] * 6 + [0.2] * 3, FAIL, "not reliably more than hiding other places does: it outdoes 6 of 9"),
        (0.49, [0.5] * 9, DOUBTFUL, "hardly more than hiding other places does: it outdoes 9 of 9"),
        (0.50, [0.5] * 9, FAIL, "no more than hiding other places does: it outdoes 0 of 9"),
        (0.50, [0.51] * 8 + [0.1], FAIL, "no more than hiding other places does: it outdoes 8 of 9"),
    ],
)
def test_every_verdict_on_the_gain(maps, own, references, verdict, said):
    (check,) = found("gain", maps(np.ones((1, 32, 32))), deletions=[deletion(own, references)])
    assert check.verdict == verdict
    assert said in check.sentence
    assert check.value == pytest.approx(np.mean(references) - own)
    assert check.threshold == 0.02


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_map_is_withheld(maps, value):
    (check,) = found("gain", maps(np.full((1, 32, 32), value)), deletions=[deletion(0.1, [0.9] * 9)])
    assert (check.verdict, check.value) == (FAIL, 0.0)
    card = TrustCard("grad_cam", (check,), deletion(0.5, [0.5]))
    assert card.verdict == WITHHOLD
    assert card.sentence == f"Grad-CAM is withheld as evidence. {check.sentence}"


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=9, max_size=9), st.integers(0, 8), st.floats(0, 1))
def test_the_gain_never_looks_better_when_a_copy_does_better(own, references, which, less):
    better = [min(area, less) if place == which else area for place, area in enumerate(references)]
    graded = []
    for areas in (references, better):
        one = deletion(own, areas)
        fake = type("Map", (), {"values": np.ones((1, 2, 2))})
        (check,) = found("gain", fake, deletions=[one])
        graded.append(VERDICTS.index(check.verdict))
    assert graded[0] <= graded[1]


def planted(rng, side=24):
    """A network that looks at one patch alone, images with a bright patch there, and where it is."""
    patch = np.zeros((side, side), np.float32)
    patch[4:10, 12:18] = 1
    x = rng.random((6, side, side), dtype=np.float32) * 0.2 + patch
    return linear(patch * 0.2 - 0.05 * patch.mean(), x), patch


def test_the_truth_about_a_planted_patch_passes_and_noise_is_mostly_withheld(maps):
    rng = np.random.default_rng(0)
    context, patch = planted(rng)
    template = maps(np.ones((2, *patch.shape)))

    def verdicts(values):
        whole = type(template).concatenate([template[:1]] * len(values))
        explanation = replace(whole, values=values.astype(np.float32))
        return [card.verdict for card in trust._cards(Maps(explanation, context, n_references=9, steps=10))]

    truth = verdicts(np.repeat(patch[None], 6, axis=0))
    assert WITHHOLD not in truth
    assert truth.count(SHOW) >= 5  # a copy may be moved onto the patch
    assert verdicts(np.zeros((6, 24, 24))) == [WITHHOLD] * 6
    noise = [one for _ in range(10) for one in verdicts(rng.normal(size=(6, 24, 24)))]
    assert noise.count(WITHHOLD) > 30
    assert noise.count(SHOW) < 12


# --- the other checks


@pytest.mark.parametrize(
    ("residual", "verdict", "said"),
    [(0.04, PASS, "up to 4%."), (0.3, DOUBTFUL, "30%, which is too far off"), (0.8, FAIL, "80%, which"),
     (np.nan, NO_DATA, "is unknown")],
)  # fmt: skip
def test_completeness(maps, residual, verdict, said):
    one = maps(np.ones((1, 32, 32)), "integrated_gradients", completeness_residual=np.array([residual], np.float32))
    (check,) = found("completeness", one)
    assert check.verdict == verdict
    assert said in check.sentence
    assert found("completeness", maps(np.ones((1, 32, 32)), "occlusion")) == []


@pytest.mark.parametrize(
    ("value", "verdict", "said"),
    [(0.9, PASS, "much the same (rank correlation 0.90)"), (0.5, DOUBTFUL, "partly the same (rank correlation 0.50)"),
     (-0.1, FAIL, "a different one (rank correlation -0.10)"), (np.nan, NO_DATA, "An even map cannot be compared")],
)  # fmt: skip
def test_stability(maps, monkeypatch, value, verdict, said):
    monkeypatch.setattr(_map_checks, "measure", lambda *_, **__: np.array([value]))
    (check,) = found("seed_stability", maps(np.ones((1, 32, 32)), "lime"))
    assert check.verdict == verdict
    assert said in check.sentence
    assert found("seed_stability", maps(np.ones((1, 32, 32)), "grad_cam")) == []


def test_edges_by_hand(maps):
    # of 20 x 20 pixels 144 lie in a frame two wide, and 64 in corners of four by four
    even = np.ones((1, 20, 20))
    for name, area in (("border_mass", 0.36), ("corner_mass", 0.16)):
        (check,) = found(name, maps(even))
        assert check.value == pytest.approx(area)
        assert check.threshold == pytest.approx(area + 0.35 * (1 - area))
        assert check.verdict == PASS
        assert f"{area:.0%} of what speaks for the class lies" in check.sentence
        assert f"({area:.0%} of the image)" in check.sentence
    inside, corner = np.zeros((1, 20, 20)), np.zeros((1, 20, 20))
    inside[:, 10, 10], corner[:, 0, 0] = 1, 1
    for share, verdicts in ((0.0, (PASS, PASS)), (0.5, (PASS, DOUBTFUL)), (0.7, (DOUBTFUL, DOUBTFUL)),
                            (0.78, (DOUBTFUL, FAIL)), (0.9, (FAIL, FAIL))):  # fmt: skip
        one = maps(share * corner + (1 - share) * inside)
        checks = [found(name, one)[0] for name in ("border_mass", "corner_mass")]
        assert tuple(check.verdict for check in checks) == verdicts
        assert all(check.value == pytest.approx(share) for check in checks)
    for name in ("border_mass", "corner_mass"):
        (check,) = found(name, maps(-even))
        assert check.verdict == NO_DATA
        assert "nan" not in check.sentence


def tops(places):
    """A 10 x 10 map whose ten strongest pixels are the given ones."""
    values = np.linspace(0, 0.5, 100)
    values[list(places)] = 2 + np.arange(len(places))
    return values.reshape(1, 10, 10)


@pytest.mark.parametrize(("common", "verdict"), [(10, PASS), (2, PASS), (1, DOUBTFUL), (0, DOUBTFUL)])
def test_agreement_by_hand(maps, common, verdict):
    own, other = maps(tops(range(10))), maps(tops(range(10 - common, 20 - common)), "occlusion")
    (check,) = found("agreement", own, others={"grad_cam": own, "occlusion": other})
    assert check.value == pytest.approx(common / 10)
    assert check.threshold == pytest.approx(0.15)
    assert check.verdict == verdict
    assert f"{common / 10:.0%} of its strongest pixels are among those of Occlusion, too (by chance 10%)." == (
        check.sentence
    )


def test_agreement_is_the_mean_over_those_that_say_anything(maps):
    own = maps(tops(range(10)))
    same, none = maps(tops(range(10)), "occlusion"), maps(tops(range(20, 30)), "rise")
    empty = maps(np.zeros((1, 10, 10)), "lime")
    (check,) = found("agreement", own, others={"occlusion": same, "rise": none, "lime": empty})
    assert check.value == pytest.approx(0.5)
    (check,) = found("agreement", own, others={"lime": empty})
    assert (check.verdict, check.sentence) == (NO_DATA, "An empty map cannot be compared with LIME.")


def test_only_maps_of_the_same_images_size_and_class_are_compared(maps):
    own = maps(np.concatenate([tops(range(10)), tops(range(40, 50))]))
    turned = replace(own, values=own.values[::-1].copy(), image_ids=own.image_ids[::-1], target=own.target[::-1])
    checks = found("agreement", own, others={"occlusion": turned})
    assert [check.value for check in checks] == pytest.approx([1.0, 1.0])
    for other in (
        replace(own, image_ids=("a", "b")),
        replace(own, target=np.array(["another"] * 2)),
        replace(own, values=np.ones((2, 5, 5), np.float32)),
    ):
        assert found("agreement", own, others={"occlusion": other}) == []
    assert found("agreement", own, others={}) == []


# --- the card


def card_of(verdicts):
    checks = [TrustCheck(name, 0.0, 0.0, verdict, f"{name} is {verdict}.") for name, verdict in verdicts.items()]
    return TrustCard("grad_cam", tuple(checks), deletion(0.5, [0.6]))


@pytest.mark.parametrize(
    ("verdicts", "expected", "sentence"),
    [
        ({"gain": PASS}, SHOW, "Grad-CAM passed every check that one image allows."),
        ({"gain": PASS, "agreement": NO_DATA}, SHOW, "not why."),
        ({"gain": DOUBTFUL}, WARN, "Grad-CAM can be shown, with a warning. gain is doubtful."),
        ({"gain": PASS, "border_mass": FAIL}, WARN, "border_mass is fail."),
        ({"gain": PASS, "seed_stability": FAIL}, WARN, "seed_stability is fail."),
        ({"gain": FAIL, "agreement": FAIL}, WITHHOLD, "Grad-CAM is withheld as evidence. gain is fail."),
        ({"gain": PASS, "completeness": FAIL}, WITHHOLD, "completeness is fail."),
    ],
)
def test_what_a_card_concludes(verdicts, expected, sentence):
    card = card_of(verdicts)
    assert card.verdict == expected
    assert sentence in card.sentence


@given(st.dictionaries(st.sampled_from(list(CARD)), st.sampled_from(VERDICTS), min_size=1), st.data())
def test_a_card_is_never_better_when_a_check_is_worse(verdicts, data):
    name = data.draw(st.sampled_from(list(verdicts)))
    worse = data.draw(st.sampled_from(VERDICTS[VERDICTS.index(verdicts[name]) :]))
    before, after = card_of(verdicts).verdict, card_of({**verdicts, name: worse}).verdict
    assert BETTER.index(before) <= BETTER.index(after)


# --- whole models


@pytest.mark.parametrize("method", [name for name in METHODS if "plain_cnn" not in GAPS.get(name, ())])
def test_every_method_has_a_card(fitted, phantoms, method):
    (batch,) = examine(fitted, phantoms.X[:2], [method], random_state=0, **FEW, **CHEAP.get(method, {}))
    assert set(batch.found) == set(batch.cards) == {method}
    for card in batch.cards[method]:
        names = {check.name for check in card.checks}
        assert ("completeness" in names) == METHODS[method].complete
        assert ("seed_stability" in names) == METHODS[method].random
        assert {"gain", "border_mass", "corner_mass"} <= names
        assert "agreement" not in names
        assert card.verdict in BETTER
        assert all(check.verdict in VERDICTS and "nan" not in check.sentence for check in card.checks)


@pytest.mark.parametrize("target", ["red", "predicted"])
def test_several_classes(three_classes, target):
    X, _, clf = three_classes
    (batch,) = examine(clf, X[:3], ["grad_cam", "occlusion"], target=target, random_state=0, **FEW)
    proba = clf.predict_proba(X[:3])
    explained = proba.max(axis=1) if target == "predicted" else proba[:, clf.classes_.tolist().index("red")]
    for cards in batch.cards.values():
        assert [card.deletion.curve[0] for card in cards] == pytest.approx(explained, abs=1e-5)
        assert all("agreement" in {check.name for check in card.checks} for card in cards)


def test_several_labels():
    X, y, groups = squares(40)
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 1}).fit(X, y, groups=groups)
    label = clf.classes_.tolist()[1]
    (batch,) = examine(clf, X[:2], ["grad_cam"], target=label, random_state=0, **FEW)
    starts = [card.deletion.curve[0] for card in batch.cards["grad_cam"]]
    assert starts == pytest.approx(clf.predict_proba(X[:2])[:, 1], abs=1e-5)


def test_an_ensemble_is_refused_with_what_to_do(ensemble, phantoms):
    with pytest.raises(InvalidTypeError, match=r"'clf' parameter of examine must be one network, .* member"):
        list(examine(ensemble, phantoms.X[:2], ["grad_cam"]))
    (batch,) = examine(ensemble.estimators_[0], phantoms.X[:2], ["grad_cam"], **FEW)
    assert len(batch.cards["grad_cam"]) == 2


def test_maps_that_exist_already_are_compared_in_every_batch(fitted, phantoms):
    X = phantoms.X[:5]
    known = {"occlusion": fitted.explain(X, method="occlusion", random_state=0)}
    batches = list(examine(fitted, X, ["grad_cam"], others=known, batch_size=2, random_state=0, **FEW))
    assert [len(batch.cards["grad_cam"]) for batch in batches] == [2, 2, 1]
    together = fitted.explain(X, method="grad_cam", random_state=0)
    values = [
        check.value
        for batch in batches
        for card in batch.cards["grad_cam"]
        for check in card.checks
        if check.name == "agreement"
    ]
    assert values == pytest.approx(
        measure("top_k_overlap", together, Context(other=known["occlusion"]), k=10), abs=1e-3
    )


def test_the_progress_stops_it(fitted, phantoms):
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list(examine(fitted, phantoms.X[:2], ["grad_cam"], progress=stop, **FEW))


@pytest.mark.parametrize("n_references", [0, -1])
def test_at_least_one_copy_is_needed(fitted, phantoms, n_references):
    with pytest.raises(InvalidParameterError, match="'n_references' parameter of examine"):
        list(examine(fitted, phantoms.X[:2], ["grad_cam"], n_references=n_references))


def test_what_all_curves_share_is_evaluated_once(fitted, phantoms, monkeypatch):
    """Nothing hidden is the image itself, and all hidden is the same for each of the 1 + 2 orders."""
    seen, logits_of = [], Problem.logits_of
    monkeypatch.setattr(Problem, "logits_of", lambda self, x: seen.append(len(x)) or logits_of(self, x))
    list(examine(fitted, phantoms.X[:1], ["grad_cam"], n_references=2, steps=4))
    assert sum(seen) == len(_map_checks.BASELINES) * (3 * 3 + 1)
