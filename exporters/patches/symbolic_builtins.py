"""Keeps sizes symbolic where ``len``, ``int``, ``range`` and ``list`` would turn them into ints during torch.export.

These builtins return plain numbers, so a symbolic size that they see becomes the example's size forever. While a model
is exported, the modules that define it use replacements, which return the same for plain numbers and keep symbolic
sizes. For example, ``for i in range(len(x))`` over a dynamic batch runs once, on all rows together.

The rows of a batch that are only concatenated again are kept together; anything else done to them raises an error.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

from equipoise.convert.core.framework_types import TorchModel, TorchSize, TorchTensor


class BatchRows:
    """All rows of a tensor along its first axis, kept together.

    Stands in a list for every row; what is done to each row is done to all of them.
    """

    def __init__(self, tensor: TorchTensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> Sequence[Any]:
        """The shape of one row, of which only the last size is known."""
        return _LastSizeOnly(self.tensor)

    def reshape(self, *shape: Any) -> BatchRows:
        """Reshapes each row to (-1, features) with as many features as before.

        Raises:
            TypeError: The shape is another one.
        """
        if len(shape) != 2 or shape[0] != -1 or shape[1] != self.shape[-1]:
            raise TypeError(f"parts of a batch that are not all known have no shape {shape}")
        return BatchRows(self.tensor.reshape(-1, self.tensor.shape[-1]))


class _LastSizeOnly(Sequence[Any]):
    def __init__(self, tensor: TorchTensor) -> None:
        self.last = tensor.shape[-1]

    def __len__(self) -> int:
        raise TypeError("the parts of a batch are not all known")

    def __getitem__(self, index: Any) -> Any:
        if index != -1:
            raise TypeError("the parts of a batch are not all known")
        return self.last


class LazyToList:
    """The result of ``Tensor.tolist`` for a tensor of dynamic length, evaluated on first use."""

    def __init__(self, listed: Callable[[], list[Any]]) -> None:
        self.listed = listed

    def __len__(self) -> int:
        return len(self.listed())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.listed())

    def __getitem__(self, index: Any) -> Any:
        return self.listed()[index]


@contextmanager
def symbolic_builtins(model: TorchModel) -> Iterator[None]:
    """Replaces builtins in the modules that define a model, for the time of this context."""
    import torch
    from torch._subclasses import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    tensor = torch.Tensor
    with ExitStack() as stack:
        for module in _modules_of(model):
            for name, function in (
                ("len", _len),
                ("int", _int),
                ("range", _range),
                ("list", _list),
            ):
                # Where a class of that name is asked for it has to be the class.
                stack.enter_context(mock.patch.object(module, name, function, create=True))
        for place, name, function in (
            *(
                (kind, "tolist", _patch_tolist(kind.tolist))
                for kind in (tensor, FakeTensor, FunctionalTensor)
            ),
            (torch.nn.MaxPool1d, "forward", _max_pool1d),
            (torch.nn.Module, "to", _patch_module_to(torch.nn.Module.to)),
            (tensor, "split", _patch_split(tensor.split)),
            (torch, "cat", _patch_cat(torch.cat)),
        ):
            stack.enter_context(mock.patch.object(place, name, function))
        yield


@contextmanager
def rows_kept_together(model: TorchModel) -> Iterator[None]:
    """Keeps the rows of a batch together while a model is traced, for the time of this context.

    A trace of a list with one entry for each row has as many entries forever.
    """
    import torch

    with ExitStack() as stack:
        for module in _modules_of(model):
            stack.enter_context(mock.patch.object(module, "list", _list, create=True))
        stack.enter_context(mock.patch.object(torch, "cat", _patch_cat(torch.cat)))
        yield


def _modules_of(model: TorchModel) -> list[ModuleType]:
    """Returns the modules of transformers that define a model."""
    places = {type(part).__module__ for part in model.modules()}
    return [sys.modules[place] for place in places if place.startswith("transformers.models.")]


def _is_symbolic(size: TorchSize) -> bool:
    """Checks whether a size is dynamic."""
    import torch

    return isinstance(size, torch.SymInt) and not size.node.is_constant()


def _len(value: Any) -> Any:
    import torch

    if torch.is_tensor(value) and value.ndim and _is_symbolic(value.shape[0]):
        return value.shape[0]
    return builtins.len(value)


def _range(*bounds: Any) -> Any:
    """Keeps the bounds symbolic: only the number of steps becomes an int."""
    start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if not _is_symbolic(stop) or _is_symbolic(start) or _is_symbolic(step) or step < 2:
        return builtins.range(*bounds)
    count = int((stop - start + step - 1) // step)
    return builtins.range(start, start + count * step, step)


class _IntMeta(type):
    """The class ``int``, which returns symbolic sizes unchanged."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, builtins.int)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, builtins.int)

    def __call__(cls, *values: Any) -> Any:
        return values[0] if values and _is_symbolic(values[0]) else builtins.int(*values)


class _int(metaclass=_IntMeta):  # noqa: N801 - stands in for the builtin of that name
    pass


class _ListMeta(type):
    """The class ``list``, which keeps the rows of a dynamic batch together."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, builtins.list)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, builtins.list)

    def __call__(cls, *values: Any) -> Any:
        import torch

        if values and torch.is_tensor(values[0]) and values[0].ndim > 1:
            tensor = values[0]
            if torch.jit.is_tracing() or _is_symbolic(tensor.shape[0]):
                return [BatchRows(tensor.flatten(0, 1))]
        return builtins.list(*values)

    def __getitem__(cls, item: Any) -> Any:
        return builtins.list[item]


class _list(metaclass=_ListMeta):  # noqa: N801 - stands in for the builtin of that name
    pass


def _patch_tolist(plain: Any) -> Any:
    def tolist(self: TorchTensor) -> Any:
        if self.ndim == 1 and _is_symbolic(self.shape[0]):
            return LazyToList(lambda: plain(self))
        return plain(self)

    return tolist


def _max_pool1d(self: TorchTensor, x: TorchTensor) -> Any:
    """Pools in two dimensions: ``max_pool1d`` requires an int length (torch 2.13)."""
    import torch

    sizes = (self.kernel_size, self.stride, self.padding, self.dilation)
    pairs = [(neutral, size) for neutral, size in zip((1, 1, 0, 1), sizes, strict=True)]
    pooled = torch.nn.functional.max_pool2d(x[..., None, :], *pairs, ceil_mode=self.ceil_mode)
    return pooled[..., 0, :]


def _patch_module_to(plain: Any) -> Any:
    """Makes ``Module.to`` return the module itself if nothing changes: the tracer holds its parameters."""

    def to(self: TorchTensor, *args: Any, **kwargs: Any) -> Any:
        import torch

        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        tensors = [*self.parameters(), *self.buffers()]
        if all(
            device in (None, one.device)
            and (dtype in (None, one.dtype) or not one.is_floating_point())
            for one in tensors
        ):
            return self
        return plain(self, *args, **kwargs)

    return to


def _patch_split(plain: Any) -> Any:
    def split(self: TorchTensor, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], LazyToList):
            if (*args[1:], kwargs.get("dim", 0))[0] == 0:
                return [BatchRows(self)]
            args = (builtins.list(args[0]), *args[1:])
        return plain(self, *args, **kwargs)

    return split


def _patch_cat(plain: Any) -> Any:
    def cat(tensors: TorchTensor, *args: Any, **kwargs: Any) -> Any:
        first = tensors[0] if isinstance(tensors, (builtins.list, tuple)) and tensors else None
        if isinstance(first, BatchRows):
            if builtins.len(tensors) > 1 or (*args, kwargs.get("dim", 0))[0] != 0:
                raise TypeError("parts of a batch that are not all known are only put together")
            return first.tensor
        return plain(tensors, *args, **kwargs)

    return cat
