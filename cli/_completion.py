"""Values that a shell completes: names of tasks, formats, targets, backends and environments."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""Returns what the incomplete word may become."""


def complete(names: Callable[[], Iterable[str]], *, many: bool = False) -> Completer:
    """Returns a completer of names.

    Args:
        names: Returns all of them; it is called when somebody asks, since it may import much.
        many: Whether the value is a list that is separated by commas: its last name is completed.
    """

    def completer(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",") if many else ("", "", incomplete)
        return [CompletionItem(before + comma + name) for name in names() if name.startswith(last)]

    return completer


def _tasks() -> list[str]:
    from equipoise.validators.tasks.base import task_names

    return list(task_names())


def _formats() -> list[str]:
    from equipoise.convert.conversion.routes import all_formats
    from equipoise.convert.layouts import layout_names

    writable = [name for name, (_, one) in all_formats().items() if one.writable]
    return [*dict.fromkeys([*layout_names(), *writable])]


def _targets() -> list[str]:
    from equipoise.exporters.target import target_names

    return list(target_names())


def _backends() -> list[str]:
    from equipoise.validators.models.sources import backend_names

    return list(backend_names())


complete_task = complete(_tasks)
complete_format = complete(_formats)
complete_target = complete(_targets)
complete_backend = complete(_backends)
complete_backends = complete(_backends, many=True)
