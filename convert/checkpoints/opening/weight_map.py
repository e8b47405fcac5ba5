"""Finds the map that holds the weights in the file of a training loop, beside optimizer, scheduler and callbacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError, InputError
from equipoise.convert.core.tensor import TensorRef

WEIGHT_MAPS = frozenset((
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
    "state_dict_ema", "ema", "ema_state_dict", "ema_model", "model_ema", "model_weights", "checkpoint", "student",
    "teacher", "generator", "discriminator", "encoder_state_dict", "decoder_state_dict", "net_state_dict", "shadow_params",
))  # fmt: skip
"""Names under which training loops save weights."""

NON_WEIGHTS = (
    (re.compile(r".*optim.*|opt_state|opt|opt_states?|tx", re.IGNORECASE), "state of the optimizer"),
    (re.compile(r".*(lr_)?sched.*", re.IGNORECASE), "state of the scheduler"),
    (re.compile(r".*scaler.*|amp|dynamic_scale|loss_scale", re.IGNORECASE), "state of the loss scaling"),
    (re.compile(r"callbacks|loops|.*metrics?|.*history|criterion|loss|losses", re.IGNORECASE), "state of the training loop"),
    (re.compile(r".*rng.*|random_states?|.*seed", re.IGNORECASE), "state of a random generator"),
    (re.compile(r"hyper_parameters|hparams|.*config|args|opts?|(frozen_)?param_shapes|buffer_names|param_groups", re.IGNORECASE), "settings of the training"),
    (re.compile(r"frozen_param_fragments"), "copies of frozen parameters"),
    (re.compile(r"step|epoch|global_steps?|iterations?|iter|num_updates", re.IGNORECASE), "counter of the training"),
)  # fmt: skip
"""Names beside the weights in files of training loops -> what they are."""

_NESTED_CONTAINERS = ("pytorch", "distributed_checkpoint")
_TRAIN_STATES = ("flax_msgpack", "orbax", "t5x_checkpoint")
_MAX_LEVELS = 4


@dataclass(frozen=True)
class WeightMap:
    """Where in a file the weights lie.

    Attributes:
        prefix: What the names of the weights begin with; empty for a file that holds nothing else.
        left_out: Tensors beside them -> the reason.
    """

    prefix: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


def non_weight_reason(key: str) -> str | None:
    """Returns why the value of a key in the file of a training loop is no weight; None if it may be one.

    >>> non_weight_reason("optimizer_states"), non_weight_reason("lr_schedulers"), non_weight_reason("model")
    ('state of the optimizer', 'state of the scheduler', None)
    """
    return next((reason for pattern, reason in NON_WEIGHTS if pattern.fullmatch(key)), None)


def choose_weight_map(
    tensors: Mapping[str, TensorRef], separators: str, path: Path, name: str
) -> WeightMap:
    """Returns the map that the user names with ``--subtree``.

    Raises:
        InputError: No tensor lies under that name.
    """
    for separator in separators:
        prefix = f"{name.rstrip('./')}{separator}"
        if any(one.startswith(prefix) for one in tensors):
            rest = [one for one in tensors if not one.startswith(prefix)]
            return WeightMap(prefix, dict.fromkeys(rest, f"outside of the sub-tree {name!r}"))
    first = sorted({re.split(r"[./]", one)[0] for one in tensors})
    raise InputError(
        f"no tensor lies under {name!r}",
        file=path,
        expected="the first parts of a tensor's name; `equipoise inspect --tensors` lists the names",
        found=f"names that begin with {', '.join(first[:8])}",
    )


@dataclass(frozen=True)
class FileContent:
    """What a file holds, as far as it matters here.

    Attributes:
        path: The file, for messages.
        container: Its container, e.g. ``pytorch``.
        tensors: Its tensors by name.
        maps: Names of the upper maps that hold tensors.
    """

    path: Path
    container: str
    tensors: Mapping[str, TensorRef]
    maps: frozenset[str]


def find_weight_map(content: FileContent) -> WeightMap:
    """Finds the map of the weights in a file of nested maps.

    Raises:
        CheckpointError: Several maps hold weights, and nothing says which is meant.
    """
    if content.container in _TRAIN_STATES:
        return _find_in_train_state(content.tensors)
    if content.container not in _NESTED_CONTAINERS or not content.maps:
        return WeightMap()
    prefix = ""
    left_out: dict[str, str] = {}
    for _ in range(_MAX_LEVELS):
        found = _descend(content, prefix)
        if found is None:
            break
        left_out.update(found.left_out)
        prefix = found.prefix
    return WeightMap(prefix, left_out)


def _descend(content: FileContent, prefix: str) -> WeightMap | None:
    """Returns the one map below a prefix that holds the weights, or None if the weights lie here."""
    left_out: dict[str, str] = {}
    maps: dict[str, None] = {}
    for name, ref in content.tensors.items():
        if not name.startswith(prefix):
            continue
        key = _key_below(content, prefix, name)
        reason = non_weight_reason(key.removeprefix(prefix))
        if reason is not None:
            left_out[name] = reason
        elif key in content.maps:
            maps[key] = None
        elif ref.size > 1:
            return None  # weights lie at this level
        else:
            left_out[name] = "a value of the training, not a weight"
    weights = [one for one in maps if _holds_tensors(content, one)]
    known = [one for one in weights if one.removeprefix(prefix) in WEIGHT_MAPS]
    if not weights or not (known or (len(weights) == 1 and left_out)):
        return None
    if len(maps) > 1:
        raise _several_maps(content, list(maps))
    return WeightMap(f"{weights[0]}.", left_out)


def _key_below(content: FileContent, prefix: str, name: str) -> str:
    """Returns the map below a prefix that a tensor lies in, or the tensor's own name."""
    end = name.find(".", len(prefix))
    while end != -1:
        if name[:end] in content.maps or non_weight_reason(name[len(prefix) : end]):
            return name[:end]
        end = name.find(".", end + 1)
    return name


def _holds_tensors(content: FileContent, key: str) -> bool:
    """Whether a map itself holds tensors or maps of weights, rather than maps of a model's parts."""
    start = f"{key}."
    for name in content.tensors:
        if name.startswith(start):
            below = _key_below(content, start, name)
            if below not in content.maps or below.removeprefix(start) in WEIGHT_MAPS:
                return True
    return False


def _several_maps(content: FileContent, maps: list[str]) -> CheckpointError:
    counts = {one: sum(name.startswith(f"{one}.") for name in content.tensors) for one in maps}
    return CheckpointError(
        "several maps of this file hold weights, and nothing says which is meant",
        file=content.path,
        found=", ".join(f"{name} ({count} tensors)" for name, count in counts.items()),
        hint=f"convert, inspect and diff (for B: --subtree-b) take one with --subtree, e.g. --subtree {maps[0]}",
    )


def _find_in_train_state(tensors: Mapping[str, TensorRef]) -> WeightMap:
    """Finds the parameters in a ``TrainState`` of Flax, or in an ``Optimizer`` of Flax before 0.6."""
    keys = {name.partition("/")[0] for name in tensors}
    if "target" in keys and keys <= {"target", "state"}:
        slots = [name for name in tensors if name.startswith("state/")]
        return WeightMap("target/", dict.fromkeys(slots, "state of the optimizer"))
    if "params" not in keys:
        return WeightMap()
    left_out = {
        name: reason
        for name in tensors
        if (reason := non_weight_reason(name.partition("/")[0])) is not None
    }
    twice = any(name.startswith("params/params/") for name in tensors)
    return WeightMap("params/" if twice else "", left_out)
