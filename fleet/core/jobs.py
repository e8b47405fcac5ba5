"""Jobs: one command line each, with a key of all that decides its result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

from equipoise.convert.core.errors import InputError

Options: TypeAlias = Mapping[str, Any]
"""Options of a command by name, as JSON has them."""

_SOFTWARE: Mapping[str, tuple[str, ...]] = {
    "convert": ("equipoise",),
    "validate": ("equipoise", "torch", "transformers", "tensorflow", "jax", "flax", "onnxruntime"),
    "export": ("equipoise", "torch", "transformers", "tensorflow", "jax", "flax", "onnx", "onnxscript", "onnxruntime"),
}  # fmt: skip
"""Command -> distributions whose versions decide the result."""

_KEY_DIGITS = 32
_NAME_CHARACTERS = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Job:
    """One run of a command on one source.

    Attributes:
        command: ``convert``, ``validate`` or ``export``, or a command of another worker
            (see :class:`equipoise.fleet.running.job_runner.RunSettings`).
        source: A path, or an id of the Hub.
        arguments: The other arguments of the command line.
        identity: What the source holds: a digest of the names, sizes and times of its files, or a commit of the Hub.
        software: The versions of the distributions that decide the result.
    """

    command: str
    source: str
    arguments: tuple[str, ...] = ()
    identity: str = ""
    software: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The job's key: 32 hexadecimal digits of the SHA-256 of everything above."""
        text = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_DIGITS]

    @property
    def name(self) -> str:
        """The end of the source as the name of a file.

        >>> Job("convert", "models/google-bert/bert-base-uncased").name
        'google-bert--bert-base-uncased'
        """
        split = re.split(r"[/\\]+", self.source.removeprefix("hf://"))
        parts = [part for part in split if part not in ("", ".")]
        return _UNSAFE.sub("_", "--".join(parts[-2:]))[-_NAME_CHARACTERS:].lstrip(".") or "model"

    def as_dict(self) -> dict[str, Any]:
        """Returns the job as JSON has it."""
        return {
            "command": self.command,
            "source": self.source,
            "arguments": list(self.arguments),
            "identity": self.identity,
            "software": dict(self.software),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Job:
        """Returns the job of a line of ``jobs/*.jsonl``."""
        return cls(
            values["command"],
            values["source"],
            tuple(values["arguments"]),
            values["identity"],
            values["software"],
        )


@cache
def installed_software(command: str) -> Mapping[str, str]:
    """Returns the versions of the installed distributions that decide the results of a command."""
    found = {}
    for name in _SOFTWARE[command]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def option_arguments(options: Options) -> list[str]:
    """Returns options of JSON as arguments of a command line.

    >>> option_arguments({"to": "flax", "dtype": None, "allow_lossy": True, "allow": ["a=x", "b=y"]})
    ['--to', 'flax', '--allow-lossy', '--allow', 'a=x', '--allow', 'b=y']

    Raises:
        InputError: A value is neither text, number, true, false, null nor a list of them.
    """
    arguments: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                arguments.append(flag)
            elif isinstance(one, str | int | float) and one is not False:
                arguments += [flag, str(one)]
            elif one not in (None, False):
                raise InputError(
                    f"the option {name} of a job has no such value",
                    found=json.dumps(one),
                    expected="text, a number, true, false, null, or a list of them",
                )
    return arguments


def of_shard(jobs: Sequence[Job], shard: tuple[int, int] | None) -> list[Job]:
    """Returns the jobs of a shard.

    Args:
        jobs: All jobs.
        shard: Number of the shard, from 1, and how many there are; None takes all jobs.
    """
    if shard is None:
        return list(jobs)
    number, count = shard
    return [job for job in jobs if int(job.key, 16) % count == number - 1]
