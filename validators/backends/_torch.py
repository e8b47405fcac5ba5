"""Helpers of the PyTorch backends: numerical switches, tensors, float64 arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from equipoise.convert.core.framework_types import TorchDevice, TorchDtype, TorchTensor
from equipoise.validators.backends.base import Array, BaseSession, Facts, Options, Outputs


class TorchSession(BaseSession):
    """Base class of sessions that run on PyTorch.

    Attributes:
        device: Device of the model.
    """

    device: TorchDevice

    def synchronize(self) -> None:
        """Waits until CUDA has finished all work."""
        synchronize(self.device)

    def peak_bytes(self) -> int:
        """Returns the peak memory of the CUDA device, or of the process on the CPU, in bytes."""
        return peak_bytes(self.device) or super().peak_bytes()


def torch_dtype(name: str) -> TorchDtype:
    """Returns PyTorch's dtype of a name, such as ``torch.float32`` for ``float32``."""
    import torch

    return getattr(torch, name)


def pin_numerics(options: Options) -> None:
    """Sets everything that changes results between runs: threads, TF32, reduced-precision sums, cuDNN's benchmarking."""
    import torch

    torch.set_grad_enabled(False)
    if options.get("threads"):
        torch.set_num_threads(int(options["threads"]))
    tf32 = bool(options.get("tf32"))
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def describe_runtime(device: TorchDevice) -> Facts:
    """Returns the device and the switches of :func:`pin_numerics` as PyTorch reports them."""
    import torch

    kind = torch.device(device)
    return {
        "device": str(kind),
        "hardware": torch.cuda.get_device_name(kind) if kind.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
        "autocast": bool(torch.is_autocast_enabled(kind.type)),
        "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
    }


def to_tensors(
    inputs: dict[str, Array], device: TorchDevice, precision: TorchDtype
) -> dict[str, TorchTensor]:
    """Converts arrays to tensors; floating-point arrays get the model's dtype."""
    import torch

    tensors = {}
    for name, value in inputs.items():
        tensor = torch.from_numpy(value.copy()).to(device)
        tensors[name] = tensor.to(precision) if tensor.is_floating_point() else tensor
    return tensors


def arithmetic_mode(
    precision: TorchDtype, factors: str = "", autocast: str = "", device: str = "cpu"
) -> AbstractContextManager[Any]:
    """Returns a context for the arithmetic of a model.

    Args:
        precision: In ``torch.float64`` everything inside the model is computed; any other dtype changes nothing.
        factors: What the factors of matrix products are rounded to: ``tf32``, ``bfloat16``, or nothing.
        autocast: The dtype of PyTorch's automatic mixed precision, or nothing.
        device: Kind of the device.
    """
    import torch

    if autocast:
        mode: AbstractContextManager[Any] = torch.autocast(device, torch_dtype(autocast))
        return mode
    if factors:
        from equipoise.validators.backends._rounded_factors import rounded_factors_mode

        return rounded_factors_mode(factors)
    if precision != torch.float64:
        return nullcontext()
    from equipoise.validators.backends._float64 import float64_mode

    return float64_mode()


def outputs_by_name(result: Outputs, names: list[str]) -> Outputs:
    """Returns a program's outputs by name: its own names, the given names, or ``output`` for a single tensor."""
    if hasattr(result, "items"):
        return result
    values = list(result) if isinstance(result, (list, tuple)) else [result]
    if len(names) == len(values):
        return dict(zip(names, values, strict=True))
    return {"output": values[0]} if len(values) == 1 else values


def synchronize(device: TorchDevice) -> None:
    """Waits until a CUDA device has finished all work."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: TorchDevice) -> int:
    """Returns the peak memory that PyTorch has allocated on a CUDA device, in bytes; 0 on the CPU."""
    import torch

    kind = torch.device(device)
    return int(torch.cuda.max_memory_allocated(kind)) if kind.type == "cuda" else 0
