"""`fit_ood`, `ood_score` and `check_images` of a classifier."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError

from cxr_estimator import CXRClassifier, _fitting, load_image_folder, make_phantoms, patient_split
from cxr_estimator._checking import check_images, one_per_patient
from cxr_estimator.errors import DataError, InvalidParameterError, ModelFolderError, SkippedImagesWarning
from cxr_estimator.roc import auroc
from tests.conftest import small_classifier
from tests.model_folders import seal


def films(n, seed):
    return make_phantoms(n, 32, difficulty=0.0, images_per_patient=1, random_state=seed)


@pytest.fixture(scope="module")
def watchful():
    """A classifier that kept statistics: 96 patients for them, 64 for the cut-off. Tests must not change it."""
    data = films(160, 0)
    return small_classifier(validation_fraction=0.4).fit(data.X, data.y, groups=data.groups)


@pytest.fixture(scope="module")
def new_films():
    return films(120, 77).X


STRANGE = {
    "noise": lambda films: np.random.default_rng(0).integers(0, 256, films.shape, dtype=np.uint8),
    "blank": np.zeros_like,
    "inverted": lambda films: 255 - films,
    "rotated_90": lambda films: np.rot90(films, 3, (1, 2)),
    "rotated_180": lambda films: np.rot90(films, 2, (1, 2)),
    "rotated_270": lambda films: np.rot90(films, 1, (1, 2)),
    "flipped": lambda films: films[:, ::-1],
}


# -- what is found


def test_ordinary_images_are_not_unusual(watchful, new_films):
    check = watchful.check_images(new_films)
    assert check.is_certain
    assert check.n_held_out == len(watchful.ood_.reference) == 64
    assert check.is_unusual.dtype == bool
    assert check.is_unusual.mean() <= 0.05
    assert 0.3 < np.median(check.p_value) < 0.7
    assert (check.reason[~check.is_unusual] == None).all()  # noqa: E711 - of an array
    assert "like those" in check.sentences[int(np.argmin(check.score))]


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_images_are(watchful, new_films, kind):
    strange = STRANGE[kind](new_films)[:40]
    score = np.concatenate([watchful.ood_score(new_films), watchful.ood_score(strange)])
    assert auroc(score, np.arange(len(score)) >= len(new_films)) >= 0.95
    check = watchful.check_images(strange)
    assert check.is_unusual.mean() >= 0.95
    assert all("Do not rely on the probability." in check.sentences[i] for i in np.flatnonzero(check.is_unusual))
    named = check.correction[check.is_unusual] == kind
    if kind in ("noise", "blank"):
        assert (check.correction == None).all()  # noqa: E711 - of an array
    else:
        assert named.mean() >= 0.95
        assert (check.reason == "orientation").mean() >= 0.9


def test_what_stays_strange_is_given_no_correction(watchful, new_films):
    """Random squares often become less strange when turned, but never ordinary."""
    coarse = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    squares = coarse.repeat(8, axis=1).repeat(8, axis=2)
    check = watchful.check_images(squares)
    assert check.is_unusual.mean() >= 0.9
    assert (check.correction == None).mean() >= 0.9  # noqa: E711 - of an array


def test_scores_p_values_and_decisions_agree(watchful, new_films):
    both = np.concatenate([new_films, 255 - new_films[:10]])
    check = watchful.check_images(both, false_alarm_rate=0.2)
    np.testing.assert_array_equal(check.score, watchful.ood_score(both))
    np.testing.assert_array_equal(check.p_value, watchful.ood_.p_values(check.score))
    assert check.is_unusual.sum() > watchful.check_images(both, false_alarm_rate=0.05).is_unusual.sum()
    assert ((check.score > watchful.ood_.cut_off(0.2).score) == check.is_unusual).all()


def test_an_image_is_judged_alone(watchful, new_films):
    together = watchful.check_images(new_films)
    alone = watchful.check_images(new_films[5:6])
    np.testing.assert_allclose(alone.score, together.score[5:6], atol=1e-4)


def test_logits_come_along_in_the_same_pass(watchful, new_films):
    both = np.concatenate([new_films[:20], 255 - new_films[:20]])
    logits, check = check_images(watchful, both, 0.05, with_logits=True)
    np.testing.assert_allclose(logits, watchful._logits(both), atol=1e-5)
    np.testing.assert_array_equal(check.correction, watchful.check_images(both).correction)


def test_unreadable_images_are_rows_of_nan(watchful, new_films, tmp_path):
    clf = copy.copy(watchful).set_params(on_error="skip")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    given = [new_films[0], str(bad), 255 - new_films[1]]
    with pytest.warns(SkippedImagesWarning, match="bad.png"):
        check = clf.check_images(given)
    assert np.isnan(check.score).tolist() == np.isnan(check.p_value).tolist() == [False, True, False]
    assert check.is_unusual.tolist() == [False, None, True]
    assert check.correction.tolist() == [None, None, "inverted"]
    assert check.sentences[1] == "This image could not be read."
    with pytest.warns(SkippedImagesWarning):
        assert np.isnan(clf.ood_score(given)).tolist() == [False, True, False]


# -- how the statistics are made


def test_fit_trains_the_same_network_as_without(watchful, monkeypatch):
    monkeypatch.setattr(_fitting, "learn_from_sides", lambda *arguments: None)
    data = films(160, 0)
    without = small_classifier(validation_fraction=0.4).fit(data.X, data.y, groups=data.groups)
    assert without.ood_ is None
    for name, tensor in watchful.model_.state_dict().items():
        assert torch.equal(tensor, without.model_.state_dict()[name]), name


def test_one_image_of_each_patient():
    patients = np.array(["a", "a", "a", "b", "c", "c"])
    rows = np.array([10, 11, 12, 13, 14, 15])
    seen = set()
    for seed in range(40):
        chosen = one_per_patient(rows, patients, np.random.default_rng(seed))
        assert sorted(patients[chosen - 10]) == ["a", "b", "c"]
        seen |= set(chosen.tolist())
    assert seen == set(rows.tolist())
    assert sorted(one_per_patient(rows, None, np.random.default_rng(0))) == rows.tolist()


def test_fit_takes_statistics_and_cut_off_from_different_patients(fitted):
    """40 patients with two images each, a fifth of them to validate: too few for a cut-off."""
    assert fitted.ood_ is None


def test_fit_ood(fitted, new_films):
    clf = copy.copy(fitted)
    assert clf.fit_ood(new_films, random_state=3) is clf
    assert (clf.ood_.n_patients, len(clf.ood_.reference)) == (60, 60)
    again = copy.copy(fitted).fit_ood(new_films, random_state=3)
    np.testing.assert_array_equal(again.ood_score(new_films), clf.ood_score(new_films))
    other = copy.copy(fitted).fit_ood(new_films, random_state=4)
    assert (other.ood_score(new_films) != clf.ood_score(new_films)).any()
    assert clf.check_images(255 - new_films[:20]).is_unusual.all()


def test_fit_ood_counts_patients(fitted, new_films):
    groups = np.arange(120) // 2
    clf = copy.copy(fitted).fit_ood(new_films, groups=groups)
    assert (clf.ood_.n_patients, len(clf.ood_.reference)) == (30, 30)
    check = clf.check_images(new_films[:1])
    assert not check.is_certain


def test_fit_ood_reads_what_it_can(fitted, new_films, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    clf = copy.copy(fitted).set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning, match="bad.png"):
        clf.fit_ood([*new_films[:50], str(bad)])
    assert clf.ood_.n_patients + len(clf.ood_.reference) == 50


def test_three_classes_in_colour(three_classes):
    X, _, clf = three_classes
    assert clf.ood_ is None
    clf = copy.copy(clf).fit_ood(X)
    noise = np.random.default_rng(1).integers(0, 256, X.shape, dtype=np.uint8)
    assert clf.check_images(noise).is_unusual.all()
    assert clf.check_images(X).is_unusual.mean() <= 0.1
    turned = X[..., [1, 2, 0]]  # other colours of the same brightness, which are those of the other classes
    assert clf.check_images(turned).is_unusual.mean() <= 0.1


def test_several_labels_and_a_transformer(new_films):
    labels = np.random.default_rng(0).integers(0, 2, (120, 2))
    clf = CXRClassifier("test_vit", image_size=32, max_epochs=1, validation_fraction=0.4, random_state=0)
    clf.fit(new_films, labels, groups=np.arange(120))
    assert (clf.ood_.n_patients, len(clf.ood_.reference)) == (72, 48)
    assert clf.check_images(255 - new_films[:20]).is_unusual.mean() > 0.8


# -- saved and loaded


def test_a_folder_keeps_them(watchful, new_films, tmp_path):
    again = CXRClassifier.load(watchful.save(tmp_path / "model"))
    first, second = watchful.check_images(new_films[:30]), again.check_images(new_films[:30])
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert not any("ood" in name for name in again.model_.state_dict())


def test_a_folder_without_them_loads(fitted, watchful, tmp_path):
    assert CXRClassifier.load(fitted.save(tmp_path / "none")).ood_ is None
    config = json.loads((tmp_path / "none" / "config.json").read_text())
    assert "ood" not in config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config, state: config.pop("ood"), "'ood' must hold n_patients"),
        (lambda config, state: config.update(ood={"n_patients": 96, "more": 1}), "'ood' must hold n_patients alone"),
        (lambda config, state: config.update(ood={"n_patients": "96"}), "n_patients"),
        (lambda config, state: config.update(ood={"n_patients": 30}), "of only 30 patients"),
        (lambda config, state: state.pop("cxr_estimator.ood.centre"), "'centre' .* is missing"),
        (lambda config, state: state.update({"cxr_estimator.ood.x": torch.zeros(1)}), "'x' .* is missing or unknown"),
        (
            lambda config, state: state.update({"cxr_estimator.ood.centre": torch.zeros(4, dtype=torch.float64)}),
            "is not float32",
        ),
        (
            lambda config, state: state["cxr_estimator.ood.network.mean"].fill_(float("nan")),
            "'network.mean' .* not as the model needs it",
        ),
    ],
)
def test_damaged_folders_are_refused(watchful, tmp_path, change, message):
    folder = watchful.save(tmp_path / "model")
    config, state = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    change(config, state)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    seal(folder)
    with pytest.raises(ModelFolderError, match=message):
        CXRClassifier.load(folder)


# -- bad input


def test_without_statistics(fitted, new_films):
    for method in (fitted.ood_score, fitted.check_images):
        with pytest.raises(DataError, match="Call fit_ood with images the network was not trained on"):
            method(new_films)


def test_unfitted(new_films):
    for method in ("ood_score", "check_images", "fit_ood"):
        with pytest.raises(NotFittedError):
            getattr(small_classifier(), method)(new_films)


def test_too_few_patients(fitted, new_films):
    clf = copy.copy(fitted)
    with pytest.raises(DataError, match=r"images of 40 patients at least, 20 .* Got 39\."):
        clf.fit_ood(new_films[:39])
    with pytest.raises(DataError, match=r"Got 30\."):
        clf.fit_ood(new_films, groups=np.arange(120) // 4)
    with pytest.raises(DataError, match="groups must have one entry for each of the 120 images"):
        clf.fit_ood(new_films, groups=[1, 2])
    with pytest.raises(InvalidParameterError, match="random_state"):
        clf.fit_ood(new_films, random_state=-1)
    assert clf.ood_ is None


def test_a_rate_that_cannot_be_told(watchful, new_films):
    with pytest.raises(InvalidParameterError, match=r"false_alarm_rate.* at least 0.0154"):
        watchful.check_images(new_films, false_alarm_rate=0.01)


# -- real radiographs


def test_real_radiographs(real_data_dir):
    """A small network on 900 films; 100 photographs and spoiled films against films of patients it never saw."""
    from skimage import data as pictures

    data = load_image_folder(real_data_dir)
    rows = np.random.default_rng(0).permutation(len(data.X))[:1200]
    known, new = patient_split(data.y[rows], data.groups[rows], fractions=(0.75, 0.25))
    known, new = rows[known], rows[new]
    clf = CXRClassifier("plain_cnn", image_size=64, max_epochs=2, validation_fraction=0.3, random_state=0)
    clf.fit(data.X[known], data.y[known], groups=data.groups[known])

    ordinary = clf.check_images(data.X[new])
    assert ordinary.is_certain
    assert ordinary.is_unusual.mean() <= 0.05

    names = ("astronaut", "camera", "coffee", "chelsea", "rocket", "page", "coins", "text", "brick", "grass", "gravel")
    photographs = [getattr(pictures, name)() for name in names]
    noise = list(np.random.default_rng(0).integers(0, 256, (9, 64, 64), dtype=np.uint8))
    some = [np.asarray(Image.open(path).convert("L")) for path in data.X[new][:16]]
    strange = {
        "photo": photographs,
        "noise": noise,
        "inverted": [255 - film for film in some],
        "turned": [np.rot90(film) for film in some],
        "turned_back": [np.rot90(film, 3) for film in some],
        "on_its_head": [np.rot90(film, 2) for film in some],
        "cropped": [film[:99, :99] for film in some],
    }
    checks = {kind: clf.check_images(images) for kind, images in strange.items()}
    score = np.concatenate([ordinary.score, *(check.score for check in checks.values())])
    assert len(score) - len(ordinary) == 100
    assert auroc(score, np.arange(len(score)) >= len(ordinary)) >= 0.95
    assert checks["photo"].is_unusual.all()
    kinds = ("inverted", "turned", "turned_back", "on_its_head")
    for kind, remedy in zip(kinds, ("inverted", "rotated_270", "rotated_90", "rotated_180"), strict=True):
        check = checks[kind]
        assert check.is_unusual.mean() > 0.9
        assert (check.correction[check.is_unusual] == remedy).mean() > 0.9
