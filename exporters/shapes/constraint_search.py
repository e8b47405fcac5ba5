"""Programs whose sizes are open: what JAX has to be told of them is found by trying, and each attempt is told more."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from equipoise.exporters.lowering.errors import LoweringError
from equipoise.exporters.lowering.program import LoweredProgram
from equipoise.exporters.shapes.identities import find_identities
from equipoise.exporters.shapes.input_specs import (
    InputSpecs,
    input_specs,
    io_signature,
    limit_notes,
)
from equipoise.exporters.shapes.substitutions import (
    SizeSubstitution,
    find_equal_sizes,
    find_multiples,
    freeze_one_length,
    merge,
)
from equipoise.exporters.target import ExportableModel

MINIMUM_SIZES_NOTE = "sizes that vary are at least what PyTorch assumed, usually 2"
MAX_EQUALITIES = 40
"""As many sizes may be stated to be equal."""


@dataclass(frozen=True)
class LoweredGraph:
    """A part of a model, or all of it, on the way to a program.

    Attributes:
        lowered: What it computes.
        source: What it was made of.
    """

    lowered: LoweredProgram
    source: ExportableModel

    def about(self) -> dict[str, Any]:
        """Its inputs and outputs as the manifest has them."""
        return {**io_signature(self.lowered.program, self.lowered.names, self.source.axes)}

    def specs(self, **more: Any) -> InputSpecs:
        """The inputs in JAX, of which more is told."""
        program, names, limits = self.lowered.program, self.lowered.names, self.lowered.limits
        return input_specs(program, names, self.source.axes, limits=limits, **more)

    def limits(self) -> list[str]:
        """Beyond which sizes it is not the model, in words."""
        found = self.lowered
        return limit_notes(found.limits, found.program, found.names, self.source.axes)


@dataclass
class SizeConstraints:
    """What JAX is told of the sizes of a graph.

    Attributes:
        graph: The graph.
        equal: Constraints: what is equal to what, and between which lengths.
        written: Sizes that are written other than by their names.
        least: Names of sizes of which it is said how small they may be.
    """

    graph: LoweredGraph
    equal: list[str] = field(default_factory=list)
    written: dict[str, SizeSubstitution] = field(default_factory=dict)
    least: set[str] = field(default_factory=set)

    def specs(self, **more: Any) -> InputSpecs:
        """The inputs in JAX."""
        empty = self.graph.source.empty
        return self.graph.specs(empty=empty, equal=self.equal, written=self.written, **more)

    def ask(self, question: str) -> bool:
        """Says how small the sizes may be that a question is about; gives whether there was more to say of them.

        Of those and of no others: a batch of one is as good as any.
        """
        known = {*self.specs(least=True).constraints} - {*self.specs().constraints}
        named = {one.partition(" ")[0] for one in known} & _words(question)
        found = named - self.least
        self.least |= found
        return bool(found)

    def learn(self, error: LoweringError) -> bool:
        """Says more after an operator failed; gives whether there was more to say.

        First sizes that are divided become products, then what is always equal is stated, or what is so around the
        traced lengths, then sizes that PyTorch takes for each other are one, and at last a length is what it was.
        """
        plain = self.graph.specs()
        traced = _traced_sizes(plain, self.graph.source)
        products = find_multiples(error.sizes, _inconclusive_question(error), self.written, traced)
        if products:
            self.written |= products
            return True
        more = find_identities(error.sizes, [*plain.constraints, *self.equal], traced)
        if len(self.equal) >= MAX_EQUALITIES:
            return False
        self.equal += more
        same = {} if more else find_equal_sizes(error.sizes, self.written, traced)
        same = same or ({} if more else freeze_one_length(error.sizes, self.written, traced))
        self.written = merge(self.written, same)
        self.equal = [one for one in self.equal if not same.keys() & _words(one)]
        return bool(more or same)

    def notes(self) -> list[str]:
        """What there is to note."""
        found = [f"sizes: {one}" for one in self.equal if "==" not in one]
        said = {name: one.said() for name, one in self.written.items()}
        return [*found, *(f"sizes: {name} {text}" for name, text in said.items() if text)]


def export_with_constraints(
    graph: LoweredGraph, make: Callable[[InputSpecs], Any]
) -> tuple[Any, list[str]]:
    """What ``make`` makes of the inputs' shapes, and what there is to note.

    Where JAX cannot decide a question about sizes, what PyTorch assumed of them (at least 2) is stated. PyTorch may find
    that one batch has to be a multiple of another; if JAX cannot follow that, they are one. Where an operator failed over
    sizes, more is said of them, see :meth:`SizeConstraints.learn`.
    """
    stated = SizeConstraints(graph)
    while True:
        try:
            made, notes = _try_constraints(stated, make)
        except LoweringError as error:
            if not stated.learn(error):
                raise
        else:
            limits = graph.limits()
            said = {one.partition(" (")[0] for one in limits}
            return made, [*(one for one in notes if one not in said), *stated.notes(), *limits]


def _try_constraints(
    stated: SizeConstraints, make: Callable[[InputSpecs], Any]
) -> tuple[Any, list[str]]:
    """With as little said of the smallest sizes as JAX is content with."""
    while True:
        try:
            specs = stated.specs(least=frozenset(stated.least))
            bounds = [one for one in specs.constraints if ">=" in one and one not in stated.equal]
            return make(specs), [f"sizes: {one}" for one in bounds]
        except Exception as error:
            question = _inconclusive_question(error)
            if stated.ask(question):
                continue
            united = partial(stated.specs, least=True, united=True)
            several = str(united().shapes) != str(stated.specs(least=True).shapes)
            if not (question or several):
                raise
            break
    try:
        return make(stated.specs(least=True)), [MINIMUM_SIZES_NOTE]
    except Exception:
        if not several:
            raise
    return make(united()), [MINIMUM_SIZES_NOTE, "axes of one name have one size"]


def _traced_sizes(specs: InputSpecs, source: ExportableModel) -> dict[str, int]:
    """The sizes that PyTorch was shown, by JAX's names."""
    return {
        str(symbol): size
        for name, shape in specs.shapes.items()
        for symbol, size in zip(shape.shape, source.tensors[name].shape, strict=True)
    }


def _inconclusive_question(error: BaseException | None) -> str:
    """The question about sizes at the bottom of an error; empty if there is none."""
    from jax.extend.core import InconclusiveDimensionOperation

    while error is not None:
        if isinstance(error, InconclusiveDimensionOperation):
            return str(error).splitlines()[0]
        error = error.__cause__ or error.__context__
    return ""


def _words(text: str) -> set[str]:
    """The words of a text, of which some are names of sizes."""
    return set(re.findall(r"\w+", text))
