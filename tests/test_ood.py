"""Out-of-distribution statistics: distances, scores, p-values, cut-offs, and what may be kept of patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

from cxr_estimator._ood_blocks import CORRECTIONS, REASONS
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError, ModelFolderError
from cxr_estimator.ood import PATIENTS, ImageCheck, LowRankGaussian, OodStatistics

WIDTHS = {"layout": 6, "texture": 5, "brightness": 3, "network": 4}


def rows(n, seed):
    """Return features of n images, and after them those of the pixels of each correction, which are stranger."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(18, 18))
    own = rng.normal(size=(n, 18)) @ mixing + 3
    corrected = rng.normal(size=(n, len(CORRECTIONS) * 14)) + np.tile(own[:, :14], len(CORRECTIONS)) + 9
    return np.concatenate([own, corrected], axis=1).astype(np.float32)


def statistics(n=100, n_held_out=60, seed=0):
    return OodStatistics.learn(rows(n, seed), rows(n_held_out, seed + 1000), WIDTHS)


def with_reference(reference):
    return OodStatistics({}, np.zeros(0), np.ones(0), np.sort(np.asarray(reference, np.float32)), 20)


# -- the Gaussian


def test_distance_by_hand():
    """z = (x - mean) / scale = (2, 1, -1); t = 2 along the first axis: 2^2 / 4 + (1 + 1) / 0.5 = 5."""
    gaussian = LowRankGaussian(np.array([1.0, 0, 0]), np.array([1.0, 2, 1]), np.eye(3)[:1], np.array([4.0]), 0.5)
    assert gaussian.distance(np.array([[3.0, 2.0, -1.0], [1.0, 0.0, 0.0]])).tolist() == [5.0, 0.0]


def test_with_all_components_it_is_the_full_covariance():
    z = rows(200, 3)[:, :5].astype(np.float64)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    values, vectors = np.linalg.eigh(EmpiricalCovariance().fit(z).covariance_)
    gaussian = LowRankGaussian(np.zeros(5), np.ones(5), vectors.T[1:], values[1:], values[0])
    np.testing.assert_allclose(gaussian.distance(z), EmpiricalCovariance().fit(z).mahalanobis(z), rtol=1e-9)


def test_fit_is_probabilistic_pca():
    features = np.random.default_rng(0).uniform(size=(60, 8)).astype(np.float32)  # nothing is 1.5 times too long
    gaussian = LowRankGaussian.fit(features)
    assert gaussian.components.shape == (3, 8)
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    precision = PCA(3).fit(z).get_precision()
    expected = np.einsum("ni,ij,nj->n", z, precision, z)
    np.testing.assert_allclose(gaussian.distance(features), expected, rtol=1e-3)


def test_features_that_never_change_do_no_harm():
    features = np.concatenate([rows(40, 0)[:, :4], np.full((40, 2), 7.0, np.float32)], axis=1)
    gaussian = LowRankGaussian.fit(features)
    assert np.isfinite(gaussian.distance(features)).all()
    changed = features[:1] + np.array([0, 0, 0, 0, 100, 0], np.float32)
    assert gaussian.distance(changed) > 100 * gaussian.distance(features).max()
    alike = LowRankGaussian.fit(np.full((20, 4), 3.0, np.float32))
    assert alike.distance(np.full((1, 4), 3.0)).tolist() == [0.0]


# -- scores


def test_score_is_that_of_the_strangest_block():
    known = statistics()
    ordinary = rows(1, 5)
    block_of = np.repeat(np.arange(len(WIDTHS)), list(WIDTHS.values()))
    block_of = np.concatenate([block_of, np.tile(block_of[:14], len(CORRECTIONS))])
    for number in range(len(WIDTHS)):
        found = known.strangeness(ordinary + 50 * (block_of == number).astype(np.float32))  # no correction helps
        assert found.reason.tolist() == [number]
        assert found.score > known.strangeness(ordinary).score
        assert found.score > known.reference[-1]


def test_orientation_by_hand():
    """Blocks of one feature whose log(1 + distance) is `logs`, network last; then three for each correction."""
    one = LowRankGaussian(np.zeros(1), np.ones(1), np.ones((1, 1)), np.ones(1), 1.0)
    centre, spread = np.array([0, 0, 0, 0, -2.0]), np.array([1, 1, 1, 1, 0.5])
    known = OodStatistics(dict.fromkeys(WIDTHS, one), centre, spread, np.zeros(20, np.float32), 20)
    worse = [[2, 1, 1], [3, 0, 0], [0, 0, 9], [1, 1, 1]]  # at least as strange as the image itself
    helped = [2, 1, 0, 0.5], *worse[:2], [0.5, 0.5, 1], *worse[2:]  # margin 3 - 2, so (1 + 2) / 0.5
    alike = [2, 1, 0, 0.5], *worse, [4, 4, 4]  # margin 3 - 3, so (0 + 2) / 0.5
    ordinary = [1, 0, 0, 7], *[[1, 1, 1]] * 5  # margin 1 - 3
    logs = np.array([np.concatenate(image) for image in (helped, alike, ordinary)])
    found = known.strangeness(np.sqrt(np.expm1(logs)))
    np.testing.assert_allclose(found.score, [6, 4, 7], rtol=1e-5)
    assert [list(REASONS)[place] for place in found.reason] == ["orientation", "orientation", "network"]
    assert found.correction.tolist() == [2, -1, -1]
    assert found.corrected[0] == pytest.approx(1.0)  # the largest of 0.5, 0.5 and 1


def test_an_image_that_is_itself_a_correction_of_ordinary_ones():
    """Image and first correction change places: most ordinary-looking blocks, and yet unusual."""
    known = statistics()
    right = rows(50, 3)
    turned = right.copy()
    turned[:, :14], turned[:, 18:32] = right[:, 18:32], right[:, :14]
    found = known.strangeness(turned)
    assert (found.score > known.cut_off(0.05).score).mean() > 0.9
    assert (found.correction == 0).mean() > 0.9
    assert (known.strangeness(right).correction == -1).mean() > 0.9


def test_rows_are_placed_and_scaled_by_the_patients_of_the_gaussians():
    features, held_out = rows(100, 0), rows(200, 7)
    known = OodStatistics.learn(features, held_out, WIDTHS)
    by_row = by_hand(known, held_out)
    of_known = by_hand(known, features)
    centre = np.median(of_known, axis=0)
    scaled = (by_row - centre) / (np.quantile(of_known, 0.95, axis=0) - centre)
    np.testing.assert_allclose(np.sort(scaled.max(axis=1)), known.reference, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.sort(known.strangeness(held_out).score), known.reference)


def by_hand(known, features):
    """Return the rows (n, 5), one image and one correction after the other."""
    found = []
    for image in features:
        own, corrected = image[:18], image[18:].reshape(len(CORRECTIONS), 14)
        edges = {"layout": (0, 6), "texture": (6, 11), "brightness": (11, 14), "network": (14, 18)}
        by_block = {name: known.gaussians[name].distance(own[None, a:b])[0] for name, (a, b) in edges.items()}
        logs = [np.log(1 + distance) for distance in by_block.values()]
        sums = []
        for one in corrected:
            pixels = [known.gaussians[name].distance(one[None, a:b])[0] for name, (a, b) in [*edges.items()][:3]]
            sums.append(sum(np.log(1 + distance) for distance in pixels))
        found.append([*logs, sum(logs[:3]) - min(sums)])
    return np.array(found)


# -- p-values


def test_p_values_by_hand():
    known = with_reference([1, 2, 2, 3])
    found = known.p_values(np.array([0, 1, 2, 2.5, 3, 4, np.nan], np.float32))
    np.testing.assert_allclose(found, [1, 1, 0.8, 0.4, 0.4, 0.2, np.nan])


@settings(max_examples=50, deadline=None)
@given(
    reference=st.lists(st.floats(-5, 5, width=32), min_size=20, max_size=60),
    scores=st.lists(st.floats(-6, 6, width=32), min_size=2, max_size=10),
    rate=st.floats(0.05, 0.95),
)
def test_p_values_fall_as_scores_rise(reference, scores, rate):
    known = with_reference(reference)
    scores = np.sort(np.asarray(scores, np.float32))
    p_values = known.p_values(scores)
    assert (np.diff(p_values) <= 0).all()
    assert ((p_values > 0) & (p_values <= 1)).all()
    unusual = scores > known.cut_off(rate).score  # cut-off and p-value speak of the same order
    assert p_values[unusual].max(initial=0) <= p_values[~unusual].min(initial=1)
    assert (p_values[unusual] <= rate + 1e-9).all()


def test_p_values_of_ordinary_images_are_uniform():
    """Over 150 data sets of 39 held-out patients and 20 new images; standard errors are 0.003 to 0.007.

    Scores placed and scaled by the held-out patients would be at most 0.1 for 15% of new images.
    """
    found = []
    for seed in range(150):
        known = OodStatistics.learn(rows(40, 3 * seed), rows(39, 3 * seed + 1), WIDTHS)
        found.append(known.p_values(known.strangeness(rows(20, 3 * seed + 2)).score))
    for level in (0.05, 0.1, 0.5):
        assert abs(np.mean(np.array(found) <= level) - level) < 0.02


# -- cut-offs


@pytest.mark.parametrize(("n", "rate"), [(59, 0.05), (100, 0.05), (171, 0.05), (400, 0.01), (150, 0.2)])
def test_cut_off_agrees_with_clopper_and_pearson(n, rate):
    known = with_reference(np.arange(n))
    cut_off = known.cut_off(rate)
    assert cut_off.is_certain
    allowed = int((known.reference > cut_off.score).sum())

    def bound(k):
        return binomtest(k, n, alternative="less").proportion_ci(0.95, "exact").high

    assert bound(allowed) <= rate < bound(allowed + 1)


def test_rate_is_kept_with_confidence():
    """Scores are uniform, so the rate behind a cut-off c is 1 - c."""
    rng = np.random.default_rng(0)
    rates = np.array([1 - with_reference(rng.uniform(size=150)).cut_off(0.05).score for _ in range(2000)])
    assert 0.01 < np.mean(rates > 0.05) < 0.065
    assert rates.mean() > 0.015  # k + 1 = 3 of 151


def test_with_few_patients_it_holds_on_average():
    rng = np.random.default_rng(0)
    found = [with_reference(rng.uniform(size=40)).cut_off(0.05) for _ in range(2000)]
    assert not any(one.is_certain for one in found)
    assert np.mean([1 - one.score for one in found]) == pytest.approx(2 / 41, abs=0.004)


def test_a_rate_that_nobody_can_tell():
    with pytest.raises(InvalidParameterError, match=r"at least 0.0244, for want of more than 40 held-out patients"):
        with_reference(np.arange(40)).cut_off(0.01)
    for bad in (0, 1, -0.1, float("nan")):
        with pytest.raises(InvalidParameterError, match="false_alarm_rate"):
            statistics().cut_off(bad)
    with pytest.raises(InvalidTypeError, match="false_alarm_rate"):
        statistics().cut_off("5%")


# -- what is kept of patients


@settings(max_examples=30, deadline=None)
@given(n_patients=st.integers(PATIENTS, 130), seed=st.integers(0, 1000))
def test_no_more_components_than_one_for_twenty_patients(n_patients, seed):
    known = OodStatistics.learn(rows(n_patients, seed), rows(PATIENTS, seed + 1), WIDTHS)
    assert known.n_patients == n_patients
    for gaussian in known.gaussians.values():
        assert len(gaussian.components) <= n_patients // PATIENTS


def test_under_twenty_patients_nothing_is_kept():
    for sizes in ((PATIENTS - 1, 100), (100, PATIENTS - 1)):
        with pytest.raises(InvalidParameterError, match="of 20 patients at least"):
            OodStatistics.learn(rows(sizes[0], 0), rows(sizes[1], 1), WIDTHS)


@pytest.mark.parametrize("n_patients", [20, 40, 60, 100, 400])
def test_an_odd_patient_makes_no_component(n_patients):
    """Plain PCA has a component that is this patient, with a correlation above 0.9."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(1, 64))
    features = rng.normal(size=(n_patients, 1)) @ shape + 0.5 * rng.normal(size=(n_patients, 64))
    features[0] = 100 * rng.normal(size=64)
    gaussian = LowRankGaussian.fit(features)
    own = (features[0] - gaussian.mean) / gaussian.scale
    likeness = np.abs(gaussian.components @ own) / np.linalg.norm(own)
    assert likeness.max(initial=0) < 0.6
    plain = PCA(n_patients // PATIENTS).fit((features - gaussian.mean) / gaussian.scale).components_
    assert np.abs(plain @ own).max() / np.linalg.norm(own) > 0.9


def test_only_sorted_scores_are_kept_of_held_out_patients():
    known = statistics(n_held_out=60)
    sizes = {name: array.shape for name, array in known.arrays().items()}
    assert sizes["reference"] == (60,)
    assert (np.diff(known.reference) >= 0).all()
    assert max(shape[0] for name, shape in sizes.items() if name.endswith("components")) <= 5


# -- stored and read back


def test_arrays_there_and_back():
    known = statistics()
    again = OodStatistics.from_arrays(known.arrays(), known.n_patients, WIDTHS)
    for mine, theirs in zip(known.strangeness(rows(30, 8)), again.strangeness(rows(30, 8)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert again.cut_off(0.05) == known.cut_off(0.05)


def damaged(name, change):
    arrays = dict(statistics().arrays())
    arrays[name] = change(arrays[name])
    return arrays


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("centre", lambda a: a[:-1], "not as the model needs"),
        ("spread", lambda a: a[:-1], "not as the model needs"),
        ("centre", lambda a: a + 1e6, "out of range"),
        ("spread", lambda a: a * 0, "out of range"),
        ("reference", lambda a: a[::-1].copy(), "ascending"),
        ("reference", lambda a: a[:10], "scores of 20 patients"),
        ("layout.mean", lambda a: a * np.nan, "not as the model needs"),
        ("layout.mean", lambda a: a.astype(np.float64), "not as the model needs"),
        ("layout.mean", lambda a: a[None], "not as the model needs"),
        ("texture.scale", lambda a: a * 0, "must be above 0"),
        ("network.noise", lambda a: -a, "must be above 0"),
        ("network.variances", lambda a: a[:0], "not as the model needs"),
        ("network.components", lambda a: a[:, :-1], "not as the model needs"),
    ],
)
def test_damaged_arrays_are_refused(name, change, message):
    with pytest.raises(ModelFolderError, match=message):
        OodStatistics.from_arrays(damaged(name, change), 100, WIDTHS)


def test_missing_and_unknown_arrays_and_too_many_components_are_refused():
    arrays = statistics().arrays()
    for wrong in ({**arrays, "more": arrays["centre"]}, {k: v for k, v in arrays.items() if k != "layout.variances"}):
        with pytest.raises(ModelFolderError, match="missing or unknown"):
            OodStatistics.from_arrays(wrong, 100, WIDTHS)
    with pytest.raises(ModelFolderError, match="components of only 30 patients"):
        OodStatistics.from_arrays(arrays, 30, WIDTHS)
    with pytest.raises(InvalidParameterError, match="n_patients"):
        OodStatistics.from_arrays(arrays, 3, WIDTHS)


# -- sentences


def test_sentences():
    check = ImageCheck(
        score=np.array([0.1, 9.0, 9.0, 9.0, np.nan], np.float32),
        p_value=np.array([0.36, 0.01, 0.02, 0.01, np.nan]),
        is_unusual=np.array([False, True, True, True, None]),
        reason=np.array([None, "brightness", "layout", "orientation", None]),
        correction=np.array([None, "inverted", None, "rotated_180", None]),
        false_alarm_rate=0.05,
        is_certain=True,
        n_held_out=99,
    )
    assert len(check) == 5
    ordinary, negative, other, turned, unreadable = check.sentences
    assert ordinary == "This image is like those the model was trained on: stranger than 64.6% of 99 held-out ones."
    assert negative == (
        "This image is unlike those the model was trained on: stranger than all 99 held-out ones, most of all in its "
        "brightness and contrast. It is more like them when inverted, so it may be a negative. Do not rely on the "
        "probability."
    )
    assert "stranger than 99.0% of 99 held-out ones, most of all in where it is bright and dark. Do not" in other
    assert "most of all in its orientation or polarity. It is more like them when turned by 180 degrees" in turned
    assert unreadable == "This image could not be read."
