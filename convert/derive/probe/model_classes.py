"""Builds model classes of transformers on the meta device and records their modules."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from equipoise.convert.core.errors import ArchitectureError, InputError
from equipoise.convert.core.hints import install_hint
from equipoise.convert.core.json_values import read_json
from equipoise.convert.derive.probe.config_access import nested_configs
from equipoise.convert.derive.probe.module_kinds import classify_module
from equipoise.convert.derive.probe.observations import (
    ClassObservation,
    ConfigValues,
    ObservedModule,
)
from equipoise.convert.files.containment import check_readable

_BUILD_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(NameError, OSError, RuntimeError, TypeError, ValueError),
)


_MISSING = object()


@cache
def build_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions with which models and configs refuse values."""
    try:
        from huggingface_hub.errors import StrictDataclassError
    except ImportError:  # huggingface_hub without strict dataclasses
        return _BUILD_ERRORS
    return (*_BUILD_ERRORS, StrictDataclassError)


@dataclass(frozen=True)
class ModelType:
    """A model type of transformers.

    Attributes:
        model_type: Its name.
        config: The base config object.
        classes: Its PyTorch classes by name.
        prefixes: Class -> ``base_model_prefix``.
        modules: The modeling modules.
        samples: Further real configs.
        computed: Fields that the config's constructor computes from others.
        files: Cache of (class, name in the model) -> name in files.
    """

    model_type: str
    config: Any
    classes: Mapping[str, Any]
    prefixes: Mapping[str, str]
    modules: tuple[ModuleType, ...]
    samples: tuple[Any, ...] = ()
    computed: frozenset[str] = frozenset()
    files: dict[tuple[str, str], str] = field(default_factory=dict)

    def config_with(self, changes: Mapping[str, Any]) -> Any:
        """Returns the base config with changes.

        Raises:
            ValueError: The config does not keep a changed value.
        """
        values = deepcopy(self.config.to_dict())
        for name in self.computed:
            _remove_nested(values, name)
        for name, value in changes.items():
            _set_nested(values, name, value)
        config = type(self.config).from_dict(values)
        for name, value in changes.items():
            _set_attribute(config, name, value)
        flat = flatten_config(config)
        if any(flat.get(name) != value for name, value in changes.items()):
            raise ValueError("the config does not keep a changed value")
        return config

    def values(self, config: Any) -> ConfigValues:
        """Returns a config's values by dotted name, without computed fields."""
        return {k: value for k, value in flatten_config(config).items() if k not in self.computed}

    def observe(self, name: str, config: Any) -> ClassObservation:
        """Builds a class under a config and records it.

        Raises:
            Exception: One of :func:`build_errors`: the class cannot be built.
        """
        try:
            return _observe_class(self.classes[name], deepcopy(config), self.files)
        except Exception as error:
            if type(error) is Exception:  # transformers raises bare Exception for some configs
                raise ValueError(str(error)) from error
            raise


def open_model_type(
    source: str, wanted: tuple[str, ...] = (), also: tuple[str, ...] = ()
) -> ModelType:
    """Opens a model type by its name, or that of a folder with a ``config.json``.

    Args:
        source: The name, the folder or the file.
        wanted: Names of the classes to include; empty for all.
        also: Further folders or files of the same model type.

    Raises:
        InputError: torch or transformers is not installed, there are no such classes, or a further config has
            another model type.
        ArchitectureError: transformers does not have the model type.
    """
    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            raise InputError(f"derive needs {library}", hint=install_hint("torch"))
    from transformers import CONFIG_MAPPING

    file = _config_path(source)
    values = read_json(file) if file.is_file() else None
    model_type = str(values.get("model_type")) if values is not None else source
    if model_type not in CONFIG_MAPPING:
        raise ArchitectureError(
            f"transformers has no model type {model_type!r}",
            file=file if values is not None else None,
            hint="name a model type, or a folder whose config.json has one",
        )
    kind = CONFIG_MAPPING[model_type]
    config = kind() if values is None else kind.from_dict(values)
    modules = tuple(_modeling_modules(kind))
    classes = {one.__name__: one for module in modules for one in _model_classes(module, kind)}
    unknown = [name for name in wanted if name not in classes]
    if unknown or not classes:
        raise InputError(
            f"{model_type} has no class {unknown[0]!r}"
            if unknown
            else f"{model_type} has no model class",
            expected=sorted(classes),
        )
    kept = {name: one for name, one in classes.items() if not wanted or name in wanted}
    prefixes = {name: str(one.base_model_prefix or "") for name, one in kept.items()}
    samples = tuple(_read_sample_config(one, kind) for one in also)
    return ModelType(
        model_type, config, kept, prefixes, modules, samples, frozenset(_computed_fields(config))
    )


def _config_path(source: str) -> Path:
    path = Path(source)
    if not path.is_dir():
        return path
    file = path / "config.json"
    if file.is_symlink():
        check_readable(file, path)
    return file


def _read_sample_config(source: str, kind: Any) -> Any:
    """Reads a further config of a type."""
    file = _config_path(source)
    values = read_json(file)
    if values.get("model_type") != kind.model_type:
        raise InputError(
            "a further config is of another model type",
            file=file,
            expected=kind.model_type,
            found=values.get("model_type"),
        )
    return kind.from_dict(values)


def _computed_fields(config: Any) -> Iterator[str]:
    """Yields fields that are not constructor arguments and are computed, e.g. T5's ``is_gated_act``."""
    values = config.to_dict()
    taken = {*inspect.signature(type(config)).parameters, *_base_fields(), *dir(type(config))}
    try:
        without = type(config).from_dict({k: one for k, one in values.items() if k in taken})
    except build_errors():
        return
    inside = nested_configs(config, values)
    for name in values:
        if name in inside:
            yield from (f"{name}.{one}" for one in _computed_fields(inside[name]))
        elif name not in taken and getattr(without, name, _MISSING) == values[name]:
            yield name


@cache
def _base_fields() -> frozenset[str]:
    """Returns the fields that every config has."""
    from transformers import PretrainedConfig

    return frozenset(PretrainedConfig().to_dict())


def _modeling_modules(kind: type) -> Iterator[ModuleType]:
    """Yields the PyTorch modeling modules of the package that defines a config class."""
    package = kind.__module__.rpartition(".")[0]
    folder = Path(str(inspect.getfile(kind))).parent
    for file in sorted(folder.glob("modeling_*.py")):
        if not file.stem.startswith(("modeling_tf_", "modeling_flax_")):
            try:
                yield import_module(f"{package}.{file.stem}")
            except build_errors():
                continue  # needs a library that is not installed


def _model_classes(module: ModuleType, kind: type) -> Iterator[Any]:
    """Yields the public model classes that use exactly this config class."""
    from transformers import PreTrainedModel

    for name in getattr(module, "__all__", ()):
        one = getattr(module, name)
        is_model = inspect.isclass(one) and issubclass(one, PreTrainedModel)
        abstract = name.endswith(("PreTrainedModel", "PretrainedModel"))
        if is_model and not abstract and one.config_class is kind:
            yield one


def compared_texts(kind: ModelType) -> Mapping[str, frozenset[str]]:
    """Returns config attribute -> strings that the modeling source compares it with: its possible values."""
    found: dict[str, set[str]] = {}
    for name in kind.config.to_dict():
        named = getattr(
            type(kind.config), f"{name}s", None
        )  # e.g. ResNetConfig.layer_types lists the values of layer_type
        if isinstance(named, list) and all(isinstance(one, str) for one in named):
            found[name] = set(named)
    for module in (*kind.modules, import_module(type(kind.config).__module__)):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Compare(left=ast.Attribute(attr=name) | ast.Name(id=name)):
                    found.setdefault(name, set()).update(
                        text for side in node.comparators for text in _string_constants(side)
                    )
                case ast.AnnAssign(target=ast.Name(id=name)):  # e.g. layer_type: Literal["a", "b"]
                    found.setdefault(name, set()).update(_string_constants(node.annotation))
    return {name: frozenset(texts) for name, texts in found.items()}


def _string_constants(node: ast.AST) -> Iterator[str]:
    """Yields the string constants in a syntax tree."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def flatten_config(config: Any) -> ConfigValues:
    """Returns a config's values by dotted name, with those of nested configs and ``num_labels``."""
    flat: dict[str, Any] = {}
    values = config.to_dict()
    inside = nested_configs(config, values)
    for name, value in values.items():
        if name in inside:
            flat.update((f"{name}.{key}", one) for key, one in flatten_config(inside[name]).items())
        else:
            flat[name] = value
    labels = getattr(config, "id2label", None)
    if labels is not None:
        flat["num_labels"] = len(labels)
    return flat


def default_values(config: Any) -> ConfigValues:
    """Returns the defaults of a config's class and of its nested configs' classes."""
    try:
        own = flatten_config(type(config)())
    except build_errors():
        own = {}
    found = dict(own)
    for name, inner in nested_configs(config, config.to_dict()).items():
        found.update((f"{name}.{key}", one) for key, one in default_values(inner).items())
    return found


def _set_nested(values: dict[str, Any], name: str, value: Any) -> None:
    if name == "num_labels":
        return
    *path, last = name.split(".")
    for part in path:
        values = values[part]
    values[last] = value


def _remove_nested(values: dict[str, Any], name: str) -> None:
    *path, last = name.split(".")
    for part in path:
        values = values[part]
    values.pop(last, None)


def _set_attribute(config: Any, name: str, value: Any) -> None:
    """Sets an attribute that the constructor computes or keeps under another name."""
    *path, last = name.split(".")
    for part in path:
        config = getattr(config, part)
    if getattr(config, last, None) != value:
        setattr(config, last, value)


def _observe_class(cls: Any, config: Any, known: dict[tuple[str, str], str]) -> ClassObservation:
    """Builds a model and returns its modules and tensors under the names that ``save_pretrained`` uses."""
    import torch
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        model = cls(config)
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    state = {
        name: tensor if tensor.is_meta else torch.empty_like(tensor, device="meta")
        for name, tensor in model.state_dict().items()
        if name not in ignored and isinstance(tensor, torch.Tensor)
    }
    saved = _rename_as_saved(model, state, known)
    own = {id(tensor): name for name, tensor in state.items()}
    files = {own[id(tensor)]: name for name, tensor in saved.items() if id(tensor) in own}
    modules: dict[str, ObservedModule] = {}
    rest = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    for path, module in model.named_modules():
        classified = classify_module(path, module, files)
        if classified is not None and classified[0] not in modules:
            modules[classified[0]] = classified[1]
            for name in classified[2]:
                rest.pop(name, None)
    modules.update(_modules_of_unplaced_tensors(rest, {files[name] for name in files}))
    ties = getattr(model, "all_tied_weights_keys", None) or {}
    return ClassObservation(
        modules,
        {
            files[name]: files[to]
            for name, to in ties.items()
            if name in files and to in files and name != to
        },
        {name: tuple(tensor.shape) for name, tensor in saved.items()},
    )


def _rename_as_saved(
    model: Any, state: dict[str, Any], known: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Returns the tensors under the names of files; transformers 5 renames on saving (revert_weight_conversion).

    If it only renames, the result is cached for each name: it may match hundreds of patterns.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return state
    cls = type(model).__name__
    if all((cls, name) in known for name in state):
        return {known[cls, name]: tensor for name, tensor in state.items()}
    found: dict[str, Any] = revert_weight_conversion(model, dict(state))
    own = {id(tensor): name for name, tensor in state.items()}
    if len(found) == len(state) and all(id(tensor) in own for tensor in found.values()):
        known.update(((cls, own[id(tensor)]), name) for name, tensor in found.items())
    return found


def _modules_of_unplaced_tensors(
    rest: Mapping[str, tuple[int, ...]], kept: set[str]
) -> Iterator[tuple[str, ObservedModule]]:
    """Yields modules for tensors without a module of a known kind; matrices split out of a larger tensor are linear layers."""
    split_paths = {
        name.removesuffix(".weight")
        for name, shape in rest.items()
        if name not in kept and name.endswith(".weight") and len(shape) == 2
    }
    for name, shape in rest.items():
        path, _, leaf = name.rpartition(".")
        if path in split_paths and leaf in ("weight", "bias"):
            if leaf == "weight":
                sizes = (("inputs", shape[1]), ("outputs", shape[0]))
                yield path, ObservedModule("linear", sizes, f"{path}.bias" in rest)
            continue
        yield (
            name,
            ObservedModule("param", tuple((str(axis), size) for axis, size in enumerate(shape))),
        )
