"""The place of the first values beyond noise, for modules and values written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from equipoise.validators.core.types import CapturedModule, CapturedPass, CapturedPasses
from equipoise.validators.judgement.diagnosis import (
    ArrayComparer,
    choose_pass,
    compare_modules,
    error_by_depth,
)
from equipoise.validators.judgement.location import first_divergence
from equipoise.validators.judgement.module_matching import match_axes
from equipoise.validators.judgement.results import WHOLE_MODEL, Divergence

Array = np.ndarray[Any, Any]
COMPARER = ArrayComparer(None, "float32")
NOTHING: frozenset[str] = frozenset()
CALLED = ("norm", "dense", "act", "")
"""Modules of the model ``act(dense(norm(x)))`` within ``block``, in the order in which they end."""


def captured(
    numbers: Callable[[Array], Array] = lambda x: x,
    *,
    between: Callable[[Array], Array] = lambda x: x,
    inside: Callable[[Array], Array] = lambda x: x,
    at_the_end: Callable[[Array], Array] = lambda x: x,
    without: frozenset[str] = NOTHING,
    hidden_inputs: frozenset[str] = NOTHING,
) -> CapturedPass:
    """Runs the model with a change between norm and dense, inside dense, or after the last module."""
    x = numbers(np.linspace(-2, 2, 96).reshape(4, 24))
    normed = numbers(x / np.sqrt((x**2).mean(axis=-1, keepdims=True)))
    given = between(normed)
    product = numbers(inside(given * 1.7 + 0.3))
    active = numbers(np.tanh(product))
    output = at_the_end(active)
    values = {
        "block.norm": (x, normed),
        "block.dense": (given, product),
        "block.act": (product, active),
        "block": (x, active),
        "": (None, output),
    }
    modules = [
        CapturedModule(
            path,
            "Kind",
            None,
            {} if given is None or path in hidden_inputs else {"0": given},
            {"output": result},
        )
        for path, (given, result) in values.items()
        if path not in without
    ]
    return CapturedPass({"logits": output}, modules)


def float32(values: Array) -> Array:
    return np.asarray(values, np.float32)


def clip(values: Array) -> Array:
    return np.clip(values, -0.5, 0.5)


def place(found: CapturedPass) -> Divergence | None:
    passes = CapturedPasses(captured(), captured(float32), found)
    comparisons = compare_modules(passes, [], {}, COMPARER)
    return first_divergence(comparisons, passes, COMPARER, case="single")


def test_nothing_is_beyond_noise() -> None:
    assert place(captured(float32)) is None


def test_a_module_with_good_inputs_is_at_fault() -> None:
    found = place(captured(float32, inside=clip))
    assert found is not None
    assert (found.module, found.after, found.before) == ("block.dense", "", "")
    assert list(found.inputs) == ["block.norm"]


def test_between_two_modules_is_a_range() -> None:
    """What goes into dense is wrong already, and norm is right: the place is in the module around both."""
    found = place(captured(float32, between=clip))
    assert found is not None
    assert (found.module, found.after, found.before) == ("block", "block.norm", "block.dense")
    assert "what goes into block.dense is beyond noise already" in found.note
    assert "block.norm" not in found.inputs, "it is not an input of the block"


def test_inputs_that_are_not_known_make_a_range() -> None:
    found = place(captured(float32, between=clip, hidden_inputs=frozenset({"block.dense"})))
    assert found is not None
    assert (found.module, found.after, found.before) == ("block.dense", "block.norm", "block.dense")
    assert found.inputs == {}
    assert "not compared: what goes into it as 0" in found.note


def test_modules_without_a_match_are_named() -> None:
    """Dense and norm have no match: what goes into act is wrong, and nothing before it was compared."""
    hidden = frozenset({"block.dense", "block.norm"})
    found = place(captured(float32, inside=clip, without=hidden))
    assert found is not None
    assert (found.module, found.after, found.before) == ("block", "", "block.act")
    assert "no module before it could be compared" in found.note
    found = place(captured(float32, inside=clip, without=frozenset({"block.dense"})))
    assert found is not None
    assert (found.module, found.after, found.before) == ("block", "block.norm", "block.act")
    assert "not compared between them: block.dense" in found.note


def test_outputs_alone() -> None:
    found = place(captured(float32, at_the_end=clip, without=frozenset({""})))
    assert found is not None
    assert (found.module, found.after, found.before) == (WHOLE_MODEL, "block", "")
    assert "no module is beyond noise, but the output logits is" in found.note


def test_depth_says_what_is_beyond_noise() -> None:
    passes = CapturedPasses(captured(), captured(float32), captured(float32, inside=clip))
    depth = error_by_depth(compare_modules(passes, [], {}, COMPARER))
    beyond = [one.path for one in depth if one.beyond]
    assert beyond == ["block.dense", "block.act", "block", ""]
    assert all(one.ratio is not None and (one.ratio > 8) == one.beyond for one in depth)


def test_the_last_call_of_a_module_is_that_of_a_graph() -> None:
    """PyTorch numbers the calls of a module, a graph keeps the values of the last."""
    first, second = np.linspace(0, 1, 64), np.linspace(3, 7, 64)

    def calls(numbers: Callable[[Array], Array], *paths: str) -> CapturedPass:
        values = {"drop": numbers(first), "drop#2": numbers(second)}
        modules = [CapturedModule(path, "", None, {}, {"output": values[path]}) for path in paths]
        return CapturedPass({}, modules)

    graph = CapturedModule("model.drop", "", None, {}, {"output": float32(second)})
    both = ("drop", "drop#2")
    passes = CapturedPasses(
        calls(np.asarray, *both), calls(float32, *both), CapturedPass({}, [graph])
    )
    (compared,) = compare_modules(passes, [], {}, COMPARER)
    assert (compared.path, compared.beyond) == ("drop#2", False)


def test_first_calls_are_matched_by_weights() -> None:
    """A layer that is called twice has the same weights and, in TensorFlow and Flax, the same path."""
    first, second = np.linspace(0, 1, 64), np.linspace(3, 7, 64)

    def calls(numbers: Callable[[Array], Array], *paths: str, own: bool) -> CapturedPass:
        weights = None if own else ("layer/kernel",)
        outputs = ({"output": numbers(one)} for one in (first, second))
        modules = [
            CapturedModule(path, "", weights, {}, one)
            for path, one in zip(paths, outputs, strict=True)
        ]
        return CapturedPass({}, modules)

    sides = [calls(keep, "layer", "layer#2", own=True) for keep in (np.asarray, float32)]
    passes = CapturedPasses(*sides, calls(float32, "tf/layer", "tf/layer", own=False))
    names = {"layer/kernel": ("layer.weight",)}
    (compared,) = compare_modules(passes, ["layer.weight"], names, COMPARER)
    assert (compared.path, compared.beyond) == ("layer", False)


def test_values_decide_which_output_of_a_graph_is_meant() -> None:
    cosine, sine = np.linspace(0, 1, 64), np.linspace(1, 0, 64)

    def rotary(numbers: Callable[[Array], Array], names: tuple[str, str]) -> CapturedPass:
        outputs = dict(zip(names, (numbers(cosine), numbers(sine)), strict=True))
        return CapturedPass({}, [CapturedModule("rotary", "", None, {}, outputs)])

    graph = rotary(float32, ("value 1", "value 0"))
    exact, reference = rotary(np.asarray, ("0", "1")), rotary(float32, ("0", "1"))
    (compared,) = compare_modules(CapturedPasses(exact, reference, graph), [], {}, COMPARER)
    assert not compared.beyond


def test_the_first_pass_beyond_noise_is_chosen() -> None:
    truth = [{"logits": np.linspace(0, step + 1, 64)} for step in range(4)]
    reference = [{"logits": float32(one["logits"])} for one in truth]
    found = [
        *reference[:2],
        {"logits": reference[2]["logits"] + 1e-3},
        {"logits": reference[3]["logits"] + 1},
    ]
    assert choose_pass(truth, reference, found, [COMPARER] * 4) == 2
    worst = [*reference[:3], {"logits": np.nextafter(reference[3]["logits"], np.float32(9))}]
    assert choose_pass(truth, reference, worst, [COMPARER] * 4) == 3


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ((2, 3, 8), (2, 3, 8), True),
        ((2, 3, 8), (2, 3, 4, 2), True),  # heads of attention
        ((2, 3, 8), (6, 8), True),  # rows of a matrix product
        ((2, 3, 4, 5), (2, 4, 5, 3), True),  # channels last
        ((2, 3, 8), (2, 8, 3, 1), False),
        ((2, 3, 8), (2, 4, 3, 2), False),
    ],
)
def test_axes(ours: tuple[int, ...], theirs: tuple[int, ...], fits: bool) -> None:
    found = match_axes(np.zeros(ours), np.zeros(theirs))
    assert (found is not None) == fits
    assert found is None or found.shape == ours
