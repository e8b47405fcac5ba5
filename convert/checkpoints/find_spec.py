"""Finds the architecture of a checkpoint: from its config, from the class that the config names, or from its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.keras_hub_fields import is_keras_hub_config
from equipoise.convert.architectures.keras_hub_tables import unknown_backbone
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec, read_spec
from equipoise.convert.architectures.spec_files import spec_names
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.core.errors import ArchitectureError, SpecError
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.research.marks import (
    T5X_EMBEDDING,
    T5X_LAYOUTS,
    has_marks,
    marked_specs,
)
from equipoise.convert.research.repository_config import is_gin, translate
from equipoise.convert.research.t5x_settings import check_t5x_settings, describe_sizes

_T5X_CONFIG = "T5X saves config.gin in the folder above its checkpoints: put it there, or give it with --config; or the config.json of the same model"
_FIRST_PARTS = 4
"""Parts of a name among which the prefix may stand, after those of wrappers."""

_SHARED_WORDS = 0.5
"""Share of the words in a checkpoint's names that an architecture must know to be tried."""

SpecFits = Callable[[ArchitectureSpec], bool]
"""Says whether a class of an architecture has exactly the names and shapes of a checkpoint's tensors."""


def find_spec(
    checkpoint: Checkpoint, architecture: str | None, fits: SpecFits
) -> tuple[ArchitectureSpec, Config, tuple[str, ...]]:
    """Returns the architecture of a checkpoint, its config with the model type, and notes on how it was found.

    Args:
        checkpoint: An opened checkpoint.
        architecture: A model type, a class name, or an architecture file to use instead of the config's.
        fits: Asked about architectures where neither config nor ``architecture`` names one.

    Raises:
        ArchitectureError: There is no config, or no architecture for its model type and classes.
    """
    config = checkpoint.config or Config({}, checkpoint.path)
    if architecture is not None:
        spec = _spec_by_name(architecture)
        if is_googles(checkpoint, spec):
            config = with_google_config(checkpoint, spec, config)
        if checkpoint.layout in T5X_LAYOUTS and is_gin(config):
            remarks = _check_gin(checkpoint, checkpoint.layout, config)
            bare = with_t5x_config(checkpoint, checkpoint.layout, spec, config)
            spec, config, notes = _with_model_type(spec, bare, "--architecture")
            return spec, config, (*notes, *remarks)
        known = load_spec(config.model_type or "") is not None or architecture.endswith(".toml")
        return (spec, config, ()) if known else _with_model_type(spec, config, "--architecture")
    if checkpoint.config is None:
        names = _google_config_names(checkpoint)
        raise ArchitectureError(
            "no config.json next to the weights"
            + (f", and no {' or '.join(names)}" if names else ""),
            file=checkpoint.path,
            hint=_T5X_CONFIG
            if checkpoint.layout in T5X_LAYOUTS
            else "copy it there, or give it with --config",
        )
    if is_keras_hub_config(config.values):
        raise unknown_backbone(config)
    own = load_spec(config.model_type) if config.model_type else None
    if checkpoint.layout == "google":
        return _find_google_spec(checkpoint, own, config, fits)
    if checkpoint.layout in T5X_LAYOUTS and is_gin(config):
        return _find_t5x_spec(checkpoint, checkpoint.layout, config, fits)
    if own is not None:
        return own, config, _notes_on_early_name(config)
    named = [one for name in config.architectures if (one := _spec_with_class(name))]
    if named:
        return _with_model_type(named[0], config, f"the class {config.architectures[0]}")
    guesses = _guess_specs(checkpoint, fits)
    if len(guesses) == 1 and not config.model_type:
        return _with_model_type(guesses[0], config, "the names and shapes of the tensors")
    raise _unknown_architecture(config, [spec.model_type for spec in guesses])


def _google_config_names(checkpoint: Checkpoint) -> list[str]:
    """Returns what the repositories that name variables so call their configs."""
    if checkpoint.layout != "google":
        return []
    specs = marked_specs(checkpoint.in_layout("google"))
    names = [
        name
        for spec in specs
        for name in spec.layouts["google"].get("config_files") or [f"{spec.model_type}_config.json"]
    ]
    return list(dict.fromkeys(names))[:3]


def _find_google_spec(
    checkpoint: Checkpoint, own: ArchitectureSpec | None, config: Config, fits: SpecFits
) -> tuple[ArchitectureSpec, Config, tuple[str, ...]]:
    """Returns the architecture of variables that Google's code named, and the config in transformers' terms.

    The names of several architectures are alike, and so are those of their configs: ``bert_config.json`` is MobileBERT's too. The one that the
    config names is taken if it fits, else the only one that does.

    Raises:
        ArchitectureError: No architecture has these names, or several have them.
    """
    marked = marked_specs(checkpoint.in_layout("google"))
    if own is not None and own in marked and (fits(own) or "model_type" not in config.edits):
        return own, with_google_config(checkpoint, own, config), _notes_on_early_name(config)
    fitting = [spec for spec in marked if fits(spec)]
    if len(fitting) == 1 and (own is None or "model_type" in config.edits):
        (spec,) = fitting
        bare = config.without("model_type") if own is not None else config
        spec, config, notes = _with_model_type(spec, bare, "the names and shapes of the tensors")
        return spec, with_google_config(checkpoint, spec, config), notes
    if own is not None and own in marked:
        return own, with_google_config(checkpoint, own, config), _notes_on_early_name(config)
    several = [spec.model_type for spec in fitting or marked]
    raise ArchitectureError(
        f"the tensors have the names of Google's code for {', '.join(several) or 'no known architecture'}, and the config "
        f"says {config.model_type or 'no model type'}",
        file=config.file,
        hint=f"name the architecture, e.g. --architecture {several[0]}" if several else None,
    )


def _find_t5x_spec(
    checkpoint: Checkpoint, layout: str, config: Config, fits: SpecFits
) -> tuple[ArchitectureSpec, Config, tuple[str, ...]]:
    """Returns the architecture of a tree of T5X, and the config in transformers' terms of a gin file.

    The variables of T5 and mT5 have the same names: mT5's vocabulary tells them apart.

    Raises:
        ArchitectureError: No architecture has these names and shapes, or the gin file has a value that no T5 has.
    """
    names = checkpoint.in_layout(layout)
    remarks = _check_gin(checkpoint, layout, config)
    fitting = [spec for spec in marked_specs(names, layout) if fits(spec)]
    if not fitting:
        raise ArchitectureError(
            "no architecture of T5X has the sizes that the gin file says",
            file=config.file,
            found=describe_sizes(config.values),
            hint="give the config.json of the same model for transformers with --config",
        )
    ranked = sorted(fitting, key=lambda spec: _has_own_vocabulary(spec, names))
    spec = ranked[-1]
    found = with_t5x_config(checkpoint, layout, spec, config)
    spec, found, notes = _with_model_type(spec, found, "the names and shapes of the tensors")
    return spec, found, (*notes, *remarks)


def _check_gin(checkpoint: Checkpoint, layout: str, config: Config) -> tuple[str, ...]:
    """Checks the fields of the gin file that a tree of T5X has for a config; returns notes on them."""
    shapes = {name: ref.shape for name, ref in checkpoint.in_layout(layout).items()}
    embedding = [shape for name, shape in shapes.items() if name.endswith(T5X_EMBEDDING)]
    if config.file is None or not embedding:
        return ()
    return check_t5x_settings(config.file, shapes, embedding[0])


def _has_own_vocabulary(spec: ArchitectureSpec, refs: Mapping[str, TensorRef]) -> tuple[bool, bool]:
    """Whether a tree has the vocabulary of an architecture's published models, and whether it is T5, which ByT5 is too."""
    shapes = (ref.shape for name, ref in refs.items() if name.endswith(T5X_EMBEDDING))
    return spec.defaults.get("vocab_size") == next(shapes)[0], spec.model_type == "t5"


def with_t5x_config(
    checkpoint: Checkpoint, layout: str, spec: ArchitectureSpec, config: Config
) -> Config:
    """Returns the config in transformers' terms, for a tree of T5X and its gin file; of the file's own fields none is kept."""
    shapes = {name: ref.shape for name, ref in checkpoint.in_layout(layout).items()}
    found = translate(config.without("model_type"), spec, shapes, layout)
    values = {name: value for name, value in found.values.items() if name in found.edits}
    return replace(found, values=values, edits=values)


def is_googles(checkpoint: Checkpoint, spec: ArchitectureSpec) -> bool:
    """Whether the variables have the names of Google's code, by what the packaged architectures or a user's own say."""
    if checkpoint.layout == "google":
        return True
    return checkpoint.variant == "name-based" and has_marks(spec, checkpoint.tensors)


def with_google_config(checkpoint: Checkpoint, spec: ArchitectureSpec, config: Config) -> Config:
    """Returns the config in transformers' terms, for variables that Google's code named."""
    shapes = {name: ref.shape for name, ref in checkpoint.in_layout("google").items()}
    return translate(config, spec, shapes)


def _notes_on_early_name(config: Config) -> tuple[str, ...]:
    if "model_type" not in config.edits or config.file is None:
        return ()
    name = config.file.name
    return (f"{name} is the only config; its model type {config.model_type!r} is written",)


def _spec_by_name(architecture: str) -> ArchitectureSpec:
    if architecture.endswith(".toml"):
        return _read_user_spec(Path(architecture))
    spec = load_spec(architecture) or _spec_with_class(architecture)
    if spec is None:
        raise ArchitectureError(
            f"unknown architecture {architecture!r}",
            expected="a model type or a class of one: " + ", ".join(spec_names()),
        )
    return spec


def _with_model_type(
    spec: ArchitectureSpec, config: Config, source: str
) -> tuple[ArchitectureSpec, Config, tuple[str, ...]]:
    """Returns the architecture, and the config with its model type instead of none or one that nobody knows."""
    had = f"the model type {config.model_type!r}" if config.model_type else "no model type"
    note = f"config.json has {had}; {spec.model_type!r}, from {source}, is written"
    return spec, config.with_edits({"model_type": spec.model_type}), (note,)


def _unknown_architecture(config: Config, guesses: list[str]) -> ArchitectureError:
    derive = (
        "`equipoise derive` writes an architecture file from PyTorch's model, --architecture FILE.toml takes it; "
        "see docs/derive.md"
    )
    several = (
        f"--architecture {guesses[0]}: the tensors fit {', '.join(guesses)}" if guesses else ""
    )
    return ArchitectureError(
        f"unknown architecture: model_type is {config.model_type!r}",
        file=config.file,
        expected="one of " + ", ".join(spec_names()),
        hint=several
        or f"where the model is of one of these under another name, --architecture MODEL_TYPE; else {derive}",
    )


def _read_user_spec(file: Path) -> ArchitectureSpec:
    """Reads an architecture file of the user; its mistakes are errors of the input."""
    try:
        return read_spec(file)
    except SpecError as error:
        raise ArchitectureError(error.message, file=file, expected=error.expected) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ArchitectureError(
            f"not an architecture file: {type(error).__name__} {error}",
            file=file,
            hint="docs/architecture-files.md describes them",
        ) from error


def _spec_with_class(name: str) -> ArchitectureSpec | None:
    for model_type in spec_names():
        spec = load_spec(model_type)
        if spec is not None and spec.class_by_name(name) is not None:
            return spec
    return None


def _guess_specs(checkpoint: Checkpoint, fits: SpecFits) -> list[ArchitectureSpec]:
    """Returns the architectures that fit a checkpoint's tensors."""
    loaded = [spec for name in spec_names() if (spec := load_spec(name)) is not None]
    specs = [spec for spec in loaded if _shares_words(checkpoint, spec)]
    words = first_words(checkpoint)
    found = [spec for spec in specs if spec.prefix in words and fits(spec)]
    return found or [spec for spec in specs if spec.prefix not in words and fits(spec)]


def _shares_words(checkpoint: Checkpoint, spec: ArchitectureSpec) -> bool:
    """Returns whether an architecture knows half of the words in the names of a checkpoint's modules.

    Cheap, so that few architectures are tried in full. The frameworks name modules alike, and weights differently. The
    words of an architecture with parts are those of other architectures; it is always tried.
    """
    names = (name.replace("/", ".").split(".")[:-1] for name in checkpoint.tensors)
    words = {word for parts in names for word in parts if not word.strip("_").isdigit()}
    paths = (module.path for group in spec.modules.values() for module in group)
    known = {word for path in paths for word in path.split(".")}
    return bool(spec.parts) or len(words & known) >= len(words) * _SHARED_WORDS


def first_words(checkpoint: Checkpoint) -> frozenset[str]:
    """Returns the first parts of the names of a checkpoint's tensors, in which an architecture's prefix would stand."""
    names = (name.replace("/", ".").split(".") for name in checkpoint.tensors)
    return frozenset(part for parts in names for part in parts[:_FIRST_PARTS])
