"""What the source stores and the target does not: ties, computed tensors, refusals."""

from __future__ import annotations

from equipoise.convert.account import Account
from equipoise.convert.expand import Parameter
from equipoise.convert.layouts import View
from equipoise.convert.ops import Op
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
        if stored is not None and parameter.rebuilt:
            _leave_out(source, stored, parameter, "rebuilt from the config", account)
            continue
        if stored is None or name in kept:
            continue
        reason = view.refused.get(name)
        origin = _origin(source, name, view)
        twin = source.stored_name(origin) if origin is not None else None
        if reason is not None and not source.identical(stored, twin):
            account.refuse(stored, reason)
        elif origin is not None and twin is not None:
            why = f"{layout} stores {name!r} once with {twin!r}"
            _tie(source, (name, stored), (origin, twin), why, account)
        elif name in view.left_out:
            _leave_out(source, stored, parameter, view.left_out[name], account)
        elif name not in view.refused:
            account.refuse(stored, f"{layout} has no place for it")
    for name, reason in source.match.ignored.items():
        account.left_out(source.refs[name].name, reason)
    for name, reason in source.checkpoint.left_out.items():
        account.left_out(name, reason)


def _origin(source: Source, name: str, view: View) -> str | None:
    """The parameter whose tensor in the source the target uses for one that it shares with another."""
    repeats = view.shared.get(name)
    while repeats is not None and repeats in view.shared:
        repeats = view.shared[repeats]
    return source.origin(repeats) if repeats is not None else None


def _tie(
    source: Source, own: tuple[str, str], twin: tuple[str, str], why: str, account: Account
) -> None:
    """Checks that a parameter and its twin, each with its stored name, are equal in PyTorch's form."""
    (name, stored), (origin, kept) = own, twin
    if account.allowed(stored):
        return
    reason = f"stored once, as {kept!r}"
    account.coverage.append(Entry("source", stored, Status.TIED, (kept,), reason))
    if not source.identical(stored, kept):
        shape = source.checkpoint[stored].shape
        ops, other_ops = _ops(source, name), _ops(source, origin)
        account.checks.append(Check(stored, kept, None, shape, why, ops, other_ops))


def _ops(source: Source, name: str) -> tuple[Op, ...]:
    """The way from the stored tensor to the parameter in PyTorch's form."""
    rule = source.inverse[name]
    return rule.ops if len(rule.sources) == len(rule.targets) == 1 else ()


def _leave_out(
    source: Source, stored: str, parameter: Parameter, reason: str, account: Account
) -> None:
    if account.allowed(stored):
        return
    account.left_out(stored, reason)
    if parameter.computed not in (None, "unused"):
        ops = _ops(source, parameter.name)
        check = Check(stored, None, parameter.computed, parameter.shape, reason, ops)
        account.checks.append(check)
