"""Measures how many mistakes in the architecture files the tests against transformers 4.57.6 would catch.

    PYTHONPATH=tests/oracle python benchmarks/mutate_specs.py [--most 60]

``tests/oracle/test_families.py`` converts random weights of every class under every config of fixtures/ and checks the result
with 4.57.6: it loads with no missing, unexpected or misshaped weights, is saved again bit for bit, and its outputs are equal to
1e-5. Running these tests for thousands of mistakes would take days. What they depend on is the converted file: names, shapes,
the operations on the values, ties, layers of HDF5, refusals. So a mistake counts as caught if it changes any of these, or
causes an error, in at least one case and framework of those tests. A mistake that changes none of them in any case is exactly
one that those tests cannot catch.

Not mutated: transposes of weights that no file of a layout can contain (refused there, always tied, or of no class), ``defaults``
(the config files of the tests are complete) and keys for files of other origin (``ignored``, ``prefixes``, ``absent``), which
are tested in tests/convert. Needs no framework.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from equipoise.convert.architectures import expressions
from equipoise.convert.architectures import spec as specs_module
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.module_kinds import MODULE_KINDS
from equipoise.convert.architectures.spec import ArchitectureSpec, read_spec
from equipoise.convert.architectures.spec_files import ARCHS_FOLDER
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.layouts import layout_module
from equipoise.fixtures import models

RESULTS = Path(__file__).with_name("results") / "mutations.json"
TWO_LABEL_SUFFIXES = ("QuestionAnswering", "QuestionAnsweringSimple", "AlbertForPreTraining")
UNTESTED_KEYS = ("ignored", "prefixes")
"""Keys of a layout that only files of other origin need."""

TESTED_LAYOUTS = ("pytorch", "tensorflow", "flax")
"""Layouts that tests/oracle/test_families.py tests."""

Mutant = tuple[str, str, dict[str, Any]]
"""Kind of mistake, its location, and the file's values with the mistake."""


def main() -> None:
    """Tries the mistakes in every file, writes the results and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most",
        type=int,
        default=60,
        help="maximum number of mistakes in a file, drawn with a seed",
    )
    parser.add_argument("--only", nargs="*", help="also try these files again")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for file in sorted(ARCHS_FOLDER.glob("*.toml")):
        if file.stem in results and file.stem not in (options.only or ()):
            continue
        if not _cases_of(
            file.stem
        ):  # PyTorch's alone: tests/convert/architectures/test_pytorch_classes.py
            continue
        results[file.stem] = _try_mutants(file, options.most)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(file.stem, results[file.stem]["planted"], results[file.stem]["missed"], flush=True)
    print_by_kind(results)


def print_by_kind(results: dict[str, Any]) -> None:
    """Prints a row for each kind of mistake, how many were planted, how many noticed, and the share, and a row for all."""
    planted: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    for one in results.values():
        for kind, (count, noticed) in one["by_kind"].items():
            planted[kind] += count
            caught[kind] += noticed
    rows = [*planted.most_common(), ("all", planted.total())]
    for kind, count in rows:
        noticed = caught.total() if kind == "all" else caught[kind]
        print(f"| {kind} | {count} | {noticed} | {100 * noticed / count:.2f} % |")


def _try_mutants(file: Path, most: int) -> dict[str, Any]:
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    classes = read_spec(file).classes.values()
    layouts = sorted({name for one in classes for name in one.names} & {"tensorflow", "flax"})
    mutants = [*_make_mutants(raw), *_transpose_mutants(raw, layouts)]
    return try_mutants(file.stem, mutants, most, _cases_of(file.stem), _observe_case)


def try_mutants(
    model_type: str,
    mutants: list[Mutant],
    most: int,
    cases: list[Any],
    observe: Callable[[Any], Any],
) -> dict[str, Any]:
    """Plants mistakes in one architecture file, drawn with a seed, and counts those that change what is observed of any case.

    Args:
        model_type: The file's name.
        mutants: All possible mistakes.
        most: How many of them are drawn.
        cases: The cases of the tests that depend on the file.
        observe: Returns everything of a case that its test compares.
    """
    drawn = random.Random(model_type).sample(mutants, min(most, len(mutants)))
    expected = [observe(one) for one in cases]
    by_kind: dict[str, list[int]] = {}
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ARCHS_FOLDER.glob("*.toml"):
            if file.stem != model_type:
                (folder / file.name).symlink_to(file)
        for kind, where, values in drawn:
            (folder / f"{model_type}.toml").write_text(_to_toml(values))
            with _use_archs_folder(folder):
                pairs = zip(cases, expected, strict=True)
                caught = any(observe(case) != before for case, before in pairs)
            count = by_kind.setdefault(kind, [0, 0])
            count[0] += 1
            count[1] += caught
            missed += [] if caught else [f"{kind}: {where}"]
    return {"possible": len(mutants), "planted": len(drawn), "by_kind": by_kind, "missed": missed}


def _cases_of(model_type: str) -> list[Any]:
    """Returns the cases of one file, and those of files that extend or include it; its own first, since most mistakes change the first one."""
    from cases import cases  # of tests/oracle

    def depends(spec: ArchitectureSpec) -> bool:
        text = spec.file.read_text(encoding="utf-8")
        extends = f'extends = "{model_type}"' in text
        part = f'spec = "{model_type}"' in text
        return spec.model_type == model_type or extends or part or '"encoder"' in text

    found = [one for one in cases() if depends(one.spec)]
    if all('"encoder"' in one.spec.file.read_text(encoding="utf-8") for one in found):
        # Composites of any two models: none of their cases has this one, unless it is such a composite itself.
        found = [one for one in found if one.spec.model_type == model_type]
    return sorted(found, key=lambda one: one.spec.model_type != model_type)


@contextmanager
def _use_archs_folder(folder: Path) -> Iterator[None]:
    """Makes the architecture files be read from another folder within the context."""
    before = specs_module.ARCHS_FOLDER
    specs_module.ARCHS_FOLDER = folder
    specs_module.load_spec.cache_clear()
    try:
        yield
    finally:
        specs_module.ARCHS_FOLDER = before
        specs_module.load_spec.cache_clear()


def _observe_case(case: Any) -> Any:
    """Returns everything of a case that ends up in files, or the name of the error."""
    try:
        spec = specs_module.load_spec(case.spec.model_type)
        cls = spec.class_by_name(case.cls.name) if spec is not None else None
        if spec is None or cls is None:
            return "no such class"
        expansion = expand(spec, cls, Config(_case_config(case)))
        return (
            {layout: name for layout, name in cls.names.items() if layout in TESTED_LAYOUTS},
            {n: one.shape for n, one in expansion.parameters.items()},
            [
                _observe_view(layout_module(name).view(expansion))
                for name in cls.names
                if name in TESTED_LAYOUTS
            ],
        )
    except (EquipoiseError, KeyError, ValueError, TypeError, AttributeError) as error:
        return type(error).__name__


def _observe_view(view: Any) -> Any:
    rules = {rule.targets: (rule.sources, rule.ops) for rule in view.rules}
    return (
        rules,
        dict(view.shared),
        *(frozenset(one) for one in (view.refused, view.left_out, view.repeated)),
        dict(view.dtypes),
        dict(view.groups),
        dict(view.also_in),
        bool(view.known_difference),
        view.root,
        dict(view.roots),
    )


def _case_config(case: Any) -> dict[str, Any]:
    values = models.config_values(case.family, case.config)
    parts = [key for key in ("text", "vision") if key in case.spec.model_type.split("_")]
    if case.family != case.spec.model_type and parts:
        values = values.get(f"{parts[0]}_config", {})
    if case.cls.name.endswith(TWO_LABEL_SUFFIXES):
        values = {**values, "num_labels": 2}
    return values


def _make_mutants(raw: dict[str, Any]) -> Iterator[Mutant]:
    """Yields every single mistake of the kinds below."""
    for group, lines in raw.get("modules", {}).items():
        for path, line in lines.items():
            if line is not False:  # removed from the file it extends
                yield from _line_mutants(raw, group, path, line)
    for section in ("when", "repeat", "let"):
        for name, text in raw.get(section, {}).items():
            wrong = f"not ({text})" if section == "when" else f"({text}) + 1"
            if section != "let":
                kind = "flipped switch" if section == "when" else "wrong count"
                yield kind, f"{section}.{name}", replace_value(raw, (section, name), wrong)
    for name, tie in raw.get("ties", {}).items():
        yield "dropped tie", f"ties.{name}", replace_value(raw, ("ties", name), None)
        if isinstance(tie, dict) and "when" in tie:
            flipped = {**tie, "when": f"not ({tie['when']})"}
            yield "flipped switch", f"ties.{name}", replace_value(raw, ("ties", name), flipped)
    for name, line in raw.get("classes", {}).items():
        yield from _class_mutants(raw, name, line)
    for layout in TESTED_LAYOUTS:
        yield from layout_mutants(raw, layout)


def _line_mutants(raw: dict[str, Any], group: str, path: str, line: Any) -> Iterator[Mutant]:
    place = ("modules", group, path)
    where = f"{group}: {path}"
    text = line if isinstance(line, str) else line["kind"]

    def changed(kind: str) -> Any:
        return kind if isinstance(line, str) else {**line, "kind": kind}

    yield "dropped tensor", where, replace_value(raw, place, None)
    renamed = replace_value(raw, place, None)
    renamed["modules"][group][f"{path}_x"] = line
    yield "wrong name", where, renamed
    if not isinstance(line, str):
        wrong = {**line, "when": f"not ({line['when']})"}
        yield "flipped switch", where, replace_value(raw, place, wrong)
    node = expressions.parse_expression(text)
    name = node.func.id  # type: ignore[attr-defined]
    arguments = [ast.unparse(one) for one in node.args]  # type: ignore[attr-defined]
    rest = [f"{one.arg}={ast.unparse(one.value)}" for one in node.keywords]  # type: ignore[attr-defined]
    for at, one in enumerate(arguments):
        wrong_sizes = [*arguments[:at], f"({one}) + 1", *arguments[at + 1 :]]
        yield (
            "wrong size",
            where,
            replace_value(raw, place, changed(f"{name}({', '.join(wrong_sizes + rest)})")),
        )
    if len(arguments) > 1 and arguments[0] != arguments[1]:
        turned = [arguments[1], arguments[0], *arguments[2:], *rest]
        yield (
            "swapped sizes",
            where,
            replace_value(raw, place, changed(f"{name}({', '.join(turned)})")),
        )
    if name == "norm" and not rest:
        yield "wrong kind", where, replace_value(raw, place, changed(f"rms_norm({arguments[0]})"))
    if "bias" in MODULE_KINDS[name].switches and not rest:
        text = f"{name}({', '.join([*arguments, 'bias=False'])})"
        yield "dropped bias", where, replace_value(raw, place, changed(text))


def _transpose_mutants(raw: dict[str, Any], layouts: list[str]) -> Iterator[Mutant]:
    """Yields linear layers whose kernel is not transposed."""
    for group, lines in raw.get("modules", {}).items():
        for path, line in lines.items():
            if line is False:
                continue
            text = line if isinstance(line, str) else line["kind"]
            for layout in layouts if text.startswith("linear(") else ():
                name = f"{path}.weight"
                if not _can_contain(raw, layout, group, name):
                    continue
                table = raw.get(layout, {}).get("ops", {})
                values = deepcopy(raw)
                values.setdefault(layout, {})["ops"] = {**table, name: []}
                yield "dropped transpose", f"{layout}: {group}: {path}", values


def _can_contain(raw: dict[str, Any], layout: str, group: str, name: str) -> bool:
    """Checks whether a file of that layout can contain the weight."""
    about = raw.get(layout, {})
    never = (about.get(key, {}).get(name) for key in ("refused", "shared"))
    classes = [
        one
        for one in raw.get("classes", {}).values()
        if one and group in (one if isinstance(one, list) else one["groups"])
    ]
    some = any(isinstance(one, list) or one.get(layout) is not False for one in classes)
    return not any(isinstance(one, str) for one in never) and (some or not classes)


def _class_mutants(raw: dict[str, Any], name: str, line: Any) -> Iterator[Mutant]:
    groups = line if isinstance(line, list) else line["groups"] if line else []
    for group in groups:
        fewer = [one for one in groups if one != group]
        value = fewer if isinstance(line, list) else {**line, "groups": fewer}
        yield "dropped group", f"{name}: {group}", replace_value(raw, ("classes", name), value)
    if isinstance(line, dict) and line.get("base"):
        value = {**line, "base": False}
        yield "wrong prefix", name, replace_value(raw, ("classes", name), value)


def layout_mutants(raw: dict[str, Any], layout: str) -> Iterator[Mutant]:
    """Yields mistakes of a layout: one entry dropped, or two of a table swapped."""
    for key, table in raw.get(layout, {}).items():
        if key in UNTESTED_KEYS:
            continue
        if not isinstance(table, dict):
            yield f"dropped {key}", layout, replace_value(raw, (layout, key), None)
            continue
        for name in table:
            yield (
                f"dropped {key}",
                f"{layout}: {name}",
                replace_value(raw, (layout, key, name), None),
            )
        for one, other in zip(list(table), list(table)[1:], strict=False):
            if key in ("paths", "leaves") and table[one] != table[other]:
                swapped = replace_value(raw, (layout, key, one), table[other])
                swapped[layout][key][other] = table[one]
                yield "swapped names", f"{layout}: {one}, {other}", swapped


def replace_value(raw: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Returns a copy of the values with one replaced, or removed if the new value is None."""
    found = deepcopy(raw)
    table = found
    for part in place[:-1]:
        table = table[part]
    if value is None:
        del table[place[-1]]
    else:
        table[place[-1]] = value
    return found


def _to_toml(values: dict[str, Any]) -> str:
    """Returns the values as TOML with inline tables."""
    return (
        "\n".join(f"{json.dumps(name)} = {_to_toml_value(one)}" for name, one in values.items())
        + "\n"
    )


def _to_toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(k)} = {_to_toml_value(v)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_to_toml_value, value))}]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
