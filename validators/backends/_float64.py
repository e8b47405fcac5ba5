"""Arithmetic in float64 throughout: the truth that precisions are held to."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def float64_mode() -> AbstractContextManager[Any]:
    """Widens every tensor where it is used, and every narrower type that a model's code asks for.

    Models narrow on purpose (norms and rotary positions in float32, ``softmax(dtype=torch.float32)``);
    computed so, the truth would carry the noise that it is there to measure. Weights stay as narrow as they are:
    each is widened for the call that uses it and freed after, so the truth of a large model takes no more memory
    than the model, and the model's code is told that they are wide.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    narrow = {torch.float32, torch.float16, torch.bfloat16}
    reading = {torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.stride}

    def widened(value: Any, *, tensors: bool = True) -> Any:
        """A type or a tensor as float64, in lists too; everything else as it is."""
        if isinstance(value, torch.dtype):
            return torch.float64 if value in narrow else value
        if tensors and isinstance(value, torch.Tensor):
            return value.double() if value.dtype in narrow else value
        if tensors and type(value) in (list, tuple):
            return type(value)(map(widened, value))
        return value

    class Wide(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.Tensor.float:
                return args[0].double()
            given = kwargs or {}
            if getattr(function, "__name__", "") == "__get__":
                return widened(function(*args, **given), tensors=False)
            # What is written to stays what it is, and for a size nothing has to be widened.
            kept = len(args) if function in reading else 1 if _is_in_place(function) else 0
            values = [widened(value, tensors=index >= kept) for index, value in enumerate(args)]
            return function(*values, **{name: widened(value) for name, value in given.items()})

        def __enter__(self) -> Any:
            self.before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)
            return super().__enter__()

        def __exit__(self, *error: object) -> None:
            torch.set_default_dtype(self.before)
            super().__exit__(*error)

    return Wide()


def _is_in_place(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
