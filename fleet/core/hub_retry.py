"""Asks the Hub again where it is busy or silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from equipoise.convert.checkpoints.hub import is_transient, was_answered

T = TypeVar("T")

_LONGEST_WAIT = 900.0


class HubRetry:
    """Makes calls that need the Hub, again while they may work later; several threads may use it.

    A Hub that never answered is not waited for: there may be no network, or none may be meant.

    Args:
        waits: Seconds between the tries where the Hub does not say how long to wait.
        sleep: Waits.
    """

    def __init__(
        self,
        waits: Sequence[float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._waits = waits
        self._sleep = sleep
        self._is_reached = False

    def __call__(self, call: Callable[[], T]) -> T:
        """Returns what a call returns; raises what it raised last."""
        tries = iter(self._waits)
        while True:
            try:
                found = call()
            except Exception as error:
                self._is_reached = self._is_reached or was_answered(error)
                wait = next(tries, None)
                if wait is None or not self._is_reached or not is_transient(error):
                    raise
                self._sleep(_wanted_wait(error, wait))
            else:
                self._is_reached = True
                return found


def _wanted_wait(error: BaseException, wait: float) -> float:
    """Returns how long to wait: what the answer asks for, or the given time."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    retry_after = str(headers.get("Retry-After", ""))
    return min(float(retry_after), _LONGEST_WAIT) if retry_after.isdecimal() else wait
