"""Preparation that says the same of the same input, whatever it draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def fixed_seed() -> Iterator[None]:
    """The shared generators of Python and NumPy begin at one seed, and go on afterwards as if nothing had been.

    Some feature extractors draw from them: CLAP's cuts a long sound where chance says, with
    ``truncation="fusion"`` at three places; Gemma 3n's may add noise. Two runs over one model
    would hear different sounds, and a recorded answer could never be met again.
    """
    plain, numbers = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(numbers)
