"""A Runner in this process that calls PyTorch directly, for tests of tasks and generation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.exporters.cache_names import cache_argument, cache_of
from equipoise.validators.core.types import Array, Arrays


class TorchRunner:
    """Runs a transformers model from a folder."""

    caches = True

    def __init__(self, folder: Path, class_name: str) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = getattr(transformers, class_name).from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        )
        self.model.eval()
        self._states: dict[str, Any] = {}
        self._encoded: dict[str, Any] = {}
        self._count = 0

    @property
    def accepts(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.model.forward).parameters)

    def run(self, inputs: Mapping[str, Array], **kwargs: Any) -> Arrays:
        import torch

        with torch.no_grad():
            return _flat(self.model(**_tensors(inputs), **kwargs))

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> tuple[Arrays, str]:
        import torch

        given = _tensors(inputs)
        if state is not None:
            cache = self._states.pop(state)
            if order is not None:
                cache.reorder_cache(torch.tensor(list(order)))
            given[cache_argument(self.model)] = cache
            if state in self._encoded:
                given["encoder_outputs"] = self._encoded.pop(state)
        with torch.no_grad():
            outputs = self.model(**given, **kwargs, use_cache=True)
        self._count += 1
        name = f"state{self._count}"
        self._states[name] = cache_of(outputs)
        if "decoder_input_ids" in given:
            encoded = given.get("encoder_outputs")
            self._encoded[name] = encoded or (outputs.encoder_last_hidden_state,)
        return _flat(outputs), name


def _tensors(inputs: Mapping[str, Array]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}


def _flat(outputs: Any) -> Arrays:
    import torch

    return {
        name: value.numpy() for name, value in outputs.items() if isinstance(value, torch.Tensor)
    }
