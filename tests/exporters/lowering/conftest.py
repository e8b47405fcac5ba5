"""Compiles the JAX programs of this folder's tests without optimizations."""

from __future__ import annotations

from jax_compiler import quick_compiler

__all__ = ["quick_compiler"]
