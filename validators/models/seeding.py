"""Makes randomised preprocessing deterministic."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Seeds the global random generators of Python and NumPy, and restores their state at the end.

    Some feature extractors use them: CLAP's crops long audio at random, with ``truncation="fusion"`` at three
    positions; Gemma 3n's may add noise. Without a seed, two runs of one model would get different inputs, and stored
    outputs could not be compared.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
