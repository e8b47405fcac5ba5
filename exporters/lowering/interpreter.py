"""Interprets a graph of ATen operators node by node, with JAX arrays in place of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from equipoise.convert.core.framework_types import (
    FxArgument,
    FxGraph,
    FxNode,
    JaxArray,
    SymbolicDim,
)
from equipoise.exporters.lowering import python_ops
from equipoise.exporters.lowering.control_flow import HIGHER_ORDER_OPS
from equipoise.exporters.lowering.dtypes import to_jax_array, to_jax_dtype
from equipoise.exporters.lowering.errors import DATA_DEPENDENT_SIZE, LoweringError
from equipoise.exporters.lowering.program import LoweredProgram
from equipoise.exporters.lowering.registry import lookup_aten
from equipoise.exporters.lowering.shape_values import ShapeValues, fold_constant, fold_node
from equipoise.exporters.lowering.size_fraction import SizeFraction
from equipoise.exporters.lowering.torch_dims import sizes_met, torch_symbols

PLACEMENT_ARGUMENTS = frozenset(
    {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"}
)
"""Arguments that say where and how a tensor is stored, not what it holds."""
ORDERED_ROW_OPS = ("aten.index_put", "aten.masked_scatter", "aten.sym_")
"""Operators that read selected rows in order up to their count, or return that count."""
ASSERTION_OPS = (
    "aten._assert",
    "aten.sym_constrain_range",
    "aten._functional_assert",
    "aten._functional_sym_constrain",
    "aten._assert_tensor_metadata",
)
"""Operators that only check something."""

Value = Any
"""A value in the graph: a JAX array, a size, a number, or a list of these."""
Environment = Mapping[FxNode, Value]
"""Nodes -> their values."""


def run_program(
    program: LoweredProgram, weights: Mapping[str, JaxArray], inputs: Mapping[str, Any]
) -> dict[str, JaxArray]:
    """Returns the outputs of a program by name.

    Args:
        program: The program.
        weights: Arrays by the names of its weights.
        inputs: Arrays by name; integers may have any width.

    Raises:
        LoweringError: An operator has no counterpart in JAX.
    """
    values = program.placeholder_values(weights, inputs)
    return program.outputs_by_name(interpret(program.program.graph_module, values))


def interpret(graph_module: FxGraph, values: Sequence[Value]) -> Any:
    """Returns the outputs of a graph for these values of its placeholders, in their order.

    Raises:
        LoweringError: An operator has no counterpart in JAX.
    """
    environment: dict[FxNode, Value] = {}
    folded: dict[FxNode, ShapeValues | None] = {}
    selected: set[str] = set()
    remaining = iter(values)
    inputs = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    symbols = torch_symbols(inputs, values)
    for node in _live_nodes(graph_module.graph):
        if node.op == "placeholder":
            environment[node] = next(remaining)
            folded[node] = fold_constant(environment[node])
        elif node.op == "get_attr":
            environment[node] = _graph_attribute(graph_module, node.target)
            folded[node] = fold_constant(environment[node])
        elif node.op == "output":
            return _resolve(node.args[0], environment)
        else:
            _refuse_mixed_rows(node, selected)
            size = _folded_scalar(node, folded)
            if size is None:
                environment[node] = _call(node, environment, symbols)
                folded[node] = _fold(node, environment, folded)
            else:
                environment[node] = size
    raise LoweringError("the graph returns nothing", operator="output", module="")


def _refuse_mixed_rows(node: FxNode, selected: set[str]) -> None:
    """Rejects operators that reduce over rows selected by a boolean mask: they would include the padding rows.

    The number of selected rows is only known when the program runs, so a selection has as many rows as the mask and
    NaN in those beyond. Reading rows in order, or each on its own, never sees them.

    Args:
        node: The node.
        selected: PyTorch's symbols for numbers of selected rows; those that this node creates are added.

    Raises:
        LoweringError: The node combines the selected rows into something without rows.
    """
    name = str(node.target)
    selects = name == "aten.index.Tensor"
    if not selects and (not selected or not name.startswith("aten.")):
        return
    result = _shape_symbols(node)
    inputs: set[str] = set().union(*map(_shape_symbols, node.all_input_nodes))
    if selects:
        selected |= result - inputs
    # Two masks that select equally many rows have two symbols; a sum of their rows keeps one of them.
    elif (
        inputs & selected
        and not result & selected
        and not name.startswith((*ORDERED_ROW_OPS, *ASSERTION_OPS))
    ):
        raise LoweringError(DATA_DEPENDENT_SIZE, operator=name, module=module_path(node))


def _shape_symbols(node: FxNode) -> set[str]:
    """Returns PyTorch's symbols in the shapes of a node's tensors."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return {
        str(symbol)
        for one in values
        for size in getattr(one, "shape", ())
        if not isinstance(size, int)
        for symbol in size.node.expr.free_symbols
    }


def _folded_scalar(node: FxNode, folded: Mapping[FxNode, ShapeValues | None]) -> Any:
    """Returns the size that ``Tensor.item`` takes out of a folded tensor; None for all other nodes."""
    if str(node.target) != "aten._local_scalar_dense.default":
        return None
    values = folded.get(node.args[0])
    return None if values is None else values.item()


def _fold(
    node: FxNode, environment: Environment, folded: Mapping[FxNode, ShapeValues | None]
) -> ShapeValues | None:
    """Constant-folds a node; None if not all of its inputs are known."""
    import torch

    def value(one: FxArgument) -> Any:
        if isinstance(one, torch.fx.Node):
            is_tensor = isinstance(one.meta.get("val"), torch.Tensor)
            return folded.get(one) if is_tensor else environment[one]
        return [value(inner) for inner in one] if isinstance(one, (list, tuple)) else one

    return fold_node(node, [value(one) for one in node.args], node.kwargs)


def _live_nodes(graph: FxGraph) -> list[FxNode]:
    """Returns all placeholders and the nodes that the outputs depend on, in order."""
    wanted: set[FxNode] = set()
    for node in reversed(graph.nodes):
        if node.op in ("output", "placeholder") or node in wanted:
            wanted.add(node)
            wanted.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in wanted]


def _graph_attribute(graph_module: FxGraph, target: str) -> Any:
    """Returns a subgraph, or a constant as an array."""
    import torch

    found = graph_module
    for part in target.split("."):
        found = getattr(found, part)
    return to_jax_array(found) if torch.is_tensor(found) else found


def _resolve(value: FxArgument, environment: Environment) -> Any:
    """Replaces the nodes in an argument by their values, and dtypes by JAX's."""
    import torch

    if isinstance(value, torch.fx.Node):
        return environment[value]
    if isinstance(value, (list, tuple)):
        return [_resolve(one, environment) for one in value]
    if isinstance(value, slice):
        return slice(*(_resolve(one, environment) for one in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {name: _resolve(one, environment) for name, one in value.items()}
    return to_jax_dtype(value) if isinstance(value, torch.dtype) else value


def _call(node: FxNode, environment: Environment, symbols: Mapping[str, SymbolicDim]) -> Value:
    """Calls the JAX function of a node's operator."""
    import torch

    name = str(node.target)
    if name.startswith(ASSERTION_OPS):
        return None
    args = _resolve(node.args, environment)
    if isinstance(node.target, torch._ops.OpOverload):
        args = [one.to_array() if isinstance(one, SizeFraction) else one for one in args]
    kwargs = {
        key: _resolve(value, environment)
        for key, value in node.kwargs.items()
        if key not in PLACEMENT_ARGUMENTS
    }
    try:
        result = _lookup(node, name)(*args, **kwargs)
    except LoweringError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        sizes = sizes_met(node, args, symbols)
        raise LoweringError(text, operator=name, module=module_path(node), sizes=sizes) from error
    _check_result(result, node, name)
    return result


def _lookup(node: FxNode, name: str) -> Callable[..., Value]:
    """Returns the JAX function of a node's operator.

    Raises:
        LoweringError: There is none.
    """
    import torch

    found: Callable[..., Value] | None
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        higher_order = HIGHER_ORDER_OPS.get(node.target.name())
        found = None if higher_order is None else higher_order(interpret)
    elif isinstance(node.target, torch._ops.OpOverload):
        found = python_ops.SHAPE_OPS.get(name) or lookup_aten(name)
    else:
        found = python_ops.lookup_python(node.target)
    if found is None:
        raise LoweringError(
            "no such operator is known",
            operator=name,
            module=module_path(node),
            hint="add it to a file of exporters/lowering/ops",
        )
    return found


def _check_result(result: Value, node: FxNode, name: str) -> None:
    """Checks that a result has the dtype and the rank that PyTorch predicts.

    Raises:
        LoweringError: It has not, so the operator's function is wrong.
    """
    import torch

    predicted = node.meta.get("val")
    pairs = (
        zip(result, predicted, strict=False)
        if isinstance(predicted, (list, tuple)) and isinstance(result, (list, tuple))
        else [(result, predicted)]
    )
    for value, wanted in pairs:
        if not isinstance(wanted, torch.Tensor) or not hasattr(value, "dtype"):
            continue
        if value.dtype != to_jax_dtype(wanted.dtype) or value.ndim != wanted.ndim:
            raise LoweringError(
                f"gave {value.dtype} with {value.ndim} axes, PyTorch gives {wanted.dtype} with {wanted.ndim}",
                operator=name,
                module=module_path(node),
                hint="its function in exporters/lowering/ops is wrong",
            )


def module_path(node: FxNode) -> str:
    """Returns the path of the module that a node came from; empty if it is not known."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""
