"""Walks a graph of ATen's operators node by node, with arrays of JAX where PyTorch has tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from equipoise.exporters.lowering import python_ops
from equipoise.exporters.lowering.control_flow import HIGHER_ORDER_OPS
from equipoise.exporters.lowering.dtypes import to_jax_dtype
from equipoise.exporters.lowering.errors import DATA_DEPENDENT_SIZE, LoweringError
from equipoise.exporters.lowering.registry import lookup_aten
from equipoise.exporters.lowering.shape_values import fold_constant, fold_node
from equipoise.exporters.lowering.size_fraction import SizeFraction
from equipoise.exporters.shapes.identities import sizes_met, torch_symbols

PLACEMENT_ARGUMENTS = frozenset(
    {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"}
)
"""Arguments that say where and how a tensor lies, not what it holds."""
ORDERED_ROW_OPS = ("aten.index_put", "aten.masked_scatter", "aten.sym_")
"""Operators that take picked rows in order, as many as there are, or ask how many they are."""
ASSERTION_OPS = (
    "aten._assert",
    "aten.sym_constrain_range",
    "aten._functional_assert",
    "aten._functional_sym_constrain",
    "aten._assert_tensor_metadata",
)
"""Operators that only check."""


def interpret(graph_module: Any, values: Sequence[Any]) -> Any:
    """What the graph returns for these values of its inputs, in their order.

    Raises:
        LoweringError: An operator is unknown, or not to be had in JAX.
    """
    environment: dict[Any, Any] = {}
    known: dict[Any, Any] = {}
    picked: set[str] = set()
    given = iter(values)
    inputs = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    symbols = torch_symbols(inputs, values)
    for node in _live_nodes(graph_module.graph):
        if node.op == "placeholder":
            environment[node] = next(given)
            known[node] = fold_constant(environment[node])
        elif node.op == "get_attr":
            environment[node] = _graph_attribute(graph_module, node.target)
            known[node] = fold_constant(environment[node])
        elif node.op == "output":
            return _resolve(node.args[0], environment)
        else:
            _refuse_mixed_rows(node, picked)
            size = _folded_scalar(node, known)
            if size is None:
                environment[node] = _call(node, environment, symbols)
                known[node] = _fold(node, environment, known)
            else:
                environment[node] = size
    raise LoweringError("the graph returns nothing", operator="output", module="")


def _refuse_mixed_rows(node: Any, picked: set[str]) -> None:
    """Rows that a mask has picked are taken in order or each for itself; what mixes them would see the rows beyond.

    Args:
        node: Of the graph.
        picked: PyTorch's symbols for how many rows masks have picked; those of this node are added.

    Raises:
        LoweringError: The node makes something without rows out of the rows.
    """
    name = str(node.target)
    picks = name == "aten.index.Tensor"
    if not picks and (not picked or not name.startswith("aten.")):
        return
    made, met = _shape_symbols(node), set().union(*map(_shape_symbols, node.all_input_nodes))
    if picks:
        picked |= made - met
    # Two masks that pick equally many have two symbols, of which a sum of their rows keeps one.
    elif (
        met & picked
        and not made & picked
        and not name.startswith((*ORDERED_ROW_OPS, *ASSERTION_OPS))
    ):
        raise LoweringError(DATA_DEPENDENT_SIZE, operator=name, module=module_path(node))


def _shape_symbols(node: Any) -> set[str]:
    """PyTorch's symbols in the shapes of a node's tensors."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return {
        str(symbol)
        for one in values
        for size in getattr(one, "shape", ())
        if not isinstance(size, int)
        for symbol in size.node.expr.free_symbols
    }


def _folded_scalar(node: Any, known: Mapping[Any, Any]) -> Any:
    """The size that a node takes out of a tensor, if it is known; None if not, and of other nodes."""
    if str(node.target) != "aten._local_scalar_dense.default":
        return None
    values = known.get(node.args[0])
    return None if values is None else values.item()


def _fold(node: Any, environment: Mapping[Any, Any], known: Mapping[Any, Any]) -> Any:
    """What is known of the tensor that a node makes; None if it is not all known."""
    import torch

    def value(one: Any) -> Any:
        if isinstance(one, torch.fx.Node):
            is_tensor = isinstance(one.meta.get("val"), torch.Tensor)
            return known.get(one) if is_tensor else environment[one]
        return [value(inner) for inner in one] if isinstance(one, (list, tuple)) else one

    return fold_node(node, [value(one) for one in node.args], node.kwargs)


def _live_nodes(graph: Any) -> list[Any]:
    """The nodes that the outputs depend on, in order, and all inputs."""
    wanted: set[Any] = set()
    for node in reversed(graph.nodes):
        if node.op in ("output", "placeholder") or node in wanted:
            wanted.add(node)
            wanted.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in wanted]


def _graph_attribute(graph_module: Any, target: str) -> Any:
    """A graph within the graph, or a constant."""
    import torch

    found: Any = graph_module
    for part in target.split("."):
        found = getattr(found, part)
    return to_jax_array(found) if torch.is_tensor(found) else found


def to_jax_array(tensor: Any) -> Any:
    """A tensor as an array of the same bits, of which it is known what is in it."""
    import jax
    import numpy as np
    import torch
    from jax import numpy as jnp

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        plain = tensor.view(torch.int16).numpy().view(to_jax_dtype(tensor.dtype))
    else:
        plain = np.asarray(tensor.resolve_conj().resolve_neg())
    with jax.ensure_compile_time_eval():
        return jnp.asarray(plain)


def _resolve(value: Any, environment: Mapping[Any, Any]) -> Any:
    """An argument with the values of the nodes in it."""
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


def _call(node: Any, environment: Mapping[Any, Any], symbols: Mapping[str, Any]) -> Any:
    import torch

    name = str(node.target)
    if name.startswith(ASSERTION_OPS):
        return None
    args = _resolve(node.args, environment)
    if isinstance(node.target, torch._ops.OpOverload):
        args = [one.number() if isinstance(one, SizeFraction) else one for one in args]
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


def _lookup(node: Any, name: str) -> Callable[..., Any]:
    import torch

    if isinstance(node.target, torch._ops.HigherOrderOperator):
        found: Callable[..., Any] | None = HIGHER_ORDER_OPS.get(node.target.name())
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


def _check_result(result: Any, node: Any, name: str) -> None:
    """A result has the dtype and the rank that PyTorch foresaw: anything else is an error of the operator's function."""
    import torch

    foreseen = node.meta.get("val")
    pairs = (
        zip(result, foreseen, strict=False)
        if isinstance(foreseen, (list, tuple)) and isinstance(result, (list, tuple))
        else [(result, foreseen)]
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


def module_path(node: Any) -> str:
    """The path of the module that a node came from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""
