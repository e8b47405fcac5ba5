"""Describes the inputs of an exported program: shapes with symbolic sizes for JAX, names of axes for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from equipoise.convert.core.framework_types import (
    ExportedProgram,
    FxNode,
    JaxDtype,
    SympyExpr,
    SympySymbol,
    TorchDtype,
    TorchSize,
)
from equipoise.exporters.lowering.dtypes import to_jax_dtype
from equipoise.exporters.shapes.constraints import to_jax_constraint
from equipoise.exporters.shapes.limits import SizeLimit
from equipoise.exporters.shapes.substitutions import SizeSubstitution
from equipoise.exporters.target import argument_name
from equipoise.exporters.torch_export import input_nodes

LARGEST_FINITE_BOUND = 2**31
"""Bounds of PyTorch beyond this number mean that there is none."""

AxisNames = Mapping[str, Mapping[int, str]]
"""The dynamic axes of each input and their names."""


@dataclass(frozen=True)
class AxisSize:
    """The size of a dynamic axis.

    Attributes:
        name: Name of the size.
        may_be_empty: Whether it may be 0.
        substitution: How the size is written, if not by its name.
    """

    name: str
    may_be_empty: bool = False
    substitution: SizeSubstitution | None = None

    def expression(self, symbol: SympySymbol) -> SympyExpr:
        """Returns what stands for PyTorch's symbol in JAX's notation.

        JAX's own symbols are at least 1, so a size that may be 0 is written as one of them less 1.
        """
        if self.substitution:
            return self.substitution.expression(self.name, symbol)
        kind = type(symbol)
        return kind(f"{self.name}_plus_1") - 1 if self.may_be_empty else kind(self.name)


@dataclass(frozen=True)
class InputSpecs:
    """The inputs of a program in JAX.

    Attributes:
        shapes: ``jax.ShapeDtypeStruct`` of each input by name; integers have 32 bits, as JAX defaults to.
        constraints: Constraints on the symbols in the shapes.
    """

    shapes: dict[str, Any]
    constraints: list[str]


def input_specs(
    program: ExportedProgram,
    names: tuple[str, ...],
    axes: AxisNames,
    *,
    least: bool | frozenset[str] = False,
    united: bool = False,
    empty: frozenset[str] = frozenset(),
    equal: Sequence[str] = (),
    substitutions: Mapping[str, SizeSubstitution] | None = None,
    limits: Sequence[SizeLimit] = (),
) -> InputSpecs:
    """Returns the inputs of an exported program in JAX.

    Args:
        program: The program.
        names: Names of its inputs in their order.
        axes: The dynamic axes and their names.
        least: Sizes for which PyTorch's assumed minimum (usually 2) is stated as a constraint: all, none, or these.
        united: Gives axes of one name one size, even if PyTorch would accept several.
        empty: Names of axes that may have size 0.
        equal: Further constraints, such as equalities of sizes.
        substitutions: Names of sizes -> how they are written instead.
        limits: Limits of the program; those that JAX cannot state are left out.
    """
    import jax
    from jax import export

    nodes = input_nodes(program)
    symbols = {
        symbol: replace(size, substitution=(substitutions or {}).get(size.name))
        for symbol, size in _axis_sizes(nodes, names, axes, empty, united=united).items()
    }
    limit_constraints = [
        to_jax_constraint(limit.condition, _named_symbols(limit.condition, symbols))
        for limit in limits
    ]
    known = [
        *_range_constraints(program, symbols, least=least),
        *(one for one in limit_constraints if one),
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
    limits: Sequence[SizeLimit], program: ExportedProgram, names: tuple[str, ...], axes: AxisNames
) -> list[str]:
    """Returns notes for artifact.json about the limits of a program, with the line of the model that causes each."""
    symbols = _axis_sizes(input_nodes(program), names, axes, frozenset(), united=True)
    notes = []
    for limit in limits:
        named = _named_symbols(limit.condition, symbols)
        text = to_jax_constraint(limit.condition, named) or str(limit.condition.subs(named))
        notes.append(f"sizes: {text} ({limit.place})")
    return list(dict.fromkeys(notes))


def io_signature(
    program: ExportedProgram, names: tuple[str, ...], axes: AxisNames
) -> dict[str, dict[str, Any]]:
    """Returns dtype and dimensions of a program's inputs and outputs by name, as plain data for artifact.json."""
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


def io_dtype(torch_dtype: TorchDtype) -> JaxDtype:
    """Returns JAX's dtype for an input or an output: 32 bits where PyTorch has 64."""
    found = to_jax_dtype(torch_dtype)
    return {"int64": "int32", "float64": "float32", "complex128": "complex64"}.get(
        found.name, found
    )


def _axis_sizes(
    nodes: list[FxNode],
    names: tuple[str, ...],
    axes: AxisNames,
    empty: frozenset[str],
    *,
    united: bool = False,
) -> dict[str, AxisSize]:
    """Returns PyTorch's symbols -> the sizes of the axes that they stand for."""
    found: dict[str, AxisSize] = {}
    for name, node in zip(names, nodes, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            text = str(size)
            if not isinstance(size, int) and text.isidentifier() and text not in found:
                known = axes.get(name, {}).get(axis, f"{name}_{axis}")
                wanted = AxisSize(argument_name(known), known in empty)
                is_taken = wanted in found.values() and not united
                numbered = AxisSize(f"{argument_name(name)}_{axis}", wanted.may_be_empty)
                found[text] = numbered if is_taken else wanted
    # A symbol may occur in multiples only, so that no axis has it as its size.
    sizes = [size for node in nodes for size in node.meta["val"].shape if not isinstance(size, int)]
    for symbol in sorted({str(one) for size in sizes for one in size.node.expr.free_symbols}):
        found.setdefault(symbol, AxisSize(f"part_{len(found)}"))
    return found


def _size_text(size: TorchSize, symbols: Mapping[str, AxisSize]) -> str:
    """Returns a size in JAX's notation for shapes: sums and products without parentheses."""
    if isinstance(size, int):
        return str(size)
    expression = size.node.expr
    return str(expression.subs(_named_symbols(expression, symbols)).expand())


def _named_symbols(
    expression: SympyExpr, symbols: Mapping[str, AxisSize]
) -> dict[SympySymbol, SympyExpr]:
    return {symbol: _named_symbol(symbol, symbols) for symbol in expression.free_symbols}


def _named_symbol(symbol: SympySymbol, symbols: Mapping[str, AxisSize]) -> SympyExpr:
    """Returns a symbol by the name of its axis; one that depends on values of a tensor is called ``picked_...``."""
    known = symbols.get(str(symbol))
    return known.expression(symbol) if known else type(symbol)(f"picked_{symbol}")


def _range_constraints(
    program: ExportedProgram, symbols: Mapping[str, AxisSize], *, least: bool | frozenset[str]
) -> list[str]:
    """Returns the bounds of sizes that PyTorch found."""
    found = []
    for symbol, span in program.range_constraints.items():
        size = symbols.get(str(symbol))
        if size is None:
            continue
        text = str(size.expression(symbol))
        if text.isdigit():
            continue
        lower, upper = (_finite_bound(bound) for bound in (span.lower, span.upper))
        is_wanted = least if isinstance(least, bool) else size.name in least
        # A minimum of 2 is an assumption of PyTorch; a window or a table needs a larger one.
        if lower is not None and (lower > 2 or (is_wanted and lower > 1)) and not size.may_be_empty:
            found.append(f"{text} >= {lower}")
        if upper is not None:
            found.append(f"{text} <= {upper}")
    return found


def _finite_bound(bound: Any) -> int | None:
    value = int(bound) if getattr(bound, "is_Integer", False) else None
    return value if value is not None and abs(value) < LARGEST_FINITE_BOUND else None
