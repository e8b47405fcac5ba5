"""Lists repositories of the Hub by a filter: ``hf://?library=tf&task=fill-mask&author=google``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from equipoise.convert.checkpoints.hub import hub_errors
from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean, install_hint

SCHEME = "hf://?"
_KNOWN = ("library", "task", "author", "search", "limit", "skip")
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")


def list_repositories(query: str) -> Iterator[str]:
    """Yields the repositories that fit a filter, each with its commit: ``hf://owner/name@commit``.

    ``skip=safetensors`` leaves out those that have safetensors already.

    Raises:
        InputError: The filter has an unknown field, or the Hub does not answer.
    """
    fields = dict(parse_qsl(query.removeprefix(SCHEME), keep_blank_values=True))
    for name in fields:
        if name not in _KNOWN:
            raise InputError(
                "no such field of a filter",
                found=name,
                expected=", ".join(_KNOWN),
                hint=did_you_mean(name, _KNOWN),
            )
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise InputError(
            "a filter of the Hub needs huggingface_hub", hint=install_hint("hub")
        ) from error
    try:
        for one in hub.HfApi().list_models(full=True, **_arguments(fields)):
            names = {file.rfilename for file in one.siblings or ()}
            if fields.get("skip") == "safetensors" and names & set(_SAFETENSORS):
                continue
            yield f"hf://{one.id}@{one.sha}" if one.sha else f"hf://{one.id}"
    except hub_errors().all as error:
        raise InputError(
            f"the Hub cannot be asked: {str(error).splitlines()[0]}", found=query
        ) from error


def _arguments(fields: dict[str, str]) -> dict[str, Any]:
    limit = fields.get("limit")
    if limit is not None and not limit.isdecimal():
        raise InputError("limit is a number", found=limit)
    found: dict[str, Any] = {
        "filter": fields.get("library"),
        "pipeline_tag": fields.get("task"),
        "author": fields.get("author"),
        "search": fields.get("search"),
        "limit": int(limit) if limit is not None else None,
    }
    return {name: value for name, value in found.items() if value is not None}
