"""Recognises entries of a TensorFlow checkpoint that are not weights: optimizer slots, counters, metrics."""

from __future__ import annotations

from collections.abc import Container
from itertools import pairwise

from equipoise.convert.containers._bundle.object_graph import GRAPH_KEY, VARIABLE_VALUE

ATTRIBUTES = "/.ATTRIBUTES/"
_SLOT_MARK = ".OPTIMIZER_SLOT"
_OPTIMIZERS = ("optimizer", "_optimizer")
_OPTIMIZER_STATE = frozenset((
    "iter", "decay", "learning_rate", "beta_1", "beta_2", "momentum", "rho", "epsilon",
    "loss_scale", "base_optimizer", "inner_optimizer", "_optimizer", "_loss_scale",
    "iterations", "_iterations", "_variables", "_learning_rate", "_current_learning_rate",
    "_momentums", "_velocities", "_velocity_hats", "_accumulators", "_trainable_variables",
))  # fmt: skip
_SLOTS = frozenset((
    "adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "Momentum", "Adagrad", "Adadelta",
    "Adadelta_1", "RMSProp", "RMSProp_1", "Ftrl", "Ftrl_1", "AdamWeightDecayOptimizer",
    "AdamWeightDecayOptimizer_1", "LARSOptimizer", "Adafactor", "Adafactor_1", "AdafactorOptimizer", "AdafactorOptimizer_1", "LAMBOptimizer",
    "LAMBOptimizer_1",
))  # fmt: skip
_SHORT_SLOTS = frozenset(("m", "v", "vr", "vc"))
"""Names that weights may have too: slots only directly below their variable, or below ``Adam``."""
_SUFFIX_SLOTS = ("_slot_v", "_slot_vr", "_slot_vc", "_slot_m")
MOVING_AVERAGE = "ExponentialMovingAverage"
_COUNTERS = ("global_step", "save_counter", "beta1_power", "beta2_power")


def non_weight_reason_in_graph(key: str) -> str | None:
    """Returns why a key of an object graph is not a weight; None if it is one."""
    if key == GRAPH_KEY:
        return "the object graph, read for the names"
    path, _, attribute = key.partition(ATTRIBUTES)
    if attribute != VARIABLE_VALUE:
        return f"{attribute or 'attribute'} of an object, not a variable"
    parts = path.split("/")
    if _SLOT_MARK in parts:
        return "optimizer slot"
    if parts == ["save_counter"]:
        return "counter of the checkpoint"
    for outer, inner in pairwise(parts):
        if outer in _OPTIMIZERS and inner in _OPTIMIZER_STATE:
            return "state of the optimizer"
        if (outer, inner) == ("keras_api", "metrics"):
            return "state of a metric"
    return None


def non_weight_reason(name: str, shape: tuple[int, ...], others: Container[str]) -> str | None:
    """Returns why a named variable is not a weight; None if it is one.

    A slot requires its variable: ``w/adam_m`` is a slot only if there is ``w``.

    >>> non_weight_reason("dense/kernel/adam_m", (2,), {"dense/kernel", "dense/kernel/adam_m"})
    'optimizer slot of dense/kernel'
    >>> non_weight_reason("decoder/m", (2,), {"decoder/m"})

    Args:
        name: The variable.
        shape: Its shape; counters are scalars.
        others: All names of the checkpoint.
    """
    owner, _, leaf = name.rpartition("/")
    if leaf in _COUNTERS and shape == ():
        return "counter of the training"
    if leaf in _SLOTS and _has_variable(owner, others):
        return f"optimizer slot of {owner}"
    if leaf in _SHORT_SLOTS and (
        owner in others or ("Adam" in owner.split("/") and _has_variable(owner, others))
    ):
        return f"optimizer slot of {owner}"
    if leaf == MOVING_AVERAGE and _has_variable(owner, others):
        return f"moving average of {owner}"
    for suffix in _SUFFIX_SLOTS:
        if name.endswith(suffix) and name.removesuffix(suffix) in others:
            return f"optimizer slot of {name.removesuffix(suffix)}"
    return None


def _has_variable(owner: str, others: Container[str]) -> bool:
    """Whether the variable exists, possibly with fewer leading scopes than its slot."""
    while owner:
        if owner in others:
            return True
        _, _, owner = owner.partition("/")
    return False
