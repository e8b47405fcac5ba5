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
from equipoise.convert.derive.search.path_templates import find_templates
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
    memory = BuildCache()
    given_config = kind.config
    kind = _reduce_layers(kind)
    base = kind.values(kind.config)
    samples = [
        _observe_config(kind, memory, _changes_from_base(kind, one, base), one)
        for one in kind.samples
    ]
    variants, stuck = explore_variants(
        partial(_build_variant, kind, memory),
        compared_texts(kind),
        _values_to_try(kind, base),
        [one for one in samples if one is not None],
    )
    given = 0
    if given_config is not kind.config:
        given_variant = _observe_config(
            kind, memory, _changes_from_base(kind, given_config, base), given_config
        )
        if given_variant is not None:
            given = len(variants)
            variants.append(given_variant)
    prefix, bases = _find_base_classes(kind, variants[0].observations)
    prefixed = [
        replace(
            one,
            observations={
                n: observations.with_prefix(prefix if n in bases else "")
                for n, observations in one.observations.items()
            },
        )
        for one in variants
    ]
    search = ExpressionSearch(prefixed)
    named = {
        (at, name): observations.modules
        for at, one in enumerate(prefixed)
        for name, observations in one.observations.items()
    }
    by_number = {
        at for at, one in enumerate(prefixed) if all(map(_may_change_counts, one.changes.values()))
    }
    paths = find_templates(named, [one.values for one in prefixed], by_number, search)
    known = {
        **{name: None for one in variants for name in one.values},
        **kind.values(given_config),
        **default_values(given_config),
    }
    observations_of_type = Observations(
        kind.model_type, variants, prefixed, given, prefix, bases, paths, known, stuck
    )
    file = compose_spec(observations_of_type, search)
    return DerivedArchitecture(
        kind.model_type,
        file.text,
        find_differences(file.spec, variants),
        unbuilt,
        file.unsolved,
        file.exact_for_given_config,
        stuck,
        len(variants),
    )


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
    memory: BuildCache,
    changes: Mapping[str, Any],
    classes: frozenset[str] | None = None,
) -> Variant | None:
    try:
        config = kind.config_with(changes)
    except build_errors():
        return None
    return _observe_config(kind, memory, changes, config, classes)


def _observe_config(
    kind: ModelType,
    memory: BuildCache,
    changes: Mapping[str, Any],
    config: Any,
    classes: frozenset[str] | None = None,
) -> Variant | None:
    values = flatten_config(config)
    observations: dict[str, ClassObservation] = {}
    for name in kind.classes:
        if classes is not None and name not in classes:
            continue
        is_known, found = memory.find(name, values)
        if not is_known:
            with record_config_reads() as read:
                try:
                    found = kind.observe(name, config)
                except build_errors():
                    found = None
            memory.add(name, values_read(read, config, values), found)
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
