"""The coverage of a plan: what became of every tensor, and which problems forbid the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import CoverageError
from equipoise.convert.core.ops import Op


class Status(StrEnum):
    """What became of a tensor."""

    MAPPED = "mapped"
    TIED = "tied"
    COMPUTED = "computed"
    LEFT_OUT = "left out"
    ALLOWED = "allowed"


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
        self.problems: list[str] = []
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
        self.problems.append(
            f"{name!r} cannot be represented: {reason}; --allow '{name}=REASON' converts without it, "
            "--allow-lossy without all such tensors"
        )

    def check_allow_was_used(self) -> None:
        """Records a problem if ``allow`` names tensors and none of them had to be lost: probably a typo."""
        used = any(
            entry.status is Status.ALLOWED and entry.name in self.allow for entry in self.entries
        )
        if self.allow and not used:
            names = ", ".join(list(self.allow)[:4])
            self.problems.append(f"--allow: nothing had to be allowed for {names}")

    def raise_problems(self, message: str, path: Path) -> None:
        """Raises an error that lists all problems, if there are any.

        Raises:
            CoverageError: There are problems.
        """
        if self.problems:
            raise CoverageError(message, self.problems, file=path)
