"""The command line, run as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier, Explanation
from cxr_estimator.attribution import METHODS
from cxr_estimator.cli import main
from cxr_estimator.cli.benchmark import chosen_metrics
from cxr_estimator.cli.explain import chosen_methods
from cxr_estimator.errors import BackgroundWarning


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def cxr(*arguments) -> Done:
    """Run `cxr` in this process, which saves loading torch each time."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["cxr", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(phantoms, tmp_path_factory):
    """The Kaggle layout, with patients in the file names."""
    root = tmp_path_factory.mktemp("chest_xray")
    for i, (image, label, patient) in enumerate(zip(phantoms.X, phantoms.y, phantoms.groups, strict=True)):
        split = "train" if i < 60 else "test"
        number = int(patient[1:])
        name = f"IM-{number:04d}-{i:04d}.png" if label == "NORMAL" else f"person{number}_virus_{i}.png"
        path = root / split / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    done = cxr(
        "train", "--data", folder, "--model", path, "--backbone", "plain_cnn", "--image-size", 32, "--epochs", 2,
        "--pos-label", "PNEUMONIA", "--validation-fraction", 0.2, "--threshold", "sensitivity>=0.9", "--quiet",
        "--dropout", 0.1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "classes: NORMAL, PNEUMONIA" in done.stdout
    assert "positive label: PNEUMONIA" in done.stdout
    assert "warning" not in done.stderr  # patients are known from the file names
    return path


def test_trained_model_equals_the_python_way(folder, model):
    from cxr_estimator import load_image_folder

    data = load_image_folder(folder)
    clf = CXRClassifier.load(model)
    assert clf.dropout == 0.1
    again = CXRClassifier(**clf.get_params()).fit(data.X, data.y, groups=data.groups)
    np.testing.assert_allclose(again.predict_proba(data.X), clf.predict_proba(data.X), atol=1e-6)


def test_evaluate_in_every_format(folder, model, tmp_path):
    from cxr_estimator import evaluate, load_image_folder

    data = load_image_folder(folder, split="test")
    report = evaluate(CXRClassifier.load(model), *data)
    arguments = ("evaluate", "--model", model, "--data", folder, "--split", "test", "--quiet")
    assert cxr(*arguments).stdout.strip() == str(report)
    assert json.loads(cxr(*arguments, "--format", "json").stdout) == json.loads(json.dumps(report.to_dict()))
    done = cxr(*arguments, "--format", "csv", "--output", tmp_path / "new" / "report.csv")
    assert done.returncode == 0
    assert (tmp_path / "new" / "report.csv").read_text() == report.to_csv()
    for name, expected in (("a.html", report.to_html()), ("a.md", report.to_markdown()), ("a.json", report.to_json())):
        assert cxr(*arguments, "--output", tmp_path / name).returncode == 0
        assert (tmp_path / name).read_text(encoding="utf-8") == expected
    assert cxr(*arguments, "--format", "markdown").stdout == report.to_markdown()


def test_evaluate_on_the_table_of_another_hospital(folder, model, tmp_path):
    """Other names and a CSV file: figures by sex, whose column is empty for one image."""
    from cxr_estimator import evaluate, load_image_folder

    data = load_image_folder(folder, split="test")
    sex = np.array(["F", "M"] * 10)
    table = tmp_path / "other.csv"
    rows = zip(data.X, data.y, data.groups, ["", *sex[1:]], strict=True)
    table.write_text("path,label,patient,sex\n" + "".join(f"{','.join(row)}\n" for row in rows))
    arguments = ("evaluate", "--model", model, "--data", table, "--patient-column", "patient", "--quiet")
    done = cxr(*arguments, "--subgroup", "sex", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["value"]: row["n_images"] for row in found["subgroups"]} == {"(missing)": 1, "F": 9, "M": 10}
    clf = CXRClassifier.load(model)
    assert found["metrics"] == evaluate(clf, *data).to_dict()["metrics"]
    assert cxr(*arguments, "--subgroup", "age").stderr.strip().endswith("it has ['path', 'label', 'patient', 'sex'].")


def test_three_classes_by_file_name(folder, tmp_path):
    for path in folder.rglob("person*_virus_*0.png"):
        copy = tmp_path / "data" / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy.with_name(path.name.replace("virus", "bacteria")))
    shutil.copytree(folder, tmp_path / "data", dirs_exist_ok=True)
    options = ("--data", tmp_path / "data", "--label-pattern", "_(bacteria|virus)_", "--quiet")
    small = ("--backbone", "plain_cnn", "--image-size", 32, "--epochs", 1, "--validation-fraction", 0)
    done = cxr("train", "--model", tmp_path / "m", *options, *small)
    assert "classes: NORMAL, bacteria, virus" in done.stdout, done.stderr
    done = cxr("evaluate", "--model", tmp_path / "m", "--format", "json", *options)
    assert json.loads(done.stdout)["classes"] == ["NORMAL", "bacteria", "virus"]
    done = cxr("evaluate", "--model", tmp_path / "m", "--data", tmp_path / "data", "--quiet")
    assert "labels the model does not know: ['PNEUMONIA']" in done.stderr


def test_several_labels(folder, tmp_path):
    paths = sorted(folder.rglob("*.png"))
    rows = [f"{path},{int('NORMAL' in str(path))},{'' if i % 5 == 4 else i % 2},{i}" for i, path in enumerate(paths)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,clear,odd,patient", *rows]))
    columns = ("--label-column", "odd", "--label-column", "clear")
    small = ("--backbone", "plain_cnn", "--image-size", 32, "--epochs", 1, "--patient-column", "patient", "--quiet")
    done = cxr("train", "--data", table, "--model", tmp_path / "m", *columns, *small)
    assert "classes: odd, clear" in done.stdout, done.stderr
    done = cxr("predict", paths[0], paths[1], "--model", tmp_path / "m", "--quiet")
    first, second = csv.DictReader(io.StringIO(done.stdout))
    for row in (first, second):
        said = [label for label in ("odd", "clear") if float(row[f"p_{label}"]) >= 0.5]
        assert row["decision"] == "|".join(said)
    done = cxr("explain", paths[0], "--model", tmp_path / "m", "--output", tmp_path / "o", "--target", "odd", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "explained" in (tmp_path / "o" / "explanations.csv").read_text()
    done = cxr("explain", paths[0], "--model", tmp_path / "m", "--output", tmp_path / "o", "--quiet")
    assert "one of ['odd', 'clear']; of several labels per image none is the 'predicted' one" in done.stderr
    done = cxr("evaluate", "--data", table, "--model", tmp_path / "m", "--quiet")  # the model knows the columns
    assert "labels, each among the images it is known of: odd" in done.stdout, done.stderr
    done = cxr("threshold", "--data", table, "--model", tmp_path / "m", "--rule", "0.3", "--label", "odd", "--quiet")
    assert "operating point 'odd': odd from a probability of 0.300 on" in done.stdout, done.stderr
    done = cxr("predict", paths[0], "--model", tmp_path / "m", "--operating-point", "odd", "--quiet")
    assert "left out unless there are two classes" in done.stderr
    done = cxr("train", "--data", folder, "--model", tmp_path / "n", *columns)
    assert "--label-column is for a CSV file" in done.stderr


def test_predict(folder, model, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    images = sorted((folder / "test" / "NORMAL").iterdir())
    done = cxr("predict", "--model", model, folder / "test" / "NORMAL", bad, "--quiet")
    assert done.returncode == 3
    assert "unreadable" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["image"] for row in rows] == [str(path) for path in images] + [str(bad)]
    proba = CXRClassifier.load(model).predict_proba(images)
    np.testing.assert_allclose([float(row["p_PNEUMONIA"]) for row in rows[:-1]], proba[:, 1], atol=1e-6)
    assert [row["decision"] for row in rows[:-1]] == CXRClassifier.load(model).predict(images).tolist()
    assert rows[-1]["decision"] == rows[-1]["p_NORMAL"] == ""
    assert rows[-1]["error"] == "this is no readable PNG, JPEG, TIFF or DICOM image."
    as_json = json.loads(cxr("predict", "--model", model, *images[:2], "--format", "json", "--quiet").stdout)
    assert as_json[0]["error"] is None
    assert as_json[1]["image"] == str(images[1])
    all_positive = json.loads(
        cxr("predict", "--model", model, *images[:2], "--threshold", 0.0001, "--format", "json", "--quiet").stdout
    )
    assert {row["decision"] for row in all_positive} == {"PNEUMONIA"}


def test_explain(folder, model, tmp_path):
    images = sorted((folder / "test" / "PNEUMONIA").iterdir())[:2]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    output = tmp_path / "figures"
    options = ("--output", output, "--target", "PNEUMONIA", "--maps", "--quiet")
    done = cxr("explain", "--model", model, *images, bad, *options)
    assert done.returncode == 3, done.stderr
    assert "the file is empty" in done.stderr
    rows = list(csv.DictReader(io.StringIO((output / "explanations.csv").read_text())))
    expected = CXRClassifier.load(model).explain(images, target="PNEUMONIA")
    assert [row["image"] for row in rows] == [str(path) for path in images]
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected.score, atol=1e-5)
    for row, values in zip(rows, expected.values, strict=True):
        with Image.open(output / row["figure"]) as figure:
            assert figure.width > 1500
        saved = Explanation.load(output / row["figure"].removesuffix(".png"))
        np.testing.assert_allclose(saved.values[0], values, atol=1e-6)


def test_explain_with_several_methods_and_options(folder, model, tmp_path):
    image = sorted((folder / "test" / "PNEUMONIA").iterdir())[0]
    options = ("--method", "grad_cam,smooth_grad", "--option", "n_samples=3", "--option", "layer=features.stage1")
    done = cxr("explain", "--model", model, image, "--output", tmp_path / "o", *options, "--maps", "--error-bars", "-q")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "o" / "explanations.csv").read_text())))
    assert [(row["method"], row["evaluations"]) for row in rows] == [("grad_cam", "6"), ("smooth_grad", "15")]
    assert len({row["figure"] for row in rows}) == 1
    saved = Explanation.load(tmp_path / "o" / f"{rows[0]['figure'].removesuffix('.png')}.smooth_grad")
    assert saved.options["n_samples"] == 3
    assert saved.spread.shape == (1, 32, 32)


def test_only_warnings_of_the_package_are_shown(folder, model, tmp_path, monkeypatch):
    def warn(*arguments, **options):
        warnings.warn("the set_bad function will be deprecated", PendingDeprecationWarning, stacklevel=1)
        warnings.warn("an array was copied", UserWarning, stacklevel=1)
        warnings.warn("of one class only", BackgroundWarning, stacklevel=1)
        return iter_explain(*arguments, **options)

    iter_explain = CXRClassifier.iter_explain
    monkeypatch.setattr(CXRClassifier, "iter_explain", warn)
    image = sorted((folder / "test" / "PNEUMONIA").iterdir())[0]
    done = cxr("explain", "--model", model, image, "--output", tmp_path / "o", "--quiet")
    assert done.returncode == 0
    assert done.stderr == "warning: of one class only\n"


def test_a_colour_map_is_checked_before_anything_is_explained(folder, model, tmp_path, monkeypatch):
    monkeypatch.setattr(CXRClassifier, "iter_explain", None)
    done = cxr("explain", "--model", model, folder / "test", "--output", tmp_path / "o", "--cmap", "nosuch", "--quiet")
    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "o").exists()


def test_all_methods_are_those_the_network_supports(model, capsys):
    clf = CXRClassifier.load(model)
    chosen = chosen_methods(clf, "all", has_background=True)
    assert chosen == [name for name, method in METHODS.items() if method.obstacle(clf.model_) is None]
    clf.background_ = None
    without = chosen_methods(clf, "all", has_background=False)
    assert without == [name for name in chosen if not METHODS[name].needs_background]
    assert "left out: deep_shap: the model has no background; see --background" in capsys.readouterr().err


BENCHMARK = ("--methods", "grad_cam,saliency", "--metrics", "deletion_auc,gini", "--quiet")


def test_benchmark(folder, model, tmp_path):
    from cxr_estimator import load_image_folder
    from cxr_estimator.benchmark import benchmark

    arguments = (
        "benchmark", "--model", model, "--data", folder, "--split", "test", "--output", tmp_path / "o", *BENCHMARK,
    )  # fmt: skip
    done = cxr(*arguments)
    assert done.returncode == 0, done.stderr
    data = load_image_folder(folder, split="test")
    expected = benchmark(
        CXRClassifier.load(model), *data[:2], methods=["grad_cam", "saliency"], metrics=["deletion_auc", "gini"],
        groups=data.groups,
    )  # fmt: skip
    table = list(csv.DictReader(io.StringIO((tmp_path / "o" / "table.csv").read_text())))
    for name in ("method", "metric", "bucket"):
        assert [row[name] for row in table] == expected[name].tolist()
    for name in ("value", "low", "high", "n_patients", "rank"):
        np.testing.assert_allclose([float(row[name] or "nan") for row in table], expected[name], rtol=1e-4, atol=1e-6)
    with Image.open(tmp_path / "o" / "heat_table.png") as figure:
        assert figure.width >= 600
    said = done.stdout.splitlines()
    assert said[0].startswith("20 images")
    of_gini = [row for row in table if (row["metric"], row["bucket"]) == ("gini", "all")]
    best = min(of_gini, key=lambda row: float(row["rank"]))
    assert f"{float(best['value']):.4g} [" in said[said.index("gini (greater is better)") + 1]
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "o" / "parts").iterdir()}
    again = cxr(*arguments)  # nothing is left to do
    assert again.stdout == done.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "o" / "parts").iterdir()} == parts
    other = cxr(*arguments, "--raw")
    assert other.returncode == 2
    assert "another benchmark" in other.stderr


def test_benchmark_leaves_the_test_part_alone(folder, model, tmp_path):
    arguments = ("benchmark", "--model", model, "--output", tmp_path / "o", *BENCHMARK)
    done = cxr(*arguments, "--data", folder)
    assert done.returncode == 2
    assert "has no validation part. Choose one of train, test with --split" in done.stderr
    for name, source in (("train", "train"), ("val", "test")):
        shutil.copytree(folder / source, tmp_path / "data" / name)
    done = cxr(*arguments, "--data", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "20 images, split 'val'" in done.stderr


def test_benchmark_of_few_patients_has_no_intervals(folder, model, tmp_path):
    images = sorted((folder / "test" / "NORMAL").iterdir())[:2]
    done = cxr("benchmark", "--model", model, *images, "--output", tmp_path / "o", *BENCHMARK)
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout


def test_benchmark_without_labels_and_with_a_bad_file(folder, model, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    images = sorted((folder / "test" / "NORMAL").iterdir())[:3]
    done = cxr("benchmark", "--model", model, *images, bad, "--output", tmp_path / "o", *BENCHMARK)
    assert done.returncode == 3, done.stderr
    assert "bad.png" in done.stderr
    table = csv.DictReader(io.StringIO((tmp_path / "o" / "table.csv").read_text()))
    assert {(row["bucket"], row["n_images"]) for row in table} == {("all", "3")}


def test_benchmark_that_is_interrupted_says_how_to_go_on(folder, model, tmp_path, monkeypatch):
    images = sorted((folder / "test" / "NORMAL").iterdir())[:2]
    arguments = ("benchmark", "--model", model, *images, "--output", tmp_path / "o", *BENCHMARK)

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cxr_estimator.benchmark._long", stop)
        done = cxr(*arguments)
    assert done.returncode == 130
    assert "The same command takes the work up where it stopped" in done.stderr
    assert "cxr: interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert cxr(*arguments).returncode == 0


def test_all_metrics_are_those_that_images_suffice_for(capsys):
    chosen = chosen_metrics("all")
    assert {"deletion_auc", "sparsity_90", "seed_stability"} <= set(chosen)
    assert not {"iou", "ssim"} & set(chosen)
    assert "left out: iou: needs ground-truth masks" in capsys.readouterr().err


TRAIN = "train --data {folder} --model {tmp}/m --backbone plain_cnn"
EXPLAIN = "explain --model {model} --output {tmp}/o"
COMPARE = "benchmark --model {model} --output {tmp}/o"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("predict --model {tmp}/none x.png", "there is no such model folder"),
        ("evaluate --model {model} --data {tmp}/none", "there is no such folder"),
        ("evaluate --model {model} --data {folder} --subgroup sex", "--subgroup is for a CSV file"),
        (TRAIN.replace("plain_cnn", "resnet_18"), "Did you mean"),
        (f"{TRAIN} --threshold best", "'threshold'"),
        (f"{TRAIN} --pos-label COVID", "'NORMAL', 'PNEUMONIA'"),
        (f"{TRAIN} --epochs many", "--epochs"),
        ("train --data {folder}", "--model"),
        (EXPLAIN + " {tmp}", "holds no .png"),
        (f"{EXPLAIN} x.png --option n_samples", "--option must be NAME=VALUE"),
        (f"{EXPLAIN} x.png --option n_samples=3", "'options of grad_cam'"),
        (f"{EXPLAIN} x.png --method grad_cam,none", "'method'"),
        (f"{EXPLAIN} x.png --option method=lime", "--option cannot set 'method': use --method"),
        (f"{EXPLAIN} x.png --option error_bars=1", "use --error-bars"),
        (f"{EXPLAIN} x.png --option X=3", "--option cannot set 'X'."),
        (f"{EXPLAIN} x.png --option self=3", "--option cannot set 'self'."),
        (f"{EXPLAIN} x.png --option progress=3", "--option cannot set 'progress'."),
        (f"{EXPLAIN} x.png --option random_state=x", "'random_state' parameter of explain"),
        (f"{EXPLAIN} {{images}} --cmap nosuch", "'cmap' parameter of figures"),
        ("explain --model {model} {images} --output {images}/new", "lies inside"),
        ("explain --model {model} {images} --output {images}/NORMAL/../", "lies inside"),
        ("explain --model {model} x.png --background {images} --output {images}", "lies inside"),
        (f"{EXPLAIN} x.png --batch-size many", "'batch_size'"),
        (f"{EXPLAIN} x.png", "there is no such file"),
        (f"{EXPLAIN} x.png --method lime9", "'method' parameter"),
        (COMPARE, "either image files and folders, or --data"),
        (f"{COMPARE} x.png --data {{folder}}", "either image files and folders, or --data"),
        (f"{COMPARE} x.png --split test", "--split, --patient-column and --label-pattern are for --data"),
        (f"{COMPARE} x.png", "there is no such file"),
        (f"{COMPARE} x.png --methods gradcam", "Did you mean 'grad_cam'"),
        (f"{COMPARE} x.png --metrics gini,aop", "Did you mean"),
        (f"{COMPARE} x.png --metrics iou", "'masks'"),
        (f"{COMPARE} x.png --metrics ssim", "about one explanation"),
        (f"{COMPARE} x.png --target true", "'y'"),
        ("benchmark --model {model} {images} --output {images}/new", "lies inside"),
        ("benchmark --model {model} --data {folder} --output {folder}/new", "lies inside"),
        ("quickstart --data {tmp}/none", "there is no such folder"),
        ("quickstart --label-pattern x --output {tmp}/q", "None for phantoms"),
        (f"{TRAIN} --label-pattern _(fungus)_", "matches none of 60 file names"),
        ("train --data {tmp}/t.csv --model {tmp}/m --label-pattern x", "--label-pattern is for a folder"),
        ("nonsense", "No such command"),
    ],
)
def test_bad_input_gives_one_message_and_no_traceback(folder, model, tmp_path, line, message):
    done = cxr(*line.format(tmp=tmp_path, model=model, folder=folder, images=folder / "test").split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not list((folder / "test").rglob("explanations.*"))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["predict {images} --model {model} --output /dev/null/x.csv", TRAIN, "quickstart"])
def test_output_that_cannot_be_written_is_noticed_before_the_work(folder, model, tmp_path, command):
    (tmp_path / "m").write_text("a file")
    if command == "quickstart":
        command += " --output {tmp}/m"
    done = cxr(*command.format(images=folder / "test", model=model, folder=folder, tmp=tmp_path).split())
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "step" not in done.stderr


def test_the_unexpected_ends_in_one_line(folder, model, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("boom")

    monkeypatch.setattr(CXRClassifier, "load", fail)
    done = cxr("predict", "--model", model, folder / "test")
    assert done.returncode == 1
    assert done.stderr == "cxr: RuntimeError: boom (CXR_DEBUG=1 shows where)\n"
    monkeypatch.setenv("CXR_DEBUG", "1")
    assert "Traceback" in cxr("predict", "--model", model, folder / "test").stderr


def test_interrupting_ends_quietly(folder, tmp_path):
    command = [sys.executable, "-c", "from cxr_estimator.cli import main; main()", "train", "--data", str(folder)]
    options = ["--model", str(tmp_path / "m"), "--backbone", "plain_cnn", "--image-size", "64", "--epochs", "5000"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = ""
    while "epoch 1" not in first:  # so training runs: while torch imports more of itself, an interrupt may abort it
        first += process.stderr.read(1) or pytest.fail(first)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "cxr: interrupted" in first + rest
    assert "Traceback" not in rest
    assert not list((tmp_path / "m").iterdir())


def test_an_interrupt_that_python_wrapped(monkeypatch, capsys):
    def stopped():
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    monkeypatch.setattr("cxr_estimator.cli.app", stopped)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "cxr: interrupted\n"


def test_csv_with_numeric_labels_and_patients(phantoms, tmp_path):
    lines = ["path,label,patient"]
    for i, image in enumerate(phantoms.X[:40]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{int(phantoms.y[i] == 'PNEUMONIA')},{phantoms.groups[i]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    done = cxr(
        "train", "--data", tmp_path / "table.csv", "--patient-column", "patient", "--model", tmp_path / "m",
        "--backbone", "plain_cnn", "--image-size", 32, "--epochs", 1, "--pos-label", 1, "--validation-fraction", 0.2,
        "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert CXRClassifier.load(tmp_path / "m").pos_label == 1


def test_unreadable_training_images_stop_or_are_reported(folder, tmp_path):
    import shutil

    copy = tmp_path / "data"
    shutil.copytree(folder / "train", copy)
    (copy / "NORMAL" / "IM-9999-0001.png").write_bytes(b"nonsense")
    options = ("train", "--data", copy, "--model", tmp_path / "m", "--backbone", "plain_cnn", "--image-size", 32)
    options += ("--epochs", 1, "--validation-fraction", 0.2, "--quiet")
    done = cxr(*options)
    assert done.returncode == 2
    assert "IM-9999-0001.png" in done.stderr
    done = cxr(*options, "--skip-unreadable")
    assert done.returncode == 3, done.stderr
    assert "unreadable: " in done.stderr
    assert (tmp_path / "m" / "model.safetensors").exists()


def test_training_without_patients_warns_in_words_of_the_command_line(folder, tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i, path in enumerate(sorted((folder / "test" / label).iterdir())):
            (tmp_path / "data" / label / f"{i}.png").write_bytes(path.read_bytes())
    options = ("--backbone", "plain_cnn", "--image-size", 32, "--epochs", 1, "--validation-fraction", 0.2, "--quiet")
    done = cxr("train", "--data", tmp_path / "data", "--model", tmp_path / "m", *options)
    assert done.returncode == 0, done.stderr
    assert "split 'all' of " in done.stderr
    assert "warning: No patients are known" in done.stderr
    assert "--patient-column" in done.stderr
    assert "groups=" not in done.stderr


def test_training_keeps_checkpoints_and_decoded_images_and_begins_from_them(folder, tmp_path):
    options = ("train", "--data", folder, "--backbone", "plain_cnn", "--image-size", 32, "--epochs", 1, "--quiet")
    options += ("--validation-fraction", 0.2, "--checkpoint-dir", tmp_path / "checkpoints")
    options += ("--cache-dir", tmp_path / "cache", "--precision", "float32")
    weights = []
    for name in ("first", "again"):
        done = cxr(*options, "--model", tmp_path / name)
        assert done.returncode == 0, done.stderr
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 60


def test_version_and_help():
    from cxr_estimator import __version__

    assert cxr("--version").stdout.strip() == __version__
    assert "quickstart" in cxr("--help").stdout
    for command in ("train", "evaluate", "predict", "explain", "benchmark", "quickstart"):
        assert cxr(command, "--help").returncode == 0


def test_evaluate_judges_on_the_test_part_by_default(folder, model):
    done = cxr("evaluate", "--model", model, "--data", folder, "--quiet")
    assert "20 images, split 'test'" in done.stderr
    assert done.stdout.startswith("20 images of")


def test_a_class_that_cannot_be_read_names_every_file(tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "data" / label).mkdir(parents=True)
    for i in range(3):
        (tmp_path / "data" / "NORMAL" / f"{i}.png").write_bytes(b"bad")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "data" / "PNEUMONIA" / f"{i}.png")
    done = cxr(
        "train", "--data", tmp_path / "data", "--model", tmp_path / "m", "--backbone", "plain_cnn", "--skip-unreadable",
        "--validation-fraction", 0, "--quiet",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("unreadable: ") == 3
    assert "of ['NORMAL'] no image could be read" in done.stderr
