"""Recurrences written with ``scan``, whose number of steps is dynamic, by the names of the functions that they replace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from equipoise.convert.core.framework_types import TorchDtype, TorchModule, TorchTensor, Unused

TIME_MAJOR_AXES = (1, 0, 2)
"""Permutes (batch, token, feature) to (token, batch, feature), and back."""


def _scan(step: Callable[..., TorchTensor], state: TorchTensor, steps: TorchTensor) -> TorchTensor:
    from torch._higher_order_ops.scan import scan

    return scan(step, state, steps)


def selective_scan(
    hidden_states: TorchTensor,
    dt: TorchTensor,
    A: TorchTensor,  # noqa: N803 - names of transformers
    B: TorchTensor,  # noqa: N803
    C: TorchTensor,  # noqa: N803
    D: TorchTensor = None,  # noqa: N803
    z: TorchTensor = None,
    delta_bias: TorchTensor = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Unused,
) -> TorchTensor:
    """Computes Mamba's recurrence: ``state = decay * state + update``, read out by ``C``."""
    import torch

    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[..., None]
    if delta_softplus:
        dt = torch.nn.functional.softplus(dt)
    decay = torch.exp(A[None, :, None, :] * dt[..., None])
    update = dt[..., None] * B.transpose(1, 2)[:, None].float() * hidden_states[..., None].float()
    tokens_first = (2, 0, 1, 3)

    def step(state: TorchTensor, now: TorchTensor) -> TorchTensor:
        state = now[0] * state + now[1]
        return state, state.clone()

    steps = (decay.permute(tokens_first), update.permute(tokens_first))
    last, states = _scan(step, torch.zeros_like(update[:, :, 0]), steps)
    states = states.permute(1, 0, 2, 3).to(hidden_states.dtype)
    result = torch.matmul(states, C.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    if D is not None:
        result = result + hidden_states * D[None, :, None]
    if z is not None:
        result = result * torch.nn.functional.silu(z)
    return (result, last) if return_last_state else result


def rwkv_linear_attention(
    time_decay: TorchTensor,
    time_first: TorchTensor,
    key: TorchTensor,
    value: TorchTensor,
    state: TorchTensor = None,
    return_state: bool = False,
) -> TorchTensor:
    """Computes RWKV's attention: a quotient of two decaying sums, each scaled by its largest exponent."""
    import torch

    decay = -torch.exp(time_decay)
    nothing = torch.zeros_like(key[:, 0], dtype=torch.float32)
    begun = list(state) if state is not None else [nothing, nothing.clone(), nothing - 1e38]

    def step(state: TorchTensor, now: TorchTensor) -> TorchTensor:
        above, below, largest = state
        key, value = now
        top = torch.maximum(largest, key + time_first)
        old, new = torch.exp(largest - top), torch.exp(key + time_first - top)
        given = (old * above + new * value) / (old * below + new)
        top = torch.maximum(largest + decay, key)
        old, new = torch.exp(largest + decay - top), torch.exp(key - top)
        return [old * above + new * value, old * below + new, top], given

    steps = [key.float().permute(TIME_MAJOR_AXES), value.float().permute(TIME_MAJOR_AXES)]
    last, given = _scan(step, begun, steps)
    output = given.permute(TIME_MAJOR_AXES).to(key.dtype)
    return output, last if return_state or state is not None else state


def gated_linear_rnn(
    _module: TorchModule,
    hidden_states: TorchTensor,
    recurrent_gate: TorchTensor,
    reset: TorchTensor,
    recurrent_states: TorchTensor,
    acc_dtype: TorchDtype = None,
) -> TorchTensor:
    """Computes RecurrentGemma's recurrence: ``state = gate * state + input``."""
    import torch

    dtype = acc_dtype or torch.float32
    gate = (recurrent_gate * ~reset).to(dtype)
    begun = recurrent_states
    if begun is None:
        begun = torch.zeros_like(hidden_states[:, 0], dtype=dtype)

    def step(state: TorchTensor, now: TorchTensor) -> TorchTensor:
        state = now[0] * state + now[1]
        return state, state.clone()

    steps = [gate.permute(TIME_MAJOR_AXES), hidden_states.to(dtype).permute(TIME_MAJOR_AXES)]
    last, states = _scan(step, begun, steps)
    return states.permute(TIME_MAJOR_AXES).to(hidden_states.dtype), last


def lstm_forward(module: TorchModule, x: TorchTensor, state: TorchTensor = None) -> TorchTensor:
    """Computes PyTorch's LSTM layer by layer, without the dropout between layers."""
    import torch

    many = x.ndim == 3
    tokens = x if many else x[:, None]
    tokens = tokens.transpose(0, 1) if module.batch_first and many else tokens
    ways = 2 if module.bidirectional else 1
    if state is None:
        nothing = torch.zeros_like(tokens[0, :, :1])
        begun = nothing.expand(-1, module.hidden_size)
        hidden = cell = [begun] * (module.num_layers * ways)
    else:
        hidden, cell = (list((one if many else one[:, None]).unbind(0)) for one in state)
    ends: list[TorchTensor] = []
    for layer in range(module.num_layers):
        made = [
            _lstm_layer(module, tokens, hidden[at], cell[at], f"l{layer}{suffix}")
            for suffix, at in (("", layer * ways), ("_reverse", layer * ways + 1))[:ways]
        ]
        tokens = torch.cat([one for one, _ in made], -1) if ways > 1 else made[0][0]
        ends += [end for _, end in made]
    last = tuple(torch.stack([end[part] for end in ends]) for part in (0, 1))
    if not many:
        return tokens[:, 0], tuple(one[:, 0] for one in last)
    return tokens.transpose(0, 1) if module.batch_first else tokens, last


def _lstm_layer(
    module: TorchModule, tokens: TorchTensor, hidden: TorchTensor, cell: TorchTensor, name: str
) -> TorchTensor:
    import torch

    weights, own = getattr(module, f"weight_ih_{name}"), getattr(module, f"weight_hh_{name}")
    bias = getattr(module, f"bias_ih_{name}") + getattr(module, f"bias_hh_{name}")
    backwards = name.endswith("_reverse")
    given = torch.nn.functional.linear(tokens.flip(0) if backwards else tokens, weights, bias)

    def step(state: TorchTensor, now: TorchTensor) -> TorchTensor:
        hidden, cell = state
        opened, kept, new, shown = (now + hidden @ own.T).chunk(4, -1)
        cell = torch.sigmoid(kept) * cell + torch.sigmoid(opened) * torch.tanh(new)
        hidden = torch.sigmoid(shown) * torch.tanh(cell)
        return [hidden, cell], hidden.clone()

    last, made = _scan(step, [hidden.clone(), cell.clone()], given)
    return made.flip(0) if backwards else made, last


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mamba_selective_scan": selective_scan,
    "rwkv_linear_attention_cpu": rwkv_linear_attention,
}
"""Replacements of functions, by the names that transformers' modeling modules use."""
METHODS: dict[tuple[str, str], Callable[..., Any]] = {
    ("RecurrentGemmaRglru", "_rnn_scan"): gated_linear_rnn,
    ("LSTM", "forward"): lstm_forward,
}
"""Replacements of methods, by class and name."""
