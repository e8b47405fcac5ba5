"""A fixture that compiles JAX programs of tests without optimizations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compiler() -> Iterator[None]:
    """Disables most optimizations of XLA: a program that runs once spends two thirds of its time in them."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
