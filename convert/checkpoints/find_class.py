"""Finds the architecture and class of a checkpoint from its config and its tensor names."""

from __future__ import annotations

from pathlib import Path

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import (
    ArchitectureSpec,
    ClassSpec,
    load_spec,
    read_spec,
    spec_names,
)
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.matching import ClassMatch, match_class
from equipoise.convert.core.errors import ArchitectureError, SpecError
from equipoise.convert.layouts import layout_names


def find_spec(config: Config | None, architecture: str | None) -> ArchitectureSpec:
    """Returns the architecture for a config or for ``--architecture`` (a model type, a class name, or a file).

    Raises:
        ArchitectureError: There is no config, or no architecture file for its model type.
    """
    if architecture is not None and architecture.endswith(".toml"):
        return _read_user_spec(Path(architecture))
    if architecture is not None:
        spec = load_spec(architecture) or _spec_with_class(architecture)
        if spec is None:
            raise ArchitectureError(
                f"unknown architecture {architecture!r}",
                expected="a model type or a class of one: " + ", ".join(spec_names()),
            )
        return spec
    if config is None:
        raise ArchitectureError(
            "no config.json next to the weights",
            hint="copy it there, or give it with --config",
        )
    spec = load_spec(config.model_type) if config.model_type else None
    if spec is None:
        raise ArchitectureError(
            f"unknown architecture: model_type is {config.model_type!r}",
            file=config.file,
            expected="one of " + ", ".join(spec_names()),
            hint="`equipoise derive` writes an architecture file from PyTorch's model, "
            "--architecture FILE.toml takes it; see docs/derive.md",
        )
    return spec


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


def find_class(checkpoint: Checkpoint, architecture: str | None = None) -> ClassMatch:
    """Returns the class and layout that fit a checkpoint's tensors best.

    The class that the config (or ``architecture``) names is preferred if it fits; next is any class that fits
    exactly; last is the named class, whose problems the plan then reports.

    Raises:
        ArchitectureError: The architecture is unknown, or none of the tensors belongs to it.
    """
    spec = find_spec(checkpoint.config, architecture)
    config = checkpoint.config or Config({}, checkpoint.path)
    named = _named_classes(spec, config, architecture)
    layouts = (checkpoint.layout,) if checkpoint.layout else layout_names()
    if checkpoint.container == "safetensors":
        # The metadata of a safetensors file can be wrong or absent; the tensor names cannot.
        layouts = tuple(dict.fromkeys((*layouts, *layout_names())))
    matches = []
    for layout in layouts:
        names = list(checkpoint.in_layout(layout))
        for entry in _candidate_classes(spec, named):
            found = match_class(expand(spec, entry, config), layout, names)
            if found.fits and entry in named:
                return found
            matches.append(found)
    fitting = [one for one in matches if one.fits]
    if fitting:
        return fitting[0]
    return _nearest_match(matches, named, checkpoint)


def _candidate_classes(spec: ArchitectureSpec, named: tuple[ClassSpec, ...]) -> list[ClassSpec]:
    return [*named, *(entry for entry in spec.classes.values() if entry not in named)]


def _named_classes(
    spec: ArchitectureSpec, config: Config, architecture: str | None
) -> tuple[ClassSpec, ...]:
    wanted = (architecture,) if architecture else ()
    found = [spec.class_by_name(name) for name in (*wanted, *config.architectures)]
    keys = dict.fromkeys(entry.key for entry in found if entry is not None)
    return tuple(spec.classes[key] for key in keys)


def _nearest_match(
    matches: list[ClassMatch], named: tuple[ClassSpec, ...], checkpoint: Checkpoint
) -> ClassMatch:
    candidates = [one for one in matches if one.expansion.cls in named] or matches
    best = min(candidates, key=lambda one: one.mismatch_count)
    if not best.stored:
        spec = best.expansion.spec
        raise ArchitectureError(
            f"none of the tensors belongs to the architecture {spec.model_type!r}",
            file=checkpoint.path,
            expected=", ".join(list(best.missing)[:4]) + ", ...",
            found=", ".join(list(checkpoint.tensors)[:4]) + ", ...",
            hint="the config is another model's; give the right one with --config or --architecture",
        )
    return best
