"""What onnxscript's optimizer takes for nothing, made exact.

It drops ``x + 0`` and ``x * 1``, and counts as zero what is below 1e-8 and as one what is within 1e-5 of it. The
epsilon of a norm is often as small as that: without it the output is off, and nothing says so.
"""

from __future__ import annotations

from typing import Any


def use_exact_elimination_rules() -> None:
    """Has the rules that remove an operation do so only where the constant is exactly zero or one."""
    from onnxscript import rewriter

    for rule in rewriter._DEFAULT_REWRITE_RULES:
        for node in _pattern_nodes(rule):
            for value in node.inputs:
                if getattr(value, "value", None) in (0, 1) and hasattr(value, "_abs_tol"):
                    value._abs_tol = value._rel_tol = 0.0


def _pattern_nodes(rule: Any) -> Any:
    return getattr(getattr(rule, "_target_pattern", None), "_nodes", ())
