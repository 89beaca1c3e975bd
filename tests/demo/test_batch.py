"""Many files: a row for each whatever is wrong with it, numbers of the estimator, least trusted first."""

from __future__ import annotations

import io
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_estimator import make_phantoms
from cxr_estimator.demo._analysis import Question, explain, judge
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._background import Background
from cxr_estimator.demo._batch import (
    JUDGED,
    NOT_READ,
    REFUSED,
    UNUSUAL,
    Row,
    caption,
    csv_of,
    judge_batch,
    number_of_files,
    ranked,
    table,
)
from cxr_estimator.demo._batch_tab import _for_people, _judged
from cxr_estimator.demo._models import Models, Served
from cxr_estimator.demo._running import Turn
from cxr_estimator.demo._settings import Settings
from cxr_estimator.demo._shared import App
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.errors import DataError, InvalidParameterError
from tests.demo.archives import write_zip

LIMITS = Limits.of(Settings())


@pytest.fixture(scope="module")
def tiny(fitted):
    return Served("tiny", fitted)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    paths = []
    for number, pixels in enumerate(make_phantoms(3, 128, random_state=0).X):
        paths.append(folder / f"film{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_rows_hold_the_numbers_of_the_estimator(served, films):
    rows = judge_batch(served, films[:2], Question(point="screening"), "grad_cam", LIMITS)
    assert [row.name for row in rows] == ["film0.png", "film1.png"]
    for row, path in zip(rows, films, strict=False):
        proba = served.clf.predict_proba([str(path)])[0]
        assert row.proba == pytest.approx(proba[served.clf.classes_.tolist().index("PNEUMONIA")])
        assert row.decision == served.clf.predict([str(path)], operating_point="screening")[0]
        assert row.label == "PNEUMONIA"
        assert row.low <= row.proba <= row.high
        assert row.status == (UNUSUAL if served.clf.check_images([str(path)]).is_unusual[0] else JUDGED)
        image = read_upload(path)
        judgement = judge(served, image, Question(point="screening"))
        card = explain(judgement, image, ["grad_cam"])["grad_cam"].card
        assert (row.verdict, row.gain) == (card.verdict, pytest.approx(card.gain))
        assert row.picture.shape == (160, 160, 3)


def test_bad_files_are_rows_and_change_nothing_for_the_others(tiny, films, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    bad_zip = tmp_path / "bad.zip"
    bad_zip.write_bytes(b"PK\x03\x04 cut off")
    good_zip = write_zip(
        tmp_path / "good.zip",
        [("a/in_zip.png", films[1].read_bytes()), ("../out.png", b"x"), ("a/", b""), ("__MACOSX/a", b"")],
    )
    seen = []
    paths = [broken, films[0], empty, bad_zip, good_zip, tmp_path / "gone.png"]
    rows = judge_batch(tiny, paths, Question(), "grad_cam", LIMITS, on_row=seen.append)
    assert seen == rows
    found = {row.name: row for row in rows}
    assert list(found) == ["broken.png", "film0.png", "empty.png", "bad.zip", "in_zip.png", "out.png", "gone.png"]
    assert "no readable PNG" in found["broken.png"].reason
    assert "0 bytes" in found["empty.png"].reason
    assert "damaged" in found["bad.zip"].reason
    assert "out of the archive" in found["out.png"].reason
    assert "no such file" in found["gone.png"].reason
    assert not any(str(tmp_path) in row.reason for row in rows)
    assert [name for name, row in found.items() if row.is_judged] == ["film0.png", "in_zip.png"]
    alone = judge_batch(tiny, [films[1]], Question(), "grad_cam", LIMITS)[0]
    assert found["in_zip.png"]._replace(name="", picture=None) == alone._replace(name="", picture=None)


def test_a_refused_image_has_neither_probability_nor_map(served, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (row,) = judge_batch(served, [tmp_path / "noise.png"], Question(), "grad_cam", LIMITS)
    assert row.status == REFUSED
    assert np.isnan([row.proba, row.gain]).all()
    assert row.picture is None
    assert "unlike those the model was trained on" in row.reason


def test_the_least_trusted_come_first():
    rows = [
        Row("bad", NOT_READ),
        Row("show", JUDGED, verdict="show", gain=0.1),
        Row("refused", REFUSED),
        Row("warn, less", JUDGED, verdict="show with warning", gain=0.01),
        Row("warn, more", JUDGED, verdict="show with warning", gain=0.02),
        Row("withheld", JUDGED, verdict="withhold", gain=0.3),
        Row("unusual", UNUSUAL, verdict="show", gain=0.9),
    ]
    expected = ["unusual", "withheld", "warn, less", "warn, more", "show", "refused", "bad"]
    assert [row.name for row in ranked(rows)] == expected
    assert _for_people(rows)["file"].tolist() == expected
    assert _for_people(rows)["heat map"].tolist()[1] == "✕ withhold"


def test_a_withheld_map_is_not_in_its_picture(tiny, films, monkeypatch):
    monkeypatch.setattr("cxr_estimator.trust.TrustCard.verdict", "show")
    (plain,) = judge_batch(tiny, films[:1], Question(), "grad_cam", LIMITS)
    monkeypatch.setattr("cxr_estimator.trust.TrustCard.verdict", "withhold")
    (row,) = judge_batch(tiny, films[:1], Question(), "grad_cam", LIMITS)
    assert "map withheld" in caption(row)
    assert plain.picture.shape == row.picture.shape
    film = np.asarray(Image.open(films[0]).resize(row.picture.shape[1::-1]))
    alike = [np.corrcoef(film.ravel(), one.picture[..., 1].ravel())[0, 1] for one in (plain, row)]
    assert alike[0] > 0.5 > 0.2 > abs(alike[1])  # words, where the radiograph was


def test_csv_can_be_read_back_and_holds_no_formula():
    hidden = table([Row("\n\t =1+1.png", JUDGED)])
    assert pd.read_csv(io.BytesIO(csv_of(hidden)))["file"].tolist() == ["'\n\t =1+1.png"]
    row = Row("=cmd|' /C calc'!A0.png", JUDGED, "PNEUMONIA", "PNEUMONIA", 0.123456789, 0.1, 0.2, "show", 0.05, "")
    found = pd.read_csv(io.BytesIO(csv_of(table([row, Row("bad.png", NOT_READ, reason="why, exactly")]))))
    assert found["file"].tolist() == ["'=cmd|' /C calc'!A0.png", "bad.png"]
    assert found["probability"][0] == 0.123456789
    assert np.isnan(found["gain"][1])
    assert found["reason"][1] == "why, exactly"


def test_limits_are_for_all_files_together(tiny, films, tmp_path):
    several = write_zip(tmp_path / "several.zip", [(f"{i}.png", films[0].read_bytes()) for i in range(2)])
    few = LIMITS._replace(files=3)
    assert number_of_files([several, several, films[0]], few) == 3
    rows = judge_batch(tiny, [several, several, films[0]], Question(), "grad_cam", few)
    assert [row.is_judged for row in rows] == [True, True, True, False]
    assert "only the first" in rows[-1].reason
    small = LIMITS._replace(total_bytes=films[0].stat().st_size)
    rows = judge_batch(tiny, [films[0], films[1]], Question(), "grad_cam", small)
    assert [row.is_judged for row in rows] == [True, False]


def test_progress_counts_files(tiny, films):
    shares = []
    judge_batch(tiny, films, Question(), "grad_cam", LIMITS, progress=lambda done, total: shares.append(done / total))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0


def test_bad_requests(tiny, films):
    with pytest.raises(DataError, match="Choose files first"):
        judge_batch(tiny, [], Question(), "grad_cam", LIMITS)
    with pytest.raises(InvalidParameterError, match="'method'"):
        judge_batch(tiny, films, Question(), "attention_rollout", LIMITS)
    with pytest.raises(InvalidParameterError, match="'point'"):
        judge_batch(tiny, films, Question(point="no such"), "grad_cam", LIMITS)


@pytest.mark.parametrize("how", ["cancelled", "left", "too long"])
def test_cancelling_or_leaving_ends_the_work(films, how, monkeypatch):
    """The thread ends; what was cancelled or took too long shows the rows that it has."""
    settings = Settings(device="cpu")
    app = App(settings, Models(settings))
    done = threading.Event()
    running = []

    def slow(served, paths, question, method, limits, *, on_row, progress):
        on_row(Row("first.png", JUDGED, "PNEUMONIA", "PNEUMONIA", 0.9, 0.8, 0.95, "show", 0.1))
        while not done.wait(0.01):
            progress(1, 4)

    class Watched(Background):
        def __enter__(self):
            running.append(self._thread)
            return super().__enter__()

    monkeypatch.setattr("cxr_estimator.demo._batch_tab.judge_batch", slow)
    monkeypatch.setattr("cxr_estimator.demo._batch_tab.Background", Watched)
    turn = Turn()
    steps = _judged(app, turn, turn.begin(), [str(films[0])], "bundled", Question(), "grad_cam")
    next(steps)
    next(steps)
    assert running[0].is_alive()
    if how == "left":
        steps.close()
    else:
        if how == "cancelled":
            turn.cancel()
        else:
            monkeypatch.setattr("cxr_estimator.demo._background.LONGEST", 0.0)
        last = list(steps)[-1]
        assert {"cancelled": "Cancelled.", "too long": "the most for one visitor"}[how] in last[0]
        assert "1 of 1 files are ready." in last[0]
        assert last[1]["value"]["file"].tolist() == ["first.png"]
        assert last[2]["interactive"]
        found = pd.read_csv(last[2]["value"])[["model", "point", "method"]].iloc[0].tolist()
        assert found == ["bundled", "default", "grad_cam"]
    running[0].join(20)
    assert not running[0].is_alive()
