"""How long a user waits: importing the package, `cxr --help`, 1,000 phantoms, and the whole quick start.

python benchmarks/startup.py [--output FILE.json]

Each figure but the last is the median of several runs in fresh processes. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr_estimator.versions import package_versions

IMPORT = "import time; t = time.perf_counter(); import cxr_estimator; print(time.perf_counter() - t)"
PHANTOMS = (
    "import time; from cxr_estimator import make_phantoms; t = time.perf_counter(); "
    "make_phantoms(1000, 128); print(time.perf_counter() - t)"
)
CXR = [sys.executable, "-c", "from cxr_estimator.cli import main; main()"]


def printed_seconds(code: str) -> float:
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def wall_seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([*CXR, *arguments], capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="benchmarks/results/startup.json")
    output = Path(parser.parse_args().output)
    result = {
        "import_seconds": [printed_seconds(IMPORT) for _ in range(11)],
        "help_seconds": [wall_seconds("--help") for _ in range(11)],
        "train_help_seconds": [wall_seconds("train", "--help") for _ in range(11)],
        "make_phantoms_1000_at_128_seconds": [printed_seconds(PHANTOMS) for _ in range(3)],
    }
    with tempfile.TemporaryDirectory() as folder:
        result["quickstart_seconds"] = [wall_seconds("quickstart", "--quiet", "--output", folder)]
        result["quickstart_summary"] = json.loads((Path(folder) / "summary.json").read_text())
    result["machine"] = {"cpus": os.cpu_count(), "processor": platform.machine(), **package_versions()}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    for name, seconds in result.items():
        if re.search("_seconds$", name):
            print(f"{name}: median {statistics.median(seconds):.3f}, raw {[round(one, 3) for one in seconds]}")


if __name__ == "__main__":
    main()
