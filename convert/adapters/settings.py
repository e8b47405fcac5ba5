"""What ``adapter_config.json`` says of a LoRA adapter."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.containment import check_readable

CONFIG_NAME = "adapter_config.json"
_SHAPE = {
    "peft_type": str,
    "r?": int,
    "lora_alpha?": float,
    "use_rslora?": (bool, None),
    "use_dora?": (bool, None),
    "fan_in_fan_out?": (bool, None),
    "rank_pattern?": ({str: int}, None),
    "alpha_pattern?": ({str: float}, None),
    "init_lora_weights?": (str, bool, None),
    "base_model_name_or_path?": (str, None),
}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
"""Initializations that change the base weights, so that an adapter does not belong to the base as it is published."""
_UNSUPPORTED = (
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "trainable_token_indices",
)


@dataclass(frozen=True)
class AdapterSettings:
    """The settings of a LoRA adapter.

    Attributes:
        rank: Rank of the update, ``r``.
        alpha: ``lora_alpha``; the update is scaled by ``alpha / rank``.
        rank_stabilized: Whether it is scaled by ``alpha / sqrt(rank)`` instead (rsLoRA, arXiv:2312.03732).
        inputs_first: Whether weights are stored ``[inputs, outputs]``, as GPT-2's are.
        rank_pattern: Regular expression of module names -> its rank.
        alpha_pattern: Regular expression of module names -> its alpha.
        base: The model that was adapted, by name or path.
    """

    rank: int
    alpha: float
    rank_stabilized: bool
    inputs_first: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    base: str

    def scaling(self, module: str) -> float:
        """Returns the factor of a module's update."""
        rank = self.rank_pattern.get(_matching_pattern(module, self.rank_pattern), self.rank)
        alpha = self.alpha_pattern.get(_matching_pattern(module, self.alpha_pattern), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def _matching_pattern(module: str, patterns: Mapping[str, object]) -> str:
    """Returns the first pattern that a module's name ends with, as PEFT looks for it; the name if there is none."""
    for pattern in patterns:
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", module, re.ASCII):
                return pattern
        except re.error:
            continue
    return module


def read_settings(folder: Path) -> AdapterSettings:
    """Reads the settings of an adapter.

    Raises:
        CheckpointError: There is no adapter, or it is of a kind that is not merged here.
    """
    path = folder / CONFIG_NAME
    if not os.path.lexists(path):
        raise CheckpointError(
            "this is no PEFT adapter", file=folder, expected=f"{CONFIG_NAME} and adapter_model.safetensors"
        )  # fmt: skip
    check_readable(path, folder)
    values = read_json(path, _SHAPE)
    kind = values["peft_type"].upper()
    used = [name for name in _UNSUPPORTED if values.get(name)]
    if kind != "LORA" or used:
        raise CheckpointError(
            f"an adapter of a kind that is not merged here: {used[0] if used else kind}",
            file=path,
            expected="LoRA, DoRA or rsLoRA",
            hint="merge it with peft: PeftModel.from_pretrained(BASE, ADAPTER).merge_and_unload().save_pretrained(MERGED)",
        )
    initialization = str(values.get("init_lora_weights", "")).lower()
    if initialization.startswith(_CHANGES_BASE):
        raise CheckpointError(
            f"the adapter was made with init_lora_weights {initialization!r}, which changes the base weights too",
            file=path,
            hint="save it with peft's save_pretrained(..., path_initial_model_for_weight_conversion=INITIAL), which makes it "
            "an adapter of the published base",
        )
    rank = values.get("r", 8)
    ranks = [rank, *(values.get("rank_pattern") or {}).values()]
    if min(ranks) < 1:
        raise CheckpointError("the rank is not positive", file=path, found=min(ranks))
    return AdapterSettings(
        rank=rank,
        alpha=float(values.get("lora_alpha", 8)),
        rank_stabilized=bool(values.get("use_rslora")),
        inputs_first=bool(values.get("fan_in_fan_out")),
        rank_pattern=values.get("rank_pattern") or {},
        alpha_pattern=values.get("alpha_pattern") or {},
        base=values.get("base_model_name_or_path") or "",
    )
