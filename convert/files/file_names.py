"""Names of files: sorts them by the numbers in them, and says those of a preset's head."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+")
_MAX_DIGITS = 18

TASK_CONFIG, TASK_WEIGHTS = "task.json", "task.weights.h5"
"""Files of a KerasHub preset that is a task: its config, and the weights of its head."""
TASK_PREFIX = "task/"
"""What stands before the names of a head's variables: both files of weights may use one name."""


def by_number(name: str) -> tuple[tuple[int, ...], str]:
    """Returns a key that sorts names by the numbers in them.

    >>> sorted(["rank_10_mp_00", "rank_9_mp_00"], key=by_number)
    ['rank_9_mp_00', 'rank_10_mp_00']
    """
    return tuple(int(number[:_MAX_DIGITS]) for number in _NUMBER.findall(name)), name
