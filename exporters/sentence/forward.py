"""Adds the modules of a sentence-transformers model (pooling, dense layers, normalization) to its transformer.

A model with them is one graph from tokens to the embedding of the sentence: its outputs are ``last_hidden_state``, from which
the library itself would go on, and ``sentence_embedding``.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from equipoise.convert.core.framework_types import TorchModel, TorchModule, TorchTensor
from equipoise.exporters.sentence.modules import (
    ATTRIBUTE,
    SENTENCE_EMBEDDING,
    SentenceModule,
    default_prompt,
    excludes_prompt,
    pooling_modes,
    read_sentence_modules,
)

HIDDEN_STATE = "last_hidden_state"


def add_sentence_modules(model: TorchModel, folder: Path) -> TorchModel:
    """Gives a model the modules of its folder, in place: its ``forward`` returns the sentence's embedding too.

    Args:
        model: The transformer.
        folder: Its folder.
    """
    import torch
    from transformers.modeling_outputs import ModelOutput

    modules = read_sentence_modules(folder)
    prompt = _prompt_tokens(folder) if excludes_prompt(modules) else 0
    built = torch.nn.ModuleList([_BUILDERS[one.kind](one, prompt) for one in modules])
    cls = type(model)

    def forward(self: TorchModel, *args: Any, **kwargs: Any) -> Any:
        hidden = cls.forward(self, *args, **{**kwargs, "return_dict": True})[HIDDEN_STATE]
        mask = kwargs.get("attention_mask")
        vectors = hidden
        for module in self.sentence_modules:
            vectors = module(vectors, mask)
        return ModelOutput({HIDDEN_STATE: hidden, SENTENCE_EMBEDDING: vectors})

    forward.__signature__ = signature(cls.forward)  # type: ignore[attr-defined]
    model.__class__ = type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})
    setattr(model, ATTRIBUTE, built.to(device=model.device, dtype=model.dtype).eval())
    return model


def _prompt_tokens(folder: Path) -> int:
    """Returns how many tokens a sentence begins with that are those of the prompt, the first special one included."""
    from transformers import AutoTokenizer

    prompt = default_prompt(folder)
    if not prompt:
        return 0
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    ids = tokenizer(prompt)["input_ids"]
    last = (tokenizer.sep_token_id, tokenizer.eos_token_id)
    return len(ids) - (ids[-1] in last)


def _module(
    call: Callable[[TorchTensor, TorchTensor | None], TorchTensor], **parts: Any
) -> TorchModule:
    """Returns a module that computes a function of vectors and mask; ``parts`` are its submodules."""
    import torch

    class SentencePart(torch.nn.Module):  # type: ignore[misc]
        def forward(self, vectors: TorchTensor, mask: TorchTensor | None) -> TorchTensor:
            return call(vectors, mask)

    module = SentencePart()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def _build_pooling(module: SentenceModule, prompt: int) -> TorchModule:
    import torch

    modes = pooling_modes(module)

    def pool(tokens: TorchTensor, mask: TorchTensor | None) -> TorchTensor:
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.int64, device=tokens.device)
        if prompt:
            mask = _without_prompt(mask, prompt)
        return torch.cat([_POOLINGS[mode](tokens, mask) for mode in modes], dim=-1)

    return _module(pool)


def _without_prompt(mask: TorchTensor, prompt: int) -> TorchTensor:
    """Returns a mask without the first tokens of each row that are not padding."""
    import torch

    positions = torch.arange(mask.shape[1], device=mask.device)
    first = _first(mask)[:, None] + prompt
    return mask * (positions[None, :] >= first).to(mask.dtype)


def _first(mask: TorchTensor) -> TorchTensor:
    """Returns the index of the first token of each row."""
    import torch

    return mask.to(torch.int32).argmax(dim=1)


def _weights(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    return mask[:, :, None].to(tokens.dtype)


def _pool_first(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    return _pick(tokens, _first(mask))


def _pick(tokens: TorchTensor, index: TorchTensor) -> TorchTensor:
    """Returns one token of each row."""
    wanted = index.long()[:, None, None].expand(-1, 1, tokens.shape[2])
    return tokens.gather(1, wanted)[:, 0]


def _pool_last(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    import torch

    order = torch.arange(mask.shape[1], device=mask.device, dtype=torch.int32) + 1
    last = (mask.to(torch.int32) * order[None, :]).argmax(dim=1)
    return _pick(tokens * _weights(tokens, mask), last)


def _pool_max(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    return tokens.masked_fill(mask[:, :, None] == 0, float("-inf")).amax(dim=1)


def _pool_mean(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    weights = _weights(tokens, mask)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def _pool_mean_sqrt(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    weights = _weights(tokens, mask)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9).sqrt()


def _pool_weighted(tokens: TorchTensor, mask: TorchTensor) -> TorchTensor:
    import torch

    order = torch.arange(mask.shape[1], device=mask.device) + 1
    return _pool_mean(tokens, mask * order[None, :].to(mask.dtype))


_POOLINGS = {
    "cls": _pool_first,
    "max": _pool_max,
    "mean": _pool_mean,
    "mean_sqrt_len_tokens": _pool_mean_sqrt,
    "weightedmean": _pool_weighted,
    "lasttoken": _pool_last,
}


def _build_dense(module: SentenceModule, prompt: int) -> TorchModule:
    import torch

    settings = module.settings
    linear = torch.nn.Linear(
        settings["in_features"], settings["out_features"], bias=settings.get("bias", True)
    )
    linear.load_state_dict(
        {name.removeprefix("linear."): value for name, value in _load_weights(module).items()}
    )
    name = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    activation = getattr(torch.nn, name)()
    return _module(lambda vectors, mask: activation(linear(vectors)), linear=linear)


def _build_layer_norm(module: SentenceModule, prompt: int) -> TorchModule:
    import torch

    norm = torch.nn.LayerNorm(module.settings["dimension"])
    norm.load_state_dict(
        {name.removeprefix("norm."): value for name, value in _load_weights(module).items()}
    )
    return _module(lambda vectors, mask: norm(vectors), norm=norm)


def _load_weights(module: SentenceModule) -> dict[str, TorchTensor]:
    import torch
    from safetensors.torch import load_file

    path = str(module.weights)
    if path.endswith(".safetensors"):
        return dict(load_file(path))
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _build_normalize(module: SentenceModule, prompt: int) -> TorchModule:
    import torch

    return _module(lambda vectors, mask: torch.nn.functional.normalize(vectors, p=2.0, dim=1))


def _build_nothing(module: SentenceModule, prompt: int) -> TorchModule:
    return _module(lambda vectors, mask: vectors)


_BUILDERS: dict[str, Callable[[SentenceModule, int], TorchModule]] = {
    "Pooling": _build_pooling,
    "Dense": _build_dense,
    "Normalize": _build_normalize,
    "LayerNorm": _build_layer_norm,
    "Dropout": _build_nothing,
}
"""Kinds of modules -> what builds them."""
