"""A PyTorch mode that computes everything in float64. Its results are the truth that precisions are compared with."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def float64_mode() -> AbstractContextManager[Any]:
    """Returns a context that converts tensors to float64 where they are used, and dtypes in the model's code too.

    Some models compute in a lower precision on purpose (norms and rotary embeddings in float32,
    ``softmax(dtype=torch.float32)``). The truth would then contain the noise that it is there to measure. The weights
    keep their dtype: each is converted for the call that uses it and freed afterwards, so that the truth of a large
    model needs no more memory than the model. Code that asks for the dtype of a weight gets float64.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    narrow_dtypes = {torch.float32, torch.float16, torch.bfloat16}
    metadata_functions = {
        torch.Tensor.size,
        torch.Tensor.dim,
        torch.Tensor.numel,
        torch.Tensor.stride,
    }

    def widen(value: Any, *, tensors: bool = True) -> Any:
        """Returns a dtype or a tensor as float64, also in lists; everything else is returned unchanged."""
        if isinstance(value, torch.dtype):
            return torch.float64 if value in narrow_dtypes else value
        if tensors and isinstance(value, torch.Tensor):
            return value.double() if value.dtype in narrow_dtypes else value
        if tensors and type(value) in (list, tuple):
            return type(value)(map(widen, value))
        return value

    class Float64Mode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.Tensor.float:
                return args[0].double()
            options = kwargs or {}
            if getattr(function, "__name__", "") == "__get__":
                return widen(function(*args, **options), tensors=False)
            # Tensors that are modified in place keep their dtype; functions that read sizes need no conversion.
            first_widened = (
                len(args) if function in metadata_functions else 1 if _is_in_place(function) else 0
            )
            values = [
                widen(value, tensors=index >= first_widened) for index, value in enumerate(args)
            ]
            return function(*values, **{name: widen(value) for name, value in options.items()})

        def __enter__(self) -> Any:
            self.before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)
            return super().__enter__()

        def __exit__(self, *error: object) -> None:
            torch.set_default_dtype(self.before)
            super().__exit__(*error)

    return Float64Mode()


def _is_in_place(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
