"""How the tests of operators run JAX."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compiler() -> Iterator[None]:
    """A program that runs once needs no optimizations: they are two thirds of the time."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
