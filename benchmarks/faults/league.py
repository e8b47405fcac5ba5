"""Counts who notices which faults, and which are located in the right module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faults.corpus import Fault

OUTPUTS_ALONE = "the outputs alone are"
"""Part of the note that no module is beyond noise: right where the fault lies behind the last module."""

EDITS_OF_INPUTS = ("preprocessing", "layout")
"""Classes whose faults are planted between the inputs of a graph and its first module."""


@dataclass(frozen=True)
class Row:
    """A fault and what was said of it.

    Attributes:
        fault: The fault.
        judgement: The fields of :class:`faults.judge.Judgement`, with the expected module under PyTorch's name.
    """

    fault: Fault
    judgement: Mapping[str, Any]

    @property
    def caught(self) -> bool:
        """Whether the validator ends with exit code 1."""
        return bool(self.judgement["code"] == 1)

    @property
    def module(self) -> str:
        """The first module that computes otherwise; empty where it is not one module."""
        return str(self.judgement.get("expected") or self.fault.module)

    @property
    def located(self) -> bool:
        """Whether the validator names the module, its parent or its child, the weight that was changed, or a range that ends there.

        A fault in what a model is given lies before the model: the range that ends where the model begins.
        """
        found = str(self.judgement.get("module", ""))
        notes = " ".join(self.judgement.get("notes", ()))
        if self.fault.kind.startswith("output-") and not found and OUTPUTS_ALONE in notes:
            return True
        modules = {plain_name(one) for one in (self.module, self.fault.module)}
        if (
            self.fault.class_name in EDITS_OF_INPUTS
            and found
            and found == self.judgement.get("before")
        ):
            return True
        ends = (str(self.judgement.get("after", "")), str(self.judgement.get("before", "")))
        places = ends if any(ends) else (found,)
        if any(is_near(place, one) for place in (found, *places) for one in modules):
            return True
        said = " ".join(self.judgement.get("reasons", ())[:1])
        if self.fault.weight and self.fault.weight in said:
            return True
        names = {plain_name(one) for one in self.judgement.get("weights", ())}
        return any(
            name.rpartition(".")[0] in modules or name == plain_name(self.fault.weight)
            for name in names
        )


def is_near(found: str, expected: str) -> bool:
    """Returns whether two paths are the same module, or one is the parent of the other; a list of modules is no module.

    >>> is_near("bert.encoder", "bert.encoder.layer.0")
    True
    >>> is_near("bert.encoder.layer.0", "bert.encoder.layer.1")
    False
    """
    if not found or not expected:
        return False
    found, expected = plain_name(found), plain_name(expected)
    return found == expected or expected in parents(found) or found in parents(expected)


def parents(path: str) -> tuple[str, ...]:
    """Returns the module that holds a module, and the one around it where the first may be a list.

    >>> parents("bert.encoder.layer.0")
    ('bert.encoder.layer', 'bert.encoder')
    """
    parent, _, leaf = path.rpartition(".")
    return (parent, parent.rpartition(".")[0]) if leaf.isdigit() else (parent,)


def plain_name(name: str) -> str:
    """Returns the name of a module or weight without its number of calls and the wrappers around a model.

    The wrappers' name is ``model``, as often as the model's is.

    >>> plain_name("albert.layers.0.ffn#3")
    'albert.layers.0.ffn'
    >>> plain_name("model.model.decoder.layers.0")
    'decoder.layers.0'
    """
    plain = name.replace("/", ".").removeprefix("params.").partition("#")[0]
    while plain.startswith("model."):
        plain = plain.removeprefix("model.")
    return plain


@dataclass(frozen=True)
class Count:
    """Counts over some faults.

    Attributes:
        faults: Their number.
        caught: With exit code 1.
        failed: With exit code 2 or 3.
        missed: With exit code 0.
        with_module: Those that were caught and lie in one module.
        located: Those of them whose module, or weight, is named.
        peers: Criterion -> those that it rejects.
    """

    faults: int
    caught: int
    failed: int
    missed: int
    with_module: int
    located: int
    peers: Mapping[str, int]


def count_rows(rows: Sequence[Row]) -> Count:
    """Returns the counts of some rows."""
    caught = [one for one in rows if one.caught]
    placed = [one for one in caught if one.module]
    names = dict.fromkeys(name for one in rows for name in one.judgement.get("peers", ()))
    return Count(
        faults=len(rows),
        caught=len(caught),
        failed=sum(one.judgement["code"] not in (0, 1) for one in rows),
        missed=sum(one.judgement["code"] == 0 for one in rows),
        with_module=len(placed),
        located=sum(one.located for one in placed),
        peers={
            name: sum(bool(one.judgement.get("peers", {}).get(name)) for one in rows)
            for name in names
        },
    )


def group_rows(rows: Iterable[Row], attribute: str) -> dict[str, list[Row]]:
    """Returns the rows by an attribute of their faults, in the order in which it occurs."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(getattr(row.fault, attribute), []).append(row)
    return found
