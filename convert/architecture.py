"""Finds out which architecture a checkpoint has: from its config, checked against its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert import template
from equipoise.convert.checkpoint import Checkpoint
from equipoise.convert.config import Config
from equipoise.convert.errors import ArchitectureError, SpecError
from equipoise.convert.expand import Expansion, expand
from equipoise.convert.layouts import View, layout_module, layout_names
from equipoise.convert.spec import ClassSpec, Spec, load_spec, read_spec, spec_names


@dataclass(frozen=True)
class Match:
    """How the tensors of a checkpoint fit a class in a layout.

    Attributes:
        expansion: The class, expanded.
        layout: The layout.
        view: The class in that layout.
        stored: Names of the layout that are there, in the view's spelling -> the file's spelling.
        ignored: Names that are there without need -> the reason.
        unknown: Names that are there and unaccounted for.
        missing: Names that should be there.
    """

    expansion: Expansion
    layout: str
    view: View
    stored: Mapping[str, str]
    ignored: Mapping[str, str]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every tensor is accounted for, on both sides."""
        return not self.unknown and not self.missing

    @property
    def distance(self) -> int:
        """How many names do not fit."""
        return len(self.unknown) + len(self.missing)


def match(expansion: Expansion, layout: str, names: Iterable[str]) -> Match:
    """Accounts for names of a layout against a class."""
    view: View = layout_module(layout).view(expansion)
    known = {name for rule in view.rules for name in rule.targets}
    stored: dict[str, str] = {}
    ignored: dict[str, str] = {}
    unknown = []
    for name in names:
        target = name if name in known else view.aliases.get(name)
        if target is not None and target not in stored:
            stored[target] = name
        elif (reason := _ignored(name, view)) is not None:
            ignored[name] = reason
        else:
            unknown.append(name)
    missing = [
        name
        for rule in view.rules
        if not _may_be_missing(rule.sources, view, expansion)
        for name in rule.targets
        if name not in stored
    ]
    return Match(expansion, layout, view, stored, ignored, tuple(unknown), tuple(missing))


def _may_be_missing(parameters: tuple[str, ...], view: View, expansion: Expansion) -> bool:
    optional = (view.shared, view.left_out, view.repeated)
    return all(
        any(name in names for names in optional) or expansion.parameters[name].absent
        for name in parameters
    )


def _ignored(name: str, view: View) -> str | None:
    for text, reason in view.ignored.items():
        if template.match(text, name) is not None:
            return reason
    return None


def find_spec(config: Config | None, architecture: str | None) -> Spec:
    """The spec for a config, or for ``--architecture`` (a model type, a class name, or an architecture file).

    Raises:
        ArchitectureError: There is no config, or no spec for its model type.
    """
    if architecture is not None and architecture.endswith(".toml"):
        return _spec_of_file(Path(architecture))
    if architecture is not None:
        spec = load_spec(architecture) or _spec_of_class(architecture)
        if spec is None:
            raise ArchitectureError(
                f"unknown architecture {architecture!r}",
                expected="a model type or a class of one: " + ", ".join(spec_names()),
            )
        return spec
    if config is None:
        raise ArchitectureError(
            "no config.json beside the weights",
            hint="put it there, or give it with --config",
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


def _spec_of_file(file: Path) -> Spec:
    """The spec in a file of the user's own, whose mistakes are the user's too."""
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


def _spec_of_class(name: str) -> Spec | None:
    for model_type in spec_names():
        spec = load_spec(model_type)
        if spec is not None and spec.class_named(name) is not None:
            return spec
    return None


def find_class(checkpoint: Checkpoint, architecture: str | None = None) -> Match:
    """The class and layout that a checkpoint's tensors fit best.

    The class that the config (or ``architecture``) names is taken when it fits; else one that fits exactly;
    else the named one, whose problems the plan will then report.

    Raises:
        ArchitectureError: The architecture is unknown, or none of its classes is near.
    """
    spec = find_spec(checkpoint.config, architecture)
    config = checkpoint.config or Config({}, checkpoint.path)
    named = _named_classes(spec, config, architecture)
    layouts = (checkpoint.layout,) if checkpoint.layout else layout_names()
    if checkpoint.container == "safetensors":
        # The metadata of a safetensors file can be wrong or absent; the names cannot.
        layouts = tuple(dict.fromkeys((*layouts, *layout_names())))
    matches = []
    for layout in layouts:
        names = list(checkpoint.in_layout(layout))
        for entry in _ordered(spec, named):
            found = match(expand(spec, entry, config), layout, names)
            if found.fits and entry in named:
                return found
            matches.append(found)
    fitting = [one for one in matches if one.fits]
    if fitting:
        return fitting[0]
    return _nearest(matches, named, checkpoint)


def _ordered(spec: Spec, named: tuple[ClassSpec, ...]) -> list[ClassSpec]:
    return [*named, *(entry for entry in spec.classes.values() if entry not in named)]


def _named_classes(spec: Spec, config: Config, architecture: str | None) -> tuple[ClassSpec, ...]:
    wanted = (architecture,) if architecture else ()
    found = [spec.class_named(name) for name in (*wanted, *config.architectures)]
    keys = dict.fromkeys(entry.key for entry in found if entry is not None)
    return tuple(spec.classes[key] for key in keys)


def _nearest(matches: list[Match], named: tuple[ClassSpec, ...], checkpoint: Checkpoint) -> Match:
    candidates = [one for one in matches if one.expansion.cls in named] or matches
    best = min(candidates, key=lambda one: one.distance)
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
