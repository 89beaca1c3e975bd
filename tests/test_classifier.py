"""CXRClassifier: fit, predict, thresholds, explain, save and load."""

from __future__ import annotations

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from cxr_estimator import CXRClassifier
from cxr_estimator.errors import (
    CXRError,
    DataError,
    ImageError,
    InvalidParameterError,
    InvalidTypeError,
    ModelFolderError,
    PatientLeakWarning,
    SkippedImagesWarning,
)
from cxr_estimator.inference import Logits
from tests.conftest import small_classifier

# -- fit and predict


def test_fitted_attributes(fitted):
    assert fitted.classes_.tolist() == ["NORMAL", "PNEUMONIA"]
    assert fitted.pos_label_ == "PNEUMONIA"
    assert fitted.threshold_ == 0.5
    assert isinstance(fitted.model_, torch.nn.Module)
    assert not fitted.model_.training
    expected = ["epoch", "train_loss", "val_loss", "val_auroc", "learning_rate", "seconds", "best"]
    assert fitted.history_.columns.tolist() == expected
    assert fitted.history_["best"].sum() == 1
    assert fitted.skipped_ == ()
    assert fitted.preprocessing_.image_size == 32


def test_outputs_agree(fitted, phantoms):
    proba = fitted.predict_proba(phantoms.X)
    assert proba.shape == (80, 2)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-fitted.decision_function(phantoms.X))))
    predicted = fitted.predict(phantoms.X)
    assert (predicted == np.where(proba[:, 1] >= 0.5, "PNEUMONIA", "NORMAL")).all()
    assert fitted.score(phantoms.X, phantoms.y) == (predicted == phantoms.y).mean()


def test_every_kind_of_input_gives_the_same(fitted, phantoms, tmp_path):
    arrays = phantoms.X[:4]
    expected = fitted.predict_proba(arrays)
    for i, image in enumerate(arrays):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for X in (
        paths,
        [str(path) for path in paths],
        np.array([str(path) for path in paths]),
        [Image.fromarray(image) for image in arrays],
        list(arrays),
        arrays[..., None],
        torch.from_numpy(arrays)[:, None],
        [paths[0], arrays[1], Image.fromarray(arrays[2]), torch.from_numpy(arrays[3])],
    ):
        np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-6)
    sixteen = arrays.astype(np.uint16) * 257
    np.testing.assert_allclose(fitted.predict_proba(sixteen), expected, atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(arrays / 255.0), expected, atol=1e-4)


def test_a_row_does_not_depend_on_its_neighbours(fitted, phantoms):
    together = fitted.predict_proba(phantoms.X[:9])
    for i in (0, 4, 8):
        np.testing.assert_allclose(fitted.predict_proba(phantoms.X[i : i + 1])[0], together[i], atol=1e-6)


def test_what_most_tests_use_tells_both_classes(fitted, phantoms):
    decided = fitted.predict(phantoms.X)
    assert (decided == phantoms.y).mean() > 0.65
    assert all((decided == label).sum() > 20 for label in fitted.classes_)


def test_exactly_repeatable(fitted, phantoms):
    again = small_classifier().fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert (again.predict_proba(phantoms.X) == fitted.predict_proba(phantoms.X)).all()
    other = small_classifier(random_state=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert (other.predict_proba(phantoms.X) != fitted.predict_proba(phantoms.X)).any()


def test_fit_leaves_the_global_generators_alone(phantoms):
    torch.manual_seed(5)
    np.random.seed(5)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    small_classifier(max_epochs=1).fit(phantoms.X[:20], phantoms.y[:20], groups=phantoms.groups[:20])
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_numpy).all()


@pytest.mark.parametrize(
    "labels", [[0, 1], [1, 0], [True, False], ["b", "a"], [2.0, -1.0], np.array(["x", "yy"], dtype=object)]
)
def test_labels_of_any_kind_and_order(phantoms, labels):
    sick = phantoms.y == "PNEUMONIA"
    y = np.where(sick, labels[1], labels[0])
    clf = small_classifier(pos_label=labels[1], max_epochs=1).fit(phantoms.X, y, groups=phantoms.groups)
    assert clf.classes_.tolist() == sorted(labels)
    assert clf.predict(phantoms.X[:3]).dtype == clf.classes_.dtype
    assert set(clf.predict(phantoms.X).tolist()) <= set(labels)


def test_the_positive_label_may_come_first(phantoms):
    """ "abnormal" sorts before "normal": thresholds must follow the label, not the alphabet."""
    y = np.where(phantoms.y == "PNEUMONIA", "abnormal", "normal")
    clf = small_classifier(pos_label="abnormal").fit(phantoms.X, y, groups=phantoms.groups)
    proba = clf.predict_proba(phantoms.X)
    assert clf.classes_.tolist() == ["abnormal", "normal"]
    clf.set_threshold(0.3)
    assert (clf.predict(phantoms.X) == np.where(proba[:, 0] >= 0.3, "abnormal", "normal")).all()
    clf.set_threshold("sensitivity", at_least=0.9, X=phantoms.X, y=y)
    sick = y == "abnormal"
    assert (clf.predict(phantoms.X)[sick] == "abnormal").mean() >= 0.9
    assert clf.operating_points_["default"].sensitivity.value == (clf.predict(phantoms.X)[sick] == "abnormal").mean()


def test_default_positive_label_is_the_second(phantoms):
    clf = small_classifier(pos_label=None, max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert clf.pos_label_ == "PNEUMONIA"


def test_three_classes_in_colour(three_classes):
    X, y, clf = three_classes
    assert clf.classes_.tolist() == ["blue", "green", "red"]
    assert clf.pos_label_ is None
    assert clf.threshold_ is None
    proba = clf.predict_proba(X)
    assert proba.shape == (60, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert clf.decision_function(X).shape == (60, 3)
    assert (clf.predict(X) == clf.classes_[proba.argmax(axis=1)]).all()
    assert clf.score(X, y) > 0.9
    with pytest.raises(InvalidParameterError, match="unless there are two classes"):
        clf.set_threshold(0.5)


def test_weights_shift_the_probabilities(phantoms):
    def mean_probability(**options):
        fit_options = {"sample_weight": options.pop("sample_weight", None), "groups": phantoms.groups}
        clf = small_classifier(max_epochs=10, patience=10, learning_rate=3e-3, **options)
        clf.fit(phantoms.X, phantoms.y, **fit_options)
        return clf.predict_proba(phantoms.X)[:, 1].mean()

    plain = mean_probability()
    assert mean_probability(class_weight={"NORMAL": 1, "PNEUMONIA": 5}) > plain + 0.05
    assert mean_probability(sample_weight=np.where(phantoms.y == "NORMAL", 5.0, 1.0)) < plain - 0.05
    assert mean_probability(class_weight="balanced") == pytest.approx(plain, abs=0.15)


# -- patients


def test_unknown_patients_are_warned_of(phantoms):
    with pytest.warns(PatientLeakWarning, match="groups="):
        small_classifier(max_epochs=1).fit(phantoms.X, phantoms.y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_classifier(max_epochs=1, validation_fraction=0).fit(phantoms.X[:20], phantoms.y[:20])


@pytest.fixture
def named_files(phantoms, tmp_path):
    paths = []
    for i, (image, patient) in enumerate(zip(phantoms.X, phantoms.groups, strict=True)):
        paths.append(str(tmp_path / f"{patient}_{i}.png"))
        Image.fromarray(image).save(paths[-1])
    return np.array(paths)


def test_patients_from_file_names(phantoms, named_files, fitted):
    clf = small_classifier(patient_pattern=r"(P\d+)_").fit(named_files, phantoms.y)
    assert (clf.predict_proba(named_files) == fitted.predict_proba(phantoms.X)).all()
    with pytest.raises(DataError, match=r"matches nothing in .*P0000_0\.png"):
        small_classifier(patient_pattern="nobody").fit(named_files, phantoms.y)
    with pytest.raises(InvalidParameterError, match="unless every image is a file"):
        small_classifier(patient_pattern="P").fit(phantoms.X, phantoms.y)
    with pytest.raises(InvalidParameterError, match="regular expression"):
        small_classifier(patient_pattern="(").fit(named_files, phantoms.y)


def test_the_inner_split_keeps_patients_whole(phantoms, monkeypatch):
    from cxr_estimator import _fitting

    seen = {}
    original = _fitting.validation_split

    def spy(classes, encoded, groups, fraction, seed):
        train, validation = original(classes, encoded, groups, fraction, seed)
        seen["shared"] = set(groups[train]) & set(groups[validation])
        seen["validation"] = len(validation)
        return train, validation

    monkeypatch.setattr(_fitting, "validation_split", spy)
    small_classifier(max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert seen["shared"] == set()
    assert 8 <= seen["validation"] <= 24


# -- thresholds


@pytest.fixture
def own(fitted):
    return copy.deepcopy(fitted)


def test_set_threshold_by_number_and_rule(own, phantoms):
    assert own.set_threshold(0.25) is own
    assert own.threshold_ == pytest.approx(0.25)
    own.set_threshold("youden", X=phantoms.X, y=phantoms.y, name="balanced")
    own.set_threshold("specificity", at_least=0.9, X=phantoms.X, y=phantoms.y, name="rule_in")
    assert list(own.operating_points_) == ["default", "balanced", "rule_in"]
    assert own.threshold_ == own.operating_points_["rule_in"].threshold
    healthy = phantoms.y == "NORMAL"
    assert (own.predict(phantoms.X[healthy]) == "NORMAL").mean() >= 0.9


def test_decision_function_is_not_shifted_by_the_threshold(own, phantoms):
    before = own.decision_function(phantoms.X)
    own.set_threshold(0.9)
    assert (own.decision_function(phantoms.X) == before).all()


def test_a_rule_in_the_constructor_uses_the_inner_validation_split(phantoms):
    clf = small_classifier(threshold="sensitivity>=0.9", max_epochs=2)
    clf.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    point = clf.operating_points_["default"]
    assert (point.rule, point.options) == ("sensitivity", {"at_least": 0.9})
    assert point.sensitivity.value >= 0.9
    assert len(point.fingerprint) == point.n_images
    assert 8 <= point.n_images <= 24


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("median",), InvalidParameterError, "one of 'youden', 'sensitivity', 'specificity'"),
        (("sensitivity",), InvalidParameterError, "'at_least' parameter of set_threshold"),
        ((1.0,), InvalidParameterError, "< 1.0"),
        ((None,), InvalidTypeError, "'threshold' parameter of set_threshold"),
        (("youden",), InvalidParameterError, "'X' parameter of set_threshold must be given"),
    ],
)
def test_bad_thresholds(own, arguments, error, message):
    with pytest.raises(error, match=message):
        own.set_threshold(*arguments)
    assert own.threshold_ == 0.5


def test_thresholds_need_both_labels_and_known_ones(own, phantoms):
    healthy = phantoms.y == "NORMAL"
    with pytest.raises(DataError, match="both labels"):
        own.set_threshold("youden", X=phantoms.X[healthy], y=phantoms.y[healthy])
    with pytest.raises(DataError, match=r"does not know: \['COVID'\]"):
        own.set_threshold("youden", X=phantoms.X[:2], y=["NORMAL", "COVID"])
    with pytest.raises(DataError, match="2 images but y has 1"):
        own.set_threshold("youden", X=phantoms.X[:2], y=["NORMAL"])


# -- bad input


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("backbone", "resnet_18"),
        ("image_size", 0),
        ("image_size", 31.5),
        ("channels", 2),
        ("resize", "fold"),
        ("intensity", "max"),
        ("intensity", (1, 0)),
        ("pretrained", "weights.pth"),
        ("pos_label", "COVID"),
        ("threshold", 1.5),
        ("threshold", "best"),
        ("max_epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1),
        ("label_smoothing", 1),
        ("class_weight", {"COVID": 2}),
        ("augment", "wild"),
        ("validation_fraction", 0.9),
        ("patience", 0),
        ("device", "tpu7"),
        ("on_error", "ignore"),
        ("random_state", -1),
        ("random_state", "seed"),
        ("image_shape", (5, 5, 5)),
        ("image_shape", 28),
        ("n_jobs", 0),
        ("verbose", None),
    ],
)
def test_bad_parameters_are_named(phantoms, parameter, value):
    X = phantoms.X.reshape(80, -1) if parameter == "image_shape" else phantoms.X
    with pytest.raises(CXRError, match=f"'{parameter}' parameter of"):
        small_classifier(**{parameter: value}).fit(X, phantoms.y, groups=phantoms.groups)


def test_rule_without_validation_split(phantoms):
    with pytest.raises(InvalidParameterError, match="where validation_fraction is 0"):
        small_classifier(threshold="youden", validation_fraction=0).fit(phantoms.X, phantoms.y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, np.full(80, "NORMAL")), "only one class"),
        (lambda X, y: (X[:79], y), "79 images but y has 80"),
        (lambda X, y: (X, np.where(np.arange(80) == 3, np.nan, np.arange(80) % 2)), "at index 3"),
        (lambda X, y: (X, [None if i == 5 else label for i, label in enumerate(y)]), "at index 5"),
        (lambda X, y: (X, np.random.default_rng(0).random(80)), "continuous"),
        (lambda X, y: (X, y[:, None, None]), "one label per image"),
        (lambda X, y: (X[[0, 1, 2, 3]], ["a", "a", "a", "b"]), "too few"),
        (lambda X, y: (X[:0], y[:0]), "X is empty"),
    ],
)
def test_bad_data(phantoms, change, message):
    X, y = change(phantoms.X, phantoms.y)
    with pytest.raises(DataError, match=message):
        small_classifier(pos_label=None).fit(X, y, groups=np.arange(len(y)))


def test_bad_groups_and_weights(phantoms):
    X, y = phantoms.X, phantoms.y
    with pytest.raises(DataError, match="groups must have one entry"):
        small_classifier().fit(X, y, groups=[1, 2])
    with pytest.raises(DataError, match="sample_weight must have one entry"):
        small_classifier().fit(X, y, groups=phantoms.groups, sample_weight=[1])
    with pytest.raises(DataError, match="missing"):
        small_classifier().fit(X, y, groups=phantoms.groups, sample_weight=np.full(80, np.nan))
    for weights in (np.full(80, -1.0), np.full(80, np.inf), np.zeros(80)):
        with pytest.raises(DataError, match="finite, not negative"):
            small_classifier().fit(X, y, groups=phantoms.groups, sample_weight=weights)


@pytest.mark.parametrize(
    "call",
    [
        lambda clf: clf.predict(np.zeros((1, 8, 8))),
        lambda clf: clf.predict_proba(np.zeros((1, 8, 8))),
        lambda clf: clf.decision_function(np.zeros((1, 8, 8))),
        lambda clf: clf.explain(np.zeros((1, 8, 8))),
        lambda clf: clf.set_threshold(0.5),
        lambda clf: clf.save("nowhere"),
        lambda clf: clf.threshold_,
    ],
)
def test_unfitted_use(call):
    with pytest.raises(NotFittedError):
        call(CXRClassifier())


def test_one_image_is_no_batch(fitted, phantoms):
    with pytest.raises(DataError, match=r"pass image\[None\]"):
        fitted.predict(phantoms.X[0])
    with pytest.raises(InvalidTypeError, match=r"pass \[image\]"):
        fitted.predict("one.png")
    assert fitted.predict(phantoms.X[0][None]).shape == (1,)


def test_a_failed_fit_leaves_the_fitted_model_alone(own, phantoms):
    before = own.predict_proba(phantoms.X[:4])
    own.set_params(batch_size=16)
    with pytest.raises(ImageError):
        own.fit([*phantoms.X[:40], np.full((8, 8), np.inf)], [*phantoms.y[:40], "NORMAL"], groups=np.arange(41))
    assert (own.predict_proba(phantoms.X[:4]) == before).all()


@pytest.fixture
def with_bad_files(phantoms, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"this is no image")
    return [*phantoms.X[:30], str(bad), str(tmp_path / "missing.png")], [*phantoms.y[:30], "NORMAL", "PNEUMONIA"]


def test_bad_files_raise_by_default(with_bad_files):
    X, y = with_bad_files
    with pytest.raises(ImageError, match=r"bad\.png: this is no readable PNG, JPEG, TIFF or DICOM image"):
        small_classifier().fit(X, y, groups=np.arange(32))


def test_bad_files_can_be_skipped_and_are_listed(with_bad_files):
    X, y = with_bad_files
    clf = small_classifier(on_error="skip", max_epochs=1)
    with pytest.warns(SkippedImagesWarning, match=r"2 image\(s\)[\s\S]*bad\.png[\s\S]*missing\.png"):
        clf.fit(X, y, groups=np.arange(32))
    assert [item.position for item in clf.skipped_] == [30, 31]
    with pytest.warns(SkippedImagesWarning):
        proba = clf.predict_proba(X)
    assert proba.shape == (32, 2)
    assert np.isnan(proba).all(axis=1).tolist() == [False] * 30 + [True] * 2
    with pytest.warns(SkippedImagesWarning):
        labels = clf.predict(X)
    assert [label is None for label in labels] == [False] * 30 + [True] * 2
    with pytest.warns(SkippedImagesWarning):
        explanation = clf.explain(X[28:])
    assert explanation.index.tolist() == [0, 1]
    with pytest.warns(SkippedImagesWarning):
        clf.set_threshold("youden", X=X, y=y)
    assert clf.operating_points_["default"].n_images == 30


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SkippedImagesWarning")
def test_nothing_readable(fitted, own):
    with pytest.raises(DataError, match="none of the 4 images could be read"):
        small_classifier(on_error="skip", validation_fraction=0, pos_label=None).fit(["a", "b", "c", "d"], [0, 1, 0, 1])
    own.set_params(on_error="skip")
    with pytest.raises(DataError, match="none of the 1 images could be read"):
        own.explain(["a"])


# -- explain


def test_targets(fitted, phantoms):
    X, y = phantoms.X[:6], phantoms.y[:6]
    z = fitted.decision_function(X)
    np.testing.assert_allclose(fitted.explain(X, target="NORMAL").score, -z, atol=1e-5)
    assert fitted.explain(X, y, target="true").target.tolist() == y.tolist()
    assert fitted.explain(X).target.tolist() == fitted.predict(X).tolist()
    with pytest.raises(InvalidParameterError, match="one of 'NORMAL', 'PNEUMONIA', 'predicted', 'true', 'margin'"):
        fitted.explain(X, target="COVID")
    with pytest.raises(InvalidParameterError, match="'y' parameter of explain must be given"):
        fitted.explain(X, target="true")
    with pytest.raises(DataError, match="does not know"):
        fitted.explain(X, ["COVID"] * 6, target="true")
    with pytest.raises(DataError, match="X is empty"):
        fitted.explain(X[:0])


def test_chunks_equal_the_whole(fitted, phantoms):
    whole = fitted.explain(phantoms.X[:40], phantoms.y[:40])
    chunks = list(fitted.iter_explain(phantoms.X[:40], phantoms.y[:40]))
    assert [len(chunk) for chunk in chunks] == [16, 16, 8]
    assert (np.concatenate([chunk.values for chunk in chunks]) == whole.values).all()
    assert whole.index.tolist() == list(range(40))
    with pytest.raises(InvalidParameterError):  # at the call, not at the first chunk
        fitted.iter_explain(phantoms.X, method="none")


# -- copies


def by_pickle(clf, _):
    return pickle.loads(pickle.dumps(clf))


def by_copy(clf, _):
    return copy.copy(clf)


def by_deepcopy(clf, _):
    return copy.deepcopy(clf)


def by_file(clf, tmp_path):
    joblib.dump(clf, tmp_path / "clf.joblib")
    return joblib.load(tmp_path / "clf.joblib")


def by_folder(clf, tmp_path):
    return CXRClassifier.load(clf.save(tmp_path / "model"))


@pytest.mark.parametrize(
    "duplicate",
    [by_pickle, by_copy, by_deepcopy, by_file, by_folder],
)
def test_copies_are_equal(own, phantoms, tmp_path, duplicate):
    own.explain(phantoms.X[:1])  # a used model must be copyable too
    own.set_threshold("youden", X=phantoms.X, y=phantoms.y, name="balanced")
    again = duplicate(own, tmp_path)
    assert (again.predict_proba(phantoms.X) == own.predict_proba(phantoms.X)).all()
    assert (again.predict(phantoms.X) == own.predict(phantoms.X)).all()
    assert again.get_params() == own.get_params()
    assert again.operating_points_ == own.operating_points_
    assert again.threshold_ == own.threshold_
    assert again.classes_.dtype == own.classes_.dtype
    assert again.preprocessing_ == own.preprocessing_
    assert again.history_.equals(own.history_)
    assert not again.model_.training
    assert (again.explain(phantoms.X[:2]).values == own.explain(phantoms.X[:2]).values).all()


def test_clone_keeps_every_parameter_and_no_fit(fitted):
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        again.predict(np.zeros((1, 8, 8)))


def test_folder_keeps_unusual_parameters(phantoms, tmp_path):
    weights = {"NORMAL": 1.0, "PNEUMONIA": 2.0}
    options = {"class_weight": weights, "intensity": (0, 255), "random_state": np.random.RandomState(0)}
    clf = small_classifier(**options, max_epochs=1)
    clf.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    again = CXRClassifier.load(clf.save(tmp_path / "model"))
    assert again.class_weight == clf.class_weight
    assert again.intensity == (0, 255)
    assert again.random_state is None
    assert (again.predict_proba(phantoms.X) == clf.predict_proba(phantoms.X)).all()


def test_folder_of_several_classes(three_classes, tmp_path):
    X, _, clf = three_classes
    again = CXRClassifier.load(clf.save(tmp_path / "model"))
    assert (again.predict_proba(X) == clf.predict_proba(X)).all()
    assert again.predict(X).tolist() == clf.predict(X).tolist()


def test_saving_twice_replaces_the_model(own, phantoms, tmp_path):
    own.save(tmp_path / "model")
    own.set_threshold(0.75)
    own.save(tmp_path / "model")
    assert CXRClassifier.load(tmp_path / "model").threshold_ == pytest.approx(0.75)


# -- after set_params, in threads, with names that clash


@pytest.mark.parametrize("changes", [{"batch_size": -1}, {"batch_size": 0}, {"on_error": "foo"}, {"n_jobs": 0}])
def test_parameters_are_checked_again_before_predicting(own, phantoms, changes):
    own.set_params(**changes)
    with pytest.raises(CXRError, match=f"'{next(iter(changes))}' parameter"):
        own.predict(phantoms.X[:3])


def test_a_changed_architecture_waits_for_the_next_fit(own, phantoms, tmp_path):
    before = own.predict_proba(phantoms.X[:3])
    own.set_params(backbone="resnet18", image_size=64)
    assert (own.predict_proba(phantoms.X[:3]) == before).all()
    again = CXRClassifier.load(own.save(tmp_path / "model"))
    assert (again.backbone, again.image_size) == ("plain_cnn", 32)
    assert (again.predict_proba(phantoms.X[:3]) == before).all()


def test_nan_always_means_unreadable(own, phantoms):
    with torch.no_grad():
        own.model_.head.bias.fill_(float("nan"))
    with pytest.raises(ModelFolderError, match=r"no finite output for X\[0\]"):
        own.predict_proba(phantoms.X[:2])


@pytest.mark.parametrize("name", ["", 5, ["a"]])
def test_operating_points_need_a_name(own, name):
    with pytest.raises(InvalidTypeError, match="'name' parameter of set_threshold"):
        own.set_threshold(0.5, name=name)


def test_a_number_has_no_at_least(own):
    with pytest.raises(InvalidParameterError, match="left out for a number"):
        own.set_threshold(0.5, at_least=0.9)


@pytest.mark.parametrize("weights", ["heavy", {"NORMAL": -1}, {"NORMAL": float("nan")}, {"NORMAL": 0, "PNEUMONIA": 0}])
def test_bad_class_weights(phantoms, weights):
    with pytest.raises(CXRError, match="'class_weight' parameter"):
        small_classifier(class_weight=weights).fit(phantoms.X, phantoms.y, groups=phantoms.groups)


def test_a_class_called_like_a_rule_is_ambiguous(phantoms):
    y = np.where(phantoms.y == "NORMAL", "other", "true")
    clf = small_classifier(pos_label="true", max_epochs=1).fit(phantoms.X, y, groups=phantoms.groups)
    with pytest.raises(InvalidParameterError, match="unambiguous"):
        clf.explain(phantoms.X[:2], y[:2], target="true")
    assert clf.explain(phantoms.X[:2], target="other").target.tolist() == ["other"] * 2


def test_cut_offs_are_applied_as_precisely_as_they_are_chosen(own, monkeypatch, phantoms):
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2))
    monkeypatch.setattr(type(own), "_logits", lambda self, X: np.array([[low], [high]], dtype=np.float32))
    found = Logits(own._logits(None), (), ("a", "b"))
    monkeypatch.setattr("cxr_estimator.CXRClassifier._run", lambda clf, X: found)
    own.set_threshold("youden", X=phantoms.X[:2], y=["NORMAL", "PNEUMONIA"])
    assert own.predict(phantoms.X[:2]).tolist() == ["NORMAL", "PNEUMONIA"]


@pytest.mark.parametrize("labels", [[b"a", b"b"], [1j, 2j], [0.0, float("inf")], np.array(["2020", "2021"], "M8[D]")])
def test_labels_that_could_not_be_saved_are_refused(phantoms, labels):
    y = np.array(labels)[np.arange(80) % 2]
    with pytest.raises(DataError, match="labels must be text, finite numbers or booleans"):
        small_classifier(pos_label=None).fit(phantoms.X, y, groups=phantoms.groups)


def test_image_shape_is_for_rows(phantoms):
    with pytest.raises(InvalidParameterError, match="None unless X is a 2-D array"):
        small_classifier(image_shape=(32, 32)).fit(phantoms.X, phantoms.y, groups=phantoms.groups)


def test_a_class_without_readable_images_is_named(phantoms):
    X, y = [*phantoms.X[:20], "a.png", "b.png"], ["NORMAL"] * 20 + ["PNEUMONIA"] * 2
    clf = small_classifier(on_error="skip", validation_fraction=0)
    with (
        pytest.warns(SkippedImagesWarning),
        pytest.raises(DataError, match=r"of \['PNEUMONIA'\] no image could be read"),
    ):
        clf.fit(X, y)
