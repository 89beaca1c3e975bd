"""What single checks make of their evidence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.audit import CHECKS, audit
from cxr_estimator.audit._audit import _outcomes
from cxr_estimator.audit._exchanges import EXCHANGES
from cxr_estimator.audit._shortcuts import _of_source
from cxr_estimator.errors import DataError, ImageError, InvalidTypeError, ModelFolderError
from cxr_estimator.roc import auroc
from cxr_estimator.statistics import Estimate
from tests.audit.test_audit import CAUSAL, tagged
from tests.conftest import small_classifier


def only(name, clf, X, y, *args, **options):
    (found,) = audit(clf, X, y, *args, checks=[name], n_resamples=50, **options).checks
    return found


def judged(name, *findings):
    check = CHECKS[name]._replace(function=lambda evidence: list(findings))
    return _outcomes(name, check, None, pictures=False)


# --- several findings


def test_of_several_findings_the_worst_verdict_counts():
    from cxr_estimator.audit._types import Finding

    doubtful = Finding(Estimate(0.25, -0.05, 0.55), "Sensitivity.")
    failed = Finding(Estimate(0.2, 0.14, 0.26), "Specificity.")
    unknown = Finding(Estimate(np.nan, np.nan, np.nan), "Unknown.")
    for findings in ((doubtful, failed, unknown), (unknown, failed, doubtful)):
        (found,) = judged("transfer", *findings)
        assert (found.verdict, found.sentence) == ("fail", "Specificity.")
    (found,) = judged("label_order", *(Finding(Estimate(v, v - 0.1, v + 0.1), str(v)) for v in (0.9, 0.7, 0.8)))
    assert found.sentence == "0.7"
    methods = [Finding(Estimate(0.1, 0.0, 0.2), "a", method) for method in ("lime", "rise")]
    assert [one.method for one in judged("completeness", *methods)] == ["lime", "rise"]


def test_operating_points_are_compared_with_their_promises(held_out, phantoms):
    clf = small_classifier(threshold="sensitivity>=0.9").fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    found = only("transfer", clf, held_out.X, held_out.y, held_out.groups)
    assert "promised a s" in found.sentence
    turned = np.where(held_out.y == "NORMAL", "PNEUMONIA", "NORMAL")
    assert only("transfer", clf, held_out.X, turned, held_out.groups).verdict == "fail"
    clf.set_threshold(0.5)
    assert only("transfer", clf, held_out.X, held_out.y).verdict == "not enough data"


def test_images_that_chose_a_threshold_are_found(fitted, held_out, tmp_path):
    clf = CXRClassifier.load(fitted.save(tmp_path)).set_threshold("youden", X=held_out.X[:20], y=held_out.y[:20])
    found = only("seen_in_training", clf, held_out.X, held_out.y)
    assert found.verdict == "fail"
    assert found.value == pytest.approx(0.5)
    assert "that chose the operating point 'default' 20 are among these" in found.sentence
    clf.provenance_ = None
    clf.set_threshold(0.5)
    assert "does not know which images" in only("seen_in_training", clf, held_out.X, held_out.y).sentence
    assert only("prevalence", clf, held_out.X, held_out.y).verdict == "not enough data"
    assert only("auroc_drop", clf, held_out.X, held_out.y).verdict == "not enough data"


def test_unusual_images_and_gaps_of_subgroups(fitted, held_out, tmp_path):
    ordinary = make_phantoms(120, 32, random_state=5)
    clf = CXRClassifier.load(fitted.save(tmp_path)).fit_ood(ordinary.X, groups=ordinary.groups)
    assert only("ood_share", clf, held_out.X, held_out.y, held_out.groups).verdict != "fail"
    assert only("ood_share", clf, 255 - held_out.X, held_out.y, held_out.groups).verdict == "fail"
    assert only("ood_share", fitted, held_out.X, held_out.y).verdict == "not enough data"


def test_a_gap_of_a_subgroup_is_found(phantoms, held_out):
    clf = small_classifier(max_epochs=12).fit(tagged(phantoms), phantoms.y, groups=phantoms.groups)
    part, X = np.arange(40) < 20, tagged(held_out)
    turned = np.where(part, np.where(held_out.y == "NORMAL", "PNEUMONIA", "NORMAL"), held_out.y)
    sites = {"site": np.where(part, "A", "B")}
    found = only("subgroup_gap", clf, X, turned, held_out.groups, subgroups=sites)
    assert found.verdict == "fail"
    assert "for site A" in found.sentence
    assert only("subgroup_gap", clf, X, held_out.y, held_out.groups, subgroups=sites).verdict == "pass"
    assert only("subgroup_gap", clf, X, held_out.y).verdict == "not enough data"


# --- sources


def sourced(positive, sources, patient=None):
    n = len(positive)
    seen = SimpleNamespace(
        index=np.arange(n), target=positive.astype(int), patient=np.arange(n) if patient is None else patient
    )
    return SimpleNamespace(seen=seen, sources=sources, seed=0)


def test_a_source_tells_the_class_or_not():
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.4
    shares = _of_source(sourced(positive, np.where(positive, "a", "b")), 1)
    assert shares[positive].min() > shares[~positive].max()
    assert not _of_source(sourced(positive, np.full(200, "a")), 1).any()
    unrelated = [_of_source(sourced(positive, rng.choice(list("abcd"), 200)), 1) for _ in range(30)]
    assert np.mean([auroc(one, positive) for one in unrelated]) == pytest.approx(0.5, abs=0.05)


def test_a_source_of_any_class_is_found(three_classes):
    X, y, clf = three_classes
    for name in clf.classes_:
        found = only("one_feature", clf, X, y, sources=np.where(y == name, "H1", "H2"))
        assert found.value == pytest.approx(1.0)
        assert found.sentence.startswith("The source of an image")


# --- exchanges


def test_a_marker_of_one_class_only_is_found(phantoms, held_out, monkeypatch):
    """Also where most images have nothing to exchange: they get what the other has."""
    clf = small_classifier(max_epochs=12).fit(tagged(phantoms), phantoms.y, groups=phantoms.groups)

    def corner(image, donor):
        if not donor[:, :4, :4].any():
            return None
        changed = image.copy()
        changed[:, :4, :4] = donor[:, :4, :4]
        return changed

    monkeypatch.setitem(EXCHANGES, "markers", corner)
    found = only("marker_exchange", clf, tagged(held_out), held_out.y, held_out.groups)
    assert found.sentence.startswith("Of 40 images")
    assert found.value > 0.4


def test_few_patients_exchange_nothing(fitted, held_out):
    sick = held_out.y == "PNEUMONIA"
    kept = ~sick | np.isin(held_out.groups, np.unique(held_out.groups[sick])[:4])
    found = only("border_exchange", fitted, held_out.X[kept], held_out.y[kept], held_out.groups[kept])
    assert (found.verdict, found.sentence) == (
        "not enough data", "Of a class there are less than 5 patients to exchange with."
    )  # fmt: skip


def test_that_nothing_changes_is_no_proof(fitted, held_out, monkeypatch):
    monkeypatch.setitem(EXCHANGES, "border", lambda image, donor: image)
    found = only("border_exchange", fitted, held_out.X, held_out.y, held_out.groups)
    assert found.value == 0
    assert found.interval == pytest.approx((-0.1611, 0.1611), abs=1e-4)  # of Wilson for none of 20 patients


# --- what is given


def test_given_lungs_are_used(fitted, held_out):
    everywhere = only("lungs_alone", fitted, held_out.X, held_out.y, masks=np.ones((40, 32, 32), bool))
    order = only("label_order", fitted, held_out.X, held_out.y)
    assert everywhere.value == pytest.approx(order.value)
    nowhere = only("lungs_alone", fitted, held_out.X, held_out.y, masks=np.zeros((40, 32, 32), bool))
    assert nowhere.verdict == "not enough data"
    with pytest.raises(DataError, match=r"the mask at position 0 has shape \(16, 16\), and its image \(32, 32\)"):
        only("lungs_alone", fitted, held_out.X, held_out.y, masks=np.ones((40, 16, 16), bool))


def test_patients_are_compared_as_text(fitted, held_out):
    _, number = np.unique(held_out.groups, return_inverse=True)
    X, y = held_out.X, held_out.y
    for groups in (number, number.astype(str), number.astype(object)):
        for training in ([0, 1], ["0", "1"], {0, 1}, (one for one in (0, 1)), np.array([0, 1])):
            assert only("patient_overlap", fitted, X, y, groups, training_groups=training).value == pytest.approx(0.1)
    with pytest.raises(DataError, match="training_groups needs groups"):
        only("patient_overlap", fitted, X, y, training_groups=[0])
    for wrong in ("0", 3, [[1, 2], [3]]):
        with pytest.raises(InvalidTypeError, match="training_groups"):
            only("patient_overlap", fitted, X, y, number, training_groups=wrong)


def test_progress_is_told_and_can_stop_the_work(fitted, held_out):
    told = []
    checks = ["label_order", "completeness"]
    options = {"checks": checks, "n_maps": 10, "methods": ["saliency"]}
    audit(fitted, held_out.X, held_out.y, progress=lambda *at: told.append(at), **options)
    done, totals = zip(*told, strict=True)
    assert set(totals) == {50}
    assert done == tuple(sorted(done))
    assert done[-1] == 50

    def stop(done, total):
        if done > 40:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        audit(fitted, held_out.X, held_out.y, progress=stop, **options)


def test_bad_weights_are_told(fitted, held_out, tmp_path):
    import torch

    clf = CXRClassifier.load(fitted.save(tmp_path))
    with torch.no_grad():
        next(clf.model_.parameters()).fill_(torch.nan)
    with pytest.raises(ModelFolderError, match="bad weights"):
        only("label_order", clf, held_out.X, held_out.y)


def test_a_file_that_cannot_be_read_is_refused_or_counted_and_nowhere_named(fitted, held_out, tmp_path):
    from PIL import Image

    from cxr_estimator.errors import SkippedImagesWarning

    paths = []
    for number, pixels in enumerate(held_out.X):
        paths.append(str(tmp_path / f"MRN{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    whole = audit(fitted, paths, held_out.y, held_out.groups, checks=["label_order"], pictures=False)
    (tmp_path / "MRN3.png").write_bytes(b"no picture")
    clf = CXRClassifier.load(fitted.save(tmp_path / "model"))
    with pytest.raises(ImageError, match="MRN3"):
        audit(clf, paths, held_out.y, held_out.groups)
    clf.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        found = audit(clf, paths, held_out.y, held_out.groups, n_maps=6, n_resamples=50)
    assert (whole.n_images, whole.n_unreadable, found.n_images, found.n_unreadable) == (40, 0, 39, 1)
    assert "Audit on 39 images of 20 patients; 1 more could not be read" in str(found)
    without = np.delete(np.arange(40), 3)
    same = audit(fitted, held_out.X[without], held_out.y[without], held_out.groups[without], n_maps=6, n_resamples=50)
    drawn = {*CAUSAL, "marker_exchange", "lungs_alone"}  # other donors are drawn from other images
    values = [[one.value for one in report.checks if one.name not in drawn] for report in (found, same)]
    np.testing.assert_allclose(*values, atol=1e-6)
    for text in (found.to_json(), found.to_html(), found.to_markdown(), str(found)):
        assert "MRN" not in text


def test_a_measure_that_breaks_hides_no_other(fitted, held_out, monkeypatch):
    from cxr_estimator._map_checks import MAP_CHECKS

    def broken(maps):
        raise ZeroDivisionError

    monkeypatch.setitem(MAP_CHECKS, "gain", MAP_CHECKS["gain"]._replace(measure=broken))
    options = {"checks": ["gain", "border_mass"], "methods": ["saliency"], "n_maps": 6}
    gain, border = sorted(audit(fitted, held_out.X, held_out.y, **options).checks, key=lambda one: one.name != "gain")
    assert "fault of the check (ZeroDivisionError)" in gain.sentence
    assert border.verdict != "not enough data"


def test_maps_of_nothing_are_withheld(fitted, held_out, tmp_path):
    import torch

    clf = CXRClassifier.load(fitted.save(tmp_path))
    with torch.no_grad():
        clf.model_.head.weight.zero_()
    report = audit(clf, held_out.X, held_out.y, methods=["saliency"], checks=["gain"], n_maps=6)
    assert report.maps["saliency"].verdict == "withhold"
    some = audit(fitted, held_out.X, held_out.y, methods=["saliency"], checks=["corner_mass"], n_maps=6)
    assert some.maps["saliency"].verdict == "show with warning"


# --- pictures


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("label_order", "the model is surest of"),
        ("auroc_drop", "the model is surest of"),
        ("calibration", "the model is surest of"),
        ("seen_in_training", "it is among those that trained the network."),
        ("patient_overlap", "the model was trained on images of this patient."),
        ("duplicates", "it is there more than once."),
        ("border_alone", "what is left of an image."),
        ("one_feature", "the image with the least brightness."),
    ],
)
def test_what_fails_is_shown(phantoms, name, caption):
    """A model of tagged images, on bright and doubled images of its training with turned labels."""
    clf = small_classifier(max_epochs=12).fit(tagged(phantoms), phantoms.y, groups=phantoms.groups)
    turned = np.where(phantoms.y == "NORMAL", "PNEUMONIA", "NORMAL")
    X = tagged(phantoms)
    X[phantoms.y == "NORMAL"] //= 2 if name == "one_feature" else 1
    rows = np.r_[: len(X), :20] if name == "duplicates" else np.arange(len(X))
    patients = None if name == "duplicates" else phantoms.groups
    options = {"training_groups": phantoms.groups} if name == "patient_overlap" else {}
    found = only(name, clf, X[rows], turned[rows], patients, **options)
    assert found.verdict in ("doubtful", "fail")
    assert 1 <= len(found.pictures) <= 2
    assert caption in found.pictures[0].caption
    assert found.pictures[0].pixels.shape == (32, 32)
    assert not only(name, clf, X[rows], turned[rows], patients, pictures=False, **options).pictures
