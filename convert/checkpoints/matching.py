"""Matches the tensors of a checkpoint with the parameters of a model class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from equipoise.convert.architectures import expressions, name_templates
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.core.arrays import Shape
from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.core.rules import Rule
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.layouts import layout_module
from equipoise.convert.layouts.base import LayoutView

IGNORED_HEAD = "of a head that the class lacks; transformers ignores it on loading"
"""Why a tensor of another head is not needed."""


@dataclass(frozen=True)
class ClassMatch:
    """How the tensors of a checkpoint fit a class in a layout.

    Attributes:
        expansion: The class, expanded.
        layout: The layout.
        view: The class in that layout.
        stored: Names of the view that the checkpoint has -> their spelling in the checkpoint.
        ignored: Names that the checkpoint has and the class does not need -> the reason.
        unknown: Names that the checkpoint has and the class does not know.
        missing: Names that the class needs and the checkpoint does not have.
        prefix: What a class that wraps the model put before the names in the checkpoint, e.g. ``model.``.
        notes: Remarks on what was taken for what.
    """

    expansion: Expansion
    layout: str
    view: LayoutView
    stored: Mapping[str, str]
    ignored: Mapping[str, str]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    prefix: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether no name is unknown or missing."""
        return not self.unknown and not self.missing

    @property
    def mismatch_count(self) -> int:
        """How many names are unknown or missing."""
        return len(self.unknown) + len(self.missing)

    def with_config(self, config: Config) -> ClassMatch:
        """Returns the match under a config that says the same about parameters."""
        return replace(self, expansion=replace(self.expansion, config=config))


def layout_view(expansion: Expansion, layout: str) -> LayoutView:
    """Returns how a layout names and stores the parameters of a class."""
    view: LayoutView = layout_module(layout).view(expansion)
    return view


def check_config(expansion: Expansion, class_name: str, layout: str) -> None:
    """Checks that a class of a layout computes what a config says, where the layout's files say it in words of their own.

    Raises:
        ArchitectureError: They compute something else.
    """
    make = getattr(layout_module(layout), "config_files", None)
    if make is not None:
        make(expansion.spec.model_type, class_name, expansion.config, "")


def stored_shapes(rule: Rule, expansion: Expansion, layout: str) -> tuple[Shape, ...]:
    """Returns the shapes that a layout stores for the parameters of a rule.

    Raises:
        ArchitectureError: They do not fit, e.g. where the heads of a config do not divide its width.
    """
    shapes = tuple(expansion.parameters[name].shape for name in rule.sources)
    try:
        return rule.shapes(shapes)
    except ValueError as error:
        fields = ", ".join(_describe_fields(rule, expansion, layout))
        raise ArchitectureError(
            f"the config does not fit the layout {layout}, which splits or joins axes by it",
            file=expansion.config.file,
            tensor=rule.sources[0],
            expected=str(error).removeprefix("expected ").partition(", found")[0],
            found=f"{', '.join(str(list(shape)) for shape in shapes)}; {fields}",
        ) from error


def _describe_fields(rule: Rule, expansion: Expansion, layout: str) -> Iterator[str]:
    """Yields the fields of the config, with their values, that the operations of a rule depend on."""
    spec = expansion.spec
    section = spec.layouts.get(layout.replace("-", "_"), spec.layouts.get(layout, {}))
    templates = {expansion.parameters[name].template for name in rule.sources}
    several = [one["ops"] for one in section.get("rules", ()) if templates & {*one["sources"]}]
    own = [ops for name, ops in section.get("ops", {}).items() if name in templates]
    texts = [ops.get("to", ()) if isinstance(ops, Mapping) else ops for ops in (*own, *several)]
    names = [name for ops in texts for text in ops for name in _field_names(text)]
    names = [one for name in names for one in _field_names(spec.let.get(name, name))]
    theirs = section.get("keras", {}).get("config", {})
    for name in dict.fromkeys(names):
        try:
            value = expansion.config.with_defaults(spec.defaults).lookup(name)
        except ArchitectureError:
            continue
        names_there = [field for field, text in theirs.items() if text == name]
        yield f"{name} {value!r}" + (f" ({names_there[0]} in KerasHub)" if names_there else "")


def _field_names(text: str) -> Iterator[str]:
    return expressions.dotted_names(expressions.parse_expression(text))


def match_class(expansion: Expansion, layout: str, names: Iterable[str]) -> ClassMatch:
    """Compares the names of a checkpoint, in a layout, with those of a class."""
    view = layout_view(expansion, layout)
    known = {name for rule in view.rules for name in rule.targets}
    stored: dict[str, str] = {}
    ignored: dict[str, str] = {}
    unknown = []
    for name in names:
        target = name if name in known else view.aliases.get(name)
        if target is not None and target not in stored:
            stored[target] = name
        elif (reason := _ignored_because(name, view)) is not None:
            ignored[name] = reason
        else:
            unknown.append(name)
    held = _held_by_ties(view, stored)
    missing = [
        name
        for rule in view.rules
        if not all(one in held for one in rule.sources)
        if not _may_be_missing(rule.sources, view, expansion)
        for name in rule.targets
        if name not in stored
    ]
    return ClassMatch(expansion, layout, view, stored, ignored, tuple(unknown), tuple(missing))


def _held_by_ties(view: LayoutView, stored: Iterable[str]) -> set[str]:
    """Returns the parameters whose tensor is stored under the name of one that is tied to them."""
    names = set(stored)
    own = {one for rule in view.rules if names.issuperset(rule.targets) for one in rule.sources}
    held: set[str] = set()
    for name in own:
        while (name := view.shared.get(name, "")) and name not in held:
            held.add(name)
    return held - own


def _may_be_missing(parameters: tuple[str, ...], view: LayoutView, expansion: Expansion) -> bool:
    optional = (view.shared, view.left_out, view.repeated)
    return all(
        any(name in names for names in optional) or expansion.parameters[name].absent
        for name in parameters
    )


def _ignored_because(name: str, view: LayoutView) -> str | None:
    for text, reason in view.ignored.items():
        inside = text.endswith("/") and name.startswith(text)
        if inside or name_templates.match_name(text, name) is not None:
            return reason
    return None


class MatchedCheckpoint:
    """A checkpoint together with the class that its tensors belong to.

    Args:
        checkpoint: The checkpoint.
        match: How its tensors fit the class.
    """

    def __init__(self, checkpoint: Checkpoint, match: ClassMatch) -> None:
        self.checkpoint = checkpoint
        self.match = match
        self.expansion = match.expansion
        self.refs: dict[str, TensorRef] = checkpoint.in_layout(match.layout, match.prefix)
        self.inverse = {name: rule.inverse for rule in match.view.rules for name in rule.sources}

    def ref(self, stored: str) -> TensorRef:
        """Returns the tensor that the layout stores under a name."""
        return self.refs[self.match.stored[stored]]

    def origin(self, name: str) -> str | None:
        """Returns the parameter whose stored tensors hold ``name``: itself, the one that it is tied to, or one tied to it.

        None where no tensor of the checkpoint holds it.
        """
        if self._has_own_tensors(name):
            return name
        view = self.match.view
        tied_to = view.shared.get(name, view.repeated.get(name))
        if tied_to is not None:
            return self.origin(tied_to)
        return next((one for one in self._tied_to(name) if self._has_own_tensors(one)), None)

    def _has_own_tensors(self, name: str) -> bool:
        rule = self.inverse.get(name)
        return rule is not None and all(one in self.match.stored for one in rule.sources)

    def _tied_to(self, name: str) -> Iterator[str]:
        """Yields the parameters that share the tensor of one, directly or through others."""
        for one, other in self.match.view.shared.items():
            if other == name:
                yield one
                yield from self._tied_to(one)

    def origin_to_copy(self, name: str) -> str | None:
        """Returns :meth:`origin`, or None for a parameter that is rebuilt from the config instead of copied."""
        return None if self.expansion.parameters[name].is_rebuilt else self.origin(name)

    def stored_name(self, name: str) -> str | None:
        """Returns the file's name of a parameter's own tensor, or None if it has none."""
        rule = self.inverse.get(name)
        if rule is None or rule.sources[0] not in self.match.stored:
            return None
        return self.ref(rule.sources[0]).name

    def shares_bytes(self, stored: str, other: str | None) -> bool:
        """Whether two tensors of the files are the same bytes by construction."""
        if other is None:
            return False
        first, second = self.checkpoint[stored].identity, self.checkpoint[other].identity
        return stored == other or (first is not None and first == second)

    def misfits(self) -> list[tuple[TensorRef, Shape]]:
        """Returns the tensors whose shape is not the one that the config says, each with that shape."""
        found = []
        for rule in self.match.view.rules:
            shapes = stored_shapes(rule, self.expansion, self.match.layout)
            for stored, expected in zip(rule.targets, shapes, strict=True):
                if stored in self.match.stored and self.ref(stored).shape != expected:
                    found.append((self.ref(stored), expected))
        return found
