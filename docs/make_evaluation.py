"""Write docs/evaluation.md from the table of figures.

python docs/make_evaluation.py [--check]

Nothing in that page is written by hand; a test runs this with --check.
"""

from __future__ import annotations

from pathlib import Path

from make_methods import links, write_or_check

from cxr_estimator.evaluation import FIGURES, FigureOfMerit
from cxr_estimator.evaluation.plots import PLOTS
from cxr_estimator.statistics import FEWEST_PATIENTS

PAGE = Path(__file__).parent / "evaluation.md"

_HEAD = f"""# Evaluation

```python
report = evaluate(clf, X, y, groups, subgroups={{"sex": sex, "site": site}})
report.metrics["auroc"]  # 0.948 [0.928, 0.963]: all figures at the active operating point
report.decisions["screening"]  # figures, confusion matrix and kept promises of any operating point
report.to_frame()  # a tidy table: operating_point, class, figure, value, low, high
report.plot("decision_curve")  # {", ".join(PLOTS)}
report.save("report.html")  # or .md, .json, .csv, .txt, or a folder with all of them
```

On the command line: `cxr evaluate --model my-model --data other_hospital.csv --subgroup sex --output report.html`.
This page is made from the table `cxr_estimator.evaluation.FIGURES` by `docs/make_evaluation.py`.

What to know:

- **Intervals** are 95% over patients: all images of a patient stand or fall together. Without `groups` each image
  counts as a patient of its own, which makes them too narrow; the report says so.
- **AUROC** has the interval of DeLong, clustered by patient (Obuchowski), on the scale of log(A / (1 - A)). Where fewer
  than {FEWEST_PATIENTS} patients on one side are misplaced, as near 1, it is Newcombe's.
- **Shares** (sensitivity, specificity, precision, NPV, accuracy, recall) have a percentile bootstrap of patients. Where
  fewer than 15 patients are wrong (or right) that is too narrow, and Wilson's interval takes its place, of as many
  independent images as would vary as much.
- **Figures of the confusion matrix** (balanced accuracy, F1, MCC, macro means) have a bootstrap. Where fewer than
  {FEWEST_PATIENTS} patients of a class are wrong, each recall moves to the ends of its own interval instead, so that a
  model without an error still has an interval.
- Simulations in the tests hold all of these to 95%, give or take 3 points.
- **Undefined is NaN**, never 0, and the notes of the report say why.
- **Promises.** An operating point that was chosen by a rule is compared with what it does here. The gap has Newcombe's
  interval for two independent samples; where that leaves out 0, a note says so. The rule took the cut-off that looked
  best, which that interval does not know: without any shift, points of "youden" and "f_beta" from some 200 images are
  flagged in some 10% of the cases instead of 5%.
- **The same images** as chose a point or calibrated the model are noticed by fingerprint; a warning and a note say so.
- **Subgroups** with fewer than {FEWEST_PATIENTS} patients of a label they need show no figure, and are counted.
- Class order and prevalence stand above every table: precision, NPV, accuracy and AUPRC depend on prevalence.
- Nothing in a report names a patient or a file.

## Choosing points and calibrations

```python
choices = {{"groups": groups, "cv": 5, "augment": "robust", "copies": 4}}
calibration = cross_val_calibration(clf, X, y, **choices)  # every image judged by a network that did not see it
screening = cross_val_threshold(clf, X, y, "sensitivity>=0.97", name="screening", **choices)
clf.fit(X, y, groups=groups).calibrate(calibration).set_threshold(screening)
clf.set_threshold("sensitivity>=0.97", X=X_held_out, y=y_held_out, augment="robust")  # or on held-out images
```

On the command line: `cxr calibrate --model my-model --data held_out --augment robust --copies 4`, and so
`cxr threshold`.

- **Out of fold** no image is given up for the choice. The network that is then fitted on all images scores nearly, not
  exactly, as the folds' networks do. With a `checkpoint_dir` both functions, and a second rule, share the fitted folds.
- **Under augmentation** each image chooses together with randomly changed copies of itself. Another scanner's contrast,
  sharpness and field of view move all scores, most of those near the cut-off, and spread them. A cut-off that was
  chosen on clean images alone then loses what it promised, often specificity, and probabilities are too sure. In the
  study of `recipes/pneumonia/results/README.md` the same network (one seed), under fourteen simulated shifts, had a
  specificity of 0.73 at its screening point and a calibration error of 0.06 where point and temperature were chosen on
  clean images; 0.87 and 0.035 where they were chosen under augmentation, for a sensitivity of 0.975 instead of 0.99.
- That is a choice for shifts like those of the augmentation. On images without a shift such a point may find a little
  more than it promised, and probabilities are too timid: `evaluate` says by how much.
- The image itself and each of its copies weigh the same. A copy counts as its patient's in every interval, and neither
  as another image nor as another patient. It follows from `random_state`, the image's content and its own number, so
  that neither order nor batches matter. Points, calibrations and the model card say how they were chosen.
- Ready calibrations speak of log-odds without the weights of the classes in the loss; those of the network that takes
  them over are undone first.

## Figures
"""
_TASKS = {
    "binary": "two classes",
    "several": "several classes",
    "labels": "several labels per image",
    "class": "each of several",
}


def make_page() -> str:
    rows = ["| figure | what it is | for | better | interval | undefined if | source |", "|---" * 7 + "|"]
    return "\n".join([_HEAD, *rows, *(row(name, one) for name, one in FIGURES.items())]) + "\n"


def row(name: str, one: FigureOfMerit) -> str:
    better = {True: "greater", False: "less", None: "near 0"}[one.greater_is_better]
    tasks = ", ".join(_TASKS[task] for task in one.tasks)
    return (
        f"| {name} | {one.summary} | {tasks} | {better} | {one.interval} | {one.undefined} | {links(one.reference)} |"
    )


if __name__ == "__main__":
    write_or_check(PAGE, make_page())
