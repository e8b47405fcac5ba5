"""The language of architecture files, and what every file in the package must satisfy."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.convert.config import Config
from equipoise.convert.errors import ArchitectureError, SpecError
from equipoise.convert.expand import expand
from equipoise.convert.expr import parse
from equipoise.convert.layouts import layout_module
from equipoise.convert.ops import shapes_all
from equipoise.convert.spec import Spec, load_spec, read_spec, spec_names


def specs() -> list[Spec]:
    return [spec for name in spec_names() if (spec := load_spec(name)) is not None]


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.model_type)
def test_every_class_expands_with_defaults_alone(spec: Spec) -> None:
    assert spec.file.stem == spec.model_type
    for cls in spec.classes.values():
        expansion = expand(spec, cls, Config({"model_type": spec.model_type}))
        assert expansion.parameters
        for layout in ("pytorch", "tensorflow", "flax"):
            if layout not in cls.names:
                continue
            view = layout_module(layout).view(expansion)
            targets = [name for rule in view.rules for name in rule.targets]
            assert len(targets) == len(set(targets)), "two parameters have one name"
            for rule in view.rules:
                shapes = tuple(expansion.parameters[name].shape for name in rule.sources)
                assert rule.inverse.shapes(rule.shapes(shapes)) == shapes
            accounted = {name for rule in view.rules for name in rule.sources}
            accounted |= {*view.shared, *view.left_out, *view.refused}
            assert accounted == set(expansion.parameters)


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.model_type)
def test_every_irregularity_names_something(spec: Spec) -> None:
    """A line that fits no parameter of any class under any condition is a slip of the pen."""
    written = {
        f"{module.path}.{leaf}" if leaf else module.path
        for group in spec.modules.values()
        for module in group
        for leaf in ("", "weight", "bias")
    }
    for part in spec.parts.values():
        assert part.spec is None or load_spec(part.spec) is not None
    names = {*spec.ties, *spec.computed}
    for section in spec.layouts.values():
        for key in ("leaves", "ops", "shared", "refused", "left_out"):
            names |= set(section.get(key, {}))
        names |= set(section.get("stored", []))
    inherited = spec.model_type in ("camembert", "xlm-roberta")
    assert inherited or names <= written, names - written


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text('model_type = "toy"\nname = "Toy"\n' + text)
    return path


MODULES = """
[repeat]
outer = "depth"
inner = "sizes[outer]"
[defaults]
depth = 2
sizes = [1, 3]
[let]
width = "2 + outer"
[modules.body]
"block.{outer}.layer.{inner}.dense" = "linear(width, inner + 1)"
"block.{outer}.norm" = { kind = "norm(width)", when = "outer == 1" }
"scale" = "param()"
[classes]
Model = ["body"]
"""


def test_nested_repeats_conditions_and_names(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, MODULES))
    expansion = expand(spec, spec.classes["Model"], Config({}))
    assert {name: one.shape for name, one in expansion.parameters.items()} == {
        "block.0.layer.0.dense.weight": (1, 2),
        "block.0.layer.0.dense.bias": (1,),
        "block.1.layer.0.dense.weight": (1, 3),
        "block.1.layer.0.dense.bias": (1,),
        "block.1.layer.1.dense.weight": (2, 3),
        "block.1.layer.1.dense.bias": (2,),
        "block.1.layer.2.dense.weight": (3, 3),
        "block.1.layer.2.dense.bias": (3,),
        "block.1.norm.weight": (3,),
        "block.1.norm.bias": (3,),
        "scale": (),
    }


FUSED = """
[repeat]
layer = "layers"
[defaults]
layers = 3
[modules.body]
"h.{layer}.q" = "linear(4, 4, bias=False)"
"h.{layer}.k" = "linear(4, 2, bias=False)"
"h.{layer}.scale" = "param(5)"
[classes]
Model = ["body"]
[[flax.rules]]
sources = ["h.{layer}.q.weight", "h.{layer}.k.weight"]
targets = ["h/{layer}/qk/kernel"]
ops = ["concat(0, 4, 2)", "permute(1, 0)"]
[[flax.rules]]
sources = ["h.{layer}.scale"]
targets = ["scales"]
ops = ["stack(0)"]
"""


def test_fused_and_stacked_tensors(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, FUSED))
    expansion = expand(spec, spec.classes["Model"], Config({}))
    view = layout_module("flax").view(expansion)
    rules = {rule.targets: rule for rule in view.rules}
    assert rules["h/1/qk/kernel",].sources == ("h.1.q.weight", "h.1.k.weight")
    assert shapes_all(rules["h/1/qk/kernel",].ops, ((4, 4), (2, 4))) == ((4, 6),)
    assert rules["scales",].sources == ("h.0.scale", "h.1.scale", "h.2.scale")
    assert rules["scales",].shapes(((5,),) * 3) == ((3, 5),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[moduls]\n", "unknown section 'moduls'"),
        ('[modules.a]\n"x" = "linear(1)"\n[classes]\nModel = ["a"]\n', "does not give"),
        ('[modules.a]\n"x" = "lineal(1, 2)"\n[classes]\nModel = ["a"]\n', "unknown kind 'lineal'"),
        ('[modules.a]\n"x" = "linear(1, 2, biass=False)"\n[classes]\nModel = ["a"]\n', "switch"),
        ('[classes]\nModel = ["b"]\n', "names no group 'b'"),
        ("model_type = 3 3", "cannot be read"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError, match=message):
        expand_file(path)


def expand_file(path: Path) -> None:
    spec = read_spec(path)
    expand(spec, spec.classes["Model"], Config({}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 10**9}, "at most"),
        ({"num_hidden_layers": "twelve"}, "is no size"),
        ({"hidden_size": -24}, "is no size"),
        ({"hidden_size": None}, "is no size"),
        ({"vocab_size": 1.5}, "is no size"),
    ],
)
def test_absurd_configs_are_refused(values: dict[str, object], message: str) -> None:
    spec = load_spec("bert")
    assert spec is not None
    with pytest.raises(ArchitectureError, match=message):
        expand(spec, spec.classes["Model"], Config(values))


def test_expressions_of_all_files_parse() -> None:
    for spec in specs():
        texts = [*spec.repeat.values(), *spec.let.values(), *spec.when.values()]
        texts += [module.kind for group in spec.modules.values() for module in group]
        for text in texts:
            parse(text)
