"""Measures how many mistakes in Google's names of the architecture files the tests against the loaders of 4.57.6 would catch.

    PYTHONPATH=tests/oracle python benchmarks/mutate_google.py [--most 80]

``tests/oracle/test_google.py`` writes the variables of ``tests/oracle/google_checkpoints.py`` with random values, lets a loader of 4.57.6 fill a
model with them, and compares every parameter bit for bit with what Equipoise makes of the same files. So a mistake is caught if it changes, in any
case, the class that is found, which parameters a variable becomes, through which operations, what is left out, or the config. Mistakes: an
entry dropped, two names swapped, a transpose dropped, the axes of a permutation or the sizes of a split swapped, tensors of a
stack in another order, a layer counted from one. Needs no framework.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mutate_specs import (  # isort: skip - scripts in the same folder, not a package
    print_by_kind,
    Mutant,
    layout_mutants,
    replace_value,
    try_mutants,
)

from equipoise.convert.architectures import spec as specs_module
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.checkpoints.matching import match_class
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.layouts import google
from equipoise.convert.research.marks import known_specs
from equipoise.convert.research.repository_config import read_gin, translate

RESULTS = Path(__file__).with_name("results") / "mutations-google.json"
UNTESTED_KEYS = (
    "files",
    "refused",
    "shared",
    "aliases",
    "config_files",
    "marks",
    "ignored",
    "averages",
)
"""Keys that other tests hold (tests/convert/test_google_folders.py), and refusals, which no checkpoint of Google's can meet."""


def main() -> None:
    """Tries the mistakes in every file that has Google's names, writes the results and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=80, help="mistakes in a file, drawn with a seed"
    )
    options = parser.parse_args()
    results = {}
    for spec in known_specs():
        results[spec.model_type] = found = _try_mutants(spec.file, options.most)
        if found["planted"]:
            print(spec.model_type, found["planted"], found["missed"], flush=True)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print_by_kind(results)


def _try_mutants(file: Path, most: int) -> dict[str, Any]:
    from google_checkpoints import all_cases  # of tests/oracle

    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    mutants = list(_make_mutants(raw)) if "extends" not in raw else []
    cases = [one for one in all_cases() if one.model_type == file.stem]
    return try_mutants(file.stem, mutants, most, cases, _observe)


def _observe(case: Any) -> Any:
    """Returns what becomes of the variables of a case, or the name of the error."""
    try:
        spec = specs_module.load_spec(case.model_type)
        if spec is None:
            return "no such architecture"
        names = [google.decode(name, "tensor_bundle", "") for name in case.variables]
        shapes = {
            google.decode(n, "tensor_bundle", ""): tuple(s) for n, s in case.variables.items()
        }
        config = translate(_config_of(case), spec, shapes)
        found = next(_fits(spec, config, names, shapes, case), None)
        return "nothing fits" if found is None else (found, sorted(config.values.items(), key=str))
    except (EquipoiseError, KeyError, ValueError, TypeError, AttributeError) as error:
        return type(error).__name__


def _config_of(case: Any) -> Config:
    """Returns the config of a case as it lies beside its variables, with the labels that the classifier's rows say."""
    values = case.own_config[1] if case.own_config else case.config
    if isinstance(values, str):
        with tempfile.NamedTemporaryFile("w", suffix=".gin") as file:
            file.write(values)
            file.flush()
            values = read_gin(Path(file.name)).values
    labels = {"num_labels": case.config["num_labels"]} if "num_labels" in case.config else {}
    return Config({**values, **labels})


def _fits(
    spec: Any, config: Config, names: list[str], shapes: Mapping[str, tuple[int, ...]], case: Any
) -> Iterator[Any]:
    """Yields the rules of the classes that have exactly these variables, the class of the case first if it was named."""
    for cls in sorted(spec.classes_of("google"), key=lambda one: one.name != case.architecture):
        match = match_class(expand(spec, cls, config), "google", names)
        if not match.fits:
            continue
        parameters = match.expansion.parameters
        rules = {rule for rule in match.view.rules if set(rule.targets) <= set(match.stored)}
        for rule in rules:
            given = rule.shapes(tuple(parameters[name].shape for name in rule.sources))
            stored = tuple(shapes[match.stored[name]] for name in rule.targets)
            if given != stored:
                return
        yield cls.key, rules, frozenset(match.ignored), frozenset(match.view.shared)


def _make_mutants(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields every single mistake of the kinds above."""
    for kind, where, values in layout_mutants(raw, "google"):
        if not any(kind == f"dropped {key}" for key in UNTESTED_KEYS):
            yield kind, where, values
    section = raw["google"]
    for name, entry in section.get("ops", {}).items():
        texts = entry["to"] if isinstance(entry, dict) else entry
        for wrong in wrong_ops(texts):
            value = {**entry, "to": wrong} if isinstance(entry, dict) else wrong
            place = ("google", "ops", name)
            yield "wrong operation", f"ops: {name}", replace_value(raw, place, value)
    for number, rule in enumerate(section.get("rules", [])):
        for wrong in wrong_ops(rule["ops"]):
            values = deepcopy(raw)
            values["google"]["rules"][number]["ops"] = wrong
            yield "wrong operation", f"rules: {rule['targets'][0]}", values
        if len(rule["targets"]) > 1:
            values = deepcopy(raw)
            values["google"]["rules"][number]["targets"].reverse()
            yield "swapped names", f"rules: {rule['targets'][0]}", values
    yield from _transposes(raw)
    yield from _layers(raw)


def wrong_ops(texts: list[str]) -> Iterator[list[str]]:
    """Yields operations of which one is dropped, or has two numbers swapped or another axis."""
    for at, text in enumerate(texts):
        yield [*texts[:at], *texts[at + 1 :]]
        name, _, inside = text.removesuffix(")").partition("(")
        numbers = [one.strip() for one in inside.split(",")]
        if name in ("permute", "split_axis") and len(set(numbers[-2:])) == 2:
            swapped = [*numbers[:-2], numbers[-1], numbers[-2]]
            yield [*texts[:at], f"{name}({', '.join(swapped)})", *texts[at + 1 :]]
        if name in ("stack", "add_axis", "drop_axis", "split_axis") and numbers[0] in ("0", "1"):
            other = "1" if numbers[0] == "0" else "0"
            yield [*texts[:at], f"{name}({', '.join([other, *numbers[1:]])})", *texts[at + 1 :]]


def _transposes(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields weights of linear layers and convolutions that are not transposed."""
    own = raw["google"].get("ops", {})
    never = {*raw["google"].get("shared", {}), *raw["google"].get("refused", {})}
    refused = tuple(f"{one}." for one in raw["google"].get("refused", {}))
    for group in _groups_with_names(raw):
        for path, line in raw["modules"].get(group, {}).items():
            text = line if isinstance(line, str) else line["kind"]
            name = f"{path}.weight"
            if (
                name in {*own, *never}
                or path.startswith(refused)
                or not text.startswith(("linear", "conv"))
            ):
                continue
            values = deepcopy(raw)
            values["google"].setdefault("ops", {})[name] = []
            yield "dropped transpose", f"{group}: {path}", values


def _groups_with_names(raw: dict[str, Any]) -> set[str]:
    """Returns the groups of the classes that have Google's names."""
    lines = [raw["classes"][key] for key in raw["google"]["classes"]]
    groups = {one for line in lines for one in (line if isinstance(line, list) else line["groups"])}
    return groups - {"cross"}


def _layers(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields names that count an index from one in place of zero, or the other way round."""
    refused = tuple(f"{one}.".replace(".weight.", ".") for one in raw["google"].get("refused", {}))
    elsewhere = [
        one.removesuffix(".weight")
        for rule in raw["google"].get("rules", [])
        for one in rule["sources"]
    ]
    paths = raw["google"].get("paths", {})
    for index in raw.get("repeat", {}):
        values = deepcopy(raw)
        values.setdefault("let", {})[f"{index}_off"] = f"{index} + 1"
        changed = False
        for module, path in paths.items():
            if isinstance(path, str) and re.search(rf"\{{{index}(:03)?\}}", path):
                values["google"]["paths"][module] = path.replace(f"{{{index}", f"{{{index}_off")
                changed = True
        if changed:
            yield "off by one", index, values
    for name in ("number", "encoder_number", "decoder_number"):
        if name in raw.get("let", {}):
            text = f"({raw['let'][name]}) + 1"
            yield "off by one", name, replace_value(raw, ("let", name), text)
    for group in _groups_with_names(raw):
        for module in raw["modules"].get(group, {}):
            if "{layer}" not in module or f"{module}.".startswith(refused) or module in elsewhere:
                continue
            values = deepcopy(raw)
            values.setdefault("let", {})["layer_off"] = "layer + 1"
            old = next((paths[one] for one in _starts(module) if one in paths), None)
            if old is not None and "{layer}" in str(old):
                continue  # counted above
            values["google"].setdefault("paths", {})[module] = (
                f"x/{{layer_off}}/{module.replace('.', '/').replace('{layer}', '')}"
            )
            yield "wrong name", module, values


def _starts(module: str) -> Iterator[str]:
    """Yields a module's path and those that it lies in, the longest first."""
    while module:
        yield module
        module = module.rpartition(".")[0]


if __name__ == "__main__":
    main()
