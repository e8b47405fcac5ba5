"""Sorts names of files by the numbers in them."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+")
_MAX_DIGITS = 18


def by_number(name: str) -> tuple[tuple[int, ...], str]:
    """Returns a key that sorts names by the numbers in them.

    >>> sorted(["rank_10_mp_00", "rank_9_mp_00"], key=by_number)
    ['rank_9_mp_00', 'rank_10_mp_00']
    """
    return tuple(int(number[:_MAX_DIGITS]) for number in _NUMBER.findall(name)), name
