"""`cxr train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import (
    DataOption,
    DeviceOption,
    JobsOption,
    LabelColumnOption,
    LabelPatternOption,
    PatientColumnOption,
    QuietOption,
    collect_skipped,
    label_of,
    load_data,
    number_or_text,
    report_skipped,
)


def train(
    data: DataOption,
    model: Annotated[Path, typer.Option("--model", help="Folder to write the model to.")],
    split: Annotated[
        str, typer.Option(help="train, val, test, all, or auto: train where the folder has splits.")
    ] = "auto",
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    backbone: Annotated[str, typer.Option(help="A timm model, or plain_cnn.")] = "resnet18",
    image_size: Annotated[int, typer.Option(help="Height and width of the input, in pixels.")] = 224,
    channels: Annotated[int, typer.Option(help="1 for grey, 3 for colour.")] = 1,
    pretrained: Annotated[
        str,
        typer.Option(
            help="no; yes: timm's weights; bundled: the model of the package; or the path of a .safetensors file."
        ),
    ] = "no",
    dropout: Annotated[
        float | None, typer.Option(help="Share of features left out before the last layer. Default: the backbone's.")
    ] = None,
    pos_label: Annotated[
        str | None, typer.Option(help="The label that counts as positive. Default: the second.")
    ] = None,
    threshold: Annotated[
        str,
        typer.Option(help="A probability, or youden, 'sensitivity>=0.95', 'specificity>=0.9' on validation images."),
    ] = "0.5",
    epochs: Annotated[int, typer.Option(help="At most so many epochs.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    augment: Annotated[str, typer.Option(help="none, light, strong or robust.")] = "light",
    class_weight: Annotated[str, typer.Option(help="none or balanced.")] = "none",
    validation_fraction: Annotated[
        float, typer.Option(help="Share of the images, by patient, for early stopping.")
    ] = 0.1,
    skip_unreadable: Annotated[bool, typer.Option(help="Leave unreadable images out instead of stopping.")] = False,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the hardware has it.")
    ] = "auto",
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints: the same command again takes up a killed training.")
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded images, so that they are read only once.")
    ] = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model on the same machine.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Train a model on labelled images and save it."""
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.serialization import writable_folder

    writable_folder(model)
    images = load_data(data, split, patient_column, label_pattern, label_column)
    clf = CXRClassifier(
        backbone,
        image_size=image_size,
        channels=channels,
        pretrained={"no": False, "yes": True}.get(pretrained, pretrained),
        dropout=dropout,
        label_names=label_column if images.y.ndim == 2 else None,
        pos_label=label_of(pos_label, images.y),
        threshold=number_or_text(threshold),
        max_epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augment=augment,
        class_weight=None if class_weight == "none" else class_weight,
        validation_fraction=validation_fraction,
        precision=precision,
        device=device,
        checkpoint_dir=checkpoint_dir,
        cache_dir=cache_dir,
        on_error="skip" if skip_unreadable else "raise",
        n_jobs=jobs,
        verbose=0 if quiet else 1,
        random_state=seed,
    )
    with collect_skipped() as skipped:
        clf.fit(images.X, images.y, groups=images.groups)
    clf.save(model)
    best = clf.history_[clf.history_["best"]].iloc[0]
    typer.echo(f"classes: {', '.join(map(str, clf.classes_))}")
    if clf.pos_label_ is not None and clf.threshold_ is not None:
        typer.echo(f"positive label: {clf.pos_label_}, from a probability of {clf.threshold_:.3f} on")
    judged = f", validation AUROC {best['val_auroc']:.4f}" if validation_fraction else ""
    typer.echo(f"weights of epoch {best['epoch']} of {len(clf.history_)}{judged}")
    typer.echo(f"saved to {model}")
    report_skipped(skipped)
