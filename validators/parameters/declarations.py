"""Reads the parameters of pipelines and of generation from their TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

Effect: TypeAlias = Literal["encode", "decode", "used", "none", "refused"]
Value: TypeAlias = Any
"""A value of an option, as JSON gives it."""

TOKENIZER = "tokenizer"
"""Name of the table of the tokenizer's parameters."""

PROCESSOR = "processor"
"""Name of the table of a processor's parameters; of the same names, fields of generation are others."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Parameter:
    """One parameter of a pipeline, or one field of a generation config.

    Attributes:
        name: Its name.
        effect: ``encode``: it changes what the model is given or how it is run; ``decode``: it changes what is made of the
            outputs; ``used``: of generation; ``none``: it cannot change the result; ``refused``.
        takes: The kind of its values; see the head of ``pipelines.toml``.
        about: What it does, or why it is refused.
        choices: The values that it may have; empty for any.
        table: The table of parameters that its value, an object, is checked against.
        group: The shared table that it comes from.
        off: The value of a field of generation that means off.
        least: The smallest number that it may be, or the smallest number of entries; None: any.
        above: The number that it must exceed; None: any.
    """

    name: str
    effect: Effect
    takes: str = "any"
    about: str = ""
    choices: tuple[Value, ...] = ()
    table: str = ""
    group: str = ""
    off: Value = None
    least: int | None = None
    above: float | None = None

    def is_off(self, value: Value) -> bool:
        """Checks whether a value of a field of generation changes nothing."""
        return value is None or value == self.off or value is False or value == []


@dataclass(frozen=True)
class Pipeline:
    """The declaration of one task.

    Attributes:
        parameters: The parameters of its calls by name, without those of generation.
        generation: ``""``: it generates nothing; ``flat``: fields of generation are parameters of the call; ``kwargs``: they
            are given as ``generate_kwargs``.
        speech: Whether Whisper's arguments are fields of generation.
        defaults: The pipeline's own generation settings.
        samples_by_default: Whether transformers draws tokens where nothing else is asked for.
    """

    parameters: Mapping[str, Parameter]
    generation: str
    speech: bool
    defaults: Mapping[str, Value]
    samples_by_default: bool


@cache
def declared_tasks() -> tuple[str, ...]:
    """Returns the names of the declared tasks, in their order."""
    return tuple(name for name in _read("pipelines.toml") if name != "shared")


@cache
def tasks_without_tokenizer() -> tuple[str, ...]:
    """Returns the names of the tasks whose models need no tokenizer."""
    content = _read("pipelines.toml")
    return tuple(name for name in declared_tasks() if content[name].get("tokenizer") is False)


@cache
def pipeline_of(task: str) -> Pipeline | None:
    """Returns the declaration of a task; None for a task of another package."""
    content = _read("pipelines.toml").get(task)
    if content is None or task == "shared":
        return None
    shared = _read("pipelines.toml")["shared"]
    parameters = {}
    for group in content["uses"]:
        parameters.update(_parameters(shared[group], group))
    parameters.update(_parameters({n: v for n, v in content.items() if n not in _SETTINGS}))
    generation = content.get("generation", "")
    return Pipeline(
        parameters,
        {True: "flat", "whisper": "flat"}.get(generation, generation),
        generation == "whisper",
        content.get("defaults", {}),
        bool(content.get("samples_by_default")),
    )


@cache
def generation_fields() -> Mapping[str, Parameter]:
    """Returns the fields of a generation config, in the order of transformers."""
    return _parameters(_read("generation.toml")["fields"])


@cache
def whisper_fields() -> Mapping[str, Parameter]:
    """Returns the arguments of Whisper's own ``generate``."""
    return _parameters(_read("generation.toml")["whisper"])


@cache
def tokenizer_parameters() -> Mapping[str, Parameter]:
    """Returns the parameters of a tokenizer's call."""
    return _parameters(_read("pipelines.toml")["shared"][TOKENIZER], TOKENIZER)


_SETTINGS = ("uses", "generation", "defaults", "samples_by_default", "tokenizer")


def _parameters(
    content: Mapping[str, Mapping[str, Value]], group: str = ""
) -> dict[str, Parameter]:
    return {
        name: Parameter(
            name, **{**values, "choices": tuple(values.get("choices", ()))}, group=group
        )
        for name, values in content.items()
    }


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / name).read_text(encoding="utf-8"))
