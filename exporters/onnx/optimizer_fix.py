"""Makes onnxscript's ``x + 0`` and ``x * 1`` elimination exact.

Upstream uses tolerances: it treats constants below 1e-8 as zero and constants within 1e-5 of one as one. The epsilon of
a norm is often that small; without it outputs are wrong, and nothing reports it. Waits for exact rules in onnxscript
(tolerances as of 0.7.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def use_exact_elimination_rules() -> None:
    """Makes the rules that remove an operation require a constant of exactly zero or one."""
    from onnxscript import rewriter

    for rule in rewriter._DEFAULT_REWRITE_RULES:
        for node in _pattern_nodes(rule):
            for value in node.inputs:
                if getattr(value, "value", None) in (0, 1) and hasattr(value, "_abs_tol"):
                    value._abs_tol = value._rel_tol = 0.0


def _pattern_nodes(rule: Any) -> Iterable[Any]:
    nodes: Iterable[Any] = getattr(getattr(rule, "_target_pattern", None), "_nodes", ())
    return nodes
