"""The study from end to end, on pictures that are no radiographs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import material
import numpy as np
import pytest
import study
import table


def test_parts_share_no_patient(found):
    assert found.pixels.shape == (240, 32, 32)
    assert sorted(np.concatenate(list(found.parts.values()))) == list(range(240))
    for one in found.parts:
        for other in found.parts:
            shared = np.intersect1d(found.patients[found.parts[one]], found.patients[found.parts[other]])
            assert one == other or not len(shared)
        assert set(found.sources[found.parts[one]]) == {"IM", "NORMAL2", "bacteria", "virus"}


def test_rows_to_train_and_judge_on(found):
    train = found.training_rows(1.0, "IM")
    assert set(found.sources[train]) == {"NORMAL2", "bacteria", "virus"}
    assert set(train) < set(found.parts["train"])
    assert len(found.training_rows(0.5, "")) == pytest.approx(len(found.parts["train"]) / 2, abs=5)
    judged = found.judging_rows("IM", final=False)
    assert not set(judged) & set(train)
    assert not set(judged) & (set(found.parts["calibrate"]) | set(found.parts["final"]))
    assert (found.sources[judged] == "IM").sum() > (found.sources[judged] == "NORMAL2").sum()
    assert set(found.judging_rows("", final=False)) == set(found.parts["choose"])
    assert set(found.judging_rows("IM", final=True)) == set(found.parts["final"])


def test_shifted_images_are_kept(found, monkeypatch):
    rows = found.parts["choose"]
    once = found.shifted(rows, "blur", 1.0)
    monkeypatch.setattr(material, "shifted", None)
    np.testing.assert_array_equal(found.shifted(rows, "blur", 1.0), once)
    np.testing.assert_array_equal(found.shifted(rows, "clean", 1.0), found.pixels[rows])
    with pytest.raises(TypeError):
        found.shifted(rows[1:], "blur", 1.0)


def test_a_cache_is_of_one_set_of_images(folder, found):
    assert material.Material(folder / "data", folder / "cache").pixels.shape == found.pixels.shape
    (folder / "data").rename(folder / "moved")
    material.Material(folder / "moved", folder / "cache")
    next((folder / "moved" / "NORMAL").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"cache: this cache is of other images\. Name another"):
        material.Material(folder / "moved", folder / "cache")


def test_acquisition_sees_the_brightness(found):
    rows = found.parts["final"]
    assert found.acquisition[rows][found.positive[rows]].min() > found.acquisition[rows][~found.positive[rows]].max()


def test_weights_make_acquisition_tell_less(found, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setitem(vars(found), "acquisition", 2.0 * found.positive - 1.0 + rng.normal(size=240))
    rows = found.parts["train"]
    weight, score, positive = found.weights(rows), found.acquisition[rows], found.positive[rows]
    assert weight.mean() == pytest.approx(1.0)
    assert weight.max() / weight.min() <= 25.0
    plain = score[positive].mean() - score[~positive].mean()
    weighted = np.average(score[positive], weights=weight[positive])
    weighted -= np.average(score[~positive], weights=weight[~positive])
    assert weighted < 0.6 * plain
    surprising = score[positive].argmin()
    assert weight[positive][surprising] == weight[positive].max()


@pytest.mark.parametrize(
    ("name", "source"),
    [("IM-0115-0001.jpeg", "IM"), ("NORMAL2-IM-0383-0001.jpeg", "NORMAL2"), ("a/person1_virus_6.jpeg", "virus")],
)
def test_source_of(name, source):
    assert material.source_of(name) == source


def test_source_of_another_name():
    with pytest.raises(ValueError, match=r"scan\.png: not a file name"):
        material.source_of("IM/scan.png")


def test_a_run_and_its_page(folder, found, monkeypatch, capsys):
    base = replace(study.BASE, backbone="plain_cnn", image_size=32, max_epochs=2, share=1.0)
    monkeypatch.setattr(study, "BASE", base)
    other = replace(base, name="flips", flips=True, mixup=0.2, standard="ranks", calibrate_under="strong", leave_out="")
    monkeypatch.setattr(study, "RECIPES", {"base": base, "flips": other})
    output = folder / "results"
    arguments = ["study.py", "--data", str(folder / "data"), "--cache", str(folder / "cache"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    study.main()
    results = {path.stem: json.loads(path.read_text()) for path in output.iterdir()}
    assert set(results) == {"base-0", "flips-0"}
    assert results["base-0"]["recipe"]["backbone"] == "plain_cnn"
    assert results["base-0"]["conditions"]["clean"]["auroc"] > 0.5
    assert "unseen_auroc" in results["base-0"]["summary"]
    assert "unseen_auroc" not in results["flips-0"]["summary"]
    assert str(folder) not in json.dumps(results)
    capsys.readouterr()
    study.main()
    assert not capsys.readouterr().out, "what is there is not trained again"
    written = table.page(list(results.values()))
    assert "| flips | standard=ranks, mixup=0.2, flips=True, calibrate_under=strong, leave_out=none | 1 |" in written
    assert "| base | - | 1 |" in written
    assert written.count("\n| ") == 4
    value = results["base-0"]["summary"]["shifted_auroc"]
    assert f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]" in written


def test_the_page_of_results_is_up_to_date():
    runs = study.runs()
    assert len(runs) >= 10
    assert (study.RESULTS / "README.md").read_text() == table.page(runs)
    for run in runs:
        assert set(run["conditions"]) == set(material.CONDITIONS)
        assert len(run["summary"]["pooled_auroc"]) == 3
