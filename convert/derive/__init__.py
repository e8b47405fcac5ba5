"""Derives an architecture file from PyTorch's model classes, for review by a person.

The classes of a model type are built on the meta device under a base config and under many configs that differ in a
field or two. From the shapes that change with a field, expressions for sizes, counts and conditions are searched;
the file is then compared with every model that was built. Where no expression is found the file says so. Needs torch
and transformers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import ArchitectureError
from equipoise.convert.derive.probe.config_access import (
    BuildCache,
    record_config_reads,
    values_read,
)
from equipoise.convert.derive.probe.config_variants import explore_variants
from equipoise.convert.derive.probe.field_values import resized_lists
from equipoise.convert.derive.probe.model_classes import (
    ModelType,
    build_errors,
    compared_texts,
    default_values,
    flatten_config,
    open_model_type,
)
from equipoise.convert.derive.probe.observations import ClassObservation, ConfigValues, Variant
from equipoise.convert.derive.search.path_templates import PathTemplates, find_templates
from equipoise.convert.derive.search.search import ExpressionSearch
from equipoise.convert.derive.spec_file.check import find_differences
from equipoise.convert.derive.spec_file.compose import Observations, compose_spec

MAX_LAYERS_BUILT = 8
REDUCED_LAYERS = 6
"""A base config with more layers than ``MAX_LAYERS_BUILT`` is reduced to this many: enough for patterns over a few layers."""


@dataclass(frozen=True)
class DerivedArchitecture:
    """An architecture file and its comparison with the models.

    Attributes:
        model_type: The model type.
        text: The text of the file.
        classes: Class -> differences between the file and the model; none if they are equal.
        unbuilt: Class -> why it cannot be built from the base config.
        unsolved: Modules and ties without an expression: they are written as they are under the given config.
        exact_for_given_config: Whether the file is exact for every class under the given config.
        unchangeable: Config fields that could not be changed.
        configs: Number of configs that the file was compared with.
    """

    model_type: str
    text: str
    classes: Mapping[str, Sequence[str]]
    unbuilt: Mapping[str, str]
    unsolved: Sequence[str]
    exact_for_given_config: bool
    unchangeable: Sequence[str]
    configs: int

    @property
    def complete(self) -> bool:
        """Whether the file is exact for every class that can be built, under every config."""
        return not any(self.classes.values())


def derive(
    source: str, classes: Sequence[str] = (), *, also: Sequence[str | Path] = ()
) -> DerivedArchitecture:
    """Derives the architecture file of a model type.

    Args:
        source: A model type of transformers, a folder with a ``config.json``, or such a file.
        classes: Names of the classes to include; empty for all.
        also: Further folders or configs of the same model type; their differences from the base config are tried too.

    Raises:
        InputError: torch or transformers is missing, there is no such class, or a further config has another model type.
        ArchitectureError: transformers does not have the model type, or none of its classes can be built.
    """
    kind = open_model_type(source, tuple(classes), tuple(map(str, also)))
    with _silence_transformers():
        unbuilt = {}
        for name in kind.classes:
            try:
                if not kind.observe(name, kind.config).shapes:
                    unbuilt[name] = "it has no tensors"
            except build_errors() as error:
                unbuilt[name] = f"{type(error).__name__}: {error}"
        buildable = {name: one for name, one in kind.classes.items() if name not in unbuilt}
        if not buildable:
            raise ArchitectureError(
                f"no class of {kind.model_type!r} can be built on the meta device",
                found="; ".join(f"{name}: {why}" for name, why in unbuilt.items()),
            )
        return _derive(replace(kind, classes=buildable), unbuilt)


def _derive(kind: ModelType, unbuilt: Mapping[str, str]) -> DerivedArchitecture:
    """Derives the file of a type whose classes can all be built."""
    given_config = kind.config
    reduced = _reduce_layers(kind)
    variants, given, unchangeable = _observe_variants(reduced, given_config)
    prefix, bases = _find_base_classes(reduced, variants[0].observations)
    prefixed = [_with_prefix(one, prefix, bases) for one in variants]
    search = ExpressionSearch(prefixed)
    observations = Observations(
        kind.model_type,
        variants,
        prefixed,
        given,
        prefix,
        bases,
        _find_paths(prefixed, search),
        {
            **{name: None for one in variants for name in one.values},
            **reduced.values(given_config),
            **default_values(given_config),
        },
        unchangeable,
    )
    file = compose_spec(observations, search)
    return DerivedArchitecture(
        kind.model_type,
        file.text,
        find_differences(file.spec, variants),
        unbuilt,
        file.unsolved,
        file.exact_for_given_config,
        unchangeable,
        len(variants),
    )


def _observe_variants(kind: ModelType, given_config: Any) -> tuple[list[Variant], int, list[str]]:
    """Returns the variants, the index of the given config among them, and the fields that cannot be changed."""
    cache = BuildCache()
    base = kind.values(kind.config)

    def observe(config: Any) -> Variant | None:
        return _observe_config(kind, cache, _changes_from_base(kind, config, base), config)

    samples = [observe(config) for config in kind.samples]
    variants, unchangeable = explore_variants(
        partial(_build_variant, kind, cache),
        compared_texts(kind),
        _values_to_try(kind, base),
        [one for one in samples if one is not None],
    )
    given = None if given_config is kind.config else observe(given_config)
    if given is None:
        return variants, 0, unchangeable
    return [*variants, given], len(variants), unchangeable


def _with_prefix(variant: Variant, prefix: str, bases: frozenset[str]) -> Variant:
    """Returns a variant with the prefix before all names of base classes."""
    observations = {
        name: one.with_prefix(prefix if name in bases else "")
        for name, one in variant.observations.items()
    }
    return replace(variant, observations=observations)


def _find_paths(variants: Sequence[Variant], search: ExpressionSearch) -> PathTemplates:
    """Returns the templates of all module paths."""
    paths = {
        (at, name): one.modules
        for at, variant in enumerate(variants)
        for name, one in variant.observations.items()
    }
    by_number = {
        at for at, one in enumerate(variants) if all(map(_may_change_counts, one.changes.values()))
    }
    return find_templates(paths, [one.values for one in variants], by_number, search)


def _may_change_counts(value: Any) -> bool:
    """Whether a changed value can change the number of modules."""
    return isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool))


def _reduce_layers(kind: ModelType) -> ModelType:
    """Returns the type with fewer layers in its base config, because models are built many times."""
    values = kind.values(kind.config)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if type(value) is int and value > MAX_LAYERS_BUILT and "layers" in name.rpartition(".")[2]:
            changes |= {name: REDUCED_LAYERS, **resized_lists(values, value, REDUCED_LAYERS)}
    if not changes:
        return kind
    try:
        config = kind.config_with(changes)
        for name in kind.classes:
            kind.observe(name, config)
    except build_errors():
        return kind
    return replace(kind, config=config)


def _changes_from_base(kind: ModelType, sample: Any, base: ConfigValues) -> dict[str, Any]:
    """Returns the fields in which a config differs from the base."""
    return {
        name: value
        for name, value in kind.values(sample).items()
        if name not in base or base[name] != value
    }


def _values_to_try(kind: ModelType, base: ConfigValues) -> dict[str, list[Any]]:
    """Returns field -> values of the samples, and special defaults such as None, 0 or -1."""
    found: dict[str, list[Any]] = {}
    for config in kind.samples:
        for name, value in _changes_from_base(kind, config, base).items():
            if value not in found.setdefault(name, []):
                found[name].append(value)
    for name, value in default_values(kind.config).items():
        own = base.get(name)
        special = value is None or isinstance(value, (bool, str)) or value in (0, -1)
        if name in base and special and value != own:
            found.setdefault(name, []).append(value)
    return found


def _build_variant(
    kind: ModelType,
    cache: BuildCache,
    changes: Mapping[str, Any],
    classes: frozenset[str] | None = None,
) -> Variant | None:
    try:
        config = kind.config_with(changes)
    except build_errors():
        return None
    return _observe_config(kind, cache, changes, config, classes)


def _observe_config(
    kind: ModelType,
    cache: BuildCache,
    changes: Mapping[str, Any],
    config: Any,
    classes: frozenset[str] | None = None,
) -> Variant | None:
    values = flatten_config(config)
    observations: dict[str, ClassObservation] = {}
    for name in kind.classes:
        if classes is not None and name not in classes:
            continue
        is_known, found = cache.find(name, values)
        if not is_known:
            with record_config_reads() as read:
                try:
                    found = kind.observe(name, config)
                except build_errors():
                    found = None
            cache.add(name, values_read(read, config, values), found)
        if found is not None:
            observations[name] = found
    return (
        Variant(changes, kind.values(config), config.to_dict(), observations)
        if observations
        else None
    )


def _find_base_classes(
    kind: ModelType, observations: Mapping[str, ClassObservation]
) -> tuple[str, frozenset[str]]:
    """Returns the base model prefix and the base classes, whose names omit it."""
    for prefix in dict.fromkeys(kind.prefixes[name] for name in observations):
        start = f"{prefix}."
        having = {
            n for n, one in observations.items() if any(p.startswith(start) for p in one.shapes)
        }
        lacking = {n for n in observations if n not in having and kind.prefixes[n] == prefix}
        theirs = {name for n in having for name in observations[n].shapes}
        bases = {
            n
            for n in lacking
            if observations[n].shapes and any(start + p in theirs for p in observations[n].shapes)
        }
        if prefix and bases:
            return prefix, frozenset(bases)
    return "", frozenset()


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """Suppresses transformers' warnings about unusual configs."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
