"""The account of a plan: what became of every tensor, and what stands against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise.convert.errors import CoverageError
from equipoise.convert.steps import Check, Entry, Status


class Account:
    """Gathers coverage, checks and problems while a plan is made.

    Args:
        allow: Names in the source's files that may be lost -> the reason.
        lossy: Whether whatever the target cannot hold may be lost.
    """

    def __init__(self, allow: Mapping[str, str], *, lossy: bool = False) -> None:
        self.allow = allow
        self.lossy = lossy
        self.lost: list[str] = []
        self.problems: list[str] = []
        self.coverage: list[Entry] = []
        self.checks: list[Check] = []

    def mapped(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Sources become targets."""
        self.coverage += [Entry("source", n, Status.MAPPED, tuple(targets)) for n in sources]
        self.coverage += [Entry("target", n, Status.MAPPED, tuple(sources)) for n in targets]

    def left_out(self, name: str, reason: str) -> None:
        """A tensor of the source that the target does without."""
        self.coverage.append(Entry("source", name, Status.LEFT_OUT, reason=reason))

    def allowed(self, name: str) -> bool:
        """Whether the loss of a tensor of the source is allowed; notes it then."""
        if name not in self.allow:
            return False
        self.coverage.append(Entry("source", name, Status.ALLOWED, reason=self.allow[name]))
        return True

    def refuse(self, stored: str, reason: str) -> None:
        """A tensor that the target cannot hold."""
        if self.allowed(stored):
            return
        if self.lossy:
            self.coverage.append(Entry("source", stored, Status.ALLOWED, reason=reason))
            self.lost.append(f"lost: {stored}: {reason}")
            return
        self.problems.append(
            f"{stored!r} cannot be represented: {reason}; --allow '{stored}=REASON' converts without it, "
            "--allow-lossy without all such tensors"
        )

    def check_allow(self) -> None:
        """An override that overrides nothing is a mistake, most likely in the name."""
        used = any(
            entry.status is Status.ALLOWED and entry.name in self.allow for entry in self.coverage
        )
        if self.allow and not used:
            names = ", ".join(list(self.allow)[:4])
            self.problems.append(f"--allow: nothing had to be allowed for {names}")

    def raise_problems(self, message: str, path: Path) -> None:
        """Ends the plan when something stands against it.

        Raises:
            CoverageError: There are problems.
        """
        if self.problems:
            raise CoverageError(message, self.problems, file=path)
