"""Ensembles on disk: a folder of model folders."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sklearn.base import clone

from cxr_estimator import CXRClassifier, CXREnsemble
from cxr_estimator.checksums import read_sums, write_sums
from cxr_estimator.errors import DataError, ModelFolderError
from tests.model_folders import edit_config


@pytest.fixture
def own(ensemble):
    return copy.deepcopy(ensemble)


def test_comes_back_from_a_folder(own, phantoms, tmp_path):
    own.set_threshold("youden", X=phantoms.X, y=phantoms.y).calibrate(phantoms.X, phantoms.y)
    own.save(tmp_path / "model")
    loaded = CXREnsemble.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(phantoms.X), own.predict_proba(phantoms.X))
    assert loaded.operating_points_ == own.operating_points_
    assert loaded.n_estimators == 3
    assert loaded.get_params()["estimator__random_state"] == 0
    assert clone(loaded).estimator.get_params() == own.estimator.get_params() | {"device": "cpu"}
    CXREnsemble.from_fitted(own.estimators_[:2]).save(tmp_path / "model")  # a smaller one in its place
    assert len(CXREnsemble.load(tmp_path / "model").estimators_) == 2
    assert not (tmp_path / "model" / "member_2").exists()
    with pytest.raises(DataError, match="holds an ensemble"):
        own.estimators_[0].save(tmp_path / "model")
    own.estimators_[0].save(tmp_path / "one")
    with pytest.raises(DataError, match="holds a single model"):
        own.save(tmp_path / "one")


def broken_config(folder, **changes):
    edit_config(folder, lambda config: config.update(changes))


def text(folder):
    return (folder / "config.json").read_text()


def leave_out(folder, name):
    write_sums(folder, {each: digest for each, digest in read_sums(folder).items() if each != name})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: broken_config(folder, format="else"), "not a cxr_estimator_ensemble"),
        (lambda folder: broken_config(folder, schema_version=3), "schema version 3 is not supported"),
        (lambda folder: broken_config(folder, more=1), "wrong keys"),
        (lambda folder: broken_config(folder, members=["x"]), "integer >= 2 and <= 100"),
        (lambda folder: broken_config(folder, members=4), "member_3: there is no such model folder"),
        (lambda folder: broken_config(folder, members="../../x"), "integer >= 2 and <= 100"),
        (lambda folder: broken_config(folder, classes={"dtype": "str", "values": ["A", "PNEUMONIA"]}), "classes"),
        (lambda folder: broken_config(folder, class_weights=[1.0]), "class_weights"),
        (lambda folder: broken_config(folder, parameters={}), "'parameters' must hold"),
        (lambda folder: broken_config(folder, operating_points=[3]), "not a valid configuration"),
        (lambda folder: (folder / "member_1" / "config.json").unlink(), "no such file"),
        (lambda folder: (folder / "member_1" / "model.safetensors").write_bytes(b""), "damaged"),
        (
            lambda folder: (folder / "member_1" / "config.json").write_text(text(folder / "member_2")),
            "Saving was inter",
        ),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS: there is no such file"),
        (lambda folder: leave_out(folder, "member_2/model.safetensors"), "says nothing of member_2/model.safetensors"),
    ],
)
def test_a_damaged_folder_is_refused(ensemble, tmp_path, spoil, message):
    ensemble.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelFolderError, match=message):
        CXREnsemble.load(tmp_path)


def test_folders_of_models_and_ensembles_are_told_apart(ensemble, fitted, tmp_path):
    ensemble.save(tmp_path / "several")
    fitted.save(tmp_path / "one")
    with pytest.raises(ModelFolderError, match=r"CXRClassifier\.load reads a single model"):
        CXREnsemble.load(tmp_path / "one")
    with pytest.raises(ModelFolderError, match="cxr_estimator_ensemble"):
        CXRClassifier.load(tmp_path / "several")
