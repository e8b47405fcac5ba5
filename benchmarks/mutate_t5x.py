"""Measures how many mistakes in T5X's names of the architecture files ``tests/convert/layouts/test_t5x.py`` would catch.

    python benchmarks/mutate_t5x.py [--most 80]

The test writes trees by the published rules (``fixtures/t5x_trees.py``) with random values, lets Equipoise find and convert them, and compares every
tensor bit for bit, in both directions. Here the rules of a file with one mistake are applied to the same trees: a mistake is caught if the
layout or the class is not found, or a tensor is missing, of another name, or other than the published rule says. Mistakes: an entry or a rule dropped,
two names swapped, a transpose dropped, the axes of a permutation or the sizes of a split swapped, another axis of a stack, a
layer counted from one, a switch flipped. Needs no framework.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from mutate_google import wrong_ops

from mutate_specs import (  # isort: skip - scripts in the same folder, not a package
    Mutant,
    layout_mutants,
    print_by_kind,
    replace_value,
    try_mutants,
)

import numpy as np

from equipoise.convert.architectures import spec as specs_module
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec_files import ARCHS_FOLDER
from equipoise.convert.checkpoints.matching import match_class
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.core.ops import apply_all
from equipoise.convert.layouts import layout_module
from equipoise.convert.research import marks
from equipoise.convert.research.repository_config import translate
from equipoise.fixtures.t5x_trees import CASES, settings_of, tree_of

RESULTS = Path(__file__).with_name("results") / "mutations-t5x.json"
LAYOUTS = ("t5x", "t5x-scanned")
OTHER_TESTS = ("classes", "refused", "unproven")
"""Keys that other tests hold: test_t5x.py's refusals, tests/convert/test_graph_page.py; ``classes`` lists classes of equal names."""
_GIN_CLASS = {
    "T5Config": {
        "num_encoder_layers": 11, "num_decoder_layers": 12, "num_heads": 13, "head_dim": 14, "mlp_dim": 15, "dropout_rate": 0.3,
        "mlp_activations": ["silu", "linear"],
    }
}  # fmt: skip
_GIN_MACROS = {
    "NUM_ENCODER_LAYERS": 11, "NUM_DECODER_LAYERS": 12, "NUM_HEADS": 13, "HEAD_DIM": 14, "MLP_DIM": 15, "DROPOUT_RATE": 0.3,
    "MlpBlock": {"activations": ["silu"]}, "RelativePositionBiases": {"num_buckets": 9, "max_distance": 77},
}  # fmt: skip
MODEL_TYPES = {"switch": "switch_transformers"}
"""Case -> its model type, where its name does not begin with it."""


def main() -> None:
    """Tries the mistakes in every file with T5X's names, writes the results and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=80, help="mistakes in a file, with a seed")
    options = parser.parse_args()
    results = {}
    for name in ("t5", "umt5", "longt5", "switch_transformers", "pix2struct"):
        raw = tomllib.loads((ARCHS_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        judged = [one for one in LAYOUTS if one in raw and "unproven" not in raw[one]]
        mutants = [one for layout in judged for one in _make_mutants(raw, layout)]
        cases = [case for case in CASES if name == "t5" or _model_type(case) == name]
        if name != "pix2struct":
            cases = [case for case in cases if case != "pix2struct"]
        results[name] = found = try_mutants(name, mutants, options.most, cases, _observe)
        print(name, found["possible"], found["planted"], found["missed"], flush=True)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print_by_kind(results)


def _model_type(case: str) -> str:
    return MODEL_TYPES.get(case, case.partition("-")[0])


@cache
def _tensors(case: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Returns random tensors of PyTorch's class, the tree that the published rule makes of them, and its layout."""
    spec = specs_module.load_spec(_model_type(case))
    assert spec is not None
    name, settings = settings_of(case)
    expansion = expand(spec, spec.classes["ForConditionalGeneration"], Config(settings))
    random = np.random.default_rng(3)
    state = {
        key: random.normal(size=one.shape).astype(np.float32)
        for key, one in expansion.parameters.items()
    }
    for key, one in expansion.parameters.items():
        if one.tied_to:
            same = one.shared or key.endswith("embed_tokens.weight")
            state[key] = state[one.tied_to] if same else state[key]
    if name == "LongT5":  # no tie where the output layer has a tensor of its own
        state.update(
            {
                f"{side}.embed_tokens.weight": state["shared.weight"]
                for side in ("encoder", "decoder")
            }
        )
    return state, *tree_of(case, state)


def _observe(case: str) -> Any:
    """Returns whether a case comes out as the published rule says, or the name of the error."""
    state, tree, layout = _tensors(case)
    marks.known_specs.cache_clear()
    try:
        spec = specs_module.load_spec(_model_type(case))
        if spec is None:
            return "no such architecture"
        expansion = expand(
            spec, spec.classes["ForConditionalGeneration"], Config(settings_of(case)[1])
        )
        view = layout_module(layout).view(expansion)
        match = match_class(expansion, layout, list(tree))
        return (
            bool(marks.has_marks(spec, list(tree), layout)),
            match.fits,
            all(_is_right(rule, state, tree) for rule in view.rules),
            frozenset(view.shared),
            _config_read(spec, tree, layout),
        )
    except (EquipoiseError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        return type(error).__name__


def _config_read(spec: Any, tree: dict[str, Any], layout: str) -> str:
    """Returns what is read of a tree and of gin files with T5X's own class, with macros, and with neither."""
    shapes = {name: value.shape for name, value in tree.items()}
    bare = {name: shape for name, shape in shapes.items() if "relpos_bias" not in name}
    gins = ((_GIN_CLASS, shapes), (_GIN_MACROS, bare), ({}, {}))
    found = (
        translate(Config(dict(gin), Path("config.gin")), spec, sizes, layout) for gin, sizes in gins
    )
    return json.dumps([dict(sorted(one.edits.items())) for one in found])


def _is_right(rule: Any, state: dict[str, Any], tree: dict[str, Any]) -> bool:
    """Whether a rule makes the tree's tensors of PyTorch's."""
    found = apply_all(rule.ops, tuple(state[name] for name in rule.sources))
    pairs = zip(found, (tree[name] for name in rule.targets), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def _make_mutants(raw: dict[str, Any], layout: str) -> Iterator[Mutant]:
    """Yields every single mistake of the kinds above."""
    for kind, where, values in layout_mutants(raw, layout):
        if not any(kind == f"dropped {key}" for key in OTHER_TESTS):
            yield kind, where, values
    section = raw[layout]
    for name, texts in section.get("ops", {}).items():
        for wrong in wrong_ops(texts):
            yield (
                "wrong operation",
                f"ops: {name}",
                replace_value(raw, (layout, "ops", name), wrong),
            )
    for number, rule in enumerate(section.get("rules", [])):
        yield from _rule_mutants(raw, layout, number, rule)
    yield from _transposes(raw, layout)
    yield from _layers(raw, layout)


def _rule_mutants(
    raw: dict[str, Any], layout: str, number: int, rule: dict[str, Any]
) -> Iterator[Mutant]:
    """Yields mistakes of a rule over several parameters: of its operations, its condition, its names, and its absence."""

    def changed(**values: Any) -> dict[str, Any]:
        found = deepcopy(raw)
        found[layout]["rules"][number].update(values)
        return found

    where = f"rules: {rule['targets'][0]}"
    for wrong in wrong_ops(rule["ops"]):
        yield "wrong operation", where, changed(ops=wrong)
    if "when" in rule:
        yield "flipped switch", where, changed(when=f"not ({rule['when']})")
    fewer = deepcopy(raw)
    del fewer[layout]["rules"][number]
    yield "dropped rules", where, fewer
    rules = raw[layout]["rules"]
    other = rules[(number + 1) % len(rules)]
    yield "swapped names", where, changed(targets=other["targets"])
    (source,) = rule["sources"]
    (index,) = re.findall(r"\{(\w*block)\}", source)
    off = changed(sources=[source.replace(f"{{{index}}}", f"{{{index}_off}}")])
    off.setdefault("let", {})[f"{index}_off"] = f"({index} + 1) % {'num_layers'}"
    yield "off by one", where, off


def _transposes(raw: dict[str, Any], layout: str) -> Iterator[Mutant]:
    """Yields linear layers that are not transposed."""
    within = [one for rule in raw[layout].get("rules", []) for one in rule["sources"]]
    for lines in raw.get("modules", {}).values():
        for path, line in lines.items():
            text = line if isinstance(line, str) else line["kind"] if line else ""
            name = f"{path}.weight"
            if text.startswith("linear") and name not in within:
                values = deepcopy(raw)
                values[layout].setdefault("ops", {})[name] = []
                yield "dropped transpose", path, values


def _layers(raw: dict[str, Any], layout: str) -> Iterator[Mutant]:
    """Yields single paths in which the next layer stands for one."""
    for module, path in raw[layout].get("paths", {}).items():
        found = re.search(r"\{(\w+)\}", path)
        if found:
            index = found[1]
            values = deepcopy(raw)
            values.setdefault("let", {})[f"{index}_off"] = f"{index} + 1"
            values[layout]["paths"][module] = path.replace(found[0], f"{{{index}_off}}")
            yield "off by one", module, values


if __name__ == "__main__":
    main()
