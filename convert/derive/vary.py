"""Which configs to look at: the base, one field changed, switches turned, and several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

from equipoise.convert.derive.seen import Seen, Values, Variant

Build = Callable[[Mapping[str, Any]], Variant | None]
"""The classes under the base config with changes; None when no class can be built so."""

IDLE = (
    *(
        "drop",
        "_token_id",
        "token_index",
        "eps",
        "initializer",
        "init_std",
        "logit_scale_init",
        "theta",
        "coef",
        "loss",
        "temperature",
    ),
    *("std", "prob", "smooth", "_id2label", "transformers_version", "return_", "output_att"),
    *("output_hidden", "use_cache", "problem_type", "dtype", "_name_or_path", "model_type"),
    *("architectures", "id2label", "label2id", "chunk_size", "is_encoder_decoder", "version"),
    *("gradient_check", "attn_implementation", "_act", "activation", "norm_topk", "begin_supp"),
)
"""Parts of the names of fields that no parameter's shape depends on."""
MOST_CONTEXTS = 4
MOST_PAIRS = 10
WIDTHS = ("size", "dim", "width", "embd", "d_model", "channels")
"""Parts of the names of fields that say how wide something is."""
SMALL = 9
"""A number below it is taken for a count and raised by one; a larger one is doubled."""


def explore(build: Build, texts: Mapping[str, frozenset[str]]) -> tuple[list[Variant], list[str]]:
    """The variants that matter, the base first, and the fields that could not be changed."""
    base = build({})
    if base is None:
        return [], []
    walk = _Walk(build, base, texts)
    walk.run()
    return walk.variants, sorted(walk.stuck)


class _Walk:
    def __init__(self, build: Build, base: Variant, texts: Mapping[str, frozenset[str]]) -> None:
        self.build = build
        self.base = base
        self.variants = [base]
        self.texts = texts
        self.fields = [
            name
            for name, value in base.values.items()
            if not any(part in name for part in IDLE)
            and not isinstance(value, dict)
            and not (value is None and name.endswith("config"))
        ]
        self.stuck: set[str] = set()

    def run(self) -> None:
        numbers, switches = self._singles()
        contexts = [one for one in map(self._among, switches) if one is not None]
        contexts += self._pairs()
        together = self._together(numbers)
        self._equal(numbers)
        for place, context in enumerate(contexts):
            self._add({**together, **context.changes})
            for field in numbers if place < MOST_CONTEXTS else ():
                if isinstance(context.values.get(field), int):
                    self._change(context, field)

    def _singles(self) -> tuple[list[str], list[Mapping[str, Any]]]:
        """Changes each field alone; gives the numbers, and the switches that changed something."""
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
                self._change(self.base, field, start=1, but=found.values[field])
        return numbers, switches

    def _among(self, changes: Mapping[str, Any]) -> Variant | None:
        return next((one for one in self.variants if one.changes == changes), None)

    def _change(
        self, parent: Variant, field: str, start: int = 0, but: Any = None
    ) -> Variant | None:
        """Keeps the first candidate that can be built, when it changes anything."""
        refused = False
        for changes in list(self._candidates(parent, field))[start:]:
            if changes[field] == but:
                continue
            found = self.build({**parent.changes, **changes})
            if found is None:
                refused = True
                continue
            changed = _differs(found.seen, parent.seen)
            if changed:
                self.variants.append(found)
            if not isinstance(parent.values[field], (str, list, float)) or (
                changed and isinstance(parent.values[field], (str, float))
            ):
                return found if changed else None
        if refused and start == 0 and parent is self.base:
            self.stuck.add(field)
        return None

    def _candidates(self, parent: Variant, field: str) -> Iterator[dict[str, Any]]:
        value = parent.values[field]
        others = self.texts.get(field.rpartition(".")[2], frozenset())
        for other in _others(value, others):
            yield {field: other}
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                yield {field: other, **_lists(parent.values, value, other)}
            if isinstance(value, list) and len(other) != len(value):
                lists = {**_lists(parent.values, len(value), len(other)), field: other}
                yield lists
                yield {**lists, **_counts(parent.values, len(value), len(other))}

    def _pairs(self) -> list[Variant]:
        """Two switches at once, where the second does something only beside the first."""
        switches = [name for name in self.fields if isinstance(self.base.values[name], bool)]
        found = []
        for names in list(combinations(switches, 2))[:MOST_PAIRS]:
            flipped = {name: not self.base.values[name] for name in names}
            if not self._add(flipped):
                continue
            pair = self._among(flipped)
            singles = [self._among({name: value}) for name, value in flipped.items()]
            if pair is not None and singles == [None, None]:
                found.append(pair)
        return found

    def _together(self, numbers: list[str]) -> Mapping[str, Any]:
        """All that can be changed alone, changed at once, as far as the classes take it."""
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
        """Two sizes made equal: what lies between them may go then."""
        moved = [next(iter(one.changes)) for one in self.variants if len(one.changes) == 1]
        values = self.base.values
        sizes = [
            name
            for name in dict.fromkeys(moved)
            if name in numbers and type(values[name]) is int and values[name] >= SMALL
        ]
        wide = [name for name in sizes if any(part in name for part in WIDTHS)]
        for one, other in list(combinations(wide, 2))[:MOST_PAIRS]:
            if values[one] != values[other]:
                for changes in ({one: values[other]}, {other: values[one]}):
                    if self._add(changes):
                        break

    def _add(self, changes: Mapping[str, Any]) -> bool:
        known = any(one.changes == changes for one in self.variants)
        found = None if known else self.build(changes)
        if found is not None and _differs(found.seen, self.base.seen):
            self.variants.append(found)
        return known or found is not None


def _differs(seen: Mapping[str, Seen], other: Mapping[str, Seen]) -> bool:
    return any(seen[name] != other[name] for name in seen.keys() & other.keys())


def _others(value: Any, texts: frozenset[str]) -> Iterator[Any]:
    """Other values of a field, the likeliest first."""
    match value:
        case bool():
            yield not value
        case int():
            small = (value + 1, 2 * value, value + 2, value - 1, 3 * value)
            large = (2 * value, 3 * value, value + 1, value // 2, 4 * value, value + 8)
            yield from dict.fromkeys(one for one in (small if value < SMALL else large) if one > 0)
            if value == 0:
                yield from (4, 8)
        case float():
            yield from (2 * value, value / 2, value + 1, 0.0)
        case None:
            yield from (16, 12, True)
        case str():
            yield from sorted(texts - {value})
            yield "none"
            if texts == {value}:
                yield "other"
        case [*items] if items and all(type(one) is int for one in items):
            yield [2 * one for one in items]
            yield [*items, items[-1]]
            yield [*items, 2 * items[-1]]
            for place in range(min(len(items), 4)):
                yield [2 * one if at == place else one for at, one in enumerate(items)]
        case [*items] if items and all(isinstance(one, (str, bool)) for one in items):
            yield items[::-1]
            yield [items[-1], *items[:-1]]
            for text in sorted(texts - set(map(str, items))):
                yield [text, *items[1:]]


def _lists(values: Values, count: int, wanted: int) -> dict[str, Any]:
    """Every list of one length, cut or continued to another."""
    return {
        name: [value[place % count] for place in range(wanted)]
        for name, value in values.items()
        if isinstance(value, list) and len(value) == count
    }


def _counts(values: Values, count: int, wanted: int) -> dict[str, Any]:
    """Every number that may be the length of a list."""
    return {
        name: wanted
        for name, value in values.items()
        if type(value) is int and value == count and ("num" in name or "layers" in name)
    }
