"""Memory: training on all real radiographs at 224 px, and 100,000 paths.

python benchmarks/memory.py --data DIR

`fit` decodes every image of the folder and trains resnet18 for two minutes (each step takes the same memory). Then
100,000 paths (the files of the folder again and again) are predicted, and prepared for training at 128 px, while a
thread notes the memory that is the process's own (RssAnon: without pages of files, which the system takes back when it
needs them). Flat means: no more at the end than after a tenth. Each part runs in a process of its own. Linux only.
Writes raw JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from itertools import cycle, islice
from pathlib import Path

from _common import RESULTS, peak_memory, write  # first: it sets OpenMP up

from cxr_estimator import CXRClassifier, load_image_folder, xai_scorer
from cxr_estimator.errors import PatientLeakWarning
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import Reading, prepare

PATHS = 100_000
EXPLAINED = 10_000
TRAINING_SECONDS = 120


def own_memory() -> float:
    """Return RssAnon in MB."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1e3


def watched(work) -> dict:
    """Run `work` and note the memory ten times a second."""
    samples, over = [], threading.Event()

    def watch():
        while not over.wait(0.1):
            samples.append(own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    work()
    over.set()
    thread.join()
    tenth = len(samples) // 10
    return {
        "seconds": time.perf_counter() - started,
        "peak_mb_in_the_second_tenth": max(samples[tenth : 2 * tenth]),
        "peak_mb_in_the_last_tenth": max(samples[-tenth:]),
        "samples_mb": samples[:: max(1, len(samples) // 50)],
    }


def time_is_over(*_: object) -> None:
    raise TimeoutError


def fit(folder: str) -> dict:
    data = load_image_folder(folder)
    clf = CXRClassifier("resnet18", image_size=224, max_epochs=1, random_state=0)
    with contextlib.suppress(TimeoutError):
        signal.signal(signal.SIGALRM, time_is_over)
        signal.alarm(TRAINING_SECONDS)
        clf.fit(data.X, data.y, groups=data.groups)
    return {"images": len(data.X), "stopped_after_seconds": TRAINING_SECONDS, "peak_gb": peak_memory()}


def many_paths(folder: str) -> list[str]:
    return list(islice(cycle(load_image_folder(folder).X.tolist()), PATHS))


def small_classifier(folder: str) -> CXRClassifier:
    data = load_image_folder(folder)
    clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, batch_size=64, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PatientLeakWarning)
        return clf.fit(data.X[::40], data.y[::40])


def predict(folder: str) -> dict:
    clf, paths = small_classifier(folder), many_paths(folder)
    return {"paths": PATHS, **watched(lambda: clf.predict_proba(paths))}


def prepared(folder: str) -> dict:
    paths = many_paths(folder)
    return {"paths": PATHS, **watched(lambda: prepare(as_images(paths), Preprocessing(128), Reading(n_jobs=2)))}


def explained(folder: str) -> dict:
    """Explain 10,000 files, chunk by chunk, with a method of one evaluation and one of eight."""
    clf, paths = small_classifier(folder), many_paths(folder)[:EXPLAINED]

    def work():
        for _ in clf.iter_explain(paths, method=["grad_cam", "rise"], n_masks=8):
            continue

    return {"paths": EXPLAINED, **watched(work)}


def measured(folder: str) -> dict:
    """Explain and measure 10,000 files, batch by batch, as a scorer does."""
    clf, paths = small_classifier(folder), many_paths(folder)[:EXPLAINED]
    scorer = xai_scorer("grad_cam:deletion_auc", steps=4, n_references=1)
    return {"paths": EXPLAINED, **watched(lambda: scorer(clf, paths))}


PARTS = {
    "fit": fit,
    "predict_100000_paths": predict,
    "prepare_100000_paths_at_128": prepared,
    "explain_10000_paths": explained,
    "score_10000_paths": measured,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="the others stay as measured")
    parser.add_argument("--print", choices=PARTS, help="run one part in this process and print it")
    options = parser.parse_args()
    if options.print:
        print(json.dumps(PARTS[options.print](options.data)))
        return
    result = json.loads((RESULTS / "memory.json").read_text()) if len(options.parts) < len(PARTS) else {}
    result["question"] = "peak memory of fit in GB; memory over many paths in MB; each part in a process of its own"
    for name in options.parts:
        command = [sys.executable, __file__, "--data", options.data, "--print", name]
        result[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(name, {key: value for key, value in result[name].items() if key != "samples_mb"}, flush=True)
    write("memory", result)


if __name__ == "__main__":
    main()
