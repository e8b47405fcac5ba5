"""Tells what a research repository left: an architecture's variables by names that all its checkpoints have, and its config by the file's name.

The section ``[google]`` of an architecture lists them under ``marks`` and ``config_files``.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from equipoise.convert.architectures import name_templates
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.architectures.spec_files import spec_names

T5X_LAYOUTS = ("t5x", "t5x-scanned")
T5X_EMBEDDING = "token_embedder/embedding"
"""Every tree of T5X has it."""


@cache
def known_specs(layout: str = "google") -> tuple[ArchitectureSpec, ...]:
    """Returns the architectures that have an optional layout."""
    loaded = (load_spec(name) for name in spec_names())
    return tuple(spec for spec in loaded if spec is not None and spec.layouts[layout])


def marked_specs(names: Collection[str], layout: str = "google") -> list[ArchitectureSpec]:
    """Returns the architectures whose marks in an optional layout are all among the names of a checkpoint's variables.

    >>> [spec.model_type for spec in marked_specs(["transformer/layer_0/rel_attn/qkv/kernel"])]
    ['transfo-xl']
    """
    return [spec for spec in known_specs(layout) if has_marks(spec, names, layout)]


def t5x_layout(names: Collection[str]) -> str | None:
    """Returns the layout of a tree of T5X, with or without scanned layers; None for any other tree."""
    # Architecture files are read only for what looks like T5X.
    if not any(name.endswith(T5X_EMBEDDING) for name in names):
        return None
    layouts = (one for one in T5X_LAYOUTS if marked_specs(names, one))
    return next(layouts, None)


def has_marks(spec: ArchitectureSpec, names: Collection[str], layout: str = "google") -> bool:
    """Whether an architecture has marks, and all of them are among the names of a checkpoint's variables."""
    marks = spec.layouts[layout].get("marks", ())
    return bool(marks) and all(_any_ends_as(mark, names) for mark in marks)


def _any_ends_as(mark: str, names: Collection[str]) -> bool:
    """Whether any name is a mark; there may be many names."""
    ending = mark.rpartition("}")[2]
    return any(_ends_as(mark, name) for name in names if name.endswith(ending))


def _ends_as(mark: str, name: str) -> bool:
    """Whether a name is a mark, possibly with scopes before it."""
    while True:
        if name_templates.match_name(mark, name) is not None:
            return True
        _, slash, name = name.partition("/")
        if not slash:
            return False


def type_of_file(name: str) -> str | None:
    """Returns the model type whose repository names its config so, e.g. ``gpt2`` for ``hparams.json``; None if there is none."""
    specs = (one for one in known_specs() if name in one.layouts["google"].get("config_files", ()))
    return next((one.model_type for one in specs), None)
