"""Write docs/methods.md from the table of methods, their docstrings and the measured costs.

python docs/make_methods.py [--check]

Nothing in that page is written by hand; a test runs this with --check.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

from cxr_estimator.attribution import METHODS, Method

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
COSTS = ROOT / "benchmarks" / "results" / "method_costs.json"

_HEAD = """# Attribution methods

`clf.explain(X, method=NAME, **options)` for one method, a list of names for several, which then share what work they
can. This page is made from the table `cxr_estimator.attribution.METHODS` by `docs/make_methods.py`.

What all methods have in common:

- **target**: a class label, `"predicted"`, `"true"` (needs `y`) or `"margin"`, how far the log-odds lie beyond the
  operating point. What is explained is a log-odds or logit, never a probability.
- **signed** maps are negative where something spoke against the target; unsigned ones of evidence only hold
  what spoke for it.
- **shows**: "evidence" is what raised the score; "sensitivity" a magnitude, how much the score changes with a pixel in
  either direction; "features" what the network responds to: the target plays no part.
- **complete** maps sum to the score minus the score of a baseline; `Explanation.completeness_residual` says how nearly.
- **baseline** is what stands for "nothing there": `"background"` (the mean of the background images: the default where
  `fit` kept some, as it does from 20 patients on), `"blur"` (a Gaussian of a tenth of the side: the default elsewhere),
  `"black"` (pixels of 0), `"mean"` (the image's own mean), or pixels in [0, 1]. On phantoms "background" finds lesions
  best by far.
- **random** methods are seeded by `random_state` and the content of each image, so a map depends neither on the batch
  nor on the order. `error_bars=True` repeats any method and keeps the spread.
- **layer** (CAM): the name of a layer with a spatial map or patch tokens, or several, whose maps are averaged. Default:
  the last spatial map; for class-token transformers the first norm of the last block.
- `batch_size="auto"`, `progress=`, `background=`: see `CXRClassifier.explain`.

A heat map shows what the network used, not where disease is; maps of different methods have different units.
"""


def write_or_check(path: Path, page: str) -> None:
    """Write the page, or with --check end unless it is what stands there."""
    if "--check" not in sys.argv:
        path.write_text(page)
    elif not path.is_file() or path.read_text() != page:
        sys.exit(f"{path.name} is not what {Path(sys.argv[0]).name} writes: run it.")


def make_page() -> str:
    measured = json.loads(COSTS.read_text()) if COSTS.is_file() else {"seconds_per_image": {}}
    seconds = measured["seconds_per_image"]
    parts = [_HEAD, summary(seconds, measured)]
    family = None
    for name, method in METHODS.items():
        if method.family != family:
            family = method.family
            parts.append(f"## {family[0].upper()}{family[1:]}\n")
        parts.append(section(name, method))
    return "\n".join(parts)


def summary(seconds: dict[str, float], measured: dict) -> str:
    rows = [
        "| method | family | shows | signed | complete | random | passes per image | seconds per image |",
        "|---" * 8 + "|",
    ]
    for name, method in METHODS.items():
        flags = ["yes" if flag else "" for flag in (method.signed, method.complete, method.random)]
        cost = f"{seconds[name]:.2g}" if name in seconds else ""
        cells = [f"[{name}](#{name})", method.family, method.shows, *flags, method.cost, cost]
        rows.append(f"| {' | '.join(cells)} |")
    if seconds:
        machine = measured["machine"]
        rows.append(
            f"\nSeconds: {measured['question']}; {machine['cpus']} CPU cores, {machine['precision']}, default options. "
            "`python benchmarks/method_costs.py` measures them."
        )
    return "\n".join(rows) + "\n"


def section(name: str, method: Method) -> str:
    """Return what the docstring of the function says."""
    text, sections = split(inspect.getdoc(method.function) or "")
    lines = [f"### {name}", "", text, ""]
    if "Parameters" in sections:
        lines += ["Options:", "", *options(sections["Parameters"]), ""]
    needs = [
        word
        for word, needed in (("gradients", method.needs_gradients), ("background images", method.needs_background))
        if needed
    ]
    if needs:
        lines += [f"Needs {' and '.join(needs)}.", ""]
    lines += [sections["Use it for"], "", sections["Fails"], "", f"Source: {links(sections['References'])}", ""]
    return "\n".join(lines)


def split(doc: str) -> tuple[str, dict[str, str]]:
    """Return the text before the first section, and the sections by name."""
    doc = re.sub(r"^(Use it for|Fails): ", r"\1\n---\n**\1**: ", doc, flags=re.M)
    first, *rest = re.split(r"^([A-Z][\w ]+)\n-{3,}\n", doc, flags=re.M)
    return first.strip(), {name: content.strip() for name, content in zip(rest[::2], rest[1::2], strict=True)}


def options(text: str) -> list[str]:
    """Return the parameters as a list, one line each."""
    entries = re.findall(r"^(\w[^\n]*)\n((?:[ ]{4}[^\n]*\n?|\n)*)", text, flags=re.M)
    return [f"- `{head.strip()}`: {' '.join(body.split())}".rstrip(": ") for head, body in entries]


def links(text: str) -> str:
    return re.sub(r"doi:(\S+?)([.,;)]?)(?=\s|$)", r"[doi:\1](https://doi.org/\1)\2", " ".join(text.split()))


if __name__ == "__main__":
    write_or_check(PAGE, make_page())
