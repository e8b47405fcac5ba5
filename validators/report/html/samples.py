"""The results of samples: those of the reference and of a backend side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from equipoise.convert.core.framework_types import JsonValue
from equipoise.validators.report.html.markup import Html, table, tag

MAX_LIST_LINES = 24
"""Maximal number of lines of one answer."""

MAX_LIST_ITEMS = 8
"""Longer lists of numbers are shown as an array."""

MAX_IMAGE_SIDE_PX = 144
"""Length of the longer side of an image in pixels."""


def answers_section(
    samples: Sequence[JsonValue],
    reference: Sequence[JsonValue],
    answers: Sequence[JsonValue],
    label: str,
) -> Html | None:
    """Returns the table; None if the backend has no answers."""
    if not answers:
        return None
    rows: list[list[object]] = []
    for index, answer in enumerate(answers):
        sample = samples[index] if index < len(samples) else ""
        expected = reference[index] if index < len(reference) else None
        rows.append([_sample_cell(sample), *_answer_pair(expected, answer)])
    head: list[object] = ["sample", "reference", label]
    return table("Results for the samples of the first case", head, rows, css="answers")


def _answer_pair(reference: JsonValue, answer: JsonValue) -> tuple[Html, Html]:
    """Returns both answers; differences are highlighted in the backend's."""
    expected_entries, entries = list(_entries(reference)), list(_entries(answer))
    expected_values = dict(expected_entries)
    lines = [
        _list_item(
            name, value, differs=expected_values.get(name), marked=name not in expected_values
        )
        for name, value in entries
    ]
    missing = [name for name, _ in expected_entries if name not in {name for name, _ in entries}]
    if missing:
        lines.append(tag("li", tag("mark", "≠ missing: ", ", ".join(missing[:MAX_LIST_ITEMS]))))
    return _item_list([_list_item(name, value) for name, value in expected_entries]), _item_list(
        lines
    )


def _item_list(lines: list[Html]) -> Html:
    more = (
        [tag("li", f"and {len(lines) - MAX_LIST_LINES} more")]
        if len(lines) > MAX_LIST_LINES
        else []
    )
    return tag("ul", lines[:MAX_LIST_LINES], more, class_="plain")


def _list_item(
    name: str, value: JsonValue, *, differs: JsonValue = None, marked: bool = False
) -> Html:
    text, image = _abbreviate(value), _image_tag(value)
    off = marked or (differs is not None and _differs(differs, value))
    shown = tag("mark", "≠ ", text) if off else tag("span", text)
    return tag("li", tag("b", f"{name}: ") if name else None, shown, image)


def _sample_cell(sample: JsonValue) -> Html:
    return _item_list([_list_item(name, value) for name, value in _entries(sample)])


def _entries(value: JsonValue, name: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Yields an answer as names and values; long lists of numbers are one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entries(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and not _is_numeric(value):
        for index, item in enumerate(value):
            yield from _entries(item, f"{name}[{index}]" if name or len(value) > 1 else "")
    else:
        yield name, np.asarray(value) if isinstance(value, (list, tuple)) else value


def _is_numeric(value: JsonValue) -> bool:
    """Checks whether nested lists contain only numbers, and enough of them to be shown as an array."""
    try:
        array = np.asarray(value)
    except ValueError:
        return False
    return array.dtype.kind in "fiub" and array.size > MAX_LIST_ITEMS


def _abbreviate(value: JsonValue) -> str:
    if _is_image(value):
        return f"image {value.size[0]} x {value.size[1]}, {value.mode}"
    if isinstance(value, float) or (hasattr(value, "dtype") and not getattr(value, "shape", ())):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _describe_array(np.asarray(value))
    text = str(value)
    return text if len(text) <= 400 else f"{text[:400]} … ({len(text)} characters)"


def _describe_array(value: JsonValue) -> str:
    shape = " x ".join(map(str, value.shape))
    if not value.size or value.dtype.kind not in "fiub":
        return f"array {shape} of {value.dtype}"
    values = value.astype(np.float64)
    low, high, middle = (f"{number:.4g}" for number in (values.min(), values.max(), values.mean()))
    return f"array {shape} of {value.dtype}, from {low} to {high}, mean {middle}"


def _differs(reference: JsonValue, value: JsonValue) -> bool:
    """Checks whether the displayed values differ; images of one size are compared pixel by pixel."""
    if _abbreviate(reference) != _abbreviate(value):
        return True
    if _is_image(reference) and _is_image(value):
        return bool(reference.tobytes() != value.tobytes())
    return False


def _is_image(value: JsonValue) -> bool:
    return hasattr(value, "save") and hasattr(value, "mode") and hasattr(value, "size")


def _image_tag(value: JsonValue) -> Html | None:
    """Returns a small PNG inside the page; None if the value is no image or has a mode that PNG does not support."""
    if not _is_image(value):
        return None
    small = value.copy()
    small.thumbnail((MAX_IMAGE_SIDE_PX, MAX_IMAGE_SIDE_PX))
    file = io.BytesIO()
    try:
        small.save(file, format="PNG")
    except OSError:
        return None
    data = base64.b64encode(file.getvalue()).decode()
    return tag("img", src=f"data:image/png;base64,{data}", alt=_abbreviate(value))
