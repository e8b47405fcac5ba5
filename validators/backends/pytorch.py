"""PyTorch in eager mode: the classes of transformers; in float64 it is the truth that others are held to."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import Any

from equipoise.exporters.kv_cache import cache_argument, cache_of
from equipoise.validators.backends import torch_common
from equipoise.validators.backends.base import Array, captured, named
from equipoise.validators.worker import flatten


def load(folder: str, class_name: str, options: dict[str, Any]) -> Session:
    """The model of a folder, in evaluation mode, with eager attention."""
    import transformers

    torch_common.pin(options)
    dtype = options.get("dtype")
    # The truth has the model's own values (what is computed once stays what float32 gave) and only wider arithmetic.
    loaded = "float32" if wide(options) else dtype
    extra = {"torch_dtype": torch_common.dtype(loaded)} if loaded else {}
    if int(transformers.__version__.split(".")[0]) >= 5 and extra:
        extra = {"dtype": extra["torch_dtype"]}
    cls = getattr(transformers, class_name)
    model, info = cls.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", **extra
    )
    model = model.to(options.get("device") or "cpu").eval()
    if wide(options):
        _one_by_one(model)
    if options.get("jitter") is not None:
        torch_common.jitter(model, int(options["jitter"]))
    return Session(model, info, options, folder)


def wide(options: dict[str, Any]) -> bool:
    """Whether the arithmetic is that of float64."""
    return options.get("dtype") == "float64"


def _one_by_one(model: Any) -> None:
    """Has a mixture's experts computed in a loop: PyTorch's product of all at once knows no float64."""
    if getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("eager")


class Session(torch_common.OnDevice):
    """A module of transformers."""

    def __init__(
        self, model: Any, info: dict[str, Any], options: dict[str, Any], folder: str = ""
    ) -> None:
        self.model = model
        self.device = model.device
        self.info = {key: list(value) for key, value in info.items() if key.endswith("_keys")}
        self.options = options
        self.folder = folder
        self.dtype = torch_common.dtype("float64") if wide(options) else model.dtype
        parameters = inspect.signature(model.forward).parameters
        self.accepts = frozenset(parameters)
        # RAG always returns its outputs by name and takes no such switch.
        asks = "return_dict" in parameters or any(
            one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()
        )
        self.plain: dict[str, Any] = {"return_dict": True} if asks else {}
        self.cache_argument = cache_argument(model)
        self.caches = bool(self.cache_argument) and bool(
            getattr(model.config.get_text_config(decoder=True), "use_cache", False)
        )

    def about(self) -> dict[str, Any]:
        """Device, precision, threads and switches as PyTorch reports them."""
        parameter = next(self.model.parameters(), None)
        return {
            **torch_common.about(parameter.device if parameter is not None else "cpu"),
            "precision": str(self.dtype).removeprefix("torch.") if parameter is not None else "",
            "implementation": f"transformers.{type(self.model).__name__}",
        }

    def run(self, inputs: dict[str, Array], kwargs: dict[str, Any]) -> Any:
        """The outputs by their names."""
        return self._forward(self._tensors(inputs), kwargs)

    def step(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any, order: list[int] | None
    ) -> tuple[Any, Any]:
        """Keeps the cache and what the encoder gave."""
        before = state if order is None or state is None else self._reordered(state, order)
        tensors = {**(before or {}), **self._tensors(inputs)}
        outputs = self._forward(tensors, {**kwargs, "use_cache": True})
        kept = {self.cache_argument: cache_of(outputs)}
        if outputs.get("encoder_last_hidden_state") is not None:
            kept["encoder_outputs"] = (outputs.encoder_last_hidden_state,)
            if "attention_mask" in tensors:
                kept["attention_mask"] = tensors["attention_mask"]
        return outputs, kept

    def _reordered(self, state: dict[str, Any], order: list[int]) -> dict[str, Any]:
        import torch

        rows = torch.tensor(order, device=self.model.device)
        state[self.cache_argument].reorder_cache(rows)
        if "encoder_outputs" in state:
            state["encoder_outputs"] = (state["encoder_outputs"][0].index_select(0, rows),)
        if "attention_mask" in state:
            state["attention_mask"] = state["attention_mask"].index_select(0, rows)
        return state

    def capture(
        self, inputs: dict[str, Array], kwargs: dict[str, Any], state: Any = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Hooks on every module; one that is called again gets ``#2`` behind its path."""
        records: list[dict[str, Any]] = []
        calls: dict[str, int] = {}

        def hook(path: str) -> Any:
            def after(module: Any, args: Any, options: Any, output: Any) -> None:
                calls[path] = calls.get(path, 0) + 1
                again = f"#{calls[path]}" if calls[path] > 1 else ""
                given = {**flatten(list(args)), **flatten(dict(options))}
                result = named(flatten(output))
                records.append(captured(path + again, type(module).__name__, given, result))

            return after

        with ExitStack() as stack:
            for path, module in self.model.named_modules():
                handle = module.register_forward_hook(hook(path), with_kwargs=True)
                stack.callback(handle.remove)
            tensors = {**(state or {}), **self._tensors(inputs)}
            outputs = self._forward(tensors, {**kwargs, "use_cache": True} if state else kwargs)
        return outputs, records

    def names(self) -> dict[str, list[int]]:
        """Shape of every weight by name."""
        return {name: list(value.shape) for name, value in self.model.state_dict().items()}

    def renamed(self) -> dict[str, str]:
        """The file's names of weights that the model calls otherwise (transformers 5 renames some on loading).

        Found by their values: a weight that only the model has is one that only the file has.
        """
        from glob import glob
        from os.path import join

        from safetensors import safe_open

        state = self.model.state_dict()
        found: dict[str, str] = {}
        for file in sorted(glob(join(self.folder, "*.safetensors"))):
            with safe_open(file, "pt") as tensors:
                ours = set(tensors.keys())
                rest = [name for name in state if name not in ours]
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    if name in state or not rest:
                        continue
                    value = tensors.get_tensor(name)
                    same = next((one for one in rest if _same(state[one], value)), None)
                    if same is not None:
                        rest.remove(same)
                        found[name] = same
        return found

    def save(self, folder: str, options: dict[str, Any]) -> None:
        """``save_pretrained``."""
        self.model.save_pretrained(folder, **options)

    def _tensors(self, inputs: dict[str, Array]) -> dict[str, Any]:
        return torch_common.tensors(inputs, self.model.device, self.dtype)

    def _forward(self, tensors: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        with torch_common.arithmetic(self.dtype):
            return self.model(**tensors, **kwargs, **self.plain)


def _same(parameter: Any, value: Any) -> bool:
    """Whether a weight has the values of the file, whose dtype may be another."""
    import torch

    return parameter.shape == value.shape and bool(
        torch.equal(parameter.cpu(), value.to(parameter.dtype))
    )
