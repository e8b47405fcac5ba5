"""Higher-order operators of PyTorch, whose arguments are graphs: loops and branches.

Each takes the function that interprets a graph, and returns the function of the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from equipoise.convert.core.framework_types import FxGraph, JaxArray

Interpret = Callable[[FxGraph, Sequence[Any]], Any]
Values = Sequence[JaxArray]


def _scan(interpret: Interpret) -> Callable[..., list[JaxArray]]:
    def scan(combine: FxGraph, init: Values, xs: Values, additional: Values = ()) -> list[JaxArray]:
        """``combine`` maps the state and a slice of each sequence to the next state and slices."""
        from jax import lax

        count = len(init)

        def step(state: Values, slices: Values) -> tuple[list[JaxArray], list[JaxArray]]:
            results = interpret(combine, [*state, *slices, *additional])
            return list(results[:count]), list(results[count:])

        state, stacked = lax.scan(step, list(init), list(xs))
        return [*state, *stacked]

    return scan


def _cond(interpret: Interpret) -> Callable[..., Any]:
    def cond(condition: Any, true: FxGraph, false: FxGraph, operands: Values = ()) -> Any:
        from jax import lax

        if isinstance(condition, bool):
            return interpret(true if condition else false, operands)
        return lax.cond(
            condition.reshape(()),
            lambda *args: list(interpret(true, args)),
            lambda *args: list(interpret(false, args)),
            *operands,
        )

    return cond


def _while(interpret: Interpret) -> Callable[..., Any]:
    def while_loop(
        condition: FxGraph, body: FxGraph, carried: Values, additional: Values = ()
    ) -> Any:
        from jax import lax

        return lax.while_loop(
            lambda state: interpret(condition, [*state, *additional]).reshape(()),
            lambda state: list(interpret(body, [*state, *additional])),
            list(carried),
        )

    return while_loop


def _set_grad_enabled(interpret: Interpret) -> Callable[..., Any]:
    def set_grad_enabled(enabled: bool, graph: FxGraph, *operands: JaxArray) -> Any:
        return interpret(graph, operands)

    return set_grad_enabled


def _autocast(interpret: Interpret) -> Callable[..., Any]:
    def autocast(
        device: str, dtype: Any, enabled: bool, cache: Any, graph: FxGraph, *operands: JaxArray
    ) -> Any:
        if enabled:
            raise NotImplementedError("automatic casts")
        return interpret(graph, operands)

    return autocast


HIGHER_ORDER_OPS: dict[str, Callable[[Interpret], Callable[..., Any]]] = {
    "scan": _scan,
    "cond": _cond,
    "while_loop": _while,
    "wrap_with_set_grad_enabled": _set_grad_enabled,
    "wrap_with_autocast": _autocast,
}
"""By PyTorch's names."""
