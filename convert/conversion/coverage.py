"""The coverage of a plan: what became of every tensor, and which problems forbid the plan."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import CoverageError, InputError
from equipoise.convert.core.ops import Op

_MAX_ALIKE = 3
"""Problems of one sentence that are said one by one; more are said once."""


class Status(StrEnum):
    """What became of a tensor."""

    MAPPED = "mapped"
    TIED = "tied"
    COMPUTED = "computed"
    LEFT_OUT = "left out"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True)
class CoverageEntry:
    """What became of one tensor.

    Attributes:
        side: ``source`` or ``target``.
        name: The tensor, as the file of that side names it.
        status: What became of it.
        other: The tensors of the other side that it goes to or comes from.
        reason: Why, where it is not simply mapped.
    """

    side: str
    name: str
    status: Status
    other: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """A condition on the values of a tensor that is not written; checked before anything is written.

    Attributes:
        name: The tensor of the source that is not written.
        other: The tensor of the source that it must equal, or None.
        generator: The generator whose values it must have, or None.
        shape: The shape of those values.
        reason: Why the target does not store the tensor.
        ops: Operations from the stored tensor to PyTorch's form, in which the two are compared.
        other_ops: The same for the other tensor.
    """

    name: str
    other: str | None
    generator: str | None
    shape: Shape
    reason: str
    ops: tuple[Op, ...] = ()
    other_ops: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Why a plan is refused, for one tensor or for all.

    Attributes:
        text: The whole message.
        many: The sentence about many such tensors, to follow their number; problems with the same one are a group.
        example: The tensor, as an example in that sentence.
    """

    text: str
    many: str = ""
    example: str = ""


def summarize_problems(problems: Sequence[Problem]) -> list[str]:
    """Returns what to say about problems: a sentence of many tensors once, with their number and three examples.

    >>> found = [Problem(f"{n!r} is missing", "tensors are missing", repr(n)) for n in "abcde"]
    >>> summarize_problems(found)
    ["5 tensors are missing, e.g. 'a', 'b', 'c'"]
    >>> summarize_problems(found[:2])
    ["'a' is missing", "'b' is missing"]
    """
    groups: dict[str, list[Problem]] = {}
    for index, problem in enumerate(problems):
        groups.setdefault(problem.many or f"{index}", []).append(problem)
    lines = []
    for many, group in groups.items():
        if len(group) <= _MAX_ALIKE:
            lines += [problem.text for problem in group]
        else:
            examples = ", ".join(problem.example for problem in group[:_MAX_ALIKE])
            lines.append(f"{len(group)} {many}, e.g. {examples}")
    return lines


class CoverageLedger:
    """Collects coverage entries, value checks and problems while a plan is made.

    >>> ledger = CoverageLedger({"lm_head.bias": "always zero here"})
    >>> ledger.refuse("lm_head.bias", "flax has no place for it")
    >>> ledger.entries[0].status.value, ledger.entries[0].reason
    ('allowed', 'always zero here')
    >>> ledger.refuse("lm_head.scale", "flax has no place for it")
    >>> len(ledger.problems)
    1

    Args:
        allow: Names in the source's files that may be lost -> the reason.
        lossy: Whether every tensor that the target cannot hold may be lost.
    """

    def __init__(self, allow: Mapping[str, str], *, lossy: bool = False) -> None:
        self.allow = allow
        self.lossy = lossy
        self.losses: list[str] = []
        self.problems: list[Problem] = []
        self.entries: list[CoverageEntry] = []
        self.checks: list[ValueCheck] = []

    def add_mapped(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Records that source tensors become target tensors."""
        self._add("source", sources, Status.MAPPED, other=targets)
        self._add("target", targets, Status.MAPPED, other=sources)

    def add_left_out(self, name: str, reason: str) -> None:
        """Records a tensor of the source that the target does not need."""
        self._add("source", [name], Status.LEFT_OUT, reason)

    def add_tied(self, name: str, stored_as: str, reason: str) -> None:
        """Records a tensor of the source that is stored once, under the name of another."""
        self._add("source", [name], Status.TIED, reason, [stored_as])

    def add_computed(self, target: str, reason: str) -> None:
        """Records a tensor of the target that is computed from the config."""
        self._add("target", [target], Status.COMPUTED, reason)

    def _add(
        self,
        side: str,
        names: Sequence[str],
        status: Status,
        reason: str = "",
        other: Sequence[str] = (),
    ) -> None:
        self.entries += [CoverageEntry(side, name, status, tuple(other), reason) for name in names]

    def record_allowed_loss(self, name: str) -> bool:
        """Records the loss of a source tensor if ``allow`` names it; returns whether it does."""
        if name in self.allow:
            self._add("source", [name], Status.ALLOWED, self.allow[name])
        return name in self.allow

    def refuse(self, name: str, reason: str) -> None:
        """Records a source tensor that the target cannot hold: an allowed loss, or a problem."""
        if self.record_allowed_loss(name):
            return
        if self.lossy:
            self._add("source", [name], Status.ALLOWED, reason)
            self.losses.append(f"lost: {name}: {reason}")
            return
        self.add_problem(
            f"{name!r} cannot be represented: {reason}; --allow '{name}=REASON' converts without it, "
            "--allow-lossy without all such tensors",
            f"tensors cannot be represented: {reason}; --allow-lossy converts without them",
            repr(name),
        )

    def add_problem(self, text: str, many: str = "", example: str = "") -> None:
        """Records a problem that forbids the plan; the arguments are the fields of :class:`Problem`."""
        self.problems.append(Problem(text, many, example))

    def check_allow_was_used(self) -> None:
        """Records a problem if ``allow`` names tensors and none of them had to be lost: probably a typo."""
        used = any(
            entry.status is Status.ALLOWED and entry.name in self.allow for entry in self.entries
        )
        if self.allow and not used:
            names = ", ".join(list(self.allow)[:4])
            self.add_problem(f"--allow: nothing had to be allowed for {names}")

    def raise_problems(self, message: str, path: Path) -> None:
        """Raises an error that lists all problems, if there are any.

        Raises:
            CoverageError: There are problems.
        """
        if self.problems:
            texts = [problem.text for problem in self.problems]
            summary = summarize_problems(self.problems)
            raise CoverageError(message, texts, file=path, summary=summary)


def expand_patterns(
    tensors: Collection[str], allow: Mapping[str, str], file: Path
) -> dict[str, str]:
    """Returns ``allow`` with every pattern replaced by the names that it matches.

    Args:
        tensors: The names of the source's tensors.
        allow: A name, which may contain ``*`` -> the reason.
        file: The source, for messages.

    Raises:
        InputError: A name matches no tensor, or has no reason.
    """
    expanded: dict[str, str] = {}
    for name, reason in allow.items():
        names = [name] if name in tensors else fnmatch.filter(tensors, name)
        if not names:
            raise InputError(
                "allowed to be lost, but there is no such tensor",
                file=file,
                tensor=name,
                hint="name it as the file does; `equipoise inspect --tensors` lists the names",
            )
        if not reason.strip():
            raise InputError("allowed to be lost without a reason", tensor=name)
        expanded.update(dict.fromkeys(names, reason))
    return expanded
