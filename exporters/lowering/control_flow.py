"""Operators that take graphs: loops and branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _run(graph: Any, values: Any) -> Any:
    from equipoise.exporters.lowering.interpreter import interpret

    return interpret(graph, values)


def _scan(combine: Any, init: Any, xs: Any, additional: Any = ()) -> Any:
    """``combine`` takes the state and one slice of each sequence, and gives the next state and slices."""
    from jax import lax

    count = len(init)

    def step(state: Any, piece: Any) -> Any:
        found = _run(combine, [*state, *piece, *additional])
        return list(found[:count]), list(found[count:])

    state, made = lax.scan(step, list(init), list(xs))
    return [*state, *made]


def _cond(condition: Any, true: Any, false: Any, operands: Any = ()) -> Any:
    from jax import lax

    if isinstance(condition, bool):
        return _run(true if condition else false, operands)
    return lax.cond(
        condition.reshape(()),
        lambda *given: list(_run(true, given)),
        lambda *given: list(_run(false, given)),
        *operands,
    )


def _while(condition: Any, body: Any, carried: Any, additional: Any = ()) -> Any:
    from jax import lax

    return lax.while_loop(
        lambda state: _run(condition, [*state, *additional]).reshape(()),
        lambda state: list(_run(body, [*state, *additional])),
        list(carried),
    )


def _set_grad_enabled(enabled: Any, graph: Any, *operands: Any) -> Any:
    return _run(graph, operands)


def _autocast(device: Any, dtype: Any, enabled: Any, cache: Any, graph: Any, *operands: Any) -> Any:
    if enabled:
        raise NotImplementedError("automatic casts")
    return _run(graph, operands)


HIGHER_ORDER_OPS: dict[str, Callable[..., Any]] = {
    "scan": _scan,
    "cond": _cond,
    "while_loop": _while,
    "wrap_with_set_grad_enabled": _set_grad_enabled,
    "wrap_with_autocast": _autocast,
}
"""By PyTorch's names."""
