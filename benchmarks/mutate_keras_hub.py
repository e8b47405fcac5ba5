"""Measures how many mistakes in KerasHub's names of the architecture files the tests against KerasHub's presets catch.

    python benchmarks/mutate_keras_hub.py [--most 60]

``tests/convert/layouts/test_keras_hub.py`` compares what is written with presets that KerasHub's own converter made, value for value, and
what comes back with the source. Here the same is compared for every mistake: the tensors that the rules make of the source, KerasHub's
config, and ours that is read from it. Mistakes: an entry dropped, two names or fields swapped, a transpose dropped, the axes of a permutation or
the sizes of a split swapped, another axis, pieces in another order, a layer counted from one, a number in the config one too large. Needs no framework.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from mutate_google import wrong_ops  # isort: skip - scripts in the same folder, not a package
from mutate_specs import (  # isort: skip
    Mutant,
    layout_mutants,
    print_by_kind,
    replace_value,
    try_mutants,
)

from safetensors.numpy import load_file

from equipoise.convert.architectures import spec as specs_module
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.architectures.keras_hub_config import (
    read_keras_hub_config,
    write_keras_hub_config,
    write_keras_hub_task,
)
from equipoise.convert.architectures.spec_files import ARCHS_FOLDER, spec_names
from equipoise.convert.checkpoints.matching import match_class
from equipoise.convert.checkpoints.opening.open_files import open_container
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.ops import apply_all
from equipoise.convert.layouts import keras_hub, pytorch
from equipoise.fixtures.keras_hub_models import (
    MODELS,
    config_of,
    flat_fields,
    is_left_to_keras_hub,
    model_type_of,
    write_source,
)

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "convert" / "layouts" / "golden" / "keras_hub"
RESULTS = Path(__file__).with_name("results") / "mutations-keras-hub.json"
UNTESTED_KEYS = ("keras", "refused", "wrong", "stored", "shared", "dtypes")
"""Keys that other tests hold: refusals and ties, which the presets do not have, and dtypes; the table ``keras`` has mistakes of its own below."""


def main() -> None:
    """Tries the mistakes in every file that has KerasHub's names, writes the results and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=60, help="mistakes in a file, drawn with a seed"
    )
    options = parser.parse_args()
    results = {}
    for model_type in spec_names():
        names = [one for one in MODELS if model_type_of(one) == model_type]
        file = ARCHS_FOLDER / f"{model_type}.toml"
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
        if not names or "modules" not in raw:
            continue
        wrong = [one for one in names if _observe(one) != "right"]
        if wrong:
            sys.exit(f"without a mistake {wrong} are {[_observe(one) for one in wrong]}")
        mutants = list(_make_mutants(raw))
        results[model_type] = found = try_mutants(
            model_type, mutants, options.most, names, _observe
        )
        print(model_type, found["planted"], found["missed"], flush=True)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print_by_kind(results)


@cache
def _source_of(name: str) -> dict[str, Array]:
    with tempfile.TemporaryDirectory() as folder:
        return load_file(write_source(Path(folder), name) / "model.safetensors")


@cache
def _golden_of(name: str) -> tuple[dict[str, Array], list[dict[str, Any]]]:
    """Returns the tensors of a preset, and its config and that of its task."""
    files = [GOLDEN / name / one for one in ("model.weights.h5", "task.weights.h5")]
    tensors = {
        path: ref.read()
        for file in files
        if file.is_file()
        for path, ref in open_container(file).tensors.items()
    }
    texts = [GOLDEN / name / one for one in ("config.json", "task.json")]
    return tensors, [json.loads(one.read_text("utf-8")) if one.is_file() else {} for one in texts]


def _observe(name: str) -> str:
    """Returns ``right`` where a preset and its config are what KerasHub made and come back, otherwise what is wrong."""
    try:
        spec = specs_module.load_spec(model_type_of(name))
        if spec is None:
            return "no such architecture"
        hub, (expected, expected_task) = _golden_of(name)
        config = Config(config_of(name))
        table = spec.layouts["keras_hub"]["keras"]
        (key, *_) = table["classes"]
        if expected_task:
            name_of_task = MODELS[name]["task"]
            key = next(one for one, task in table["tasks"].items() if task["class"] == name_of_task)
        cls = spec.classes[key]
        expansion = expand(spec, cls, config)
        written = write_keras_hub_config(spec, cls.name, config, "float32")
        task = write_keras_hub_task(spec, cls.name, config, "float32")
        if not _is_config(written, expected) or not _is_config(task, expected_task):
            return "config"
        if not match_class(expansion, "keras-hub", hub).fits or not _are_equal(
            expansion, _source_of(name), hub
        ):
            return "tensors"
        read = read_keras_hub_config(Config(expected), expected_task or None)
        if read.model_type != spec.model_type or read.architectures != (cls.name,):
            return "model type"
        ours, back = dict(flat_fields(config_of(name))), dict(flat_fields(read.values))
        lost = {key for key, value in ours.items() if back.get(key, "null") != value}
    except (
        EquipoiseError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        StopIteration,
    ) as error:
        return type(error).__name__
    return "right" if lost <= {*MODELS[name].get("lost", ())} else "config read"


def _is_config(written: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether a config has KerasHub's values, and every field that KerasHub would not fill in by itself."""
    ours, theirs = {*flat_fields(written)}, {*flat_fields(expected)}
    starts = re.compile(r"(config\.)?(backbone\.config\.)?")
    missing = ((starts.sub("", key, count=1), value) for key, value in theirs - ours)
    return ours <= theirs and all(map(is_left_to_keras_hub, missing))


def _are_equal(expansion: Expansion, source: dict[str, Array], hub: dict[str, Array]) -> bool:
    """Whether the rules make KerasHub's tensors of the source's."""
    stored = {rule.sources[0]: rule.targets[0] for rule in pytorch.view(expansion).rules}
    prefix = f"{expansion.spec.prefix}."
    for rule in keras_hub.view(expansion).rules:
        names = [stored.get(one, one) for one in rule.sources]
        arrays = [_find(source, one, prefix) for one in names]
        if any(one is None for one in arrays):
            continue  # computed, or tied
        for target, array in zip(rule.targets, apply_all(rule.ops, tuple(arrays)), strict=True):  # type: ignore[arg-type]
            if array.shape != hub[target].shape or not (array == hub[target]).all():
                return False
    return True


def _find(source: dict[str, Array], name: str, prefix: str) -> Array | None:
    """Returns a tensor by its name, with the prefix of the base class or without."""
    spellings = (name, prefix + name, name.removeprefix(prefix))
    return next((source[one] for one in spellings if one in source), None)


def _make_mutants(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields every single mistake of the kinds above."""
    for kind, where, values in layout_mutants(raw, "keras_hub"):
        if not any(kind == f"dropped {key}" for key in UNTESTED_KEYS):
            yield kind, where, values
    section = raw["keras_hub"]
    for name, texts in section.get("ops", {}).items():
        for wrong in wrong_ops(texts):
            value = replace_value(raw, ("keras_hub", "ops", name), wrong)
            yield "wrong operation", f"ops: {name}", value
    for number, rule in enumerate(section.get("rules", [])):
        yield from _rule_mutants(raw, number, rule)
    yield from _transposes(raw)
    yield from _layers(raw)
    for path in _tables(section["keras"]["config"], ("keras_hub", "keras", "config")):
        yield from _config_mutants(raw, path)
    for key, task in section["keras"].get("tasks", {}).items():
        yield "dropped task", key, replace_value(raw, ("keras_hub", "keras", "tasks", key), None)
        if "config" in task:
            yield from _config_mutants(raw, ("keras_hub", "keras", "tasks", key, "config"))


def _rule_mutants(raw: dict[str, Any], number: int, rule: dict[str, Any]) -> Iterator[Mutant]:
    for wrong in wrong_ops(rule["ops"]):
        values = deepcopy(raw)
        values["keras_hub"]["rules"][number]["ops"] = wrong
        yield "wrong operation", f"rules: {rule['targets'][0]}", values
    for side in ("sources", "targets"):
        # Copies are equal, in whatever order.
        if len(rule[side]) > 1 and not rule["ops"][0].startswith("copy"):
            values = deepcopy(raw)
            values["keras_hub"]["rules"][number][side].reverse()
            yield "swapped names", f"rules: {rule['targets'][0]}", values
    values = deepcopy(raw)
    del values["keras_hub"]["rules"][number]
    yield "dropped rules", f"rules: {rule['targets'][0]}", values


def _transposes(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields weights of linear layers and convolutions with KerasHub's names that are not transposed."""
    own = raw["keras_hub"].get("ops", {})
    paths = raw["keras_hub"]["paths"]
    for group in raw["modules"].values():
        for path, line in group.items():
            text = line if isinstance(line, str) else line["kind"]
            name = f"{path}.weight"
            if path in paths and name not in own and text.startswith(("linear", "conv")):
                values = deepcopy(raw)
                values["keras_hub"].setdefault("ops", {})[name] = []
                yield "dropped transpose", path, values


def _layers(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields names that count an index from one."""
    for index in raw.get("repeat", {}):
        for path, text in raw["keras_hub"]["paths"].items():
            if re.search(rf"\{{{index}\}}", text):
                wrong = text.replace(f"{{{index}}}", f"{{{index}_off}}")
                values = replace_value(raw, ("keras_hub", "paths", path), wrong)
                values.setdefault("let", {})[f"{index}_off"] = f"{index} + 1"
                yield "off by one", path, values


def _tables(table: dict[str, Any], path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yields the places of a table of fields and of those nested in it, each of several in one place."""
    yield path
    for field, entry in table.items():
        several = enumerate(entry) if isinstance(entry, list) else [(None, entry)]
        for number, one in several:
            if isinstance(one, dict):
                place = (field,) if number is None else (field, number)
                yield from _tables(one["config"], (*path, *place, "config"))


def _config_mutants(raw: dict[str, Any], path: tuple[Any, ...]) -> Iterator[Mutant]:
    table: Any = raw
    for part in path:
        table = table[part]
    fields = [name for name, entry in table.items() if isinstance(entry, str)]
    for field in fields:
        if re.fullmatch(r"[\w.]+", table[field]) and table[field] not in ("None", "True", "False"):
            yield "dropped field", field, replace_value(raw, (*path, field), None)
        number = f"({table[field]}) + 1"
        if (re.fullmatch(r"[\w. *]+", table[field]) and "_dim" in field) or "num_" in field:
            yield "wrong number", field, replace_value(raw, (*path, field), number)
    for one, other in itertools.pairwise(fields):
        if table[one] != table[other]:
            swapped = replace_value(raw, (*path, one), table[other])
            yield (
                "swapped fields",
                f"{one}, {other}",
                replace_value(swapped, (*path, other), table[one]),
            )


if __name__ == "__main__":
    main()
