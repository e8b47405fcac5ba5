"""Recurrences as loops of the program: a loop of Python over the tokens is as long as the example for ever."""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

NAME = "mamba_selective_scan"
"""What transformers calls the recurrence of Mamba, in the module of each model that has it."""


def as_scan(model: Any) -> list[str]:
    """Has Mamba's recurrence counted by the program wherever ``torch.export`` looks on; gives what there is to note."""
    places = {type(part).__module__ for part in model.modules()}
    known = [sys.modules[place] for place in sorted(places) if hasattr(sys.modules[place], NAME)]
    for module in known:
        plain = getattr(module, NAME)
        if not hasattr(plain, "of_equipoise"):
            setattr(module, NAME, _exportable(plain))
    return ["under torch.export the recurrence is one scan, its length is free"] if known else []


def _exportable(plain: Any) -> Any:
    """The function itself, but for ``torch.export``."""
    import torch

    @wraps(plain)
    def called(*args: Any, **kwargs: Any) -> Any:
        return (_scan if torch.compiler.is_exporting() else plain)(*args, **kwargs)

    called.of_equipoise = True  # type: ignore[attr-defined]
    return called


def _scan(
    hidden_states: Any,
    dt: Any,
    A: Any,  # noqa: N803 - names of transformers
    B: Any,  # noqa: N803
    C: Any,  # noqa: N803
    D: Any = None,  # noqa: N803
    z: Any = None,
    delta_bias: Any = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    """What transformers computes token by token: ``state = decay * state + update``, read by ``C``."""
    import torch
    from torch._higher_order_ops.scan import scan

    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[..., None]
    if delta_softplus:
        dt = torch.nn.functional.softplus(dt)
    decay = torch.exp(A[None, :, None, :] * dt[..., None])
    update = dt[..., None] * B.transpose(1, 2)[:, None].float() * hidden_states[..., None].float()
    tokens_first = (2, 0, 1, 3)

    def step(state: Any, now: Any) -> Any:
        state = now[0] * state + now[1]
        return state, state.clone()

    steps = (decay.permute(tokens_first), update.permute(tokens_first))
    last, states = scan(step, torch.zeros_like(update[:, :, 0]), steps)
    states = states.permute(1, 0, 2, 3).to(hidden_states.dtype)
    result = torch.matmul(states, C.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    if D is not None:
        result = result + hidden_states * D[None, :, None]
    if z is not None:
        result = result * torch.nn.functional.silu(z)
    return (result, last) if return_last_state else result
