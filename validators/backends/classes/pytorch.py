"""Runs the PyTorch classes of transformers in eager mode; in float64 this is the truth that backends are compared with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from equipoise.convert.core.framework_types import TorchModel, TorchModule, TorchTensor
from equipoise.exporters.cache_names import cache_argument, cache_of
from equipoise.exporters.load_model import load_pytorch_model_with_info
from equipoise.validators.backends import _torch
from equipoise.validators.backends.base import (
    Array,
    CacheState,
    Facts,
    Kwargs,
    ModuleRecord,
    Options,
    Outputs,
    module_record,
    name_outputs,
)
from equipoise.validators.backends.classes._shared_weights import SharedWeights, share_weights
from equipoise.validators.runtime.worker import flatten


def load(folder: str, class_name: str, options: Options) -> Session:
    """Loads the model of a folder in evaluation mode, with eager attention."""
    _torch.pin_numerics(options)
    dtype = options.get("dtype")
    # The truth has the model's float32 weights and buffers; only the arithmetic is in float64.
    weights_dtype = "float32" if is_float64(options) else dtype
    device = str(options.get("device") or "cpu")

    def load_weights() -> SharedWeights:
        model, info = load_pytorch_model_with_info(folder, class_name, weights_dtype)
        return SharedWeights(model.to(device).eval(), info)

    key = (folder, class_name, weights_dtype, device)
    weights = share_weights(key, load_weights) if options.get("share") else load_weights()
    return Session(weights.model, weights.info, options, folder, weights)


def is_float64(options: Options) -> bool:
    """Checks whether the arithmetic is in float64."""
    return options.get("dtype") == "float64"


class Session(_torch.TorchSession):
    """A session of a PyTorch model of transformers."""

    def __init__(
        self,
        model: TorchModel,
        info: dict[str, Any],
        options: Options,
        folder: str = "",
        weights: SharedWeights | None = None,
    ) -> None:
        self.model = model
        self.weights = weights or SharedWeights(model, info)
        self.device = model.device
        self.info = {key: list(value) for key, value in info.items() if key.endswith("_keys")}
        self.options = options
        self.folder = folder
        self.dtype = _torch.torch_dtype("float64") if is_float64(options) else model.dtype
        parameters = inspect.signature(model.forward).parameters
        self.accepts = frozenset(parameters)
        # RAG always returns its outputs by name and has no such option.
        accepts_return_dict = "return_dict" in parameters or any(
            parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
        )
        self.call_options: dict[str, Any] = {"return_dict": True} if accepts_return_dict else {}
        self.cache_argument = cache_argument(model)
        self.caches = bool(self.cache_argument) and bool(
            getattr(model.config.get_text_config(decoder=True), "use_cache", False)
        )

    def about(self) -> Facts:
        """Describes device, precision, threads and switches as PyTorch reports them."""
        parameter = next(self.model.parameters(), None)
        return {
            **_torch.describe_runtime(parameter.device if parameter is not None else "cpu"),
            "precision": str(self.dtype).removeprefix("torch.") if parameter is not None else "",
            "implementation": f"transformers.{type(self.model).__name__}",
        }

    def run(self, inputs: dict[str, Array], kwargs: Kwargs) -> Outputs:
        """Returns the outputs of one forward pass by name."""
        return self._forward(self._tensors(inputs), kwargs)

    def step(
        self, inputs: dict[str, Array], kwargs: Kwargs, state: CacheState, order: list[int] | None
    ) -> tuple[Outputs, CacheState]:
        """Runs one forward pass and keeps the cache and the encoder's output."""
        previous = state if order is None or state is None else self._reorder_cache(state, order)
        tensors = {**(previous or {}), **self._tensors(inputs)}
        outputs = self._forward(tensors, {**kwargs, "use_cache": True})
        new_state = {self.cache_argument: cache_of(outputs)}
        if outputs.get("encoder_last_hidden_state") is not None:
            new_state["encoder_outputs"] = (outputs.encoder_last_hidden_state,)
            if "attention_mask" in tensors:
                new_state["attention_mask"] = tensors["attention_mask"]
        return outputs, new_state

    def _reorder_cache(self, state: dict[str, Any], order: list[int]) -> dict[str, Any]:
        import torch

        rows = torch.tensor(order, device=self.model.device)
        state[self.cache_argument].reorder_cache(rows)
        if "encoder_outputs" in state:
            state["encoder_outputs"] = (state["encoder_outputs"][0].index_select(0, rows),)
        if "attention_mask" in state:
            state["attention_mask"] = state["attention_mask"].index_select(0, rows)
        return state

    @contextmanager
    def record_modules(self) -> Iterator[list[ModuleRecord]]:
        """Records every module through forward hooks; the second call of a module gets ``#2`` after its path."""
        records: list[ModuleRecord] = []
        calls: dict[str, int] = {}

        def hook(path: str) -> Any:
            def record(module: TorchModule, args: Any, options: Any, output: Outputs) -> None:
                calls[path] = calls.get(path, 0) + 1
                suffix = f"#{calls[path]}" if calls[path] > 1 else ""
                arguments = {**flatten(list(args)), **flatten(dict(options))}
                result = name_outputs(flatten(output))
                records.append(
                    module_record(path + suffix, type(module).__name__, arguments, result)
                )

            return record

        with ExitStack() as stack:
            for path, module in self.model.named_modules():
                handle = module.register_forward_hook(hook(path), with_kwargs=True)
                stack.callback(handle.remove)
            yield records

    def names(self) -> dict[str, list[int]]:
        """Returns the shape of every weight by name."""
        return {name: list(value.shape) for name, value in self.model.state_dict().items()}

    def renamed(self) -> dict[str, str]:
        """Returns the model's name of each weight that has another name in the file (transformers 5 renames some on loading).

        Compares values: a weight that only the model has is matched with one that only the file has.
        """
        from glob import glob
        from os.path import join

        from safetensors import safe_open

        state = self.weights.use().state_dict()
        model_names: dict[str, str] = {}
        for file in sorted(glob(join(self.folder, "*.safetensors"))):
            with safe_open(file, "pt") as tensors:
                file_names = set(tensors.keys())
                unmatched = [name for name in state if name not in file_names]
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    if name in state or not unmatched:
                        continue
                    value = tensors.get_tensor(name)
                    match = next(
                        (
                            candidate
                            for candidate in unmatched
                            if _has_values(state[candidate], value)
                        ),
                        None,
                    )
                    if match is not None:
                        unmatched.remove(match)
                        model_names[name] = match
        return model_names

    def _tensors(self, inputs: dict[str, Array]) -> dict[str, TorchTensor]:
        return _torch.to_tensors(inputs, self.model.device, self.dtype)

    def _forward(self, tensors: dict[str, TorchTensor], kwargs: Kwargs) -> Outputs:
        model = self.weights.use(self.options.get("jitter"), in_float64=is_float64(self.options))
        modes = {name: str(self.options.get(name) or "") for name in ("factors", "autocast")}
        with _torch.arithmetic_mode(self.dtype, **modes, device=self.model.device.type):
            return model(**tensors, **kwargs, **self.call_options)


def _has_values(parameter: TorchTensor, value: TorchTensor) -> bool:
    """Checks whether a weight equals one of the file, whose dtype may differ."""
    import torch

    return parameter.shape == value.shape and bool(
        torch.equal(parameter.cpu(), value.to(parameter.dtype))
    )
