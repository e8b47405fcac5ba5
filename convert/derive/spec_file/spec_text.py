"""Renders the text of an architecture file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.convert.architectures.expressions import dotted_names, parse_expression
from equipoise.convert.derive.probe.observations import ConfigValues


@dataclass(frozen=True)
class SpecLine:
    """One line under ``[modules]``."""

    path: str
    kind: str
    when: str = ""


@dataclass(frozen=True)
class SpecDraft:
    """The content of an architecture file.

    Attributes:
        model_type: ``model_type`` of ``config.json``.
        prefix: The prefix that base classes omit.
        bases: The base classes.
        lines: Class -> its lines.
        counts: Index -> the expression of its count.
        ties: Parameter -> (the parameter that it is tied to, condition).
        defaults: Defaults of config fields by dotted name.
        remarks: Comment lines at the top of the file.
    """

    model_type: str
    prefix: str
    bases: frozenset[str]
    lines: Mapping[str, Sequence[SpecLine]]
    counts: Mapping[str, str]
    ties: Mapping[str, tuple[str, str]]
    defaults: ConfigValues
    remarks: Sequence[str] = ()


def render_spec(draft: SpecDraft) -> str:
    """Returns the text of the file."""
    stem = _common_stem(list(draft.lines))
    groups = _group_lines(draft.lines, stem)
    sections = [
        "\n".join(f"# {line}" for line in draft.remarks),
        "\n".join(_head(draft, stem)),
        "\n".join(_defaults(draft)),
        "\n".join(_table("repeat", draft.counts)),
        *("\n".join(_modules(name, lines)) for name, lines in groups.items()),
        "\n".join(_classes(draft, groups, stem)),
        "\n".join(_ties(draft.ties)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(draft: SpecDraft, stem: str) -> Iterator[str]:
    yield f"model_type = {_text(draft.model_type)}"
    yield f"name = {_text(stem)}"
    if draft.prefix and draft.bases:
        yield f"prefix = {_text(draft.prefix)}"


def _common_stem(names: Sequence[str]) -> str:
    """Returns the common prefix of all class names, cut at a word."""
    shared = names[0].removesuffix("Model")
    while shared and not all(
        one.startswith(shared) and one[len(shared) :][:1].isupper() for one in names
    ):
        shared = shared[:-1]
    return shared


def _group_lines(
    by_class: Mapping[str, Sequence[SpecLine]], stem: str
) -> dict[str, list[SpecLine]]:
    """Groups lines by the classes that have them; a path occurs once in a group."""
    classes: dict[SpecLine, list[str]] = {}
    for name, lines in by_class.items():
        for line in lines:
            classes.setdefault(line, []).append(name)
    names: dict[tuple[str, ...], str] = {}
    found: dict[str, list[SpecLine]] = {}
    for line, members in classes.items():
        key = tuple(members)
        if key not in names:
            names[key] = _group_name(key, len(by_class), stem, set(names.values()))
        options = (names[key] if n == 1 else f"{names[key]}_{n}" for n in range(1, 100))
        group = next(
            one for one in options if all(old.path != line.path for old in found.get(one, ()))
        )
        found.setdefault(group, []).append(line)
    return found


def _group_name(members: tuple[str, ...], every: int, stem: str, taken: set[str]) -> str:
    if len(members) == every:
        name = "body"
    elif len(members) == 1:
        own = members[0].removeprefix(stem).removeprefix("For")
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", own).lower()
    else:
        name = "shared"
    options = (name if number == 1 else f"{name}_{number}" for number in range(1, 200))
    return next(one for one in options if one not in taken)


def _modules(group: str, lines: Sequence[SpecLine]) -> Iterator[str]:
    yield f"[modules.{group}]"
    for line in lines:
        value = _text(line.kind)
        if line.when:
            value = f"{{ kind = {value}, when = {_text(line.when)} }}"
        yield f"{_text(line.path)} = {value}"


def _classes(
    draft: SpecDraft, groups: Mapping[str, Sequence[SpecLine]], stem: str
) -> Iterator[str]:
    yield "[classes]"
    for name, lines in draft.lines.items():
        own = set(lines)
        mine = [group for group, many in groups.items() if set(many) <= own and many]
        listed = ", ".join(map(_text, mine))
        base = ", base = true" if name in draft.bases else ""
        yield f"{_text(name.removeprefix(stem))} = {{ groups = [{listed}]{base}, tensorflow = false }}"


def _ties(ties: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    if not ties:
        return
    yield "[ties]"
    for name, (target, when) in ties.items():
        value = f"{{ to = {_text(target)}, when = {_text(when)} }}" if when else _text(target)
        yield f"{_text(name)} = {value}"


def _defaults(draft: SpecDraft) -> Iterator[str]:
    """Yields the defaults of the fields that expressions use."""
    texts = [
        *draft.counts.values(),
        *(when for _, when in draft.ties.values() if when),
        *(text for lines in draft.lines.values() for one in lines for text in (one.kind, one.when)),
    ]
    named = {name for text in texts if text for name in dotted_names(parse_expression(text))}
    used = [name for name in draft.defaults if name in named and name != "num_labels"]
    return _table("defaults", {name: draft.defaults[name] for name in used})


def _table(section: str, values: Mapping[str, Any]) -> Iterator[str]:
    if values:
        yield f"[{section}]"
    for name, value in values.items():
        yield f"{name if name.isidentifier() else _text(name)} = {_value(value)}"


def _value(value: Any) -> str:
    """Returns a TOML value; TOML has no null, so None becomes false."""
    if value is None:
        return "false"
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def join_limited(texts: Iterable[str], most: int = 8) -> str:
    """Joins texts with commas and cuts the list after ``most``."""
    every = list(texts)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")
