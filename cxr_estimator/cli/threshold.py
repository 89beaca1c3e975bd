"""`cxr threshold`."""

from __future__ import annotations

from typing import Annotated

import typer

from cxr_estimator.cli._common import (
    AugmentOption,
    CopiesOption,
    DataOption,
    DeviceOption,
    JobsOption,
    LabelColumnOption,
    LabelPatternOption,
    ModelOption,
    NewModelOption,
    PatientColumnOption,
    QuietOption,
    UnseenSplitOption,
    adjust,
    label_of,
    number_or_text,
)


def threshold(
    data: DataOption,
    rule: Annotated[
        str,
        typer.Option(help="'sensitivity>=0.95', 'specificity>=0.9', youden, f_beta, cost, or a probability."),
    ],
    model: ModelOption = None,
    name: Annotated[
        str | None, typer.Option(help="Such as screening or rule_in. Default: default, or the label of several.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Of several classes the one it decides for, against all others.")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="For f_beta; above 1 it favours sensitivity.")] = None,
    false_negative_cost: Annotated[float | None, typer.Option(help="For cost.")] = None,
    false_positive_cost: Annotated[float | None, typer.Option(help="For cost.")] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="For cost: share of the positive label, if not as here.")
    ] = None,
    augment: AugmentOption = None,
    copies: CopiesOption = 4,
    split: UnseenSplitOption = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    output: NewModelOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Choose an operating point of a model on labelled images that did not train it."""
    from cxr_estimator._operating import point_label, point_name
    from cxr_estimator._wording import changed_copies

    source = data, split, patient_column, label_pattern, label_column
    with adjust(model, source, output, device=device, jobs=jobs, quiet=quiet) as (clf, images):
        label = point_label(clf, None if label is None else label_of(label, clf.classes_), "cxr threshold")
        name = point_name(clf, name, label, "cxr threshold")
        clf.set_threshold(
            number_or_text(rule),
            X=images.X,
            y=images.y,
            groups=images.groups,
            label=label,
            name=name,
            beta=beta,
            false_negative_cost=false_negative_cost,
            false_positive_cost=false_positive_cost,
            prevalence=prevalence,
            augment=augment,
            copies=copies,
        )
        point = clf.operating_points_[name]
        typer.echo(f"operating point {name!r}: {point.label} from a probability of {clf.thresholds_[name]:.3f} on")
        if point.n_images is not None:
            whose = f"of {point.n_patients} patients" if images.groups is not None else "(patients unknown)"
            changed = f", with {changed_copies(point.copies)} of each" if point.copies else ""
            typer.echo(
                f"sensitivity {point.sensitivity}, specificity {point.specificity} on the {point.n_images} images "
                f"{whose} that chose it{changed}; expect a little less on others"
            )
