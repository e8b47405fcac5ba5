"""Searches for the constraints on sizes under which JAX can export a program, weakest restrictions first.

JAX compares sizes by their text and cannot decide some questions about them. Each failed attempt names the sizes over
which it failed, and the next attempt states more about them. For example, a model repeats every second column of its
input, cuts the result to the input's length, and adds it to the input. The number of these columns is
``floordiv(length - 1, 2) + 1`` to one operator and ``floordiv(length + 1, 2)`` to another, and JAX refuses to add them.
The first attempt fails with both sizes; they are found equal at all sampled lengths, so the second attempt states
``floordiv(length + 1, 2) == floordiv(length - 1, 2) + 1`` and succeeds without excluding any length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from equipoise.exporters.lowering.errors import LoweringError
from equipoise.exporters.lowering.program import LoweredProgram
from equipoise.exporters.shapes.identities import find_identities
from equipoise.exporters.shapes.input_specs import (
    InputSpecs,
    input_specs,
    io_signature,
    limit_notes,
)
from equipoise.exporters.shapes.limits import SizeLimit
from equipoise.exporters.shapes.substitutions import (
    SizeSubstitution,
    find_equal_sizes,
    find_multiples,
    freeze_one_length,
    merge,
)
from equipoise.exporters.target import ExportableModel

UNITED_SIZES_NOTE = "axes of one name have one size"
MINIMUM_SIZES_NOTE = "sizes that vary are at least what PyTorch assumed, usually 2"
MAX_EQUALITIES = 40
"""At most this many equalities are stated."""

T = TypeVar("T")


@dataclass(frozen=True)
class LoweredGraph:
    """A model, or one graph of it, between ``torch.export`` and the final program.

    Attributes:
        lowered: What it computes.
        source: The model that it was exported from.
        limits: Limits of the exported program.
    """

    lowered: LoweredProgram
    source: ExportableModel
    limits: tuple[SizeLimit, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Returns inputs and outputs as the manifest lists them."""
        return {**io_signature(self.lowered.program, self.lowered.names, self.source.axes)}

    def specs(self, **settings: Any) -> InputSpecs:
        """Returns the inputs in JAX; settings are those of :func:`input_specs`."""
        program, names = self.lowered.program, self.lowered.names
        return input_specs(program, names, self.source.axes, limits=self.limits, **settings)

    def limit_notes(self) -> list[str]:
        """Returns notes for artifact.json about the limits."""
        return limit_notes(self.limits, self.lowered.program, self.lowered.names, self.source.axes)


@dataclass
class SizeConstraints:
    """What is stated to JAX about the sizes of a graph.

    Attributes:
        graph: The graph.
        equal: Constraints: equalities, and intervals of lengths.
        substitutions: Sizes that are written otherwise than by their names.
        least: Names of sizes whose minimum is stated.
    """

    graph: LoweredGraph
    equal: list[str] = field(default_factory=list)
    substitutions: dict[str, SizeSubstitution] = field(default_factory=dict)
    least: set[str] = field(default_factory=set)

    def specs(self, **settings: Any) -> InputSpecs:
        """Returns the inputs in JAX under these constraints."""
        return self.graph.specs(
            empty=self.graph.source.empty,
            equal=self.equal,
            substitutions=self.substitutions,
            **settings,
        )

    def state_minimum(self, question: str) -> bool:
        """States the minimum of the sizes that a question of JAX is about; returns whether that was new.

        Other sizes keep their minimum of 1, so that a batch of one stays possible.
        """
        candidates = {*self.specs(least=True).constraints} - {*self.specs().constraints}
        named = {one.partition(" ")[0] for one in candidates} & _words(question)
        found = named - self.least
        self.least |= found
        return bool(found)

    def learn(self, error: LoweringError) -> bool:
        """States more about sizes after an operator failed; returns whether there was more to state.

        Five strategies, the weakest restriction first; one that finds something ends the attempt:

        1. write a size that is divided as a product (:func:`find_multiples`);
        2. state what is equal at all lengths (:func:`find_identities`);
        3. state an interval of lengths in which sizes are equal (:func:`find_identities`);
        4. make two sizes one that PyTorch uses for each other (:func:`find_equal_sizes`);
        5. fix one length at that of the example (:func:`freeze_one_length`).
        """
        plain = self.graph.specs()
        traced = _traced_sizes(plain, self.graph.source)
        products = find_multiples(
            error.sizes, _inconclusive_question(error), self.substitutions, traced
        )
        if products:
            self.substitutions |= products
            return True
        more = find_identities(error.sizes, [*plain.constraints, *self.equal], traced)
        if len(self.equal) >= MAX_EQUALITIES:
            return False
        self.equal += more
        same = {} if more else find_equal_sizes(error.sizes, self.substitutions, traced)
        same = same or ({} if more else freeze_one_length(error.sizes, self.substitutions, traced))
        self.substitutions = merge(self.substitutions, same)
        self.equal = [one for one in self.equal if not same.keys() & _words(one)]
        return bool(more or same)

    def notes(self) -> list[str]:
        """Returns notes for artifact.json about what was stated."""
        intervals = [f"sizes: {one}" for one in self.equal if "==" not in one]
        texts = {name: one.describe() for name, one in self.substitutions.items()}
        return [*intervals, *(f"sizes: {name} {text}" for name, text in texts.items() if text)]


def export_with_constraints(
    graph: LoweredGraph, export: Callable[[InputSpecs], T]
) -> tuple[T, list[str]]:
    """Exports a graph, adding constraints on its sizes until JAX succeeds.

    Where JAX cannot decide a question about sizes, PyTorch's assumed minimum (at least 2) is stated. PyTorch may find
    that one batch is a multiple of another; if JAX cannot follow that, the two become one. Where an operator failed
    over sizes, :meth:`SizeConstraints.learn` states more about them.

    Args:
        graph: The graph.
        export: Exports it for these inputs.

    Returns:
        What ``export`` returned, and notes for artifact.json.

    Raises:
        LoweringError: An operator has no counterpart in JAX, or fails over sizes whatever is stated.
    """
    constraints = SizeConstraints(graph)
    while True:
        try:
            program, notes = _try_constraints(constraints, export)
        except LoweringError as error:
            if not constraints.learn(error):
                raise
        else:
            limits = graph.limit_notes()
            covered = {one.partition(" (")[0] for one in limits}
            kept = [one for one in notes if one not in covered]
            return program, [*kept, *constraints.notes(), *limits]


def _try_constraints(
    constraints: SizeConstraints, export: Callable[[InputSpecs], T]
) -> tuple[T, list[str]]:
    """Exports with as few stated minimums as JAX accepts."""
    while True:
        try:
            specs = constraints.specs(least=frozenset(constraints.least))
            bounds = [
                one for one in specs.constraints if ">=" in one and one not in constraints.equal
            ]
            return export(specs), [f"sizes: {one}" for one in bounds]
        except Exception as error:
            question = _inconclusive_question(error)
            if constraints.state_minimum(question):
                continue
            united = partial(constraints.specs, least=True, united=True)
            can_unite = str(united().shapes) != str(constraints.specs(least=True).shapes)
            if not (question or can_unite):
                raise
            break
    attempts = [(constraints.specs(least=True), [MINIMUM_SIZES_NOTE])]
    if can_unite:
        # A batch of one stays possible where equal sizes are all that JAX has to know.
        few = united(least=frozenset(constraints.least))
        attempts += [(few, [UNITED_SIZES_NOTE])]
        attempts += [(united(), [MINIMUM_SIZES_NOTE, UNITED_SIZES_NOTE])]
    while True:
        specs, notes = attempts.pop(0)
        try:
            return export(specs), notes
        except Exception:
            if not attempts:
                raise


def _traced_sizes(specs: InputSpecs, source: ExportableModel) -> dict[str, int]:
    """Returns the sizes of the example by JAX's names."""
    return {
        str(symbol): size
        for name, shape in specs.shapes.items()
        for symbol, size in zip(shape.shape, source.tensors[name].shape, strict=True)
    }


def _inconclusive_question(error: BaseException | None) -> str:
    """Returns the question about sizes that JAX could not decide, from the causes of an error; empty if none."""
    from jax.extend.core import InconclusiveDimensionOperation

    while error is not None:
        if isinstance(error, InconclusiveDimensionOperation):
            return str(error).splitlines()[0]
        error = error.__cause__ or error.__context__
    return ""


def _words(text: str) -> set[str]:
    """Returns the words of a text, some of which are names of sizes."""
    return set(re.findall(r"\w+", text))
