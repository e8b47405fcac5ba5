"""The globals that a PyTorch pickle may name, and the inert data that replaces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from equipoise.convert.containers._pytorch.pickle_values import Global, Opaque, dict_key
from equipoise.convert.core.errors import ContainerError
from equipoise.convert.core.tensor import DTYPES


@dataclass(frozen=True)
class TorchDtype:
    """A dtype by PyTorch's name."""

    name: str


@dataclass(frozen=True)
class StorageType:
    """A storage class.

    Attributes:
        dtype: PyTorch's name of the elements' dtype; None for untyped bytes.
    """

    dtype: str | None


@dataclass(frozen=True, slots=True)
class Storage:
    """A persistent id: a storage elsewhere in the file.

    Attributes:
        dtype: PyTorch's name of the elements' dtype; None for untyped bytes.
        key: Its name in the file.
        location: The device it was on.
        numel: Number of elements.
        view: Key, first element and number of elements, if it is a part of ``key`` (legacy files).
    """

    dtype: str | None
    key: str
    location: str
    numel: int
    view: tuple[str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class StridedView:
    """A tensor: a strided view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class UnsupportedTensor:
    """A tensor that other containers cannot hold, e.g. a sparse one."""

    what: str


STORAGE_DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}
"""Name of a storage class without ``Storage`` -> dtype."""

_QUANTIZED_WIDTHS = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}
_DTYPES = (
    *STORAGE_DTYPES.values(),
    *("uint16", "uint32", "uint64", "complex32", "float4_e2m1fn_x2"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
)
_UNSUPPORTED_TENSORS = {
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no bytes",
    "_rebuild_wrapper_subclass": "a tensor subclass without storage",
    "_rebuild_device_tensor_from_numpy": "a tensor pickled through numpy",
}
_OPAQUE_TORCH = (
    "per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams",
    "per_tensor_symmetric", "per_channel_symmetric", "contiguous_format", "preserve_format",
    "channels_last", "channels_last_3d",
)  # fmt: skip
_OPAQUE_NUMPY = (
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    *("numpy.dtype", "numpy.ndarray"),
)


def element_bytes(dtype: str | None) -> int:
    """Returns the bytes of an element of a storage's dtype."""
    if dtype is None:
        return 1
    known = DTYPES.get(dtype)
    return _QUANTIZED_WIDTHS[dtype] if known is None else known.itemsize


def check_count(value: object, what: str) -> int:
    """Returns the value if it is a non-negative integer.

    Raises:
        ContainerError: It is not a non-negative integer.
    """
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ContainerError(
            f"the {what} of a tensor is wrong", expected="a count", found=str(value)[:40]
        )
    return value


def _check_counts(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > 32:
        raise ContainerError(f"the {what} of a tensor is not a tuple of at most 32 counts")
    return tuple(check_count(item, what) for item in value)


def _rebuild_tensor(arguments: tuple[object, ...], dtype: str | None = None) -> object:
    """Replaces ``_rebuild_tensor`` and ``_rebuild_tensor_v2``: storage, offset, size, stride and more."""
    if len(arguments) < 4 or not isinstance(arguments[0], Storage):
        raise ContainerError("a tensor without a storage")
    storage = arguments[0]
    name = dtype or storage.dtype or "uint8"
    shape = _check_counts(arguments[2], "shape")
    strides = _check_counts(arguments[3], "stride")
    if len(shape) != len(strides):
        raise ContainerError("a tensor has different numbers of strides and axes")
    if len(arguments) > 6 and arguments[6]:
        return UnsupportedTensor("a tensor with a lazy conjugation or negation")
    return StridedView(storage, check_count(arguments[1], "offset"), shape, strides, name)


def _rebuild_tensor_v3(arguments: tuple[object, ...]) -> object:
    """Replaces ``_rebuild_tensor_v3``: like v2, with the dtype before the metadata."""
    if len(arguments) < 7 or not isinstance(arguments[6], TorchDtype):
        raise ContainerError("a tensor without a dtype")
    return _rebuild_tensor((*arguments[:6], *arguments[7:]), arguments[6].name)


def _unwrap_tensor(arguments: tuple[object, ...]) -> object:
    """Replaces wrappers of a tensor: Parameter, Buffer."""
    if not arguments or not isinstance(arguments[0], (StridedView, UnsupportedTensor)):
        raise ContainerError("a parameter without a tensor")
    return arguments[0]


def _rebuild_from_type(arguments: tuple[object, ...]) -> object:
    """Replaces ``_rebuild_from_type_v2``: function, type, arguments, state."""
    if len(arguments) < 3:
        raise ContainerError("a tensor subclass without arguments")
    function, _, inner = arguments[:3]
    if not isinstance(function, Global) or function.build is None or not isinstance(inner, tuple):
        raise ContainerError("a tensor subclass that is not rebuilt by a function")
    if function.build is _rebuild_from_type:
        raise ContainerError("a tensor subclass within a tensor subclass")
    return function.build(inner)


def _build_dict(arguments: tuple[object, ...]) -> object:
    """Replaces ``OrderedDict()``, or ``OrderedDict(pairs)`` as Python 2 pickled it."""
    if not arguments:
        return {}
    source = arguments[0]
    if isinstance(source, dict):
        return source
    out: dict[object, object] = {}
    for pair in source if isinstance(source, list) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ContainerError("an ordered dict without pairs")
        out[dict_key(pair[0])] = pair[1]
    return out


def _build_sequence(arguments: tuple[object, ...]) -> object:
    if arguments and isinstance(arguments[0], (list, tuple)):
        return arguments[0]
    return ()


def _opaque_builder(what: str) -> Callable[[tuple[object, ...]], object]:
    return lambda arguments: Opaque(what)


def _unsupported_builder(what: str) -> Callable[[tuple[object, ...]], object]:
    return lambda arguments: UnsupportedTensor(what)


def _allowed_globals() -> dict[str, object]:
    builders: dict[str, Callable[[tuple[object, ...]], object]] = {
        "torch._utils._rebuild_tensor": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
        "torch._utils._rebuild_parameter": _unwrap_tensor,
        "torch._utils._rebuild_parameter_with_state": _unwrap_tensor,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _unwrap_tensor,
        "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
        "torch.nn.parameter.Parameter": _unwrap_tensor,
        "torch.nn.parameter.Buffer": _unwrap_tensor,
        "torch.Tensor": _unwrap_tensor,
        "torch.Size": _build_sequence,
        "torch.device": _opaque_builder("device"),
        "torch.serialization._get_layout": _opaque_builder("layout"),
        "collections.OrderedDict": _build_dict,
        "collections.Counter": _build_dict,
        "_codecs.encode": _opaque_builder("bytes"),
        **{
            f"torch._utils.{name}": _unsupported_builder(what)
            for name, what in _UNSUPPORTED_TENSORS.items()
        },
        **{name: _opaque_builder("numpy value") for name in _OPAQUE_NUMPY},
        **{
            f"{m}.{n}": _build_sequence
            for m in ("builtins", "__builtin__")
            for n in ("set", "frozenset")
        },
    }
    storages = {f"{name}Storage": StorageType(dtype) for name, dtype in STORAGE_DTYPES.items()}
    storages["UntypedStorage"] = StorageType(None)
    return {
        **{name: Global(name, build) for name, build in builders.items()},
        **{f"torch.{name}": TorchDtype(name) for name in _DTYPES},
        **{f"torch.{name}": kind for name, kind in storages.items()},
        **{f"torch.cuda.{name}": kind for name, kind in storages.items()},
        **{f"torch.{name}": Opaque(f"torch.{name}") for name in _OPAQUE_TORCH},
        "torch.storage.UntypedStorage": StorageType(None),
        "torch.storage._UntypedStorage": StorageType(None),
    }


ALLOWED_GLOBALS: Mapping[str, object] = _allowed_globals()
"""Every allowed global, by ``module.name``."""


def parse_storage(identifier: object) -> Storage:
    """Returns the storage of a persistent id.

    Raises:
        ContainerError: It is not a storage.
    """
    if not isinstance(identifier, tuple) or not 5 <= len(identifier) <= 6:
        raise ContainerError("a persistent id is not a storage")
    tag, kind, key, location, numel, *rest = identifier
    if tag != "storage" or not isinstance(kind, StorageType):
        raise ContainerError(f"a persistent id is not a storage, but {str(tag)[:40]!r}")
    if not isinstance(key, str) or not isinstance(location, str):
        raise ContainerError("the key of a storage is not a string")
    view = None
    if rest and rest[0] is not None:
        if not isinstance(rest[0], tuple) or len(rest[0]) != 3 or not isinstance(rest[0][0], str):
            raise ContainerError("the view of a storage is corrupt")
        view = (rest[0][0], check_count(rest[0][1], "view"), check_count(rest[0][2], "view"))
    return Storage(kind.dtype, key, location, check_count(numel, "storage"), view)
