"""Every layout module fulfils the contract in ``convert/layouts/__init__.py``."""

from __future__ import annotations

import pytest

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import load_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.containers import container_module, container_names
from equipoise.convert.conversion.routes import (
    all_formats,
    find_format,
    find_route,
    route_edges,
    to_mermaid,
)
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.layouts import layout_module, layout_names


@pytest.mark.parametrize("layout", layout_names())
def test_formats_name_containers_that_exist(layout: str) -> None:
    for name, form in layout_module(layout).FORMATS.items():
        assert name == form.name
        assert name.startswith(layout)
        assert form.container in container_names()
        # Keras finds variables by its object graph, which is not written: a checkpoint of names is Google's alone.
        if form.writable or name != "tensorflow-checkpoint":
            assert form.writable == hasattr(container_module(form.container), "Writer")


@pytest.mark.parametrize("layout", layout_names())
@pytest.mark.parametrize("model_type", spec_names())
def test_decode_undoes_encode(layout: str, model_type: str) -> None:
    module = layout_module(layout)
    spec = load_spec(model_type)
    assert spec is not None
    for cls in spec.classes.values():
        if layout not in cls.names:
            continue
        view = module.view(expand(spec, cls, Config({})))
        for form in module.FORMATS.values():
            for variant in ("keras", "flat") if form.container == "keras_hdf5" else ("",):
                for name in (name for rule in view.rules for name in rule.targets):
                    encoded = module.encode(name, form.container, variant, view)
                    assert module.decode(encoded, form.container, variant) == name


def test_routes() -> None:
    assert find_route("tensorflow", "flax") == ("tensorflow", "pytorch", "flax")
    assert find_route("pytorch", "pytorch") == ("pytorch",)
    assert {(edge.source, edge.target) for edge in route_edges()} == {
        ("tensorflow", "pytorch"),
        ("pytorch", "tensorflow"),
        ("flax", "pytorch"),
        ("pytorch", "flax"),
        ("google", "pytorch"),
        ("pytorch", "google"),
        ("t5x", "pytorch"),
        ("pytorch", "t5x"),
        ("t5x-scanned", "pytorch"),
        ("pytorch", "t5x-scanned"),
        ("keras-hub", "pytorch"),
        ("pytorch", "keras-hub"),
    }
    with pytest.raises(CheckpointError, match="no route"):
        find_route("flax", "nowhere")


def test_formats_by_name() -> None:
    assert find_format("tensorflow")[1].name == "tensorflow-h5"
    assert find_format("pytorch-bin")[1].filename == "pytorch_model.bin"
    assert "tensorflow-checkpoint" in all_formats()
    with pytest.raises(CheckpointError, match="cannot write 'tensorflow-checkpoint'"):
        find_format("tensorflow-checkpoint")
    with pytest.raises(CheckpointError, match="unknown format 'onnx'"):
        find_format("onnx")


def test_mermaid_has_every_layout() -> None:
    text = to_mermaid()
    assert text.startswith("graph LR")
    assert "pytorch <--> tensorflow" in text
    assert "flax-msgpack" in text
