"""A file of samples that the user gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.validators.tasks.base import resolved


def read_samples(file: Path) -> list[Mapping[str, Any]]:
    """The samples of a JSON file: a list of inputs, or of objects that have ``inputs``.

    Names of pictures and sounds are relative to the file.

    Raises:
        InputError: It is not there, no JSON, or holds no sample.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except ValueError as error:
        raise InputError(f"not JSON: {error}", file=file) from error
    listed = values if isinstance(values, list) else [values]
    samples = [one.get("inputs", one) if isinstance(one, dict) else None for one in listed]
    if not samples or None in samples:
        raise InputError(
            "not a list of samples",
            file=file,
            expected='[{"inputs": {"text": "..."}}, ...]',
            found=type(values).__name__,
        )
    return [resolved(file.parent, sample) for sample in samples]
