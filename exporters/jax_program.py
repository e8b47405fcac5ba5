"""Lowered graphs as programs of ``jax.export``, whose weights are an argument in the Flax layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from equipoise.exporters.base import Source
from equipoise.exporters.lowering.equal import identities
from equipoise.exporters.lowering.errors import LoweringError
from equipoise.exporters.lowering.interpret import constant
from equipoise.exporters.lowering.multiples import Written, alike, found_in
from equipoise.exporters.lowering.program import Lowered, graph_of
from equipoise.exporters.lowering.symbols import Specs, described, input_specs, narrow
from equipoise.exporters.weight_layout import WeightLayout, flat, layout_of, nested

PLATFORMS = ("cpu", "cuda", "tpu")
LEAST = "sizes that vary are at least what PyTorch assumed, usually 2"
MOST_EQUAL = 40
"""As many sizes may be stated to be equal."""
WITHIN = "model."
"""Exporters see the model as this attribute of a module that names its inputs."""


@dataclass(frozen=True)
class Graph:
    """A part of a model, or all of it, on the way to a program.

    Attributes:
        lowered: What it computes.
        source: What it was made of.
    """

    lowered: Lowered
    source: Source

    def about(self) -> dict[str, Any]:
        """Its inputs and outputs as the manifest has them."""
        return {**described(self.lowered.program, self.lowered.names, self.source.axes)}


@dataclass(frozen=True)
class Programs:
    """What is written.

    Attributes:
        programs: Of ``jax.export``, as bytes, by role.
        tree: The weights of all of them in the Flax layout, arrays of numpy.
        notes: What there is to know.
    """

    programs: dict[str, bytes]
    tree: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Callee:
    """The function that becomes a program: ``call(weights, inputs)`` gives a dict of outputs."""

    lowered: Lowered
    layout: WeightLayout
    fixed: Mapping[str, Any]

    def __call__(self, weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name, integers of 32 bits; the weights by the layout's names."""
        own = {WITHIN + name: value for name, value in self.layout.to_pytorch(weights).items()}
        found = self.lowered({**self.fixed, **own}, inputs)
        return {name: value.astype(_narrow(value.dtype)) for name, value in found.items()}


def _narrow(dtype: Any) -> Any:
    import torch

    known = getattr(torch, str(dtype), None)
    return dtype if known is None else narrow(known)


def graphs_of(sources: Mapping[str, Source], way: str) -> dict[str, Graph]:
    """The lowered graphs by role, made in one of the two ways into ``torch.export``."""
    return {role: Graph(graph_of(source, way), source) for role, source in sources.items()}


def callees(
    graphs: Mapping[str, Graph], layout: str
) -> tuple[dict[str, Callee], dict[str, Any], str]:
    """The functions by role, the weights that each of them takes first, by the layout's names, and whose names these are.

    Counters, tables and the like, which other frameworks do not keep, are constants of the program.
    """
    every: dict[str, Any] = {}
    for graph in graphs.values():
        every.update(graph.lowered.weights)
    floating = [name.removeprefix(WITHIN) for name, one in every.items() if one.is_floating_point()]
    found = layout_of(next(iter(graphs.values())).source.model, floating, layout)
    kept = {WITHIN + name for rule in found.rules for name in rule.sources}
    arrays = {name: constant(value) for name, value in every.items()}
    weights = {name.removeprefix(WITHIN): one for name, one in arrays.items() if name in kept}
    fixed = {name: one for name, one in arrays.items() if name not in kept}
    made = {role: Callee(graph.lowered, found, fixed) for role, graph in graphs.items()}
    return made, found.from_pytorch(weights), found.origin


def programs_of(graphs: Mapping[str, Graph]) -> Programs:
    """Lowers for all platforms, with the sizes that vary left open, and the weights as one tree of Flax."""
    import jax
    import numpy as np

    made: dict[str, bytes] = {}
    with jax.enable_x64(True):
        calls, weights, origin = callees(graphs, "flax")
        notes = [f"weights in the Flax layout: {origin}"]
        tree = nested(weights)
        shapes = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), tree)
        for role, graph in graphs.items():
            program, sizes = with_sizes(graph, partial(_exported, calls[role], shapes))
            made[role], missing = _bytes(program)
            notes += [*sizes, *missing]
    return Programs(made, jax.tree.map(np.asarray, tree), list(dict.fromkeys(notes)))


def _exported(call: Callee, shapes: Any, specs: Specs) -> Any:
    import jax
    from jax import export

    def whole(tree: Any, inputs: Any) -> Any:
        return call(flat(tree), inputs)

    return export.export(jax.jit(whole), platforms=PLATFORMS)(shapes, specs.shapes)


def _bytes(program: Any) -> tuple[bytes, list[str]]:
    """The program with its gradient, or without one where JAX finds none; and what there is to note."""
    try:
        return bytes(program.serialize(vjp_order=1)), []
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        return bytes(program.serialize()), [f"no gradient: {type(error).__name__}: {reason}"]


def with_sizes(graph: Graph, make: Callable[[Specs], Any]) -> tuple[Any, list[str]]:
    """What ``make`` makes of the inputs' shapes, and what there is to note.

    Where JAX cannot decide a question about sizes, what PyTorch assumed of them (at least 2) is stated. PyTorch may find
    that one batch has to be a multiple of another; if JAX cannot follow that, they are one. Where an operator failed over
    sizes that are always equal, that is stated too, and where it failed over a size that is divided by another, the first
    is written as a multiple.
    """
    equal: list[str] = []
    written: dict[str, Written] = {}
    told: set[str] = set()
    while True:
        try:
            made, notes = _with_sizes(graph, make, equal, written, told)
        except LoweringError as error:
            specs = input_specs(graph.lowered.program, graph.lowered.names, graph.source.axes)
            traced = _traced(specs, graph.source)
            products = found_in(error.sizes, _undecided(error), written, traced)
            if products:
                written |= products
                continue
            more = identities(error.sizes, [*specs.constraints, *equal], traced)
            same = {} if more else alike(error.sizes, written, traced)
            if not (more or same) or len(equal) >= MOST_EQUAL:
                raise
            equal += more
            written |= same
        else:
            notes += [f"sizes: {one}" for one in equal if "==" not in one]
            notes += [
                f"sizes: {name} {said}" for name, one in written.items() if (said := one.said())
            ]
            return made, notes


def _traced(specs: Specs, source: Source) -> dict[str, int]:
    """The sizes that PyTorch was shown, by JAX's names."""
    return {
        str(symbol): size
        for name, shape in specs.shapes.items()
        for symbol, size in zip(shape.shape, source.tensors[name].shape, strict=True)
    }


def _with_sizes(
    graph: Graph,
    make: Callable[[Specs], Any],
    equal: Sequence[str],
    written: Mapping[str, Written],
    told: set[str],
) -> tuple[Any, list[str]]:
    """One attempt; the names of sizes whose least is stated are added to ``told``."""
    source, lowered = graph.source, graph.lowered
    specs = partial(
        input_specs,
        lowered.program,
        lowered.names,
        source.axes,
        empty=source.empty,
        equal=equal,
        written=written,
    )
    while True:
        try:
            least = specs(least=frozenset(told))
            stated = [one for one in least.constraints if ">=" in one and one not in equal]
            return make(least), [f"sizes: {one}" for one in stated]
        except Exception as error:
            question = _undecided(error)
            # Of the sizes that are asked about, and of no others: a batch of one is as good as any.
            more = _names_in(question, specs().constraints, specs(least=True).constraints)
            if more - told:
                told |= more
                continue
            united = specs(least=True, united=True)
            several = str(united.shapes) != str(specs(least=True).shapes)
            if not (question or several):
                raise
            break
    try:
        return make(specs(least=True)), [LEAST]
    except Exception:
        if not several:
            raise
    return make(united), [LEAST, "axes of one name have one size"]


def _undecided(error: BaseException | None) -> str:
    """The question about sizes at the bottom of an error; empty if there is none."""
    from jax.extend.core import InconclusiveDimensionOperation

    while error is not None:
        if isinstance(error, InconclusiveDimensionOperation):
            return str(error).splitlines()[0]
        error = error.__cause__ or error.__context__
    return ""


def _names_in(question: str, stated: Sequence[str], known: Sequence[str]) -> frozenset[str]:
    """The sizes in a question of which there is more to state."""
    named = {one.partition(" ")[0] for one in known if one not in stated}
    return frozenset(named & set(re.findall(r"\w+", question)))
