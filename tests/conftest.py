"""Fixtures that several test files share, and the rule that CI skips nothing."""

from __future__ import annotations

import gc
import os

# before anything loads torch: see cli.main, and processes of `pytest -n` share the cores
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    each = max((os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(each))

import tempfile

from tests.hub import WRITE, HubServer

# before anything imports huggingface_hub, which reads these then: no test meets the real Hub, anybody's token or cache
HUB = HubServer()
HF_HOME = tempfile.mkdtemp(prefix="hf_home_")
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_XET_CACHE"):
    os.environ.pop(name, None)
os.environ.update(HF_ENDPOINT=HUB.endpoint, HF_HOME=HF_HOME, HF_HUB_DISABLE_XET="1")
os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")

import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from sklearn import config_context

from cxr_estimator import CXRClassifier, CXREnsemble, _fitting, load_image_folder, make_phantoms
from cxr_estimator._explaining import ExplanationPlan
from cxr_estimator.metrics import Context
from cxr_estimator.receipts import receipt_of

hypothesis.settings.register_profile("untimed", deadline=None)  # other work of the machine is no fault of a test
hypothesis.settings.load_profile("untimed")

# The files that take longest, of more than about 7 s each (measured one by one), the longest first.
LONG = (
    "test_example_scripts.py", "attribution/test_common.py", "test_resume.py", "test_check_estimator.py",
    "cli/test_cli.py", "test_scorers.py", "test_abstention.py", "test_pretrained.py", "test_quickstart.py",
    "attribution/test_localisation.py", "test_benchmark.py", "test_sklearn.py", "attribution/test_cam.py",
    "test_readme.py", "test_checking.py", "metrics/test_common.py", "attribution/test_gradient.py", "test_examples.py",
)  # fmt: skip


def small_classifier(**changes):
    """An unfitted classifier that learns something of the phantoms in a second."""
    options = {
        "backbone": "plain_cnn",
        "image_size": 32,
        "max_epochs": 8,
        "learning_rate": 1e-2,
        "batch_size": 16,
        "pos_label": "PNEUMONIA",
        "validation_fraction": 0.2,
        "precision": "float32",  # so that all machines compute the same; "auto" has tests of its own
        "random_state": 0,
    }
    return CXRClassifier(**{**options, **changes})


@pytest.fixture(scope="session")
def phantoms():
    """80 phantoms of 40 patients at 32 px."""
    return make_phantoms(80, 32, difficulty=0.0, random_state=0)


@pytest.fixture(scope="session")
def fitted(phantoms):
    """A classifier fitted on the phantoms; tests must not change it (copy it first)."""
    return small_classifier().fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.fixture(scope="session")
def ensemble(phantoms):
    """An ensemble of three; tests must not change it (copy it first)."""
    return CXREnsemble(small_classifier(), 3).fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.fixture(scope="session")
def explained(fitted, phantoms):
    """A function that returns the explanation of some phantoms by a method, and all the context a metric can want."""

    def make(rows, method="occlusion", other="grad_cam", **options):
        plan = ExplanationPlan.check(
            fitted, phantoms.X[rows], None, [method, other], target="PNEUMONIA", random_state=0, **options
        )
        (batch,) = plan.run(lambda one: one)
        mask = phantoms.lung_masks[rows].copy()
        context = Context(batch.problem, batch.explain[method], mask=mask, other=batch.found[other])
        return batch.found[method], context

    return make


@pytest.fixture(scope="session")
def receipt(fitted, phantoms):
    """A receipt of the second phantom, by smooth_grad."""
    explanation = fitted.explain([phantoms.X[1]], method="smooth_grad", n_samples=3, random_state=7)
    return receipt_of(fitted, explanation, model_name="folder")


@pytest.fixture(scope="session")
def three_classes():
    """60 RGB images of three classes that differ in colour, and a classifier fitted on them."""
    rng = np.random.default_rng(0)
    y = np.array(["red", "green", "blue"])[np.arange(60) % 3]
    X = rng.integers(0, 120, (60, 24, 24, 3), dtype=np.uint8)
    for label, channel in (("red", 0), ("green", 1), ("blue", 2)):
        X[y == label, 6:18, 6:18, channel] += 130
    clf = small_classifier(
        image_size=24, channels=3, max_epochs=6, batch_size=12, pos_label=None, validation_fraction=0.1
    )
    return X, y, clf.fit(X, y, groups=np.arange(60))


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The folder of real radiographs in CXR_DATA_DIR."""
    folder = os.environ.get("CXR_DATA_DIR")
    if not folder:
        pytest.skip("needs real radiographs: set CXR_DATA_DIR to the chest_xray folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def real_sample(real_data_dir):
    """Paths, labels and patients of 240 real radiographs, half of each class."""
    data = load_image_folder(real_data_dir)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(data.y == label))[:120] for label in ("NORMAL", "PNEUMONIA")])
    return data.X[rows], data.y[rows], data.groups[rows]


@pytest.fixture(scope="session")
def hub_server():
    """The Hub that HF_ENDPOINT names, running."""
    HUB.start()
    yield HUB
    HUB.stop()


@pytest.fixture
def hub(hub_server, tmp_path, monkeypatch):
    """An empty Hub, a cache of the client for this test alone, and a token of alice that may write."""
    hub_server.reset()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setenv("HF_TOKEN", WRITE)
    return hub_server


@pytest.fixture
def short_training(monkeypatch):
    """No fit of this test runs for more than three epochs; all else is as it asks for."""
    settings = _fitting.training_settings

    def fewer(clf, seed, device):
        chosen = settings(clf, seed, device)
        return replace(chosen, max_epochs=min(3, chosen.max_epochs))

    monkeypatch.setattr(_fitting, "training_settings", fewer)


@pytest.fixture
def run_script(monkeypatch):
    """A function that runs a script as `python SCRIPT ARGUMENTS` does, but in this process, which has loaded torch."""

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(script.parent))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                pytest.fail(f"{script.name} ended with {ended.code}")

    return run


@pytest.fixture
def metadata_routing():
    """Switch scikit-learn's metadata routing on for one test."""
    with config_context(enable_metadata_routing=True):
        yield


def pytest_configure(config):
    """Let `pytest -n` hand out files in the order below, and not by how many tests they hold."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put long files first, so that no process is left alone with one at the end; within a file nothing moves."""
    folder = Path(__file__).parent
    rank = {folder / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


def pytest_collection_finish(session):
    """What was imported stays, so collections of garbage need not look through all of torch each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    gc.unfreeze()
    HUB.close()
    shutil.rmtree(HF_HOME, ignore_errors=True)


def pytest_sessionfinish(session, exitstatus):
    """Let a run fail in which tests were skipped, where CXR_NO_SKIPS asks for that."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # in a process of `pytest -n`, which reports to another one
        return
    if os.environ.get("CXR_NO_SKIPS") and exitstatus == 0 and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("skipped tests count as failures here (CXR_NO_SKIPS is set)", red=True)
