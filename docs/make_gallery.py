"""Write docs/gallery.md and its pictures by running the numbered examples, on synthetic images only.

python docs/make_gallery.py            # all of them, in a few minutes
python docs/make_gallery.py 03 07      # these; of the others what stands in the page is kept
python docs/make_gallery.py --check    # end unless page and pictures are those of the examples as they are

With --check nothing is run: figures in the page are those of the machine and the versions that it was made with. What
takes other times each run is not quoted.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from make_methods import write_or_check
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE, PICTURES = ROOT / "docs" / "gallery.md", ROOT / "docs" / "gallery"
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
WIDEST, LARGEST = 1000, 150_000  # pixels and bytes of a picture
VARIES = re.compile(r"\bseconds\b")  # lines that are not quoted


class Entry(NamedTuple):
    """A heading, and the pictures that are shown, relative to the output folder, with what they show."""

    title: str
    pictures: dict[str, str]


ENTRIES = {
    "01_train": Entry(
        "Train", {"training.png": "Losses and AUROC by epoch, and the ROC curve of other patients with two thresholds"}
    ),
    "02_operating_points": Entry(
        "Operating points",
        {
            "report/roc.png": "ROC curve with three operating points",
            "report/scores.png": "Distribution of the probabilities of both classes, with the operating points",
        },
    ),
    "03_explain": Entry(
        "Explain",
        {
            "maps.png": "Three synthetic radiographs with maps by three methods, the lesions outlined in blue",
            "deletion.png": "Deletion curves of three methods, each beside that of its moved copies",
        },
    ),
    "04_shap_lime_grad_cam": Entry(
        "SHAP, LIME and Grad-CAM",
        {
            "maps.png": "Two synthetic radiographs, explained by SHAP, LIME and Grad-CAM, the lesions outlined in blue",
            "faithfulness.png": "Table of both gains of the three methods with intervals",
        },
    ),
    "05_cross_validate_explanations": Entry(
        "Cross-validate the quality of explanations",
        {"folds.png": "AUROC and deletion gains of three methods in each fold"},
    ),
    "06_choose_a_model": Entry(
        "Choose a model by faithfulness and AUROC",
        {"candidates.png": "AUROC and deletion gain of three candidates; the star is chosen, left of the line none is"},
    ),
    "07_audit_a_shortcut": Entry(
        "Audit, and catch a shortcut",
        {"exchanges.png": "Share of decisions that follow what is exchanged, for a clean and a marked model"},
    ),
    "08_several_classes": Entry(
        "Several classes, and photographs",
        {
            "radiographs.png": "An image of each class: opacity in the left lung, none, in the right lung; with maps",
            "photographs.png": "A blue cross, a green square and a red disc on noise, with maps",
        },
    ),
    "09_several_labels": Entry(
        "Several labels per image",
        {"labels.png": "One synthetic radiograph, explained for opacity, pacemaker and tube"},
    ),
    "10_uncertainty": Entry(
        "Know when not to answer",
        {"risk_coverage.png": "Share of wrong answers against the share that is answered, for three kinds of doubt"},
    ),
    "11_compare_models": Entry(
        "Compare models", {"least_alike.png": "The image whose maps by two models are least alike, in six panels"}
    ),
    "12_curate": Entry(
        "Curate a data set", {"found.png": "Duplicates that were planted, and labels that networks do not believe"}
    ),
    "13_push_and_pull": Entry(
        "Push and pull", {"same.png": "The same map of the same image by the model that was pushed and the one pulled"}
    ),
    "14_pneumonia_mnist": Entry(
        "PneumoniaMNIST",
        {
            "roc_val.png": "ROC curve of the val part of the synthetic archive",
            "roc_test.png": "ROC curve of the test part of the synthetic archive",
        },
    ),
}

_HEAD = """# Gallery

What the numbered [examples](../examples) draw and print. Each is one page of code, runs from a checkout of this
repository without data and without network, and takes the folder to write into: `python examples/01_train.py out`. All
images are synthetic: figures show how something is done, not how well it does on radiographs of people. Brackets hold
95% intervals over patients. Such short trainings end elsewhere on another machine or with another number of threads:
expect figures like these, not these. This page is made by `docs/make_gallery.py`.
"""


def run(example: Path, output: Path) -> str:
    """Run an example, keep its pictures, and return the lines it printed that are the same each time."""
    # none of them meets a Hub that the environment names
    own = {name: text for name, text in os.environ.items() if not name.startswith("HF_")} | {"MPLBACKEND": "Agg"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(example), str(output)], env=own, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{example.name} failed:\n{done.stderr}")
    for path in PICTURES.glob(f"{example.stem}_*.png"):
        path.unlink()
    for name in ENTRIES[example.stem].pictures:
        with Image.open(output / name) as picture:
            path, opaque = PICTURES / picture_name(example.stem, name), picture.convert("RGB")
        opaque.save(path, optimize=True)
        if opaque.width > WIDEST or path.stat().st_size > LARGEST:
            sys.exit(f"{path.name}: {opaque.width} pixels wide, {path.stat().st_size} bytes; make it smaller.")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines() if not VARIES.search(line)).strip()


def picture_name(stem: str, name: str) -> str:
    return f"{stem}_{Path(name).name}"


def section(example: Path, printed: str) -> str:
    """Return an example's part of the page."""
    entry = ENTRIES[example.stem]
    first, how, *rest = (ast.get_docstring(ast.parse(example.read_text())) or "").split("\n\n")
    pictures = "\n\n".join(
        f"![{alt}](gallery/{picture_name(example.stem, name)})\n\n*{alt}.*" for name, alt in entry.pictures.items()
    )
    parts = [
        f"## {int(example.stem[:2])}. {entry.title}",
        "\n\n".join([first, *rest]),
        f"[examples/{example.name}](../examples/{example.name}): `{how}`",
        pictures,
        f"```text\n{printed}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def quoted(example: Path) -> str:
    """Return what the page quotes of an example."""
    page = PAGE.read_text() if PAGE.is_file() else ""
    found = re.search(rf"\(\.\./examples/{example.name}\).*?^```text\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    return found[1] if found else "not run yet"


def check_pictures() -> None:
    """End unless the folder holds the pictures of the page and no others."""
    wanted = {picture_name(stem, name) for stem, entry in ENTRIES.items() for name in entry.pictures}
    held = {path.name for path in PICTURES.iterdir()} if PICTURES.is_dir() else set()
    if wanted != held:
        sys.exit(f"{PICTURES.name}: lacks {sorted(wanted - held)}, and holds {sorted(held - wanted)} besides.")


def main(arguments: list[str]) -> None:
    if [path.stem for path in EXAMPLES] != list(ENTRIES):
        sys.exit("ENTRIES and the numbered examples are not the same.")
    if "--check" not in arguments:
        PICTURES.mkdir(exist_ok=True)
    asked = [one for one in arguments if one != "--check"]
    sections = []
    for example in EXAMPLES:
        if "--check" in arguments or (asked and example.stem[:2] not in asked):
            printed = quoted(example)
        else:
            with tempfile.TemporaryDirectory() as folder:
                printed = run(example, Path(folder) / "output")
        sections.append(section(example, printed))
    write_or_check(PAGE, "\n".join([_HEAD, *sections]))
    check_pictures()


if __name__ == "__main__":
    main(sys.argv[1:])
