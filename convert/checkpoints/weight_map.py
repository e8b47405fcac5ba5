"""Finds the map that holds the weights in the file of a training loop, beside optimizer, scheduler and callbacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from equipoise.convert.containers.base import Container
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
    (re.compile(r"hyper_parameters|hparams|.*config|args|opts?|param_shapes|buffer_names|param_groups", re.IGNORECASE), "settings of the training"),
    (re.compile(r"step|epoch|global_steps?|iterations?|iter|num_updates", re.IGNORECASE), "counter of the training"),
)  # fmt: skip
"""Names beside the weights in files of training loops -> what they are."""

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
    tensors: Mapping[str, TensorRef], separators: str, path: object, name: str
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
        file=str(path),
        expected="the first parts of a tensor's name; `equipoise inspect --tensors` lists the names",
        found=f"names that begin with {', '.join(first[:8])}",
    )


def find_weight_map(container: Container) -> WeightMap:
    """Finds the map of the weights in a file of nested maps.

    Raises:
        CheckpointError: Several maps hold weights, and nothing says which is meant.
    """
    if container.format == "flax_msgpack":
        return _find_in_train_state(container.tensors)
    if container.format != "pytorch" or not container.maps:
        return WeightMap()
    prefix = ""
    left_out: dict[str, str] = {}
    for _ in range(_MAX_LEVELS):
        found = _descend(container, prefix)
        if found is None:
            break
        left_out.update(found.left_out)
        prefix = found.prefix
    return WeightMap(prefix, left_out)


def _descend(container: Container, prefix: str) -> WeightMap | None:
    """Returns the one map below a prefix that holds the weights, or None if the weights lie here."""
    left_out: dict[str, str] = {}
    maps: list[str] = []
    for name, ref in container.tensors.items():
        if not name.startswith(prefix):
            continue
        key = _key_below(container, prefix, name)
        reason = non_weight_reason(key.removeprefix(prefix))
        if key in container.maps and reason is None:
            maps += [key] if key not in maps else []
        elif reason is not None:
            left_out[name] = reason
        elif ref.size > 1:
            return None  # weights lie at this level
        else:
            left_out[name] = "a value of the training, not a weight"
    maps = [one for one in maps if _holds_tensors(container, one)]
    known = [one for one in maps if one.removeprefix(prefix) in WEIGHT_MAPS]
    if not maps or not (known or (len(maps) == 1 and left_out)):
        return None
    if len(maps) > 1:
        raise _several_maps(container, maps)
    return WeightMap(f"{maps[0]}.", left_out)


def _key_below(container: Container, prefix: str, name: str) -> str:
    """Returns the map below a prefix that a tensor lies in, or the tensor's own name."""
    end = name.find(".", len(prefix))
    while end != -1:
        if name[:end] in container.maps or non_weight_reason(name[len(prefix) : end]):
            return name[:end]
        end = name.find(".", end + 1)
    return name


def _holds_tensors(container: Container, key: str) -> bool:
    """Whether a map itself holds tensors or maps of weights, rather than maps of a model's parts."""
    start = f"{key}."
    for name in container.tensors:
        if name.startswith(start):
            below = _key_below(container, start, name)
            if below not in container.maps or below.removeprefix(start) in WEIGHT_MAPS:
                return True
    return False


def _several_maps(container: Container, maps: list[str]) -> CheckpointError:
    counts = {one: sum(name.startswith(f"{one}.") for name in container.tensors) for one in maps}
    return CheckpointError(
        "several maps of this file hold weights, and nothing says which is meant",
        file=container.path,
        found=", ".join(f"{name} ({count} tensors)" for name, count in counts.items()),
        hint=f"convert and inspect take one with --subtree, e.g. --subtree {maps[0]}",
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
