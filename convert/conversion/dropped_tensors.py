"""Decides about every tensor that the source stores and the target does not: tied, computed or refused."""

from __future__ import annotations

from equipoise.convert.architectures.expand import Parameter
from equipoise.convert.checkpoints.matching import MatchedCheckpoint
from equipoise.convert.conversion.coverage import CoverageLedger, ValueCheck
from equipoise.convert.core.ops import Op
from equipoise.convert.layouts.base import LayoutView


def stored_parameters(view: LayoutView) -> set[str]:
    """Returns the parameters that a file of the layout holds a tensor for.

    PyTorch may store a tied output layer twice; TensorFlow stores the embedding alone:

    >>> from equipoise.convert.architectures.config import Config
    >>> from equipoise.convert.architectures.expand import expand
    >>> from equipoise.convert.architectures.spec import load_spec
    >>> from equipoise.convert.checkpoints.matching import layout_view
    >>> spec = load_spec("bert")
    >>> bert = expand(spec, spec.classes["ForMaskedLM"], Config({"num_hidden_layers": 1}))
    >>> view = layout_view(bert, "tensorflow")
    >>> view.shared["cls.predictions.decoder.weight"]
    'bert.embeddings.word_embeddings.weight'
    >>> "cls.predictions.decoder.weight" in stored_parameters(view)
    False
    """
    return {name for rule in view.rules for name in rule.sources if not is_omittable(view, name)}


def is_omittable(view: LayoutView, name: str) -> bool:
    """Whether a file of the layout may omit a parameter that it has a name for."""
    return name in view.shared or name in view.left_out


def record_dropped_tensors(
    source: MatchedCheckpoint, layout: str, view: LayoutView, ledger: CoverageLedger
) -> None:
    """Records for every stored tensor that is not written why it is not, or a problem that forbids the plan.

    Args:
        source: The source.
        layout: The target's layout.
        view: The class in that layout.
        ledger: Receives the entries, checks and problems.
    """
    written = stored_parameters(view)
    for name, parameter in source.expansion.parameters.items():
        stored = source.stored_name(name)
        if stored is not None and parameter.is_rebuilt:
            _leave_out(source, stored, parameter, "rebuilt from the config", ledger)
        elif stored is not None and name not in written:
            _drop(source, parameter, stored, layout, view, ledger)
    for name, reason in source.match.ignored.items():
        if not ledger.record_allowed_loss(source.refs[name].name):
            ledger.add_left_out(source.refs[name].name, reason)
    for name, reason in source.checkpoint.left_out.items():
        ledger.add_left_out(name, reason)


def _drop(
    source: MatchedCheckpoint,
    parameter: Parameter,
    stored: str,
    layout: str,
    view: LayoutView,
    ledger: CoverageLedger,
) -> None:
    """Records a parameter that the target has no tensor for."""
    name = parameter.name
    reason = view.refused.get(name)
    origin = _tied_origin(source, name, view)
    twin = source.stored_name(origin) if origin is not None else None
    if reason is not None and not source.shares_bytes(stored, twin):
        ledger.refuse(stored, reason)
    elif origin is not None and twin is not None:
        why = f"{layout} stores {name!r} once with {twin!r}"
        _tie(source, (name, stored), (origin, twin), why, ledger)
    elif name in view.left_out:
        _leave_out(source, stored, parameter, view.left_out[name], ledger)
    elif name not in view.refused:
        ledger.refuse(stored, f"{layout} has no place for it")


def _tied_origin(source: MatchedCheckpoint, name: str, view: LayoutView) -> str | None:
    """Returns the parameter whose source tensor the target uses for one that it shares with another."""
    tied_to = view.shared.get(name)
    while tied_to is not None and tied_to in view.shared:
        tied_to = view.shared[tied_to]
    return source.origin_to_copy(tied_to) if tied_to is not None else None


def _tie(
    source: MatchedCheckpoint,
    own: tuple[str, str],
    twin: tuple[str, str],
    why: str,
    ledger: CoverageLedger,
) -> None:
    """Records that a parameter is stored as its twin; both are pairs of parameter and stored name.

    Where they are not the same bytes, their values are checked to be equal in PyTorch's form.
    """
    (name, stored), (origin, kept) = own, twin
    if ledger.record_allowed_loss(stored):
        return
    ledger.add_tied(stored, kept, f"stored once, as {kept!r}")
    if not source.shares_bytes(stored, kept):
        shape = source.checkpoint[stored].shape
        ops, other_ops = _ops_to_parameter(source, name), _ops_to_parameter(source, origin)
        ledger.checks.append(ValueCheck(stored, kept, None, shape, why, ops, other_ops))


def _ops_to_parameter(source: MatchedCheckpoint, name: str) -> tuple[Op, ...]:
    """Returns the operations from the stored tensor to the parameter in PyTorch's form."""
    rule = source.inverse[name]
    return rule.ops if len(rule.sources) == len(rule.targets) == 1 else ()


def _leave_out(
    source: MatchedCheckpoint,
    stored: str,
    parameter: Parameter,
    reason: str,
    ledger: CoverageLedger,
) -> None:
    """Records a parameter that the target computes; its stored values are checked against the computed ones."""
    if ledger.record_allowed_loss(stored):
        return
    ledger.add_left_out(stored, reason)
    if parameter.computed not in (None, "unused"):
        ops = _ops_to_parameter(source, parameter.name)
        check = ValueCheck(stored, None, parameter.computed, parameter.shape, reason, ops)
        ledger.checks.append(check)
