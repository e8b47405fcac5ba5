"""Loads TensorFlow and Flax checkpoints into PyTorch models: ``from_tf`` and ``from_flax``, which transformers 5 removed.

Needs torch and transformers, which are imported inside the functions. The weights go to transformers as a lazy
state dict whose tensors are read one by one: transformers still handles prefixes, missing keys, ties, buffers and
dtypes, and there is no second copy of the model in memory or on disk.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.convert.architectures.config import Config
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.find_class import find_class
from equipoise.convert.checkpoints.hub import resolve_source
from equipoise.convert.checkpoints.match_notes import UNPROVEN
from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
from equipoise.convert.conversion.plan_types import Step
from equipoise.convert.conversion.planner import plan
from equipoise.convert.conversion.stacks import cut_stack
from equipoise.convert.conversion.transform import check_values, target_arrays
from equipoise.convert.core.arrays import Array
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, InputError
from equipoise.convert.core.hints import install_hint
from equipoise.convert.core.tensor import TensorHeader, TensorRef
from equipoise.convert.folders.weight_files import KINDRED

_MODEL_ARGUMENTS = frozenset(("dtype", "torch_dtype", "quantization_config", "name_or_path"))
"""Arguments of ``from_pretrained`` that a config has attributes for and that are meant for the model."""


def from_pretrained(
    cls: Any,
    source: str | Path,
    *model_args: Any,
    from_tf: bool = False,
    from_flax: bool = False,
    config: Any = None,
    output_loading_info: bool = False,
    **kwargs: Any,
) -> Any:
    """Loads a checkpoint of any framework into a PyTorch model of transformers.

    A folder with PyTorch weights is passed to ``cls.from_pretrained``.

    Args:
        cls: A model class of transformers, or an auto class.
        source: A folder, a weights file, or a name on the Hub.
        *model_args: Passed to the model's class.
        from_tf: Takes TensorFlow's weights; an error if there are none.
        from_flax: Takes Flax's weights; an error if there are none. Without either, the weights that transformers
            prefers are taken, of any framework.
        config: A config, or its path, instead of the one next to the weights.
        output_loading_info: Returns ``(model, info)`` with ``missing_keys``, ``unexpected_keys``,
            ``mismatched_keys`` and ``error_msgs``.
        **kwargs: What ``cls.from_pretrained`` takes, e.g. ``dtype`` and ``ignore_mismatched_sizes``. Code of the folder is
            run with ``trust_remote_code=True`` only.

    Raises:
        InputError: There are no such weights, they are corrupt, or their architecture is unknown.
    """
    _check_libraries()
    kwargs.setdefault(
        "trust_remote_code", False
    )  # without an answer, transformers asks on the terminal
    requested = _requested_layout(from_tf, from_flax)
    path = _local_path(source, kwargs.pop("revision", None), requested) / kwargs.pop(
        "subfolder", ""
    )
    checkpoint = open_checkpoint(path, layout=requested)
    layout = _detect_layout(checkpoint, config)
    if requested is not None and layout not in (requested, *KINDRED.get(requested, ())):
        raise CheckpointError(f"these are not weights of {requested}", file=path, found=layout)
    if output_loading_info:
        kwargs["output_loading_info"] = True
    if layout == "pytorch" and path.is_dir() and checkpoint.is_standard:
        return cls.from_pretrained(str(path), *model_args, config=config, **kwargs)
    config = _load_config_beside(cls, checkpoint, config, kwargs)
    state = state_dict(_with_config(checkpoint, config))
    concrete = _concrete_class(cls, config, trust=kwargs["trust_remote_code"])
    loaded = concrete.from_pretrained(None, *model_args, config=config, state_dict=state, **kwargs)
    model = loaded[0] if output_loading_info else loaded
    model.config.name_or_path = str(path)
    if kwargs.get("generation_config") is None:
        _load_generation_config(model, checkpoint.folder)
    return loaded


def _check_libraries() -> None:
    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            raise InputError(f"from_pretrained needs {library}", hint=install_hint("torch"))


def _requested_layout(from_tf: bool, from_flax: bool) -> str | None:
    if from_tf and from_flax:
        raise InputError("from_tf and from_flax exclude each other")
    if from_tf:
        return "tensorflow"
    return "flax" if from_flax else None


def _local_path(source: str | Path, revision: str | None, layout: str | None) -> Path:
    """Returns the local path of the source; like transformers, ignores the revision of a local path."""
    return resolve_source(source, None if Path(source).exists() else revision, layout=layout)


def _detect_layout(checkpoint: Checkpoint, config: Any) -> str:
    """Returns the layout of the weights: PyTorch if the file declares it, else that of the tensor names.

    A safetensors file without a declaration and of unknown architecture counts as PyTorch's, as in transformers.
    """
    if checkpoint.layout == "pytorch":
        return "pytorch"
    try:
        return find_class(_with_config(checkpoint, config)).layout
    except ArchitectureError:
        if checkpoint.layout is not None:
            raise
        return "pytorch"


def _with_config(checkpoint: Checkpoint, config: Any) -> Checkpoint:
    """Returns the checkpoint with the given config if there is none next to the weights."""
    if checkpoint.config is not None or config is None:
        return checkpoint
    if isinstance(config, (str, Path)):
        path = Path(config)
        return replace(
            checkpoint, config=Config.read(path / "config.json" if path.is_dir() else path)
        )
    return replace(checkpoint, config=Config(config.to_dict()))


def _load_config_beside(
    cls: Any, checkpoint: Checkpoint, config: Any, kwargs: dict[str, Any]
) -> Any:
    """Returns the given config object, or that of the file beside the weights, whatever its repository calls it."""
    own = checkpoint.config
    if config is not None or own is None or not own.edits:
        return _load_config(cls, checkpoint.folder, config, kwargs)
    values = find_class(checkpoint).expansion.config.values
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(values), encoding="utf-8")
        return _load_config(cls, Path(folder), None, kwargs)


def _load_config(cls: Any, folder: Path, config: Any, kwargs: dict[str, Any]) -> Any:
    """Returns the config object; removes the arguments that are meant for it from ``kwargs``."""
    if config is not None and not isinstance(config, (str, Path)):
        return config
    import transformers

    config_class = getattr(cls, "config_class", None) or transformers.AutoConfig
    location = str(config or folder)
    trust = kwargs["trust_remote_code"]
    found = config_class.from_pretrained(location, trust_remote_code=trust)
    own = {name for name in kwargs if hasattr(found, name)} - _MODEL_ARGUMENTS
    changes = {name: kwargs.pop(name) for name in own}
    if not changes:
        return found
    return config_class.from_pretrained(location, trust_remote_code=trust, **changes)


def _concrete_class(cls: Any, config: Any, *, trust: bool) -> Any:
    """Returns the class that an auto class resolves to: auto classes of transformers 4.57 need a model name to load a state dict."""
    if getattr(cls, "config_class", None) is not None:
        return cls
    import torch

    with torch.device("meta"):
        return type(cls.from_config(config, trust_remote_code=trust))


def _load_generation_config(model: Any, folder: Path) -> None:
    """Loads the generation config next to the weights or, in old folders, from the model's config, as transformers does."""
    import transformers

    if not model.can_generate():
        return
    load = transformers.GenerationConfig.from_pretrained
    if (folder / "generation_config.json").is_file():
        model.generation_config = load(str(folder))
    elif (folder / "config.json").is_file():
        model.generation_config = load(str(folder), "config.json", _from_model_config=True)


def state_dict(checkpoint: Checkpoint) -> dict[str, LazyTensor]:
    """Returns the checkpoint's tensors by PyTorch's names; each is read on demand.

    Unknown tensors keep their names, so that transformers reports them as unexpected.

    Raises:
        CoverageError: A tensor's values would be lost in PyTorch's model.
    """
    planned = plan(checkpoint, "pytorch", partial=True, unproven=True)
    for note in planned.notes:
        if note.startswith(UNPROVEN):
            warnings.warn(note, stacklevel=2)
    for check in planned.checks:
        check_values(check, checkpoint.tensors)
    known = {entry.name for entry in planned.coverage if entry.side == "source"}
    steps = list(planned.steps)
    steps += [_copy_step(ref) for name, ref in checkpoint.items() if name not in known]
    return {
        header.name: LazyTensor(checkpoint, step, header)
        for step in steps
        for header in step.targets
    }


def _copy_step(ref: TensorRef) -> Step:
    header = TensorHeader(ref.name, ref.dtype, ref.shape)
    return Step((ref.name,), (), (ref.name,), (ref.name,), (header,))


@dataclass(frozen=True)
class LazyTensor:
    """A lazy tensor in the form that transformers loads.

    Like a slice of safetensors it is read by ``tensor[...]``; transformers 4.57 calls ``to`` instead.

    Attributes:
        checkpoint: The source.
        step: The step that computes it.
        header: Name, dtype and shape.
    """

    checkpoint: Checkpoint
    step: Step
    header: TensorHeader

    @property
    def shape(self) -> Any:
        """As in ``torch.Tensor``."""
        import torch

        return torch.Size(self.header.shape)

    @property
    def dtype(self) -> Any:
        """As in ``torch.Tensor``."""
        import torch

        return getattr(torch, self.header.dtype.name)

    def is_floating_point(self) -> bool:
        """As in ``torch.Tensor``."""
        return bool(self.dtype.is_floating_point)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Reads the tensor and calls ``Tensor.to``."""
        return self._read().to(*args, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def _read(self) -> Any:
        refs = [self.checkpoint[name] for name in self.step.sources]
        parts = cut_stack(self.step, refs, whole_bytes=0)
        part = next((one for one in parts if self.header in one.step.targets), None)
        arrays = part.read() if part is not None else {one.name: one.read() for one in refs}
        for header, array in target_arrays(part.step if part else self.step, arrays):
            if header.name == self.header.name:
                return torch_from_numpy(array)
        raise KeyError(self.header.name)


def torch_from_numpy(array: Array) -> Any:
    """Returns a tensor that shares the array's memory; dtypes of ml_dtypes are passed as their bits."""
    import torch

    if not array.flags.writeable:
        array = array.copy()
    if array.dtype.isbuiltin == 1:  # 1: a dtype of NumPy; 2: a dtype registered by another package
        return torch.from_numpy(array)
    bits = np.dtype(f"uint{8 * array.dtype.itemsize}")
    return torch.from_numpy(array.view(bits)).view(getattr(torch, array.dtype.name))
