"""The app under load: many visitors at once for two minutes, four visitors, and one; errors, waiting, memory.

python benchmarks/demo_load.py [--seconds 120] [--cores 0 1]

The app runs in a process of its own on two cores; the visitors, threads of this process with gradio's client, share
them where the machine has no others. Every question is about another phantom of 224 x 224 pixels. Models: the bundled
one, and a resnet18 at 224 px that is fitted for one epoch on few phantoms. "predict" is the probability with its range
over eight copies, the decision and the check of the image; "grad_cam" is that and a map (`check=False`); "with_card" is
that and the map's trust card, for which about a hundred changed images go through the network. The peer is the bare
estimator, `predict_proba` and `explain`, in turn on the same cores; it makes neither copies nor a card. Run it on an
idle machine: the load average before is among the raw JSON that it writes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from _common import write  # first: it sets OpenMP up
from gradio_client import Client, handle_file
from PIL import Image

from cxr_estimator import CXRClassifier, make_phantoms

START = """
import sys
from cxr_estimator.demo import Settings, launch
launch(Settings(models=tuple(sys.argv[2:]), device="cpu"), port=int(sys.argv[1]))
"""
VISITORS, FEW = 20, 4
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "predict": ("/predict", {}),
    "grad_cam": ("/explain", {"check": False}),
    "with_card": ("/explain", {}),
}
SLOWEST, FIRST_ANSWER = 2.5, 0.7  # seconds that are aimed at


@contextlib.contextmanager
def app(cores: list[int], *models: Path) -> Iterator[tuple[str, int]]:
    """Run the app on those cores; yield its address and its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(port), *map(str, models)],
        env=environment,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/config").raise_for_status()
                break
            time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def resident(process: int) -> float:
    """Return the resident memory of a process and of all below it, in MB."""
    total, kin = 0.0, [process]
    while kin:
        one = kin.pop()
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            for task in Path(f"/proc/{one}/task").iterdir():
                kin += map(int, (task / "children").read_text().split())
    return total


class Visitors:
    """Visitors of an app, each a thread with a client of its own.

    Parameters
    ----------
    url : str
    number : int
    films : sequence of Path
        What they ask about, in turn.
    """

    def __init__(self, url: str, number: int, films: list[Path]) -> None:
        self.clients = [Client(url, verbose=False, download_files=False) for _ in range(number)]
        self._films = films
        self._next = count()
        self.ranks: list[int] = []
        self.errors: list[str] = []
        self.took: dict[str, list[float]] = {}

    def ask(self, client: Client, question: str, **options: Any) -> None:
        """Ask one of `QUESTIONS`, and note how long the answer took and which places in the queue were told."""
        endpoint, more = QUESTIONS[question]
        film = self._films[next(self._next) % len(self._films)]
        began = time.perf_counter()
        job = client.submit(handle_file(film), api_name=endpoint, **more, **options)
        while not job.done():
            rank = job.status().rank
            if rank is not None:
                self.ranks.append(rank)
            time.sleep(0.02)
        error = job.exception()
        if error is not None:
            self.errors.append(f"{type(error).__name__}: {error}")
            return
        self.took.setdefault(question, []).append(time.perf_counter() - began)

    def come(self, seconds: float, turn: Callable[[Client, int], None]) -> float:
        """Let every visitor take turns for so long; return how long it took until all had their answers."""
        began = time.perf_counter()

        def visit(client: Client) -> None:
            for number in count():
                if time.perf_counter() - began > seconds:
                    return
                turn(client, number)

        with ThreadPoolExecutor(len(self.clients)) as pool:
            list(pool.map(visit, self.clients))
        return time.perf_counter() - began


def figures(seconds: list[float]) -> dict[str, float]:
    """Return number, median and 95% quantile."""
    p50, p95 = np.quantile(seconds, [0.5, 0.95]).tolist()
    return {"n": len(seconds), "p50_seconds": p50, "p95_seconds": p95}


def crowd(url: str, process: int, films: list[Path], seconds: float) -> dict[str, Any]:
    """Twenty visitors who ask one question after the other: errors, places in the queue, memory over time."""
    visitors = Visitors(url, VISITORS, films)
    memory: list[tuple[float, float]] = []
    done = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        while not done.wait(1.0):
            memory.append((time.perf_counter() - began, resident(process)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    order = list(QUESTIONS)
    took = visitors.come(seconds, lambda client, number: visitors.ask(client, order[number % len(order)]))
    done.set()
    watcher.join()
    warm = [size for when, size in memory if seconds / 4 <= when < seconds / 2]
    end = [size for when, size in memory if 3 * seconds / 4 <= when < seconds]
    answers = sum(map(len, visitors.took.values()))
    return {
        "visitors": VISITORS,
        "seconds": took,
        "errors": visitors.errors,
        "answers_per_second": answers / took,
        "questions": {name: figures(each) for name, each in visitors.took.items()},
        "last_place_in_queue_told": max(visitors.ranks, default=None),
        "places_told": len(visitors.ranks),
        "memory_mb": [[round(when, 1), round(size, 1)] for when, size in memory],
        "memory_second_quarter_mb": statistics.median(warm),
        "memory_last_quarter_mb": statistics.median(end),
        "memory_end_to_warm_ratio": statistics.median(end) / statistics.median(warm),
    }


def few(url: str, films: list[Path], seconds: float, model: str, question: str) -> dict[str, Any]:
    """Four visitors who ask the same question about other films, again and again."""
    visitors = Visitors(url, FEW, films)
    visitors.come(seconds, lambda client, _: visitors.ask(client, question, model=model))
    found = figures(visitors.took[question])
    return {**found, "is_within_aim": found["p95_seconds"] < SLOWEST, "errors": visitors.errors}


def alone(url: str, films: list[Path], model: str, clf: CXRClassifier, repeats: int) -> dict[str, Any]:
    """One visitor, in turn with the bare estimator on the same films."""
    visitors = Visitors(url, 1, films)
    (client,) = visitors.clients
    bare: list[float] = []
    for number in range(repeats + 1):
        for question in QUESTIONS:
            visitors.ask(client, question, model=model)
        began = time.perf_counter()
        film = [str(films[number % len(films)])]
        clf.predict_proba(film)
        clf.explain(film, method="grad_cam")
        bare.append(time.perf_counter() - began)
        if number == 0:  # the first turn warms up
            bare.clear()
            visitors.took.clear()
    ratios = {
        name: statistics.median(a / b for a, b in zip(each, bare, strict=True)) for name, each in visitors.took.items()
    }
    return {
        **{name: figures(each) for name, each in visitors.took.items()},
        "bare_estimator": figures(bare),
        "app_to_bare_estimator_ratios": ratios,
        "is_first_answer_within_aim": figures(visitors.took["predict"])["p95_seconds"] < FIRST_ANSWER,
        "errors": visitors.errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--cores", type=int, nargs="+", default=sorted(os.sched_getaffinity(0))[:2])
    options = parser.parse_args()
    os.sched_setaffinity(0, options.cores)
    result: dict[str, Any] = {"load_average_before": os.getloadavg()[0], "cores": len(options.cores)}
    with tempfile.TemporaryDirectory() as place:
        films = []
        for number, pixels in enumerate(make_phantoms(200, 224, random_state=0).X):
            films.append(Path(place) / f"{number}.png")
            Image.fromarray(pixels).save(films[-1])
        small = make_phantoms(32, 224, random_state=1)
        larger = CXRClassifier(
            "resnet18", image_size=224, max_epochs=1, batch_size=16, pos_label="PNEUMONIA", random_state=0, device="cpu"
        ).fit(small.X, small.y, groups=small.groups)
        larger.save(Path(place) / "resnet18")
        models = {"bundled": CXRClassifier.from_pretrained(device="cpu"), "resnet18": larger}
        with app(options.cores, Path(place) / "resnet18") as (url, process):
            for name, clf in models.items():
                result[f"one_visitor_{name}"] = alone(url, films, name, clf, 12)
                result[f"four_visitors_{name}"] = {
                    question: few(url, films, options.seconds / 4, name, question) for question in QUESTIONS
                }
                print(name, result[f"one_visitor_{name}"], result[f"four_visitors_{name}"], flush=True)
        # a fresh one, so that memory is seen from the start
        with app(options.cores) as (url, process):
            result["twenty_visitors_bundled"] = crowd(url, process, films, options.seconds)
        print({name: value for name, value in result["twenty_visitors_bundled"].items() if name != "memory_mb"})
    result["memory_end_to_warm_ratio"] = result["twenty_visitors_bundled"]["memory_end_to_warm_ratio"]
    result["app_to_bare_estimator_ratios"] = {
        name: result[f"one_visitor_{name}"]["app_to_bare_estimator_ratios"] for name in models
    }
    write("demo_load", result)


if __name__ == "__main__":
    main()
