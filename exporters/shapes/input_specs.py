"""Inputs of a JAX program whose sizes are free, from those of a program of ``torch.export``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from equipoise.exporters.shapes.branch_check import SizeLimit
from equipoise.exporters.shapes.constraints import to_jax_constraint
from equipoise.exporters.shapes.substitutions import SizeSubstitution
from equipoise.exporters.target import argument_name
from equipoise.exporters.torch_export import input_nodes


@dataclass(frozen=True)
class AxisSize:
    """The size of an axis that varies.

    Attributes:
        name: What it is called.
        empty: Whether it may be 0.
        written: How it is written, if not by its name.
    """

    name: str
    empty: bool = False
    written: SizeSubstitution | None = None

    def expression(self, symbol: Any) -> Any:
        """What stands in JAX's notation for PyTorch's symbol.

        JAX's own symbols are at least 1: what may be 0 is one of them less 1.
        """
        if self.written:
            return self.written.expression(self.name, symbol)
        kind = type(symbol)
        return kind(f"{self.name}_plus_1") - 1 if self.empty else kind(self.name)


@dataclass(frozen=True)
class InputSpecs:
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
    least: bool | frozenset[str] = False,
    united: bool = False,
    empty: frozenset[str] = frozenset(),
    equal: Sequence[str] = (),
    written: Mapping[str, SizeSubstitution] | None = None,
    limits: Sequence[SizeLimit] = (),
) -> InputSpecs:
    """The inputs of a program of ``torch.export``, in JAX.

    Args:
        program: The ``ExportedProgram``.
        names: Of its inputs, in their order.
        axes: Names for the axes that vary.
        least: Also says what PyTorch assumed of the smallest sizes (usually 2), which the program then insists on: of all,
            or of these names.
        united: Axes of one name have one size, even if PyTorch would take several.
        empty: Names of axes that may have the size 0.
        equal: Further constraints: what is equal to what.
        written: Names of axes -> how their sizes are written, if not by the name.
        limits: Sizes beyond which the program is not the model; those that JAX cannot be told are left out.
    """
    import jax
    from jax import export

    nodes = input_nodes(program)
    symbols = {
        symbol: replace(size, written=(written or {}).get(size.name))
        for symbol, size in _axis_sizes(nodes, names, axes, empty, united=united).items()
    }
    stated = [
        to_jax_constraint(one.condition, _named_symbols(one.condition, symbols)) for one in limits
    ]
    known = [
        *_range_constraints(program, symbols, least=least),
        *(one for one in stated if one),
        *equal,
    ]
    constraints = list(dict.fromkeys(known))
    scope = export.SymbolicScope(constraints)
    specs = {}
    for name, node in zip(names, nodes, strict=True):
        value = node.meta["val"]
        shape = export.symbolic_shape(
            ", ".join(_size_text(size, symbols) for size in value.shape), scope=scope
        )
        specs[name] = jax.ShapeDtypeStruct(shape, io_dtype(value.dtype))
    return InputSpecs(specs, constraints)


def limit_notes(
    limits: Sequence[SizeLimit],
    program: Any,
    names: tuple[str, ...],
    axes: Mapping[str, Mapping[int, str]],
) -> list[str]:
    """Limits in words, sizes by the names of their axes, with the place in the model that has another way beyond."""
    symbols = _axis_sizes(input_nodes(program), names, axes, frozenset(), united=True)
    found = []
    for limit in limits:
        named = _named_symbols(limit.condition, symbols)
        text = to_jax_constraint(limit.condition, named) or str(limit.condition.subs(named))
        found.append(f"sizes: {text} ({limit.place})")
    return list(dict.fromkeys(found))


def io_signature(
    program: Any, names: tuple[str, ...], axes: Mapping[str, Mapping[int, str]]
) -> dict[str, dict[str, Any]]:
    """Dtypes and dimensions of a program's inputs and outputs by name, as plain data; axes of one name are one."""
    from torch.utils._pytree import tree_unflatten

    nodes = input_nodes(program)
    symbols = _axis_sizes(nodes, names, axes, frozenset(), united=True)
    returned = zip(
        program.graph.output_node().args[0], program.graph_signature.output_specs, strict=True
    )
    results = [node for node, spec in returned if spec.kind.name == "USER_OUTPUT"]
    sides = {
        "graph_inputs": dict(zip(names, nodes, strict=True)),
        "graph_outputs": tree_unflatten(results, program.call_spec.out_spec),
    }
    return {
        side: {name: _describe_value(node.meta["val"], symbols) for name, node in values.items()}
        for side, values in sides.items()
    }


def _describe_value(value: Any, symbols: Mapping[str, AxisSize]) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else _size_text(size, symbols) for size in value.shape]
    return {"dtype": str(io_dtype(value.dtype)), "shape": shape}


def io_dtype(torch_dtype: Any) -> Any:
    """JAX's dtype for an input or an output: 32 bits where PyTorch has 64."""
    from equipoise.exporters.lowering.dtypes import to_jax_dtype

    found = to_jax_dtype(torch_dtype)
    return {"int64": "int32", "float64": "float32", "complex128": "complex64"}.get(
        found.name, found
    )


def _axis_sizes(
    nodes: list[Any],
    names: tuple[str, ...],
    axes: Mapping[str, Mapping[int, str]],
    empty: frozenset[str],
    *,
    united: bool = False,
) -> dict[str, AxisSize]:
    """PyTorch's symbols -> the names of the axes that they are the size of."""
    found: dict[str, AxisSize] = {}
    for name, node in zip(names, nodes, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            text = str(size)
            if not isinstance(size, int) and text.isidentifier() and text not in found:
                known = axes.get(name, {}).get(axis, f"{name}_{axis}")
                wanted = AxisSize(argument_name(known), known in empty)
                taken = wanted in found.values() and not united
                again = AxisSize(f"{argument_name(name)}_{axis}", wanted.empty)
                found[text] = again if taken else wanted
    # Of some sizes only multiples are sizes of an input.
    sizes = [size for node in nodes for size in node.meta["val"].shape if not isinstance(size, int)]
    for symbol in sorted({str(one) for size in sizes for one in size.node.expr.free_symbols}):
        found.setdefault(symbol, AxisSize(f"part_{len(found)}"))
    return found


def _size_text(size: Any, symbols: Mapping[str, AxisSize]) -> str:
    """A size in JAX's notation, which is that of sums and products, without parentheses."""
    if isinstance(size, int):
        return str(size)
    expression = size.node.expr
    return str(expression.subs(_named_symbols(expression, symbols)).expand())


def _named_symbols(expression: Any, symbols: Mapping[str, AxisSize]) -> dict[Any, Any]:
    return {symbol: _named_symbol(symbol, symbols) for symbol in expression.free_symbols}


def _named_symbol(symbol: Any, symbols: Mapping[str, AxisSize]) -> Any:
    """A symbol by the name of its axis; what only the values of a tensor decide is called ``picked``."""
    known = symbols.get(str(symbol))
    return known.expression(symbol) if known else type(symbol)(f"picked_{symbol}")


def _range_constraints(
    program: Any, symbols: Mapping[str, AxisSize], *, least: bool | frozenset[str]
) -> list[str]:
    """What PyTorch knows of the sizes."""
    found = []
    for symbol, span in program.range_constraints.items():
        size = symbols.get(str(symbol))
        if size is None:
            continue
        text = str(size.expression(symbol))
        if text.isdigit():
            continue
        lower, upper = (_finite_bound(bound) for bound in (span.lower, span.upper))
        told = least if isinstance(least, bool) else size.name in least
        # Of 2 PyTorch assumes it; a larger number a window or a table needs.
        if lower is not None and (lower > 2 or (told and lower > 1)) and not size.empty:
            found.append(f"{text} >= {lower}")
        if upper is not None:
            found.append(f"{text} <= {upper}")
    return found


def _finite_bound(bound: Any) -> int | None:
    """A bound, unless it is as good as none."""
    value = int(bound) if getattr(bound, "is_Integer", False) else None
    return value if value is not None and abs(value) < 2**31 else None
