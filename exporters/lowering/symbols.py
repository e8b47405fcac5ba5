"""Inputs of a JAX program whose sizes are free, from those of a program of ``torch.export``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.exporters.base import argument_name


@dataclass(frozen=True)
class Specs:
    """Inputs of a program.

    Attributes:
        shapes: Shape and dtype of each by name; integers are of JAX's own size, 32 bits.
        constraints: What is stated of the symbols in the shapes.
    """

    shapes: dict[str, Any]
    constraints: list[str]


def input_specs(
    program: Any,
    names: tuple[str, ...],
    axes: Mapping[str, Mapping[int, str]],
    *,
    least: bool = False,
) -> Specs:
    """The inputs of a program of ``torch.export``, in JAX.

    Args:
        program: The ``ExportedProgram``.
        names: Of its inputs, in their order.
        axes: Names for the axes that vary.
        least: Also says what PyTorch assumed of the smallest sizes (usually 2), which the program then insists on.
    """
    import jax
    from jax import export

    nodes = _inputs(program)
    symbols = _symbols(nodes, names, axes)
    constraints = _constraints(program, symbols, least=least)
    scope = export.SymbolicScope(constraints)
    specs = {}
    for name, node in zip(names, nodes, strict=True):
        value = node.meta["val"]
        shape = export.symbolic_shape(
            ", ".join(_text(size, symbols) for size in value.shape), scope=scope
        )
        specs[name] = jax.ShapeDtypeStruct(shape, narrow(value.dtype))
    return Specs(specs, constraints)


def narrow(torch_dtype: Any) -> Any:
    """JAX's dtype for an input or an output: 32 bits where PyTorch has 64."""
    from equipoise.exporters.lowering.dtypes import dtype_of

    found = dtype_of(torch_dtype)
    return {"int64": "int32", "float64": "float32", "complex128": "complex64"}.get(
        found.name, found
    )


def _inputs(program: Any) -> list[Any]:
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    specs = program.graph_signature.input_specs
    return [node for node, spec in zip(nodes, specs, strict=True) if spec.kind.name == "USER_INPUT"]


def _symbols(
    nodes: list[Any], names: tuple[str, ...], axes: Mapping[str, Mapping[int, str]]
) -> dict[str, str]:
    """PyTorch's symbols -> the names of the axes that they are the size of."""
    found: dict[str, str] = {}
    for name, node in zip(names, nodes, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            text = str(size)
            if not isinstance(size, int) and text.isidentifier() and text not in found:
                wanted = argument_name(axes.get(name, {}).get(axis, f"{name}_{axis}"))
                found[text] = (
                    wanted if wanted not in found.values() else f"{argument_name(name)}_{axis}"
                )
    # Of some sizes only multiples are sizes of an input.
    sizes = [size for node in nodes for size in node.meta["val"].shape if not isinstance(size, int)]
    for symbol in sorted({str(one) for size in sizes for one in size.node.expr.free_symbols}):
        found.setdefault(symbol, f"part_{len(found)}")
    return found


def _text(size: Any, symbols: Mapping[str, str]) -> str:
    """A size in JAX's notation, which is that of sums and products."""
    if isinstance(size, int):
        return str(size)
    expression = size.node.expr
    names = {symbol: type(symbol)(symbols[str(symbol)]) for symbol in expression.free_symbols}
    return str(expression.subs(names))


def _constraints(program: Any, symbols: Mapping[str, str], *, least: bool) -> list[str]:
    """What PyTorch knows of the sizes."""
    found = []
    for symbol, span in program.range_constraints.items():
        name = symbols.get(str(symbol))
        if name is None:
            continue
        lower, upper = (_number(bound) for bound in (span.lower, span.upper))
        if least and lower is not None and lower > 1:
            found.append(f"{name} >= {lower}")
        if upper is not None:
            found.append(f"{name} <= {upper}")
    return found


def _number(bound: Any) -> int | None:
    """A bound, unless it is as good as none."""
    value = int(bound) if getattr(bound, "is_Integer", False) else None
    return value if value is not None and abs(value) < 2**31 else None
