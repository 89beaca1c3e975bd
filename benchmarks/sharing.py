"""Sharing: what a push adds to the transfer, how soon a saved folder predicts, and what a round trip changes.

python benchmarks/sharing.py [--data CHEST_XRAY] [--model FOLDER] [--repeats 7]

Two models on real radiographs: an untrained resnet18 at 224 px (45 MB) for the push and the start, and a trained one
for the round trip (`--model`, else a resnet10t is trained on 600 images for 3 epochs). The Hub is the local one of the
tests, in a process of its own, which the real client talks to over HTTP; the peer of a push is `upload_folder` of that
client, for the same files. Start-up is timed in fresh processes. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path


def serve(pipe) -> None:
    from tests.hub import HubServer

    server = HubServer()
    server.start()
    pipe.send(server.endpoint)
    while True:
        if pipe.recv() == "reset":
            server.reset()
            pipe.send("done")
            continue
        pipe.send(sum(one.received for one in server.requests))


CHILD = """
import sys, time
started = time.perf_counter()
import torch, timm
imported = time.perf_counter()
import sklearn.base
sklearn_there = time.perf_counter()
from cxr_estimator import CXRClassifier
CXRClassifier
ours_there = time.perf_counter()
clf = CXRClassifier.from_pretrained(sys.argv[1])
loaded = time.perf_counter()
clf.predict_proba([sys.argv[2]])
done = time.perf_counter()
print(imported - started, sklearn_there - imported, ours_there - sklearn_there, loaded - ours_there, done - loaded)
"""
STEPS = ("import_torch_and_timm", "import_sklearn", "import_cxr_estimator", "from_pretrained", "predict_proba")


def start_up(folder: Path, image: str, repeats: int) -> dict:
    """Seconds of each step in fresh processes, and of the whole command `cxr predict`."""
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    whole: list[float] = []
    command = [sys.executable, "-c", "from cxr_estimator.cli import main; main()", "predict", "--quiet"]
    for number in range(repeats + 1):  # the first turn warms up the disk's cache
        said = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), image], capture_output=True, text=True, check=True
        )
        began = time.perf_counter()
        subprocess.run([*command, "--model", str(folder), image], capture_output=True, check=True)
        took = time.perf_counter() - began
        if number:
            whole.append(took)
            for name, seconds in zip(STEPS, said.stdout.split(), strict=True):
                steps[name].append(float(seconds))
    after = [sum(each) for each in zip(*(steps[name] for name in STEPS[1:]), strict=True)]
    return {
        "steps_seconds": steps,
        "whole_process_seconds": whole,
        "whole_process_median_seconds": statistics.median(whole),
        "once_torch_and_timm_are_imported_median_seconds": statistics.median(after),
        "load_and_predict_median_seconds": statistics.median(
            a + b for a, b in zip(steps["from_pretrained"], steps["predict_proba"], strict=True)
        ),
    }


def pushes(clf, pipe, repeats: int) -> dict:
    """Seconds of push_to_hub, and of the client's upload_folder of the same files, into new repositories."""
    from _common import interleaved
    from huggingface_hub import HfApi

    api, number = HfApi(), count()
    with tempfile.TemporaryDirectory() as folder:
        clf.save(folder)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())

        def ours() -> None:
            clf.push_to_hub(f"alice/ours{next(number)}")

        def client() -> None:
            name = f"alice/client{next(number)}"
            api.create_repo(name)
            api.upload_folder(repo_id=name, folder_path=folder)

        def fresh(work):
            def turn() -> float:  # a Hub without the file, which else would not be sent
                pipe.send("reset")
                pipe.recv()
                began = time.perf_counter()
                work()
                return time.perf_counter() - began

            return turn

        seconds = interleaved({"push_to_hub": fresh(ours), "upload_folder": fresh(client)}, repeats)
        pipe.send("reset")
        pipe.recv()
        clf.push_to_hub("alice/again")
        pipe.send("bytes")
        before = pipe.recv()
        began = time.perf_counter()
        again = clf.push_to_hub("alice/again")
        unchanged = time.perf_counter() - began
        pipe.send("bytes")
        sent = pipe.recv() - before
    added = [a - b for a, b in zip(seconds["push_to_hub"], seconds["upload_folder"], strict=True)]
    return {
        "bytes": size,
        "seconds": seconds,
        "added_seconds": added,
        "added_median_seconds": statistics.median(added),
        "unchanged": {"seconds": unchanged, "bytes_sent": sent, "files_changed": len(again.changed)},
    }


def round_trip(clf, X) -> dict:
    """Return the largest change of a probability by saving and loading."""
    import numpy as np

    from cxr_estimator import CXRClassifier

    proba = clf.predict_proba(X)
    found = {"images": len(X), "backbone": clf.backbone}
    for dtype in ("float32", "float16"):
        with tempfile.TemporaryDirectory() as folder:
            again = CXRClassifier.load(clf.save(folder, dtype=dtype)).predict_proba(X)
            found[f"{dtype}_bytes"] = (Path(folder) / "model.safetensors").stat().st_size
        found[f"{dtype}_largest_change"] = float(np.abs(again - proba).max())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--model", help="folder of a trained model for the round trip")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    pipe, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    cache = tempfile.TemporaryDirectory()
    # read when huggingface_hub is imported, by what is imported below
    os.environ.update(HF_ENDPOINT=pipe.recv(), HF_HOME=cache.name, HF_HUB_DISABLE_XET="1", HF_TOKEN="hf_alice_writes")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

    import numpy as np
    from _common import write

    from cxr_estimator import CXRClassifier, load_image_folder

    data = load_image_folder(options.data)
    rows = np.random.default_rng(0).permutation(len(data.y))
    few, others = rows[:200], rows[-500:]
    large = CXRClassifier("resnet18", image_size=224, max_epochs=1, learning_rate=1e-9, augment="none", random_state=0)
    large.fit(data.X[few], data.y[few], groups=data.groups[few])
    if options.model:
        trained = CXRClassifier.load(options.model)
    else:
        trained = CXRClassifier("resnet10t", image_size=128, max_epochs=3, pos_label="PNEUMONIA", random_state=0)
        trained.fit(data.X[rows[:600]], data.y[rows[:600]], groups=data.groups[rows[:600]])
    with tempfile.TemporaryDirectory() as folder:
        large.save(folder)
        start = start_up(Path(folder), str(data.X[others[0]]), options.repeats)
    write(
        "sharing",
        {
            "start_up": start,
            "push": pushes(large, pipe, options.repeats),
            "round_trip": round_trip(trained, data.X[others]),
        },
    )
    server.terminate()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the Hub of the tests
    main()
