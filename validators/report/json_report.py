"""The complete report as JSON."""

from __future__ import annotations

import json

from equipoise.convert.core import json_values
from equipoise.validators.judgement.results import Report, to_json_value

SCHEMA_VERSION = 1
"""Increased when a field is removed or changes its meaning."""


def to_json(report: Report) -> str:
    """Returns the report as a JSON document; NaN and infinity become null."""
    values = json_values.to_json_value(
        {"generator": "equipoise", "schema": SCHEMA_VERSION, **to_json_value(report)}
    )
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is not UTF-8 contains lone surrogates, which cannot be encoded.
    return text.encode("utf-8", "replace").decode("utf-8")
