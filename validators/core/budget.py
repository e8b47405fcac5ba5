"""The time that a validation may take: cases are run in the order of what they can find, until it is spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from equipoise.validators.core.types import Batch

REACH = (
    *(
        "batch-cache",
        "batch",
        "long",
        "long-answer",
        "over-power-cache",
        "batch-5",
        "above-power",
        "large",
    ),
    *("cut", "padded", "batch-beam-cache", "turned", "over-power", "below-power", "beam-cache"),
)
"""Cases in the order of what they can find that no case before them finds: first padding and several rows, then sizes and
positions that a trace did not have, then beams. Cases that are not named come last, in their own order."""

REFERENCE_SHARE = 0.2
"""Share of the budget for the reference's own passes: the truth takes about twice as long, noise as long twice, and the
backends follow."""


@dataclass(frozen=True)
class Budget:
    """A time limit for a validation as a whole; the case that is running when it is spent runs to its end.

    Attributes:
        seconds: The limit; None: there is none.
        start: When the validation began, in seconds of the monotonic clock.
    """

    seconds: float | None = None
    start: float = field(default_factory=time.monotonic)

    def is_spent(self, share: float = 1.0) -> bool:
        """Returns whether more than this share of the time is over."""
        if self.seconds is None:
            return False
        return time.monotonic() - self.start > share * self.seconds

    def order(self, batches: Sequence[Batch]) -> list[Batch]:
        """Returns the cases in the order of what they can find; in their own order if there is no limit."""
        if self.seconds is None:
            return list(batches)
        return sorted(batches, key=lambda batch: _rank(batch.case.name))

    def describe(self, left_out: Sequence[str]) -> tuple[str, ...]:
        """Returns a note on the cases that were left out; none if there are none."""
        if not left_out:
            return ()
        return (
            f"the budget of {self.seconds:g} seconds is spent, so these cases were not run: {', '.join(left_out)}",
        )


def _rank(name: str) -> int:
    return REACH.index(name) if name in REACH else len(REACH)
