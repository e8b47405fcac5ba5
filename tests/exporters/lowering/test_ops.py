"""Every registered ATen operator agrees with PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aten_agreement import disagreements, family_of
from aten_samples import samples_of

pytestmark = pytest.mark.transformers

ROOT = Path(__file__).parents[3]
FAMILIES = sorted(path.stem for path in (ROOT / "exporters/lowering/ops").glob("[!_]*.py"))
RANDOM = ("rand", "randn", "rand_like", "randn_like", "bernoulli", "multinomial")
OF_VALUES = ("masked_select", "nonzero", "unique_dim", "_unique2", "unique_consecutive", "bincount")
REFUSED = frozenset(f"aten.{name}" for name in (*RANDOM, *OF_VALUES))
"""Operators that no program can compute: they are registered for their error message."""


def functions() -> dict[str, Callable[..., Any]]:
    from equipoise.exporters.lowering import registry

    return registry.registered_functions()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own samples call what it deprecates.
@pytest.mark.parametrize("family", FAMILIES)
def test_operator_agrees_with_pytorch(family: str) -> None:
    pytest.importorskip("expecttest", reason="PyTorch's own samples need it")
    found = []
    for name, function in functions().items():
        if family_of(function) == family and name not in REFUSED:
            samples = samples_of(name)
            if not samples:
                found.append(f"{name} has no sample: add one to a file of aten_cases")
            found += disagreements(function, samples, family)
    assert not found, "\n".join(found)


def test_each_operator_belongs_to_a_family() -> None:
    """Every operator belongs to a module of ``ops``, so none is left untested."""
    assert {family_of(function) for function in functions().values()} == set(FAMILIES)


def test_each_family_has_samples() -> None:
    cases = (Path(__file__).parent / "aten_cases").glob("[!_]*.py")
    assert {path.stem for path in cases} - {"tensors"} == set(FAMILIES)


def test_each_operator_has_a_mutant_that_its_samples_catch() -> None:
    """Every operator has a mutant that its samples catch, in the results of ``benchmarks/mutate_ops.py``."""
    figures = json.loads((ROOT / "benchmarks/results/mutate-ops.json").read_text())["functions"]
    shown = {name.partition(".")[2] for name, one in figures.items() if one["caught"]}
    for name, function in functions().items():
        if name not in REFUSED:
            assert {f"[{name.split('.')[1]}]", function.__name__} & shown, name


def test_unsupported_operators_explain_why() -> None:
    for name in REFUSED:
        with pytest.raises(NotImplementedError, match=r"random numbers|depends on the values"):
            functions()[name](None)


def test_registered_names_survive_the_decomposition() -> None:
    """Every registered name is an ATen operator that PyTorch's decompositions leave in a graph."""
    import torch

    from equipoise.exporters.lowering.program import decompositions

    decomposed = decompositions()
    for name in functions():
        _, packet, *overload = name.split(".")
        known = getattr(torch.ops.aten, packet)
        names = overload or [one for one in known.overloads() if "out" not in one]
        assert any(getattr(known, one) not in decomposed for one in names), name


def test_an_overload_falls_back_to_its_operator() -> None:
    from equipoise.exporters.lowering.registry import lookup_aten

    assert lookup_aten("aten.max.dim") is functions()["aten.max.dim"]
    assert lookup_aten("aten.add.Tensor") is functions()["aten.add"]
    assert lookup_aten("aten.no_such.default") is None
