"""Retrieval of similar cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from cxr_estimator.curation import SimilarCases
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from tests.conftest import small_classifier


def test_neighbours_are_those_of_the_largest_cosine(fitted, phantoms):
    found = SimilarCases(fitted, phantoms.X[:40], phantoms.y[:40]).query(phantoms.X[40:43], k=4)
    cosine = cosine_similarity(fitted.transform(phantoms.X[40:43]), fitted.transform(phantoms.X[:40]))
    expected = np.argsort(-cosine, axis=1)[:, :4]
    assert found["position"].to_numpy().reshape(3, 4).tolist() == expected.tolist()
    np.testing.assert_allclose(found["similarity"], np.take_along_axis(cosine, expected, 1).ravel(), atol=1e-5)
    assert found["query"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found["rank"].tolist() == [1, 2, 3, 4] * 3
    assert found["label"].tolist() == phantoms.y[expected.ravel()].tolist()
    assert not found["same_image"].any()


def test_the_same_image_comes_first_unless_it_is_left_out(fitted, phantoms):
    cases = SimilarCases(fitted, np.concatenate([phantoms.X[:10], phantoms.X[:1]]))
    assert "label" not in cases.query(phantoms.X[:1], k=1)
    with_it = cases.query(phantoms.X[[0, 20]], k=3)
    assert with_it["same_image"].tolist() == [True, True, False, False, False, False]
    assert with_it["similarity"][:2].tolist() == pytest.approx([1, 1])
    without = cases.query(phantoms.X[[0, 20]], k=3, exclude_same=True)
    assert not without["same_image"].any()
    assert without["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert without["position"][0] == with_it["position"][2]
    assert without["position"][3:].tolist() == with_it["position"][3:].tolist()


def test_more_neighbours_than_cases(fitted, phantoms):
    cases = SimilarCases(fitted, phantoms.X[:5])
    assert len(cases.query(phantoms.X[:1], k=5)) == len(cases) == 5
    for k, exclude_same in ((6, False), (5, True), (0, False)):
        with pytest.raises(InvalidParameterError, match=r"'k' parameter of SimilarCases\.query"):
            cases.query(phantoms.X[:1], k=k, exclude_same=exclude_same)
    twice = SimilarCases(fitted, phantoms.X[[0, 0]])
    with pytest.raises(DataError, match=r"all 2 known images .* leaves 0 other images"):
        twice.query(phantoms.X[:2], k=1, exclude_same=True)
    assert len(twice.query(phantoms.X[1:2], k=2, exclude_same=True)) == 2


def test_fitting_the_classifier_again_changes_nothing(phantoms):
    clf = small_classifier(max_epochs=1, validation_fraction=0).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    cases = SimilarCases(clf, phantoms.X[:10])
    before = cases.query(phantoms.X[:12], k=3)
    clf.set_params(random_state=1, image_size=40).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    pd.testing.assert_frame_equal(cases.query(phantoms.X[:12], k=3), before)


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SkippedImagesWarning")
def test_unreadable_images_have_no_rows(fitted, phantoms, tmp_path):
    from copy import copy

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    lenient = copy(fitted).set_params(on_error="skip")
    cases = SimilarCases(lenient, [str(broken), *phantoms.X[:4]], ["?", *phantoms.y[:4]])
    assert len(cases) == 4
    found = cases.query([str(broken), phantoms.X[2]], k=1)
    assert found[["query", "position", "label"]].to_numpy().tolist() == [[1, 3, phantoms.y[2]]]
    assert cases.query([str(broken)], k=1).columns.tolist() == found.columns.tolist()
    with pytest.raises(DataError, match="none of the 1 images"):
        SimilarCases(lenient, [str(broken)])


def test_bad_input(fitted, phantoms):
    with pytest.raises(InvalidTypeError, match="a CXRClassifier"):
        SimilarCases("resnet18", phantoms.X)
    with pytest.raises(DataError, match="y must have one entry"):
        SimilarCases(fitted, phantoms.X, ["NORMAL"])
    with pytest.raises(ValueError, match="not fitted"):
        SimilarCases(small_classifier(), phantoms.X)
