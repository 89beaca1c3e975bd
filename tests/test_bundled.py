"""How the bundled model is found, loaded and started from; whichever it is. The files that ship: test_pretrained.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cxr_estimator import CXRClassifier, CXREnsemble, ModelCard, pretrained
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError, ModelFolderError, WeightsError
from tests.conftest import small_classifier
from tests.model_folders import contents


@pytest.fixture
def bundled(fitted, tmp_path, monkeypatch):
    """A small model in the place of the bundled one: "plain_cnn" at 32 pixels, of two stages."""
    folder = fitted.save(tmp_path / "bundled")
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


def begun(channels=1, num_outputs=1, image_size=32, backbone="plain_cnn", **options):
    return build_backbone(
        backbone, num_outputs=num_outputs, channels=channels, image_size=image_size, pretrained="bundled", **options
    )


def assert_same(one, other, names=None):
    """Assert that the state dicts of two networks have the same tensors of these names."""
    one, other = one.state_dict(), other.state_dict()
    for name in one if names is None else names:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


# -- loading ----------------------------------------------------------------------------------------------------------


def test_without_an_argument_it_is_the_bundled_model(bundled, fitted, phantoms, hub):
    for options in ({}, {"token": False, "cache_dir": "nowhere", "local_files_only": True, "device": "cpu"}):
        clf = CXRClassifier.from_pretrained(**options)
        np.testing.assert_array_equal(clf.predict_proba(phantoms.X[:4]), fitted.predict_proba(phantoms.X[:4]))
    assert not hub.requests


def test_a_subclass_loads_it_as_its_own(bundled):
    class Mine(CXRClassifier):
        pass

    assert type(Mine.from_pretrained()) is Mine


def test_it_has_no_revisions(bundled):
    with pytest.raises(InvalidParameterError, match=r"'revision' parameter .* must be None for .* the bundled model"):
        CXRClassifier.from_pretrained(revision="main")


def test_no_ensemble_is_bundled(bundled):
    with pytest.raises(InvalidParameterError, match=r"one network, which CXRClassifier.from_pretrained\(\) loads"):
        CXREnsemble.from_pretrained()


def test_an_installation_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    for load in (CXRClassifier.from_pretrained, begun):
        with pytest.raises(ModelFolderError, match="this installation lacks the bundled model"):
            load()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_a_damaged_installation(bundled, name, damage):
    damage(bundled / name)
    for load in (CXRClassifier.from_pretrained, begun):
        with pytest.raises(ModelFolderError, match=name) as caught:
            load()
        assert "Install cxr_estimator again, or name a model of your own." in str(caught.value)


def test_saving_beside_the_module_leaves_it_alone(bundled, fitted):
    (bundled / "__init__.py").write_text("FOLDER = 1\n")
    fitted.save(bundled, card=ModelCard(title="Another"))
    assert (bundled / "__init__.py").read_text() == "FOLDER = 1\n"
    assert CXRClassifier.from_pretrained().card_.title == "Another"


# -- starting from its weights ----------------------------------------------------------------------------------------


def test_a_network_begins_with_all_of_it(bundled, fitted):
    assert_same(begun(), fitted.model_)
    assert_same(begun(image_size=28), fitted.model_)  # has as many stages
    assert begun(dropout=0.4).dropout.p == 0.4


def test_half_precision_is_widened(bundled, fitted):
    fitted.save(bundled, dtype="float16")
    own, stored = begun().state_dict(), fitted.model_.state_dict()
    for name, tensor in own.items():
        assert tensor.dtype == stored[name].dtype
        torch.testing.assert_close(tensor, stored[name], rtol=1e-3, atol=1e-6)
    assert not torch.equal(own["head.weight"], stored["head.weight"])


def test_a_head_of_another_size_is_made_anew(bundled, fitted):
    model = begun(num_outputs=3)
    assert model.head.weight.shape == (3, 48)
    assert_same(model, fitted.model_, [name for name in model.state_dict() if not name.startswith("head.")])


def test_more_stages_and_a_head_behind_them_are_made_anew(bundled, fitted):
    model = begun(image_size=64)
    assert_same(model, fitted.model_, [name for name in fitted.model_.state_dict() if not name.startswith("head.")])
    assert model.head.weight.shape == (1, 96)
    with pytest.raises(WeightsError, match=r"are for 32 pixels and do not suit this network: of its 50 tensors .* 24"):
        begun(image_size=128)


def test_a_head_behind_other_stages_is_new_even_where_it_would_fit(fitted, phantoms, tmp_path, monkeypatch):
    """From the fourth stage on all are equally wide, so that shapes alone do not tell."""
    few = slice(20)
    large = small_classifier(image_size=96, max_epochs=1)
    large.fit(phantoms.X[few], phantoms.y[few], groups=phantoms.groups[few])
    monkeypatch.setattr(pretrained, "FOLDER", large.save(tmp_path / "large"))
    model = begun(image_size=224)
    assert model.head.weight.shape == large.model_.head.weight.shape
    assert not torch.equal(model.head.weight, large.model_.head.weight)
    assert_same(model, large.model_, ["features.stage4.3.weight"])


def test_grey_weights_say_the_same_of_grey_in_three_channels(bundled, fitted):
    x = torch.rand(2, 1, 32, 32)
    colour = begun(channels=3).eval()
    with torch.no_grad():
        torch.testing.assert_close(colour(x.expand(-1, 3, -1, -1)), fitted.model_.cpu()(x), rtol=1e-4, atol=1e-4)


def test_another_backbone_is_told_which_one_it_is(bundled):
    with pytest.raises(InvalidParameterError, match=r"'resnet10t', since .* those of 'plain_cnn' at 32 pixels"):
        begun(backbone="resnet10t")
    with pytest.raises(InvalidParameterError, match="'resnet18', since"):
        CXRClassifier(pretrained="bundled", image_size=32).fit(np.zeros((4, 8, 8)), [0, 1, 0, 1], groups=range(4))


def test_damaged_weights_are_refused(bundled):
    content = bytearray((bundled / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (bundled / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"model\.safetensors: is not the file that SHA256SUMS records"):
        begun()


def test_fit_goes_on_from_it_and_the_card_says_so(bundled, fitted, phantoms, tmp_path):
    before = contents(bundled)
    options = {"max_epochs": 1, "learning_rate": 1e-7, "random_state": 1}
    new = small_classifier(**options).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    begun_with = small_classifier(pretrained="bundled", **options).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    own, first, other = (one.model_.features.stage1[0].weight.detach() for one in (begun_with, fitted, new))
    torch.testing.assert_close(own, first.to(own.device), rtol=0, atol=1e-4)
    assert (own - other).abs().max() > 0.1
    folder = begun_with.save(tmp_path / "new", card=ModelCard(attribution="Somebody else"))
    card = (folder / "README.md").read_text()
    assert "those of the model bundled with cxr_estimator" in card
    assert "Somebody else" in card
    assert "Kermany" in card
    assert "CC BY 4.0" in card
    assert CXRClassifier.load(folder).pretrained == "bundled"
    assert "bundled" not in (new.save(tmp_path / "scratch") / "README.md").read_text()
    assert contents(bundled) == before
