"""What the source stores and the target does not: ties, computed tensors, refusals."""

from __future__ import annotations

from equipoise.convert.account import Account
from equipoise.convert.expand import Parameter
from equipoise.convert.layouts import View
from equipoise.convert.source import Source
from equipoise.convert.steps import Check, Entry, Status


def written(view: View) -> set[str]:
    """The parameters that a layout's file holds a tensor for."""
    return {name for rule in view.rules for name in rule.sources if not unneeded(view, name)}


def unneeded(view: View, name: str) -> bool:
    """Whether a layout's file does without a parameter that it could name."""
    return name in view.shared or name in view.left_out


def account_for_unwritten(source: Source, layout: str, view: View, account: Account) -> None:
    """Says of every stored tensor that is not written why not, or refuses the plan.

    Args:
        source: The source.
        layout: The target's layout.
        view: The class in that layout.
        account: Takes the result.
    """
    kept = written(view)
    for name, parameter in source.expansion.parameters.items():
        stored = source.stored_name(name)
        if stored is None or name in kept:
            continue
        reason = view.refused.get(name)
        twin = _twin(source, name, view)
        if reason is not None and not source.identical(stored, twin):
            account.refuse(stored, reason)
        elif twin is not None:
            _tie(source, stored, twin, f"{layout} stores {name!r} once with {twin!r}", account)
        elif name in view.left_out:
            _leave_out(stored, parameter, view.left_out[name], account)
        elif name not in view.refused:
            account.refuse(stored, f"{layout} has no place for it")
    for name, reason in source.match.ignored.items():
        account.left_out(source.refs[name].name, reason)
    for name, reason in source.checkpoint.left_out.items():
        account.left_out(name, reason)


def _twin(source: Source, name: str, view: View) -> str | None:
    """The source's tensor that the target uses for a parameter that it shares with another."""
    repeats = view.shared.get(name)
    while repeats is not None and repeats in view.shared:
        repeats = view.shared[repeats]
    origin = source.origin(repeats) if repeats is not None else None
    return source.stored_name(origin) if origin is not None else None


def _tie(source: Source, stored: str, twin: str, why: str, account: Account) -> None:
    if account.allowed(stored):
        return
    reason = f"stored once, as {twin!r}"
    account.coverage.append(Entry("source", stored, Status.TIED, (twin,), reason))
    if not source.identical(stored, twin):
        shape = source.checkpoint[stored].shape
        account.checks.append(Check(stored, twin, None, shape, why))


def _leave_out(stored: str, parameter: Parameter, reason: str, account: Account) -> None:
    if account.allowed(stored):
        return
    account.left_out(stored, reason)
    if parameter.computed not in (None, "unused"):
        check = Check(stored, None, parameter.computed, parameter.shape, reason)
        account.checks.append(check)
