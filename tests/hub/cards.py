"""The checks of a README's metadata, in the way that the Hub is known to make them."""

from __future__ import annotations

import re

import yaml

_NAMES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0
bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-
by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0
etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-
by odbl ofl-1.1 osl-3.0 postgresql ncsa unlicense zlib pddl unknown other
"""
LICENSES = set(_NAMES.split())
TASKS = {
    "image-classification",
    "zero-shot-image-classification",
    "image-feature-extraction",
    "image-segmentation",
    "other",
}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SHORT = 60  # characters of a short description
TEXT_LISTS = ("tags", "datasets", "metrics", "base_model", "language", "models", "preload_from_hub")


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, as the Hub's own parser does."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(keys) > len(set(map(str, keys))):
            raise yaml.YAMLError("duplicated mapping key")
        return super().construct_mapping(node, deep)


def check_card(content: str, *, is_space: bool = False) -> tuple[list[str], list[str]]:
    """Return errors and warnings about the metadata of a README."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---(\r?\n|$)", content, re.DOTALL)
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.load(found[1], Loader=_Loader)
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"], []
    if not isinstance(data, dict):
        return ["The metadata must be a mapping"], []
    return [*_fields(data), *_model_index(data), *(_space(data) if is_space else [])], []


def _fields(data: dict) -> list[str]:
    errors = []
    licences = data.get("license", [])
    for name in licences if isinstance(licences, list) else [licences]:
        if name not in LICENSES:
            errors.append(f'"license" must be one of {sorted(LICENSES)}')
    if data.get("license") == "other" and not data.get("license_name"):
        errors.append('"license_name" is required where "license" is other')
    if "pipeline_tag" in data and data["pipeline_tag"] not in TASKS:
        errors.append('"pipeline_tag" must be a known task')
    if not isinstance(data.get("library_name", ""), str):
        errors.append('"library_name" must be a string')
    for key in TEXT_LISTS:
        value = data.get(key, [])
        values = value if isinstance(value, list) else [value] if key in ("base_model", "language") else None
        if values is None or not all(isinstance(one, str) for one in values):
            errors.append(f'"{key}" must be an array of strings')
    for name in data.get("datasets") or []:
        if isinstance(name, str) and not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", name):
            errors.append(f'"datasets" must be identifiers of the Hub. Got {name}')
    return errors


def _space(data: dict) -> list[str]:
    """Check what a Space needs: https://huggingface.co/docs/hub/spaces-config-reference."""
    errors = [f'"{key}" must be a colour' for key in ("colorFrom", "colorTo") if data.get(key) not in COLOURS]
    errors += [f'"{key}" is required' for key in ("title", "sdk", "app_file") if not isinstance(data.get(key), str)]
    for key in ("sdk_version", "python_version", "emoji", "short_description"):
        if key in data and not isinstance(data[key], str):  # 3.10 without quotes is the number 3.1
            errors.append(f'"{key}" must be a string')
    if not re.fullmatch(r"[^\w\s]{1,4}", data.get("emoji", "")):
        errors.append('"emoji" must be one emoji')
    if len(data.get("short_description", "")) > SHORT:
        errors.append(f'"short_description" must have {SHORT} characters at most')
    if not isinstance(data.get("pinned", False), bool):
        errors.append('"pinned" must be true or false')
    for one in data.get("preload_from_hub", []):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+( [^ ,]+(,[^ ,]+)*( [0-9a-f]{40})?)?", one):
            errors.append(f'"preload_from_hub" must be "repository files commit". Got {one}')
    return errors


def _model_index(data: dict) -> list[str]:
    """Check name, and of each result task.type, dataset.type, dataset.name and metrics (type, value)."""
    errors = []
    index = data.get("model-index", [])
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    for m, model in enumerate(index):
        where = f"model-index[{m}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str) or not model["name"]:
            errors.append(f'"{where}.name" is required')
            continue
        if not isinstance(model.get("results"), list):
            errors.append(f'"{where}.results" must be an array')
            continue
        for r, result in enumerate(model["results"]):
            errors += [f'"{where}.results[{r}].{wrong}' for wrong in _result(result)]
    return errors


def _result(result: dict) -> list[str]:
    errors = [
        f'{part}.{key}" must be a string'
        for part, key in (("task", "type"), ("dataset", "type"), ("dataset", "name"))
        if not isinstance((result.get(part) or {}).get(key), str)
    ]
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*errors, 'metrics" must be an array that is not empty']
    for i, metric in enumerate(metrics):
        if not isinstance(metric.get("type"), str):
            errors.append(f'metrics[{i}].type" must be a string')
        if "value" not in metric or metric["value"] is None:
            errors.append(f'metrics[{i}].value" is required')
    return errors
