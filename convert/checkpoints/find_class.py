"""Finds the architecture and class of a checkpoint from its config and its tensor names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Expansion, expand
from equipoise.convert.architectures.spec import OPTIONAL_LAYOUTS, ArchitectureSpec, ClassSpec
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.find_spec import (
    find_spec,
    first_words,
    is_googles,
    with_google_config,
    with_t5x_config,
)
from equipoise.convert.checkpoints.fit_config import correct_config
from equipoise.convert.checkpoints.matching import (
    IGNORED_HEAD,
    ClassMatch,
    MatchedCheckpoint,
    layout_view,
    match_class,
)
from equipoise.convert.core.errors import ArchitectureError, CheckpointError, SpecError
from equipoise.convert.files.file_names import TASK_PREFIX
from equipoise.convert.layouts import layout_names, may_hold_any_class
from equipoise.convert.research.marks import T5X_LAYOUTS
from equipoise.convert.research.repository_config import is_gin

_HEADS_IGNORED_ON_LOADING = frozenset((
    "pooler", "predictions", "cls", "lm_head", "sop_classifier", "generator_predictions", "generator_lm_head",
    "discriminator_predictions",
))  # fmt: skip
"""First part, below the base model's prefix, of heads that classes without them ignore on loading.

transformers 4.57.6 lists them as ``_keys_to_ignore_on_load_unexpected`` of its TensorFlow classes.
"""
_MAX_PREFIXES_TRIED = 3


def find_class(checkpoint: Checkpoint, architecture: str | None = None) -> ClassMatch:
    """Returns the class and layout that fit a checkpoint's tensors best, under a config that the tensors agree with.

    The class that the config (or ``architecture``) names is preferred if it fits; next is any class that fits
    exactly; then one that fits once a common prefix is removed (``model.`` of a class that wraps the model); then the
    named class without heads that transformers ignores; last is the named class, whose problems the plan then reports.

    Raises:
        ArchitectureError: The architecture is unknown, none of the tensors belongs to it, or several prefixes fit.
    """
    spec, config, notes = find_spec(
        checkpoint, architecture, lambda spec: _fits_exactly(checkpoint, spec)
    )
    if is_googles(checkpoint, spec):
        checkpoint = replace(checkpoint, layout="google")
    search = _ClassSearch(checkpoint, spec, _named_classes(spec, config, architecture), config)
    found = search.run()
    if found.layout == "google" and found.fits and not config.architectures:
        name = found.expansion.cls.name
        found = found.with_config(config.with_edits({"architectures": [name]}))
        notes = (
            *notes,
            f"the class {name}, from the names of the variables, is written into config.json",
        )
    return _fit_config(checkpoint, replace(found, notes=(*notes, *found.notes)))


def _fits_exactly(checkpoint: Checkpoint, spec: ArchitectureSpec) -> bool:
    """Whether a class of an architecture has exactly the names and shapes; the base class, where names lack its prefix."""
    config = checkpoint.config or Config({}, checkpoint.path)
    if checkpoint.layout == "google":
        config = with_google_config(checkpoint, spec, config)
    elif checkpoint.layout in T5X_LAYOUTS and is_gin(config):
        config = with_t5x_config(checkpoint, checkpoint.layout, spec, config)
    elif spec.prefix not in first_words(checkpoint):
        bases = {key: entry for key, entry in spec.classes.items() if entry.base}
        spec = replace(spec, classes=bases)
    if not spec.classes:
        return False
    try:
        found = _ClassSearch(checkpoint, spec, (), config).run()
        if checkpoint.layout == "google":
            found = _fit_config(checkpoint, found)  # which says nothing of labels
        return found.fits and not MatchedCheckpoint(checkpoint, found).misfits()
    except ArchitectureError:
        return False


def _fit_config(checkpoint: Checkpoint, match: ClassMatch) -> ClassMatch:
    """Returns the match under a config that the tensors agree with, where one number in it is all that differs."""
    if not match.fits:
        return match
    misfits = MatchedCheckpoint(checkpoint, match).misfits()
    shapes = [(ref.shape, expected) for ref, expected in misfits]
    correction = correct_config(match.expansion, shapes)
    if correction is None:
        return match
    expansion = expand(match.expansion.spec, match.expansion.cls, correction.config)
    fitted = match_class(expansion, match.layout, [*match.stored.values(), *match.ignored])
    fitted = replace(
        fitted,
        ignored={**match.ignored, **fitted.ignored},
        unknown=(),
        prefix=match.prefix,
        notes=(*match.notes, *correction.notes),
    )
    return match if MatchedCheckpoint(checkpoint, fitted).misfits() else fitted


def with_fitted_config(checkpoint: Checkpoint, match: ClassMatch) -> Checkpoint:
    """Returns the checkpoint with the config of the match, whose corrections a conversion writes."""
    if checkpoint.config is None:
        return checkpoint
    return replace(checkpoint, config=match.expansion.config)


def find_class_if_known(checkpoint: Checkpoint) -> ClassMatch | None:
    """Returns :func:`find_class` of a checkpoint whose config and tensors belong to a known class; None for others."""
    try:
        return find_class(checkpoint)
    except (ArchitectureError, CheckpointError, SpecError):
        return None


def _named_classes(
    spec: ArchitectureSpec, config: Config, architecture: str | None
) -> tuple[ClassSpec, ...]:
    wanted = (architecture,) if architecture else ()
    found = [spec.class_by_name(name) for name in (*wanted, *config.architectures)]
    keys = dict.fromkeys(entry.key for entry in found if entry is not None)
    return tuple(spec.classes[key] for key in keys)


@dataclass(frozen=True)
class _ClassSearch:
    """The search for a class of one architecture."""

    checkpoint: Checkpoint
    spec: ArchitectureSpec
    named: tuple[ClassSpec, ...]
    config: Config

    def run(self) -> ClassMatch:
        matches = []
        for layout in self._layouts():
            for found in self._matches(layout, ""):
                if found.fits and found.expansion.cls in self.named:
                    return found
                matches.append(found)
        if not matches:
            raise ArchitectureError(
                f"no names of {self.spec.model_type!r} in the layout {self.checkpoint.layout} are known",
                file=self.checkpoint.path,
                found=", ".join(list(self.checkpoint.tensors)[:4]) + ", ...",
                hint="the config is another model's; give the right one with --config or --architecture",
            )
        fitting = [one for one in matches if one.fits]
        if fitting:
            return fitting[0]
        wrapped = self._find_wrapped()
        if wrapped is not None and wrapped.fits:
            return wrapped
        best = self._nearest([*matches, *([wrapped] if wrapped else [])])
        return _ignore_heads(best, self.spec) if best.expansion.cls in self.named else best

    def _layouts(self) -> tuple[str, ...]:
        declared = self.checkpoint.layout
        every = tuple(name for name in layout_names() if name not in OPTIONAL_LAYOUTS)
        layouts = (declared,) if declared else every
        if self.checkpoint.container == "safetensors":
            # The metadata of a safetensors file can be wrong or absent; the tensor names cannot.
            layouts = tuple(dict.fromkeys((*layouts, *every)))
        known = {name for entry in self.spec.classes.values() for name in entry.names}
        return tuple(one for one in layouts if one in known or may_hold_any_class(one))

    def _expansions(self, layout: str) -> Iterator[Expansion]:
        """Yields the classes that a layout may have, the named ones first; a preset of KerasHub says which it is, whatever fits."""
        every = self.spec.classes_of(layout)
        if layout == "keras-hub" and self.named:
            names = {entry.name for entry in self.named}
            every = [entry for entry in every if entry.name in names and layout in entry.names]
        for entry in sorted(every, key=lambda entry: entry not in self.named):
            if layout in entry.names or may_hold_any_class(layout):
                yield expand(self.spec, entry, self.config)

    def _matches(self, layout: str, prefix: str) -> Iterator[ClassMatch]:
        names = list(self.checkpoint.in_layout(layout, prefix))
        for expansion in self._expansions(layout):
            yield replace(match_class(expansion, layout, names), prefix=prefix)

    def _find_wrapped(self) -> ClassMatch | None:
        """Returns the best match of names from which a common prefix is removed, or None if there is no such prefix.

        Raises:
            ArchitectureError: Several prefixes fit: there are several models.
        """
        matches = [
            found
            for layout in self._layouts()
            for prefix in self._prefixes(layout)
            for found in self._matches(layout, prefix)
        ]
        matches.sort(key=lambda one: (one.mismatch_count, self._rank(one)))
        whole = [one for one in matches if not one.missing]
        rivals = {one.prefix for one in whole if not _is_nested(one.prefix, whole[0].prefix)}
        if rivals:
            several = sorted({whole[0].prefix, *rivals})
            raise ArchitectureError(
                f"several models of this architecture, under {', '.join(map(repr, several))}",
                file=self.checkpoint.files[0],
                hint=f"convert, inspect and diff (for B: --subtree-b) take one with --subtree, e.g. --subtree {self.checkpoint.prefix}{several[0].rstrip('./')}",
            )
        best = next(iter(whole or matches), None)
        return self._without_values(best) if best is not None else None

    def _without_values(self, match: ClassMatch) -> ClassMatch:
        """Returns the match without single numbers beside the model, e.g. the state of a metric."""
        refs = self.checkpoint.in_layout(match.layout, match.prefix)
        values = {name for name in match.unknown if refs[name].size <= 1}
        reason = f"a value beside the model under {match.prefix!r}"
        return replace(
            match,
            ignored={**match.ignored, **dict.fromkeys(values, reason)},
            unknown=tuple(name for name in match.unknown if name not in values),
            notes=(
                *match.notes,
                f"the model's tensors are named with {match.prefix!r} before them",
            ),
        )

    def _rank(self, match: ClassMatch) -> int:
        return 0 if match.expansion.cls in self.named else 1

    def _prefixes(self, layout: str) -> list[str]:
        """Returns the prefixes after which most names are the class's, without those that lie within another."""
        separator = "." if layout == "pytorch" else "/"
        known: set[str] = set()
        for expansion in self._expansions(layout):
            view = layout_view(expansion, layout)
            known.update(name for rule in view.rules for name in rule.targets)
        counts = Counter(
            prefix
            for name in self.checkpoint.in_layout(layout)
            if not name.startswith(TASK_PREFIX)
            for prefix in _starts(name, separator)
            if name.removeprefix(prefix) in known
        )
        often = max(counts.values(), default=0)
        return [
            prefix
            for prefix, count in counts.most_common(_MAX_PREFIXES_TRIED)
            if 2 * count > often and count > 1
        ]

    def _nearest(self, matches: Sequence[ClassMatch]) -> ClassMatch:
        candidates = [one for one in matches if one.expansion.cls in self.named] or matches
        best = min(candidates, key=lambda one: one.mismatch_count)
        if not best.stored:
            raise self._nothing_belongs(best)
        return best

    def _nothing_belongs(self, best: ClassMatch) -> ArchitectureError:
        names = list(self.checkpoint.tensors)
        lora = any("lora_" in name or name.startswith("base_model.model.") for name in names)
        hint = "the config is another model's; give the right one with --config or --architecture"
        if lora:
            hint = (
                "these are the tensors of a PEFT adapter: convert the base that it belongs to, with --merge-adapter FOLDER "
                "for the folder of the adapter"
            )
        return ArchitectureError(
            f"none of the tensors belongs to the architecture {best.expansion.spec.model_type!r}",
            file=self.checkpoint.path,
            expected=", ".join(list(best.missing)[:4]) + ", ...",
            found=", ".join(names[:4]) + ", ...",
            hint=hint,
        )


def _is_nested(prefix: str, other: str) -> bool:
    """Whether one of two prefixes begins with the other."""
    return prefix.startswith(other) or other.startswith(prefix)


def _starts(name: str, separator: str) -> Iterator[str]:
    """Yields what a name begins with, up to each separator.

    >>> list(_starts("model.bert.weight", "."))
    ['model.', 'model.bert.']
    """
    end = name.find(separator)
    while end != -1:
        yield name[: end + 1]
        end = name.find(separator, end + 1)


def _ignore_heads(match: ClassMatch, spec: ArchitectureSpec) -> ClassMatch:
    """Returns the match without the heads that transformers ignores on loading, if they are all that is unknown."""
    if match.missing or not match.unknown:
        return match
    owned: set[str] = set()
    for entry in spec.classes.values():
        other = match_class(
            expand(spec, entry, match.expansion.config), match.layout, match.unknown
        )
        for stored, name in other.stored.items():
            if _is_ignored_head(other, stored, spec.prefix):
                owned.add(name)
    if owned != set(match.unknown):
        return match
    ignored = {**match.ignored, **dict.fromkeys(match.unknown, IGNORED_HEAD)}
    return replace(match, ignored=ignored, unknown=())


def _is_ignored_head(other: ClassMatch, stored: str, prefix: str) -> bool:
    rule = next(rule for rule in other.view.rules if stored in rule.targets)
    parts = [name.removeprefix(f"{prefix}.").split(".")[0] for name in rule.sources]
    return _HEADS_IGNORED_ON_LOADING.issuperset(parts)
