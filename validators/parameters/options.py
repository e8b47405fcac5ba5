"""Checks the options of a call against the declared parameters and sorts them by what they change."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.convert.core.hints import did_you_mean
from equipoise.validators.parameters.declarations import (
    PROCESSOR,
    TOKENIZER,
    Parameter,
    Pipeline,
    Value,
    generation_fields,
    pipeline_of,
    tokenizer_parameters,
    whisper_fields,
)


@dataclass(frozen=True)
class CallOptions:
    """The options of a call.

    Attributes:
        case: Those that change what the model is given or how it is run.
        decode: Those that change what is made of the outputs.
    """

    case: dict[str, Any] = field(default_factory=dict)
    decode: dict[str, Any] = field(default_factory=dict)


def sort_options(task: str, options: Mapping[str, Value]) -> CallOptions:
    """Sorts the options of a call of a task by what they change.

    Raises:
        InputError: An option is unknown, refused, or has a wrong value; or tokens shall be drawn without a seed.
    """
    pipeline = pipeline_of(task)
    found = CallOptions()
    if pipeline is None:
        for name, value in options.items():
            side = found.case if name in generation_fields() else found.decode
            side[name] = value
        return found
    known = {**pipeline.parameters, **_fields(pipeline, pipeline.generation == "flat")}
    for name, value in options.items():
        parameter = _find(task, name, known)
        check_value(parameter, value)
        _add(task, pipeline, found, parameter, value)
    if found.case.get("do_sample") and found.case.get("seed") is None:
        raise InputError(
            "sampling is not supported without a seed: each run would give another text",
            hint="--option seed=1, or beam search: --option num_beams=4",
        )
    return found


def check_value(parameter: Parameter, value: Value) -> None:
    """Checks the value of a parameter.

    Raises:
        InputError: It is of the wrong kind, not among the choices, or the parameter is refused.
    """
    if parameter.effect == "refused":
        if value is None or (parameter.is_off(value) and parameter.group != TOKENIZER):
            return
        raise InputError(
            f"the option {parameter.name} is not supported: {parameter.about}", found=_shown(value)
        )
    kind = parameter.takes.removesuffix("?")
    is_open = kind == "any" and not parameter.choices
    if value is None and (parameter.takes.endswith("?") or is_open):
        return
    if not _KINDS[kind](value):
        shown = _KIND_NAMES.get(kind, kind)
        article = "an" if shown[0] in "aeio" else "a"
        raise InputError(
            f"the option {parameter.name} takes {article} {shown}",
            found=_shown(value),
        )
    _check_range(parameter, value)
    choices = parameter.choices
    shown = value.lower() if isinstance(value, str) else value
    if choices and not any(shown == one and isinstance(shown, type(one)) for one in choices):
        raise InputError(
            f"no such {parameter.name}",
            found=_shown(value),
            expected=", ".join(map(_shown, choices)),
        )


def _check_range(parameter: Parameter, value: Value) -> None:
    number = value if _is_number(value) else len(value) if isinstance(value, list) else None
    if number is None:
        return
    if parameter.takes.startswith("tokens"):
        number = min(value) if isinstance(value, list) else value
    if parameter.least is not None and number < parameter.least:
        are_entries = isinstance(value, list) and not parameter.takes.startswith("tokens")
        bound = "an entry or more" if are_entries else f"at least {parameter.least}"
    elif parameter.above is not None and number <= parameter.above:
        bound = f"more than {parameter.above:g}"
    else:
        return
    raise InputError(f"the option {parameter.name} takes {bound}", found=_shown(value))


def _add(
    task: str, pipeline: Pipeline, found: CallOptions, parameter: Parameter, value: Value
) -> None:
    if parameter.effect in ("none", "refused"):
        return
    if parameter.table == "generation":
        _add_generation(task, pipeline, found, value or {})
    elif parameter.table == TOKENIZER:
        for name, inner in (value or {}).items():
            check_value(_find(task, name, tokenizer_parameters()), inner)
        found.case.setdefault(TOKENIZER, {}).update(value or {})
    elif parameter.group in (TOKENIZER, PROCESSOR):
        found.case.setdefault(parameter.group, {})[parameter.name] = value
    elif parameter.effect == "decode":
        found.decode[parameter.name] = value
    else:
        _set_once(found, parameter.name, value)


def _set_once(found: CallOptions, name: str, value: Value) -> None:
    if name in found.case:
        raise InputError(
            f"the option {name} is given twice, once of them in generate_kwargs",
            found=f"{_shown(found.case[name])} and {_shown(value)}",
        )
    found.case[name] = value


def _add_generation(
    task: str, pipeline: Pipeline, found: CallOptions, values: Mapping[str, Value]
) -> None:
    known = _fields(pipeline, is_open=True)
    if pipeline.speech:
        known["return_timestamps"] = pipeline.parameters["return_timestamps"]
    for name, value in values.items():
        parameter = _find(task, name, known)
        check_value(parameter, value)
        if name == "return_timestamps" and value:
            # transformers takes it for its own argument: times are written, and left out of the answer, or not.
            raise InputError(
                "return_timestamps is an option of the call, not of generate_kwargs",
                hint="give return_timestamps beside generate_kwargs",
            )
        if parameter.effect not in ("none", "refused"):
            _set_once(found, name, value)


def _fields(pipeline: Pipeline, is_open: bool) -> dict[str, Parameter]:
    """Returns the fields of generation that a call may name itself; ``seed`` always, where the task generates."""
    if not pipeline.generation:
        return {}
    if not is_open:
        return {"seed": generation_fields()["seed"]}
    return {**generation_fields(), **(whisper_fields() if pipeline.speech else {})}


def _find(task: str, name: str, known: Mapping[str, Parameter]) -> Parameter:
    if name in known:
        return known[name]
    near = did_you_mean(name, known, least=0.5)
    inside = "generate_kwargs" in known and name in generation_fields()
    hint = f'give it inside generate_kwargs: {{"{name}": ...}}' if inside else None
    if name == "generate_kwargs" and "max_new_tokens" in known:
        hint = "give its fields by themselves: --option max_new_tokens=20"
    raise InputError(
        f"{task} has no option {name}",
        expected=", ".join(sorted(known)) if not near and not inside else None,
        hint=hint or near or "docs/run.md lists the options of each task",
    )


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_integer(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Value) -> bool:
    return _is_integer(value) or (isinstance(value, float) and not math.isnan(value))


def _is_ids(value: Value) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_integer, value))


def _is_sequence_of_tokens(value: Value) -> bool:
    return _is_ids(value) and bool(value) and min(value) >= 0


def _is_bias(value: Value) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and _is_sequence_of_tokens(value[0]) and isinstance(value[1], float)


_KIND_NAMES = {
    "table": "object",
    "texts": "text or a list of texts",
    "boolean": "boolean (true or false)",
    "tokens": "token id or a list of one or more token ids",
    "ids": "list of token ids",
    "sequences": "list of lists of token ids: [[5, 7], [9]]",
    "biases": "list of pairs of token ids and a number with a point: [[[5, 7], -2.5]]",
    "pair": "list of two numbers",
}
_KINDS: dict[str, Callable[[Value], bool]] = {
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: isinstance(value, str | list | tuple),
    "list": lambda value: isinstance(value, list | tuple),
    "table": lambda value: isinstance(value, Mapping),
    "tokens": lambda value: _is_integer(value) or (_is_ids(value) and bool(value)),
    "ids": _is_ids,
    "sequences": lambda value: (
        isinstance(value, list | tuple) and all(map(_is_sequence_of_tokens, value))
    ),
    "biases": lambda value: isinstance(value, list | tuple) and all(map(_is_bias, value)),
    "pair": lambda value: (
        isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    ),
    "any": lambda value: True,
}
