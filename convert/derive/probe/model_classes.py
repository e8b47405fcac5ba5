"""Builds model classes of transformers on the meta device, where weights have shapes and no bytes."""

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

from equipoise.convert.architectures.config import read_json
from equipoise.convert.core.errors import ArchitectureError, InputError
from equipoise.convert.derive.probe.config_access import nested_configs
from equipoise.convert.derive.probe.module_kinds import classify_module
from equipoise.convert.derive.probe.observations import (
    ClassObservation,
    ConfigValues,
    ObservedModule,
)

_BUILD_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(NameError, OSError, RuntimeError, TypeError, ValueError),
)


_MISSING = object()


@cache
def build_errors() -> tuple[type[Exception], ...]:
    """What a model or its config raises when it cannot be built so."""
    try:
        from huggingface_hub.errors import StrictDataclassError
    except ImportError:  # before the configs were checked
        return _BUILD_ERRORS
    return (*_BUILD_ERRORS, StrictDataclassError)


@dataclass(frozen=True)
class ModelType:
    """A model type of transformers.

    Attributes:
        model_type: Its name.
        config: The base config, an object of transformers.
        classes: Its PyTorch classes by name.
        prefixes: Class -> ``base_model_prefix``.
        modules: Where the classes are defined.
        samples: Further configs of this architecture that a person has.
        computed: Fields that the constructor of the config works out from others.
        files: What is known of (class, name in the model) -> name in files.
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
        """The base config with changes.

        Raises:
            ValueError: The config does not take one of them.
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
            raise ValueError("the config does not keep what is set")
        return config

    def values(self, config: Any) -> ConfigValues:
        """A config's values by dotted name, but for what it works out itself."""
        return {k: value for k, value in flatten_config(config).items() if k not in self.computed}

    def observe(self, name: str, config: Any) -> ClassObservation:
        """A class under a config; raises what the class raises, one of :func:`build_errors`."""
        try:
            return _observe_class(self.classes[name], deepcopy(config), self.files)
        except Exception as error:
            if type(error) is Exception:  # transformers says so little of some configs
                raise ValueError(str(error)) from error
            raise


def open_model_type(
    source: str, wanted: tuple[str, ...] = (), also: tuple[str, ...] = ()
) -> ModelType:
    """A model type by its name, or that of a folder with a ``config.json``.

    Args:
        source: The name, the folder or the file.
        wanted: Names of the classes to take; all without it.
        also: Further folders or files of the same model type.

    Raises:
        InputError: torch or transformers is not installed, there are no such classes, or a further config is none
            of this type.
        ArchitectureError: transformers does not know the type.
    """
    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            raise InputError(f"derive needs {library}", hint="pip install 'equipoise[torch]'")
    from transformers import CONFIG_MAPPING

    file = _config_path(source)
    values = read_json(file) if file.is_file() else None
    model_type = str(values.get("model_type")) if values is not None else source
    if model_type not in CONFIG_MAPPING:
        raise ArchitectureError(
            f"transformers knows no model type {model_type!r}",
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
    place = Path(source)
    return place / "config.json" if place.is_dir() else place


def _read_sample_config(source: str, kind: Any) -> Any:
    """A further config of a type."""
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
    """Fields that the constructor does not take and sets as they are all the same, as T5's ``is_gated_act``."""
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
    """What every config has."""
    from transformers import PretrainedConfig

    return frozenset(PretrainedConfig().to_dict())


def _modeling_modules(kind: type) -> Iterator[ModuleType]:
    """The modeling modules of the package that defines a config."""
    package = kind.__module__.rpartition(".")[0]
    folder = Path(str(inspect.getfile(kind))).parent
    for file in sorted(folder.glob("modeling_*.py")):
        if not file.stem.startswith(("modeling_tf_", "modeling_flax_")):
            try:
                yield import_module(f"{package}.{file.stem}")
            except build_errors():
                continue  # a module that needs another library


def _model_classes(module: ModuleType, kind: type) -> Iterator[Any]:
    """The public models that take exactly this config."""
    from transformers import PreTrainedModel

    for name in getattr(module, "__all__", ()):
        one = getattr(module, name)
        is_model = inspect.isclass(one) and issubclass(one, PreTrainedModel)
        abstract = name.endswith(("PreTrainedModel", "PretrainedModel"))
        if is_model and not abstract and one.config_class is kind:
            yield one


def compared_texts(kind: ModelType) -> Mapping[str, frozenset[str]]:
    """Texts that an attribute of the config may be, as far as the source compares it with some: attribute -> texts."""
    found: dict[str, set[str]] = {}
    for name in kind.config.to_dict():
        named = getattr(
            type(kind.config), f"{name}s", None
        )  # ResNet's layer_type is one of layer_types
        if isinstance(named, list) and all(isinstance(one, str) for one in named):
            found[name] = set(named)
    for module in (*kind.modules, import_module(type(kind.config).__module__)):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Compare(left=ast.Attribute(attr=name) | ast.Name(id=name)):
                    found.setdefault(name, set()).update(
                        text for side in node.comparators for text in _string_constants(side)
                    )
                case ast.AnnAssign(target=ast.Name(id=name)):  # layer_type: Literal["a", "b"]
                    found.setdefault(name, set()).update(_string_constants(node.annotation))
    return {name: frozenset(texts) for name, texts in found.items()}


def _string_constants(node: ast.AST) -> Iterator[str]:
    """The texts in a piece of source."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def flatten_config(config: Any) -> ConfigValues:
    """A config's values by dotted name; those of nested configs included, ``num_labels`` too."""
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
    """What the classes of a config and of its nested configs fill in."""
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
    """Sets what the config's constructor computes itself, or keeps under another name."""
    *path, last = name.split(".")
    for part in path:
        config = getattr(config, part)
    if getattr(config, last, None) != value:
        setattr(config, last, value)


def _observe_class(cls: Any, config: Any, known: dict[tuple[str, str], str]) -> ClassObservation:
    """The model's modules and tensors under the names that ``save_pretrained`` gives them."""
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
        placed = classify_module(path, module, files)
        if placed is not None and placed[0] not in modules:
            modules[placed[0]] = placed[1]
            for name in placed[2]:
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
    """The names of files, which transformers 5 maps its own to; before, they were the same.

    Where it only renames, that is asked for once for each name: there may be hundreds of patterns.
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
    """What belongs to no module of a known kind; matrices that are cut out of a larger tensor are linear layers."""
    made = {
        name.removesuffix(".weight")
        for name, shape in rest.items()
        if name not in kept and name.endswith(".weight") and len(shape) == 2
    }
    for name, shape in rest.items():
        path, _, leaf = name.rpartition(".")
        if path in made and leaf in ("weight", "bias"):
            if leaf == "weight":
                sizes = (("inputs", shape[1]), ("outputs", shape[0]))
                yield path, ObservedModule("linear", sizes, f"{path}.bias" in rest)
            continue
        yield (
            name,
            ObservedModule("param", tuple((str(axis), size) for axis, size in enumerate(shape))),
        )
