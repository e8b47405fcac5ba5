"""Plants faults in the files beside a program, and in the config of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.validators.models.folder import ModelFolder
from faults.planting.onnx_graph import NoSiteError, Planted, pick
from faults.planting.weight_files import convert_in_place

Random = np.random.Generator

TEXT = "A Good film IS good; THE other is not."
"""Words in capitals and small letters, that tokenizers encode."""


def set_field(
    artifact: Path, random: Random, backend: str, fixture: Path, file: str, field: str, value: Any
) -> Planted:
    """Sets a field of a JSON file, ``a.b`` for one within another; the file and the field must be there.

    Raises:
        NoSiteError: They are not, or the field has this value.
    """
    content = read_json(artifact / file)
    *parents, leaf = field.split(".")
    inner = content
    for name in parents:
        inner = inner.get(name) or {}
    old = inner.get(leaf)
    new = changed_value(old, value)
    if old is None or new == old:
        raise NoSiteError
    inner[leaf] = new
    write_json(artifact / file, content)
    return Planted(f"{file}: {field} is {json.dumps(new)[:80]} for {json.dumps(old)[:80]}")


def changed_value(old: Any, value: Any) -> Any:
    """Returns the new value: ``x2`` multiplies numbers, ``+1`` adds to them, ``!`` negates a boolean."""
    if value == "!":
        return not old if isinstance(old, bool) else old
    if isinstance(value, str) and value[:1] in "x+" and isinstance(old, (int, float, list)):
        number = float(value[1:])
        values = old if isinstance(old, list) else [old]
        new = [one * number if value[0] == "x" else one + number for one in values]
        new = [type(a)(b) for a, b in zip(values, new, strict=True)]
        return new if isinstance(old, list) else new[0]
    return value


def add_field(
    artifact: Path, random: Random, backend: str, fixture: Path, file: str, field: str, value: Any
) -> Planted:
    """Sets a field of a JSON file that is there, whether it has the field or not."""
    content = read_json(artifact / file)
    if content.get(field) == value:
        raise NoSiteError
    content[field] = value
    write_json(artifact / file, content)
    return Planted(f"{file}: {field} is {json.dumps(value)}")


def swap_labels(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Swaps the names of two labels."""
    content = read_json(artifact / "config.json")
    labels = content.get("id2label") or {}
    keys = list(labels)[:2]
    if len(keys) < 2:
        raise NoSiteError
    labels[keys[0]], labels[keys[1]] = labels[keys[1]], labels[keys[0]]
    content["label2id"] = {name: int(key) for key, name in labels.items()}
    write_json(artifact / "config.json", content)
    return Planted(f"config.json: the labels {keys[0]} and {keys[1]} are swapped")


def flip_lowercase(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Lets the tokenizer keep the case of letters, or lower it."""
    content = read_json(artifact / "tokenizer.json")
    normalizer = content.get("normalizer")
    if not normalizer or "lowercase" not in normalizer:
        raise NoSiteError
    normalizer["lowercase"] = not normalizer["lowercase"]
    write_json(artifact / "tokenizer.json", content)
    settings = artifact / "tokenizer_config.json"
    if settings.is_file():
        values = {**read_json(settings), "do_lower_case": normalizer["lowercase"]}
        write_json(settings, values)
    check_encoding(artifact, fixture)
    return Planted(f"tokenizer: lowercase is {normalizer['lowercase']}")


def swap_tokens(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Swaps two words of the vocabulary."""
    content = read_json(artifact / "tokenizer.json")
    model = content.get("model") or {}
    vocabulary = model.get("vocab")
    special = {one["id"] for one in content.get("added_tokens", ())}
    if isinstance(vocabulary, dict):
        names = [name for name, number in vocabulary.items() if number not in special]
        one, other = swap_two(random, names)
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    elif isinstance(vocabulary, list):
        rows = [number for number in range(len(vocabulary)) if number not in special]
        i, j = swap_two(random, rows)
        vocabulary[i], vocabulary[j] = vocabulary[j], vocabulary[i]
        one, other = vocabulary[i][0], vocabulary[j][0]
    else:
        raise NoSiteError
    write_json(artifact / "tokenizer.json", content)
    words = artifact / "vocab.txt"
    if words.is_file():
        lines = words.read_text().split("\n")
        a, b = lines.index(one), lines.index(other)
        lines[a], lines[b] = lines[b], lines[a]
        words.write_text("\n".join(lines))
    return Planted(f"tokenizer: {one!r} and {other!r} are swapped")


def swap_two(random: Random, values: Sequence[Any]) -> tuple[Any, Any]:
    """Returns two of the values.

    Raises:
        NoSiteError: There are fewer.
    """
    if len(values) < 2:
        raise NoSiteError
    i, j = random.choice(len(values), 2, replace=False)
    return values[i], values[j]


def lose_post_processor(artifact: Path, random: Random, backend: str, fixture: Path) -> Planted:
    """Lets the tokenizer add no special tokens."""
    content = read_json(artifact / "tokenizer.json")
    if not content.get("post_processor"):
        raise NoSiteError
    content["post_processor"] = None
    write_json(artifact / "tokenizer.json", content)
    check_encoding(artifact, fixture)
    return Planted("tokenizer.json: no post_processor")


def check_encoding(artifact: Path, fixture: Path) -> None:
    """Checks that the tokenizer of an artifact encodes a text otherwise: some classes ignore parts of ``tokenizer.json``.

    Raises:
        NoSiteError: It does not.
    """
    ours, theirs = (ModelFolder(one).tokenizer(TEXT)["input_ids"] for one in (artifact, fixture))
    if ours == theirs:
        raise NoSiteError


def change_config(
    artifact: Path, random: Random, backend: str, fixture: Path, fields: list[str], value: Any
) -> Planted:
    """Changes a field of a checkpoint's config that says how it computes; other frameworks' checkpoints are converted with it."""
    content = read_json(artifact / "config.json")
    parts = [content, *(one for one in content.values() if isinstance(one, dict))]
    sites = [
        (part, name)
        for part in parts
        for name in fields
        if part.get(name) is not None
        and changed_value(part[name], value) not in (part[name], 0)
        and not isinstance(part[name], list)
    ]
    part, name = pick(random, sites)
    old = part[name]
    part[name] = changed_value(old, value)
    write_json(artifact / "config.json", content)
    if backend in ("tensorflow", "flax"):
        convert_in_place(artifact, backend)
    return Planted(f"config.json: {name} is {part[name]} for {old}")


def read_json(file: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        NoSiteError: There is none.
    """
    if not file.is_file():
        raise NoSiteError
    return json.loads(file.read_text())


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
