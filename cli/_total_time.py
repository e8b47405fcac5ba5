"""The total time of a command: when it is over, the command ends as if it were interrupted, and says so."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TotalTimeOver(BaseException):
    """The command took longer than its total time. No handler of errors catches it, only what cleans up runs.

    Args:
        seconds: The total time.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the command took longer than its total time of {seconds:g} s")


def start_timer(seconds: float) -> None:
    """Raises :class:`TotalTimeOver` in the main thread after some seconds, unless :func:`timer_ended` is left before."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TotalTimeOver(seconds)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)


@contextmanager
def timer_ended() -> Iterator[None]:
    """Ends the timer at the end of a command line."""
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
