"""Explores config variants: one field changed, switches flipped, and several changes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

from equipoise.convert.derive.probe.field_values import (
    COUNT_LIMIT,
    candidate_values,
    resized_counts,
    resized_lists,
)
from equipoise.convert.derive.probe.observations import Variant, any_differ, smallest_class_cover


class BuildVariant(Protocol):
    """Builds the classes under the base config with changes; returns None if none can be built."""

    def __call__(
        self, changes: Mapping[str, Any], classes: frozenset[str] | None = None
    ) -> Variant | None:
        """Builds the given classes, or all."""


SHAPE_FREE_FIELD_PARTS = (
    "drop", "_token_id", "token_index", "eps", "initializer", "init_std", "logit_scale_init",
    "theta", "coef", "loss", "temperature", "std", "prob", "smooth", "_id2label",
    "transformers_version", "return_", "output_att", "output_hidden", "use_cache",
    "problem_type", "dtype", "_name_or_path", "model_type", "architectures", "id2label",
    "label2id", "chunk_size", "is_encoder_decoder", "version", "gradient_check",
    "attn_implementation", "_act", "activation", "norm_topk", "begin_supp",
)  # fmt: skip
"""Parts of names of fields that never affect a parameter's shape."""
MAX_CONTEXTS = 4
MAX_PAIRS = 10
WIDTH_FIELD_PARTS = ("size", "dim", "width", "embd", "d_model", "channels")
"""Parts of names of fields that are widths."""
MAX_SAMPLES = 2
"""Number of samples around which every number is changed."""


def explore_variants(
    build: BuildVariant,
    texts: Mapping[str, frozenset[str]],
    hints: Mapping[str, Sequence[Any]],
    samples: Sequence[Variant] = (),
) -> tuple[list[Variant], list[str]]:
    """Returns the variants that differ from the base, the base first, and the fields that could not be changed.

    Args:
        build: Builds the classes.
        texts: Last part of a field's name -> alternative strings.
        hints: Field -> further values to try.
        samples: Variants of real configs.
    """
    base = build({})
    if base is None:
        return [], []
    walk = _VariantExplorer(build, base, texts, hints, samples)
    walk.run()
    return walk.variants, sorted(walk.unchangeable)


class _VariantExplorer:
    def __init__(
        self,
        build: BuildVariant,
        base: Variant,
        texts: Mapping[str, frozenset[str]],
        hints: Mapping[str, Sequence[Any]],
        samples: Sequence[Variant],
    ) -> None:
        self.build = build
        self.base = base
        self.samples = [one for one in samples if any_differ(one.observations, base.observations)]
        self.variants = [base, *self.samples]
        self.texts = texts
        self.hints = hints
        self.fields = [
            name
            for name, value in base.values.items()
            if not is_shape_free(name)
            and not isinstance(value, dict)
            and not (value is None and name.endswith("config"))
        ]
        self.unchangeable: set[str] = set()

    def run(self) -> None:
        numbers, switches = self._singles()
        contexts = [one for one in map(self._among, switches) if one is not None]
        contexts += self._switch_pairs()
        together = self._together(numbers)
        self._equal(numbers)
        contexts += self._hinted()
        for number, context in enumerate(contexts):
            self._add({**together, **context.changes})
            if number < MAX_CONTEXTS:
                self._around(context, numbers)
        for sample in self.samples[:MAX_SAMPLES]:
            self._back(sample)
            self._around(sample, numbers)

    def _around(self, context: Variant, numbers: Sequence[str]) -> None:
        """Changes every number on top of a context, in the classes that show the effect of the context."""
        classes = smallest_class_cover(context.observations, self.base.observations)
        for field in numbers:
            if isinstance(context.values.get(field), int):
                self._change(context, field, classes)

    def _hinted(self) -> list[Variant]:
        """Tries the values of samples and defaults; returns the variants that differ from the base."""
        found = []
        for field, values in self.hints.items():
            for value in values if field in self.fields else ():
                changes = {field: value}
                if value != self.base.values[field] and self._among(changes) is None:
                    self._add(changes)
                    one = self._among(changes)
                    if one is not None and not isinstance(value, list):
                        found.append(one)
        return found

    def _back(self, sample: Variant) -> None:
        """Reverts the fields of a sample to the base, one at a time."""
        classes = smallest_class_cover(sample.observations, self.base.observations)
        for field in sample.changes:
            if field not in self.fields:
                continue
            rest = {name: value for name, value in sample.changes.items() if name != field}
            found = None if self._among(rest) else self.build(rest, classes)
            if found is not None and any_differ(found.observations, sample.observations):
                self.variants.append(found)

    def _singles(self) -> tuple[list[str], list[Mapping[str, Any]]]:
        """Changes each field alone; returns the number fields, and the switches that had an effect."""
        numbers, switches = [], []
        for field in self.fields:
            value = self.base.values[field]
            found = self._change(self.base, field)
            if isinstance(value, (bool, str)) or value is None:
                if found is not None:
                    switches.append(found.changes)
            else:
                numbers.append(field)
            if found is not None and not isinstance(found.values[field], (bool, str)):
                classes = smallest_class_cover(found.observations, self.base.observations)
                self._change(self.base, field, classes, start=1, but=found.values[field])
        return numbers, switches

    def _among(self, changes: Mapping[str, Any]) -> Variant | None:
        return next((one for one in self.variants if one.changes == changes), None)

    def _change(
        self,
        parent: Variant,
        field: str,
        classes: frozenset[str] | None = None,
        *,
        start: int = 0,
        but: Any = None,
    ) -> Variant | None:
        """Builds candidates until one can be built; keeps it if it differs from the parent."""
        refused = False
        for changes in list(self._candidates(parent, field))[start:]:
            if changes[field] == but:
                continue
            found = self.build({**parent.changes, **changes}, classes)
            if found is None:
                refused = True
                continue
            changed = any_differ(found.observations, parent.observations)
            if changed:
                self.variants.append(found)
            if not isinstance(parent.values[field], (str, list, float)) or (
                changed and isinstance(parent.values[field], (str, float))
            ):
                return found if changed else None
        if refused and start == 0 and parent is self.base:
            self.unchangeable.add(field)
        return None

    def _candidates(self, parent: Variant, field: str) -> Iterator[dict[str, Any]]:
        value = parent.values[field]
        texts = self.texts.get(field.rpartition(".")[2], frozenset())
        for other in candidate_values(field, value, texts):
            yield {field: other}
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                yield {field: other, **resized_lists(parent.values, value, other)}
            if isinstance(value, list) and len(other) != len(value):
                every = {**resized_lists(parent.values, len(value), len(other)), field: other}
                yield every
                yield {**every, **resized_counts(parent.values, len(value), len(other))}

    def _switch_pairs(self) -> list[Variant]:
        """Flips pairs of switches; returns the pairs whose switches have an effect only together."""
        switches = [name for name in self.fields if isinstance(self.base.values[name], bool)]
        found = []
        for names in list(combinations(switches, 2))[:MAX_PAIRS]:
            flipped = {name: not self.base.values[name] for name in names}
            if not self._add(flipped):
                continue
            pair = self._among(flipped)
            singles = [self._among({name: value}) for name, value in flipped.items()]
            if pair is not None and singles == [None, None]:
                found.append(pair)
        return found

    def _together(self, numbers: list[str]) -> Mapping[str, Any]:
        """Applies all single changes of numbers at once, as far as the classes can be built."""
        alone = [one.changes for one in self.variants if len(one.changes) == 1]
        single = {next(iter(one)): dict(one) for one in alone if next(iter(one)) in numbers}
        every = {name: value for one in single.values() for name, value in one.items()}
        if self._add(every):
            return every
        kept: dict[str, Any] = {}
        for change in single.values():
            if self.build({**kept, **change}) is not None:
                kept.update(change)
        self._add(kept)
        return kept

    def _equal(self, numbers: list[str]) -> None:
        """Sets pairs of sizes equal: projections between equal sizes are often omitted."""
        changed_fields = [next(iter(one.changes)) for one in self.variants if len(one.changes) == 1]
        values = self.base.values
        sizes = [
            name
            for name in dict.fromkeys(changed_fields)
            if name in numbers and type(values[name]) is int and values[name] >= COUNT_LIMIT
        ]
        wide = [name for name in sizes if any(part in name for part in WIDTH_FIELD_PARTS)]
        for name in dict.fromkeys(changed_fields):
            first = values[name][0] if isinstance(values[name], list) and values[name] else None
            for one in wide if type(first) is int and first >= COUNT_LIMIT else ():
                if values[one] != first:
                    self._add({one: first})
        for one, other in list(combinations(wide, 2))[:MAX_PAIRS]:
            if values[one] != values[other]:
                for changes in ({one: values[other]}, {other: values[one]}):
                    if self._add(changes):
                        break

    def _add(self, changes: Mapping[str, Any]) -> bool:
        known = any(one.changes == changes for one in self.variants)
        found = None if known else self.build(changes)
        if found is not None and any_differ(found.observations, self.base.observations):
            self.variants.append(found)
        return known or found is not None


def is_shape_free(name: str) -> bool:
    """Whether a field never affects a parameter's shape, judged by its name."""
    return any(part in name for part in SHAPE_FREE_FIELD_PARTS)
