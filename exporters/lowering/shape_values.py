"""Constant-folds small integer tensors that carry shape values.

A model may put a length into a tensor, compute with it, and pad by the result. In JAX the shape of an array is fixed
when the program is made, so such tensors are evaluated apart from the program, with sizes as their elements. For example,
``torch.tensor([n, 3]).prod()`` folds to the size ``3*n``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from equipoise.convert.core.framework_types import AtenAxes, AtenSizes, FxNode, JaxArray, Unused
from equipoise.exporters.lowering.dims import floordiv, is_symbolic, max_dim, min_dim, mod
from equipoise.exporters.lowering.size_fraction import Number, SizeFraction, as_fraction, divide

ShapeValues = npt.NDArray[Any]
"""An array of objects: integers, sizes, and fractions of sizes."""

MAX_ELEMENTS = 64
"""Largest number of elements of a tensor that is folded."""


def fold_constant(value: JaxArray) -> ShapeValues | None:
    """Returns the values of a constant, if they are few and integral; None otherwise."""
    import jax

    is_constant = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    if not is_constant or value.size > MAX_ELEMENTS:
        return None
    plain = np.asarray(value)
    if plain.dtype.kind not in "iuf" or not np.array_equal(plain, np.floor(plain)):
        return None
    return _object_array([int(one) for one in plain.reshape(-1)], plain.shape)


def fold_node(node: FxNode, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ShapeValues | None:
    """Returns the values of a node's tensor; None if they cannot be folded.

    Args:
        node: The node.
        args: Its arguments: :data:`ShapeValues` for folded tensors, None for other tensors, sizes and numbers.
        kwargs: Its keyword arguments.
    """
    rule = _FOLDING_RULES.get(str(node.target).split(".")[1] if "." in str(node.target) else "")
    shape = getattr(node.meta.get("val"), "shape", None)
    if rule is None or shape is None or not all(isinstance(size, int) for size in shape):
        return None
    if math.prod(shape) > MAX_ELEMENTS or _has_unknown_tensor(node, args):
        return None
    try:
        found = rule(*args, **{key: one for key, one in kwargs.items() if key in _KEYWORDS})
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None  # the program computes it
    return found if found.shape == tuple(shape) and all(map(_is_value, found.flat)) else None


_KEYWORDS = ("alpha", "rounding_mode")


def _has_unknown_tensor(node: FxNode, args: Sequence[Any]) -> bool:
    """Checks whether an argument is a tensor that was not folded."""
    import torch

    def is_tensor(one: Number) -> bool:
        return isinstance(one, torch.fx.Node) and isinstance(one.meta.get("val"), torch.Tensor)

    for given, value in zip(node.args, args, strict=True):
        many = isinstance(given, (list, tuple))
        pairs = zip(given, value, strict=True) if many else [(given, value)]
        if any(is_tensor(one) and known is None for one, known in pairs):
            return True
    return False


def _object_array(values: Number, shape: AtenSizes) -> ShapeValues:
    found = np.empty(len(values), object)
    found[:] = values
    return found.reshape(shape)


def _is_value(one: Number) -> bool:
    return type(one) is int or isinstance(one, SizeFraction) or is_symbolic(one)


def _simplify(one: Number) -> Number:
    """Returns a fraction over 1 as its numerator."""
    return one.numerator if isinstance(one, SizeFraction) and one.denominator == 1 else one


def _elementwise(function: Callable[..., Any]) -> Callable[..., ShapeValues]:
    """Applies a function of values elementwise, with broadcasting."""

    def call(*tensors: Number) -> ShapeValues:
        spread = np.broadcast_arrays(*(np.asarray(one, object) for one in tensors))
        made = [_simplify(function(*one)) for one in zip(*(x.flat for x in spread), strict=True)]
        return _object_array(made, spread[0].shape)

    return call


def _to_exact(one: Number) -> Number:
    """Returns an integral float as an integer.

    Raises:
        TypeError: The number has a fraction.
    """
    found = as_fraction(one)
    if found is None:
        raise TypeError(one)
    return _simplify(found)


def _add(x: Any, y: Any, *, alpha: int = 1) -> ShapeValues:
    return _elementwise(lambda a, b: a + b * alpha)(x, _elementwise(_to_exact)(y))


def _subtract(x: Any, y: Any, *, alpha: int = 1) -> ShapeValues:
    return _add(x, y, alpha=-alpha)


def _divide(x: Any, y: Any, *, rounding_mode: str | None = None) -> ShapeValues:
    def one(a: Number, b: Number) -> Number:
        found = divide(a, b)
        if found is None:
            raise TypeError((a, b))
        return math.floor(found) if rounding_mode == "floor" else found

    if rounding_mode == "trunc":
        raise TypeError(rounding_mode)
    return _elementwise(one)(x, y)


def _identity(x: ShapeValues, *_: Unused, **__: Unused) -> ShapeValues:
    return x


def _to_copy(x: ShapeValues) -> ShapeValues:
    """Integers are the same in any dtype; a fraction would be rounded.

    Raises:
        TypeError: An element is a fraction.
    """
    if any(isinstance(one, SizeFraction) for one in x.flat):
        raise TypeError("a fraction cannot be cast")
    return x


def _select(x: ShapeValues, dim: int, index: int) -> ShapeValues:
    found = np.take(x, index, dim)
    return found if isinstance(found, np.ndarray) else _object_array([found], ())


def _slice(
    x: ShapeValues, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> ShapeValues:
    where = [slice(None)] * x.ndim
    where[dim] = slice(start, end, step)
    return x[tuple(where)]


def _reduction(function: Callable[..., Any]) -> Callable[..., ShapeValues]:
    def call(x: ShapeValues, dim: AtenAxes = None, keepdim: bool = False) -> ShapeValues:
        axis = tuple(dim) if isinstance(dim, (list, tuple)) else dim
        found = function(x, axis=None if axis == () else axis, keepdims=keepdim)
        return found if isinstance(found, np.ndarray) else _object_array([found], ())

    return call


_FOLDING_RULES: dict[str, Callable[..., ShapeValues]] = {
    "scalar_tensor": lambda value: _elementwise(_to_exact)(value),
    "full": lambda size, value: _object_array([_to_exact(value)] * math.prod(size), tuple(size)),
    **dict.fromkeys(("clone", "alias", "lift_fresh", "lift_fresh_copy"), _identity),
    "_to_copy": _to_copy,
    "add": _add,
    "sub": _subtract,
    "mul": lambda x, y: _elementwise(lambda a, b: a * b)(x, _elementwise(_to_exact)(y)),
    "div": _divide,
    "remainder": _elementwise(mod),
    "floor_divide": _elementwise(floordiv),
    "neg": _elementwise(lambda a: -a),
    "ceil": _elementwise(lambda a: math.ceil(a) if isinstance(a, SizeFraction) else a),
    "floor": _elementwise(lambda a: math.floor(a) if isinstance(a, SizeFraction) else a),
    "maximum": _elementwise(max_dim),
    "minimum": _elementwise(min_dim),
    "select": _select,
    "slice": _slice,
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim),
    "squeeze": lambda x, dim: np.squeeze(x, tuple(dim)),
    "view": lambda x, size: x.reshape(tuple(size)),
    "expand": lambda x, size: np.broadcast_to(x, tuple(size)),
    "permute": lambda x, dims: np.transpose(x, dims),
    "cat": lambda tensors, dim=0: np.concatenate(tensors, dim),
    "prod": _reduction(np.prod),
    "sum": _reduction(np.sum),
}
"""Folding functions by ATen's names without overloads."""
