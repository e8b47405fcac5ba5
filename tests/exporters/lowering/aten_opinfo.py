"""Records the ATen calls that PyTorch's own operator samples (``op_db``) decompose to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

Call = tuple[str, tuple[Any, ...], dict[str, Any]]

MAX_SAMPLES = 5
"""Largest number of samples of an ``op_db`` entry that are tried for each dtype."""
MAX_ELEMENTS = 600
"""Calls with larger tensors are skipped as redundant, and those in float64, which no model uses."""
MAX_CALLS = {"float32": 1, "int64": 1, "bfloat16": 1}
"""Largest number of different calls of an overload that are kept for each dtype."""
ENTRIES = {
    "_adaptive_avg_pool2d": ("nn.functional.adaptive_avg_pool2d",),
    "_adaptive_avg_pool3d": ("nn.functional.adaptive_avg_pool3d",),
    "_cdist_forward": ("cdist",),
    "_conj": ("conj",),
    "_fft_c2c": ("fft.fft", "fft.ifft", "fft.fftn"),
    "_fft_c2r": ("fft.irfft", "fft.irfftn", "fft.hfft"),
    "_fft_r2c": ("fft.rfft", "fft.rfftn", "fft.ihfft"),
    "_log_softmax": ("log_softmax",),
    "_softmax": ("softmax",),
    "_native_batch_norm_legit.no_stats": ("nn.functional.instance_norm",),
    "_to_copy": ("to", "float"),
    "_upsample_bilinear2d_aa.default": ("_upsample_bilinear2d_aa",),
    "avg_pool2d": ("nn.functional.avg_pool2d",),
    "avg_pool3d": ("nn.functional.avg_pool3d",),
    "constant_pad_nd": ("nn.functional.pad",),
    "convolution": (
        "nn.functional.conv1d",
        "nn.functional.conv2d",
        "nn.functional.conv_transpose1d",
        "nn.functional.conv_transpose2d",
    ),
    "elu": ("nn.functional.elu",),
    "embedding": ("nn.functional.embedding",),
    "gelu": ("nn.functional.gelu",),
    "grid_sampler_2d": ("nn.functional.grid_sample",),
    "hardtanh": ("nn.functional.hardtanh",),
    "index.Tensor": ("__getitem__",),
    "leaky_relu": ("nn.functional.leaky_relu",),
    "linalg_vector_norm": ("linalg.vector_norm",),
    "max_pool2d_with_indices": ("nn.functional.max_pool2d",),
    "max_pool3d_with_indices": ("nn.functional.max_pool3d",),
    "native_group_norm": ("nn.functional.group_norm",),
    "native_layer_norm": ("native_layer_norm",),
    "relu": ("nn.functional.relu",),
    "select.int": ("select",),
    "slice.Tensor": ("slice",),
    "sort.stable": ("sort",),
    # PyTorch says nothing of the places of equal values, of which the samples have many.
    "topk": (),
    "repeat_interleave.Tensor": (),
    "upsample_bilinear2d.default": ("nn.functional.interpolate",),
}
"""Names in the registry -> names of ``op_db`` entries, where they differ."""


@cache
def _entries() -> dict[str, list[Any]]:
    from torch.testing._internal import common_utils
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.opinfo import core

    # For each iterator of samples PyTorch looks through the whole stack, with its source code, for a test of unittest,
    # which takes most of the time here; there is none.
    for module in (common_utils, core):
        module.extract_test_fn = lambda: None

    found: dict[str, list[Any]] = {}
    for entry in op_db:
        found.setdefault(entry.name, []).append(entry)
    return found


def recorded_calls(name: str) -> Iterator[Call]:
    """Returns a few calls of one registered operator for each dtype, no two of the same kind."""
    import torch

    short = name.removeprefix("aten.")
    wanted = ENTRIES.get(short, (short.partition(".")[0],))
    for dtype, limit in MAX_CALLS.items():
        kinds: dict[str, set[Any]] = {}
        for entry in itertools.chain.from_iterable(_entries().get(one, []) for one in wanted):
            kind = getattr(torch, dtype)
            if kind not in entry.dtypes:
                continue
            torch.manual_seed(0)
            samples = entry.sample_inputs("cpu", kind, requires_grad=False)
            for sample in itertools.islice(samples, MAX_SAMPLES):
                for call in _calls(entry, sample):
                    operator = call[0]
                    if operator != name and operator.rpartition(".")[0] != name:
                        continue
                    seen = kinds.setdefault(operator, set())
                    if len(seen) < limit and (own := _kind(call)) not in seen and _small(call):
                        seen.add(own)
                        yield call


def _calls(entry: Any, sample: Any) -> list[Call]:
    """Returns the ATen calls that one sample decomposes to."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    found: list[Call] = []

    def detach(value: Any) -> Any:
        if not torch.is_tensor(value):
            return value
        return value.detach().clone(memory_format=torch.contiguous_format)

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if not func._schema.is_mutable:
                found.append(
                    (str(func), tree_map(detach, tuple(args)), tree_map(detach, kwargs or {}))
                )
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Recorder():
        entry.op(sample.input, *sample.args, **sample.kwargs)
    return found


def _kind(call: Call) -> Any:
    """Returns what distinguishes a call from others: ranks and dtypes of tensors, and all other arguments."""
    import torch
    from torch.utils._pytree import tree_map

    def short(value: Any) -> Any:
        return (value.ndim, value.dtype, value.numel() > 0) if torch.is_tensor(value) else value

    return repr(tree_map(short, call))


def _small(call: Call) -> bool:
    import torch
    from torch.utils._pytree import tree_leaves

    tensors = [one for one in tree_leaves([call[1], call[2]]) if torch.is_tensor(one)]
    return all(one.numel() <= MAX_ELEMENTS and one.dtype != torch.float64 for one in tensors)
