"""The language of architecture files, and what every file in the package must satisfy."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.expressions import parse_expression
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec, read_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.core.errors import ArchitectureError, SpecError
from equipoise.convert.core.ops import output_shapes
from equipoise.convert.layouts import layout_module


def specs() -> list[ArchitectureSpec]:
    return [spec for name in spec_names() if (spec := load_spec(name)) is not None]


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.model_type)
def test_every_class_expands_with_defaults_alone(spec: ArchitectureSpec) -> None:
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
def test_every_irregularity_names_something(spec: ArchitectureSpec) -> None:
    """An override that matches no parameter of any class under any condition is a typo."""
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
        for key in ("leaves", "ops", "shared", "left_out"):
            names |= set(section.get(key, {}))
        for name in section.get("refused", {}):
            inside = [one for one in written if one.startswith(f"{name}.")]
            assert name in written or inside, name
        names |= set(section.get("stored", []))
    inherited = spec.model_type in ("camembert", "longt5", "xlm-roberta")
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
    assert output_shapes(rules["h/1/qk/kernel",].ops, ((4, 4), (2, 4))) == ((4, 6),)
    assert rules["scales",].sources == ("h.0.scale", "h.1.scale", "h.2.scale")
    assert rules["scales",].shapes(((5,),) * 3) == ((3, 5),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[moduls]\n", "unknown section 'moduls'"),
        (
            '[modules.a]\n"x" = "linear(1)"\n[classes]\nModel = ["a"]\n',
            "does not have the arguments",
        ),
        ('[modules.a]\n"x" = "lineal(1, 2)"\n[classes]\nModel = ["a"]\n', "unknown kind 'lineal'"),
        ('[modules.a]\n"x" = "linear(1, 2, biass=False)"\n[classes]\nModel = ["a"]\n', "switch"),
        ('[classes]\nModel = ["b"]\n', "names an unknown group 'b'"),
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
        ({"num_hidden_layers": "twelve"}, "is not a size"),
        ({"hidden_size": -24}, "is not a size"),
        ({"hidden_size": None}, "is not a size"),
        ({"vocab_size": 1.5}, "is not a size"),
    ],
)
def test_configs_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    spec = load_spec("bert")
    assert spec is not None
    with pytest.raises(ArchitectureError, match=message):
        expand(spec, spec.classes["Model"], Config(values))


def test_expressions_of_all_files_parse() -> None:
    for spec in specs():
        texts = [*spec.repeat.values(), *spec.let.values(), *spec.when.values()]
        texts += [module.kind for group in spec.modules.values() for module in group]
        for text in texts:
            parse_expression(text)


def test_a_mounted_class_keeps_its_own_spelling() -> None:
    """Nested configs select the mounted classes; names get their path, and TensorFlow keeps the part's prefix."""
    spec = load_spec("encoder-decoder")
    assert spec is not None
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    config = Config(
        {
            "encoder": {"model_type": "roberta", **sizes},
            "decoder": {"model_type": "bert", "add_cross_attention": True, **sizes},
        }
    )
    expansion = expand(spec, spec.classes["Model"], config)
    query = "attention.self.query"
    encoder = f"encoder.roberta.encoder.layer.0.{query}.weight"
    decoder = "decoder.bert.encoder.layer.0.crossattention.self.query.weight"
    assert expansion.parameters[encoder].shape == (8, 8)
    stored = {
        layout: {
            rule.sources[0]: rule.targets[0] for rule in layout_module(layout).view(expansion).rules
        }
        for layout in ("pytorch", "tensorflow", "flax")
    }
    assert stored["pytorch"][encoder] == f"encoder.encoder.layer.0.{query}.weight"
    assert (
        stored["tensorflow"][encoder]
        == "encoder/roberta/encoder/layer_._0/attention/self/query/kernel"
    )
    assert stored["flax"][encoder] == "encoder/encoder/layer/0/attention/self/query/kernel"
    assert stored["pytorch"][decoder] == decoder
    assert (
        stored["tensorflow"]["decoder.cls.predictions.bias"] == "decoder/mlm___cls/predictions/bias"
    )
    tied = "decoder.cls.predictions.decoder.weight"
    word = "decoder.bert.embeddings.word_embeddings.weight"
    assert layout_module("tensorflow").view(expansion).shared[tied] == word


@pytest.mark.parametrize("named", ["resnet", "nothing"])
def test_a_part_that_is_unknown_or_unfit_is_refused(named: str) -> None:
    spec = load_spec("encoder-decoder")
    assert spec is not None
    config = Config({"encoder": {"model_type": "bert"}, "decoder": {"model_type": named}})
    with pytest.raises(ArchitectureError, match="no architecture is known for decoder"):
        expand(spec, spec.classes["Model"], config)


ODD = """
[repeat]
stage = "2"
[modules.body]
"stage.{stage}.token" = "embedding(3, 4)"
"stage.{stage}.up" = "conv_transpose2d(6, 4, 2, 3)"
"stage.{stage}.index" = "integers(4, 4)"
[classes]
Model = ["body"]
[computed]
"stage.{stage}.index" = "window_positions"
[tensorflow]
roots = { "token.{stage}" = "" }
groups = { "token.{stage}" = "layer" }
[tensorflow.paths]
"stage.{stage}.token" = ""
[tensorflow.leaves]
"stage.{stage}.token.weight" = "token.{stage}"
[tensorflow.wrong]
Model = "it counts from one"
"""


def test_overrides_may_have_indices(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, ODD))
    expansion = expand(spec, spec.classes["Model"], Config({}))
    view = layout_module("tensorflow").view(expansion)
    assert view.groups["token.1"] == "layer"
    assert view.roots["token.0"] == ""
    assert view.known_difference == "it counts from one"


def test_transposed_convolutions_and_integers(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, ODD))
    expansion = expand(spec, spec.classes["Model"], Config({}))
    index = expansion.parameters["stage.1.index"]
    assert (index.dtype, index.computed, index.is_rebuilt) == ("int64", "window_positions", True)
    assert expansion.parameters["stage.1.up.weight"].shape == (6, 4, 2, 3)
    views = {name: layout_module(name).view(expansion) for name in ("tensorflow", "flax")}
    assert views["tensorflow"].dtypes == {f"stage.{i}.index": "int32" for i in (0, 1)}
    assert views["flax"].left_out["stage.1.index"] == "follows from the config"
    rules = {rule.sources[0]: rule for rule in views["tensorflow"].rules}
    assert rules["stage.1.up.weight"].shapes(((6, 4, 2, 3),)) == ((2, 3, 4, 6),)
