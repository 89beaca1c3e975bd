"""Embeddings: what enters the last layer."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cxr_estimator import CXRClassifier
from cxr_estimator.backbones import build_backbone, embed, embedding_size
from cxr_estimator.errors import SkippedImagesWarning
from cxr_estimator.inference import Execution, forward
from tests.conftest import small_classifier

CPU = torch.device("cpu")

LINEAR = {
    "plain_cnn": 96,
    "resnet18": 512,
    "densenet121": 1024,
    "mobilenetv3_small_100": 1024,
    "efficientnet_b0": 1280,
    "convnext_atto": 320,
    "vit_tiny_patch16_224": 192,
    "swin_tiny_patch4_window7_224": 768,
}


def network(name, image_size=64):
    torch.manual_seed(0)
    return build_backbone(name, num_outputs=3, channels=1, image_size=image_size).eval()


def last_layer(model):
    return model.head if not hasattr(model, "get_classifier") else model.get_classifier()


@pytest.mark.parametrize(("name", "width"), LINEAR.items())
def test_the_last_layer_maps_embeddings_to_logits(name, width):
    model, x = network(name), torch.randn(2, 1, 64, 64)
    embeddings = forward(model, x, Execution(CPU), run=embed)
    assert embeddings.shape == (2, width)
    assert embedding_size(model) == width
    torch.testing.assert_close(last_layer(model)(embeddings), forward(model, x, Execution(CPU)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "repvit_m0_9", "levit_128s", "efficientformer_l1"])
def test_networks_with_two_heads(name):
    """Their logits are the mean of two heads, so no single layer maps the embeddings to them; the size still holds."""
    model = network(name, image_size=224)
    assert forward(model, torch.randn(2, 1, 224, 224), Execution(CPU), run=embed).shape == (2, embedding_size(model))


def test_embed_is_differentiable_and_forward_restores_the_mode():
    model, x = network("plain_cnn").train(), torch.randn(2, 1, 64, 64, requires_grad=True)
    assert not forward(model, x, Execution(CPU), run=embed).requires_grad
    assert model.training
    model.eval()
    embed(model, x).sum().backward()
    assert x.grad.abs().max() > 0


# -- the estimator


def test_transform_by_hand(fitted, phantoms):
    embeddings = fitted.transform(phantoms.X)
    assert embeddings.shape == (80, fitted.model_.head.in_features)
    assert embeddings.dtype == np.float32
    head = fitted.model_.head
    logits = embeddings.astype(np.float64) @ head.weight.detach().double().numpy().T + head.bias.item()
    np.testing.assert_allclose(logits[:, 0], fitted.decision_function(phantoms.X), atol=1e-5)
    np.testing.assert_allclose(fitted.transform(phantoms.X[5:6])[0], embeddings[5], atol=1e-5)
    assert not fitted.model_.training


def test_files_give_what_arrays_give(fitted, phantoms, tmp_path):
    Image.fromarray(phantoms.X[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(fitted.transform([tmp_path / "a.png"]), fitted.transform(phantoms.X[:1]))


def test_rows_in_are_rows_out(fitted, phantoms):
    clf = copy.deepcopy(fitted).set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning, match=r"nowhere\.png"):
        embeddings = clf.transform([phantoms.X[0], "nowhere.png", phantoms.X[1]])
    assert np.isnan(embeddings).all(axis=1).tolist() == [False, True, False]


def test_names_and_data_frames(fitted, phantoms):
    names = fitted.get_feature_names_out()
    assert names[:2].tolist() == ["cxrclassifier0", "cxrclassifier1"]
    clf = copy.deepcopy(fitted).set_output(transform="pandas")
    frame = clf.transform(phantoms.X[:3])
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == names.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), fitted.transform(phantoms.X[:3]))


def test_unfitted():
    clf = CXRClassifier()
    for ask in (clf.get_feature_names_out, lambda: clf.transform(np.zeros((1, 32, 32)))):
        with pytest.raises(NotFittedError):
            ask()


def test_fit_transform_passes_the_patients_on(fitted, phantoms):
    embeddings = small_classifier().fit_transform(phantoms.X, phantoms.y, groups=phantoms.groups)
    np.testing.assert_array_equal(embeddings, fitted.transform(phantoms.X))


@pytest.mark.usefixtures("metadata_routing")
def test_fit_transform_in_a_pipeline_with_metadata_routing(phantoms):
    clf = small_classifier(max_epochs=1).set_fit_request(groups=True)
    probe = LogisticRegression(max_iter=1000)
    pipe = make_pipeline(clf, probe).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    expected = small_classifier(max_epochs=1).fit_transform(phantoms.X, phantoms.y, groups=phantoms.groups)
    np.testing.assert_array_equal(pipe[:-1].transform(phantoms.X), expected)
    assert pipe.predict(phantoms.X).shape == (80,)
    assert pipe[:-1].get_feature_names_out().tolist() == pipe[0].get_feature_names_out().tolist()


def test_embeddings_after_save_and_load(fitted, phantoms, tmp_path):
    again = CXRClassifier.load(fitted.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.transform(phantoms.X), fitted.transform(phantoms.X))
    assert again.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()
