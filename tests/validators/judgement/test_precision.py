"""The error of a lower precision is told from a fault of the same size, on a small network in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from equipoise.validators.core.types import CapturedModule, CapturedPass, CapturedPasses
from equipoise.validators.judgement.diagnosis import ArrayComparer, compare_modules
from equipoise.validators.judgement.precision import (
    LowerPrecision,
    find_precision,
    precision_note,
)
from equipoise.validators.judgement.results import ComputedPrecision

Array = np.ndarray[Any, Any]
Rounding = Callable[[Array], Array]
COMPARER = ArrayComparer(None, "float32")
DEPTH = 3


def exact(values: Array) -> Array:
    return values


def single(values: Array) -> Array:
    return values.astype(np.float32)


def bfloat16(values: Array) -> Array:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def half(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def tf32(values: Array) -> Array:
    """Keeps eleven significant bits, as ten bits of a fraction do."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2048) / 2048, exponent)


def network(
    keep: Rounding,
    factor: Rounding = exact,
    *,
    epsilon: float = 1e-6,
    local: Rounding = exact,
    modules: bool = True,
) -> CapturedPass:
    """Runs norm and dense three times; every result is kept at a precision, factors of products at another.

    Args:
        keep: Rounds what an operation returns.
        factor: Rounds the factors of products.
        epsilon: Epsilon of the norms.
        local: Rounds what goes into the second dense layer.
        modules: Whether modules are captured.
    """
    draws = np.random.default_rng(7)
    x = keep(draws.standard_normal((16, 32)))
    records = [CapturedModule("embed", "", None, {}, {"output": x})]
    for layer in range(DEPTH):
        weight = draws.standard_normal((32, 32)) / 6
        x = keep(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon))
        records.append(CapturedModule(f"norm{layer}", "", None, {}, {"output": x}))
        given = local(x) if layer == 1 else x
        x = keep(factor(given) @ factor(keep(weight).astype(x.dtype)))
        records.append(CapturedModule(f"dense{layer}", "", None, {}, {"output": x}))
    logits = keep(x @ draws.standard_normal((32, 96)))
    return CapturedPass({"logits": logits}, records if modules else ())


def rounded(lower: LowerPrecision) -> CapturedPass:
    """Runs the network as PyTorch would at a lower precision."""
    factors, dtype = lower.options.get("factors"), lower.options.get("dtype")
    if factors or "autocast" in lower.options:
        by_name = {"tf32": tf32, "bfloat16": bfloat16, "float16": half}
        return network(single, by_name[str(factors or lower.options["autocast"])])
    return network(bfloat16 if dtype == "bfloat16" else half)


def find(found: CapturedPass) -> ComputedPrecision | None:
    passes = CapturedPasses(network(exact), network(single), found)
    comparisons = compare_modules(passes, [], {}, COMPARER)
    return find_precision("float32", passes, comparisons, COMPARER, rounded)


PROGRAMS: dict[str, tuple[Callable[..., CapturedPass], str]] = {
    "all in bfloat16": (lambda **more: network(bfloat16, **more), "bfloat16"),
    "all in float16": (lambda **more: network(half, **more), "float16"),
    "factors in bfloat16": (lambda **more: network(single, bfloat16, **more), "bfloat16"),
    "factors of ten bits": (
        lambda **more: network(single, tf32, **more),
        "float16 or TensorFloat-32",
    ),
}


@pytest.mark.parametrize("modules", [True, False])
@pytest.mark.parametrize("name", PROGRAMS)
def test_lower_precisions(name: str, modules: bool) -> None:
    """With modules, and by the outputs alone where there are more than a thousand values."""
    program, precision = PROGRAMS[name]
    found = find(program(modules=modules))
    assert found is not None
    assert (found.declared, found.computed) == ("float32", precision)
    assert 0.25 < found.size < 4
    assert found.cosine > 0.9


@pytest.mark.parametrize("epsilon", [1e-5, 1e-4, 1e-3, 4e-3, 1e-2, 3e-2])
@pytest.mark.parametrize("modules", [True, False])
def test_a_wrong_epsilon_is_no_precision(epsilon: float, modules: bool) -> None:
    assert find(network(single, epsilon=epsilon, modules=modules)) is None


@pytest.mark.parametrize("scale", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
@pytest.mark.parametrize("modules", [True, False])
def test_noise_is_no_precision(scale: float, modules: bool) -> None:
    """Errors of the size of a rounding, but not those of rounding."""
    draws = np.random.default_rng(1)

    def disturb(values: Array) -> Array:
        return single(values * (1 + scale * draws.uniform(-1, 1, values.shape)))

    assert find(network(disturb, modules=modules)) is None


@pytest.mark.parametrize("rounding", [bfloat16, half, tf32])
def test_one_rounded_layer_is_no_precision_of_the_program(rounding: Rounding) -> None:
    assert find(network(single, local=rounding)) is None


def test_outputs_of_few_values_prove_nothing() -> None:
    found = network(bfloat16, modules=False)
    few = CapturedPass({"logits": found.outputs["logits"][:2, :2]}, ())
    sides = [network(keep, modules=False) for keep in (exact, single)]
    cut = [CapturedPass({"logits": one.outputs["logits"][:2, :2]}, ()) for one in sides]

    def capture(lower: LowerPrecision) -> CapturedPass:
        return CapturedPass({"logits": rounded(lower).outputs["logits"][:2, :2]}, ())

    assert (
        find_precision("float32", CapturedPasses(cut[0], cut[1], few), [], COMPARER, capture)
        is None
    )


def test_notes_on_the_precision_under_test() -> None:
    (note,) = precision_note("float32", "float16")
    assert note.startswith("it computes in float32, which is more exact than the float16")
    (note,) = precision_note("float16", "float32")
    assert "less exact than the float32 it is held to: --precision chooses another" in note
    assert precision_note("bfloat16", "bfloat16") == ()
    assert precision_note("int8", "float32") == precision_note("", "float32") == ()
