"""Write the measured figures of benchmarks/results/*.json and of the bundled model into README.md.

python benchmarks/readme_table.py [--check]

Nothing between the markers is written by hand; a test runs this with --check.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path

from cxr_estimator.inference import BFLOAT16_TOLERANCE

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def estimate(metric: dict[str, float]) -> str:
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def measured() -> str:
    real, start = read("real_holdout"), read("startup")
    report, metrics = real["report"], real["report"]["metrics"]
    normal, pneumonia = (report["prevalence"][label] for label in report["classes"])
    heat = start["quickstart_summary"]["heat_maps"]
    rows = [
        ("AUROC", estimate(metrics["auroc"])),
        ("sensitivity / specificity", f"{estimate(metrics['sensitivity'])} / {estimate(metrics['specificity'])}"),
        ("time of `fit`, images decoded included", f"{real['fit_seconds'] / 60:.1f} minutes"),
        ("`cxr quickstart` on phantoms", f"{statistics.median(start['quickstart_seconds']):.0f} s"),
        (
            "Grad-CAM inside the phantoms' lesions",
            f"{estimate(heat['inside'])} of the map, {heat['inside']['value'] / heat['area']:.1f} times their area",
        ),
        ("1,000 phantoms at 128 px", f"{statistics.median(start['make_phantoms_1000_at_128_seconds']):.1f} s"),
        ("`cxr --help`", f"{statistics.median(start['help_seconds']):.2f} s"),
        ("`cxr train --help`", f"{statistics.median(start['train_help_seconds']):.2f} s"),
        ("`import cxr_estimator`", f"{statistics.median(start['import_seconds']):.3f} s, without torch"),
    ]
    text = (
        f"On {start['machine']['cpus']} CPU cores without a GPU. The first three rows: `{real['backbone']}` at "
        f"{real['image_size']} px, trained from scratch for {real['epochs_run']} epochs on real radiographs of "
        f"children (Kermany et al. 2018, CC BY 4.0) and judged on {report['n_images']} images of "
        f"{report['n_patients']} other patients of the same hospital (NORMAL {normal:.0%}, PNEUMONIA "
        f"{pneumonia:.0%}); threshold: {real['threshold_rule']}. Brackets hold 95% intervals by patients. "
        "Figures on data from elsewhere will be lower: see the model card."
    )
    table = "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"{text}\n\n{table}"


def bfloat16(result: dict) -> str:
    change, seen = result["bfloat16_largest_change_of_a_probability"], result["bfloat16_change_at_fit"]
    used = "bfloat16" if seen <= BFLOAT16_TOLERANCE else "float32"
    return f'{change:.4f}; `fit` saw {seen:.4f}, so `precision="auto"` predicts in {used}'


def speed() -> str:
    train, predict, cam, memory = map(read, ("training_speed", "inference_speed", "grad_cam_speed", "memory"))
    machine, real, metrics = train["machine"], read("real_holdout"), read("metric_speed")
    rate = train["images"] / statistics.median(train["seconds"]["fit"])
    rows = [
        (
            "`fit`, resnet18, beside a plain PyTorch loop with a DataLoader",
            f"{train['plain_loop_with_2_workers_ratio']:.2f} times as fast (with 2 workers), "
            f"{train['plain_loop_without_workers_ratio']:.2f} (without)",
        ),
        (
            "... beside bare forward and backward passes",
            f"{train['bare_ratio']:.2f} of their pace ({rate:.1f} images/s)",
        ),
        ("`predict_proba` from arrays, beside the bare network", f"{predict['arrays_ratio']:.2f} of its pace"),
        (
            "... from JPEG files, beside the slower of decoding and network",
            f"{predict['files_ratio']:.2f} of its pace; {predict['large_files_ratio']:.2f} for files of 1,120 px",
        ),
        *(
            (
                f"Grad-CAM, {name}",
                f"{cam[f'{name}_forward_ratio']:.2f} of the pace of the forward pass alone; "
                f"{cam[f'{name}_peer_ratio']:.1f} times as fast as pytorch-grad-cam",
            )
            for name in ("resnet18", "densenet121")
        ),
        (f"Peak memory of `fit` on {memory['fit']['images']:,} images", f"{memory['fit']['peak_gb']:.2f} GB"),
        (
            "Memory over 100,000 paths",
            f"{grown(memory['predict_100000_paths'])} MB more at the end than near the beginning in `predict_proba`, "
            f"{grown(memory['prepare_100000_paths_at_128'])} MB when prepared for `fit`",
        ),
        (
            f"Deletion, insertion and AOPC with their references, {metrics['images']} images, beside Quantus and a "
            "plain insertion loop",
            f"{metrics['library_ratio']:.1f} times as fast, with {metrics['evaluations']['ours']:,} evaluations "
            f"instead of {metrics['evaluations']['library']:,}; "
            f"{metrics['times_the_forward_pass_ratio']:.2f} times the bare forward passes",
        ),
        (
            "`xai_scorer`, beside explaining and measuring by hand",
            f"{metrics['scorer_overhead_ratio']:.2f} of the time",
        ),
        ("Memory over 10,000 explained files", f"{grown(memory['explain_10000_paths'])} MB more, by `iter_explain`"),
        ("... explained and scored", f"{grown(memory['score_10000_paths'])} MB more, by `xai_scorer`"),
        *(
            (f"bfloat16 moves a probability of {result['backbone']} by at most", bfloat16(result))
            for result in (predict, real)
        ),
        *shared(read("sharing")),
    ]
    table = "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return (
        f'Batches of 32 at 224 px, {machine["cpus"]} CPU cores, {machine["precision"]} (as `precision="auto"` chose), '
        "ours and the other taking turns in one run; `python benchmarks/NAME.py` "
        f"repeats them.\n\n{table}"
    )


def shared(result: dict) -> list[tuple[str, str]]:
    start, push, change = result["start_up"], result["push"], result["round_trip"]
    median = {name: statistics.median(seconds) for name, seconds in start["steps_seconds"].items()}
    return [
        (
            "`cxr predict` of one image with a saved resnet18, whole process",
            f"{start['whole_process_median_seconds']:.1f} s, {median['import_torch_and_timm']:.1f} s of which import "
            f"torch and timm, {median['import_sklearn']:.1f} s scikit-learn",
        ),
        (
            "... `from_pretrained` of the folder and `predict_proba`, all imported",
            f"{start['load_and_predict_median_seconds']:.2f} s",
        ),
        (
            f"`push_to_hub` of {push['bytes'] / 1e6:.0f} MB, beside the client's `upload_folder` (local server)",
            f"{push['added_median_seconds']:.2f} s more; unchanged {push['unchanged']['bytes_sent']} bytes sent",
        ),
        (
            f"Saving and loading moves a probability of {change['backbone']} by at most",
            f"{change['float32_largest_change']:.1g} (float32), {change['float16_largest_change']:.4f} (float16)",
        ),
    ]


def grown(samples: dict) -> str:
    return f"{max(0, samples['peak_mb_in_the_last_tenth'] - samples['peak_mb_in_the_second_tenth']):.0f}"


def bundled() -> str:
    result = json.loads((ROOT / "recipes" / "pneumonia" / "results" / "training" / "0.json").read_text())
    everyone = result["all patients"]
    rows = [
        ("AUROC", "auroc"),
        ("accuracy at a probability of 0.5", "accuracy"),
        ("sensitivity at the screening point", "screening_sensitivity"),
        ("specificity at the screening point", "screening_specificity"),
        ("expected calibration error", "calibration_error"),
    ]

    def cells(key: str) -> str:
        found = (everyone["summary"][f"{condition}_{key}"] for condition in ("clean", "shifted"))
        return " | ".join("{:.3f} [{:.3f}, {:.3f}]".format(*three) for three in found)

    table = "\n".join(f"| {name} | {cells(key)} |" for name, key in rows)
    return (
        f"{everyone['n_images']:,} images of {everyone['n_patients']:,} patients, each judged by a network, points "
        f"and a calibration that had not seen the patient ({result['n_folds']} folds); *shifted* is the mean over "
        "fourteen simulated changes of scanner, exposure and framing. Brackets hold 95% intervals by patients. "
        "One hospital, children: expect less anywhere else.\n\n"
        f"| | clean | shifted |\n|---|---|---|\n{table}"
    )


def main() -> int:
    stale = []
    sections = (
        ("README.md", "measured", measured()),
        ("README.md", "speed", speed()),
        ("README.md", "bundled", bundled()),
    )
    for name, marker, text in sections:
        path = ROOT / name
        before = path.read_text()
        block = f"<!-- {marker} -->\n{text}\n<!-- /{marker} -->"
        after = re.sub(rf"<!-- {marker} -->.*?<!-- /{marker} -->", lambda _: block, before, flags=re.DOTALL)  # noqa: B023
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(after)
    if stale:
        print(f"{'stale' if '--check' in sys.argv else 'updated'}: {', '.join(stale)}")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
