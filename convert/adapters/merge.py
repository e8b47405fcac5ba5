"""Merges a LoRA adapter into the tensors of its base model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from equipoise.convert.adapters.lora import LoraUpdate, merged_ref
from equipoise.convert.adapters.settings import AdapterSettings
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.rounding import round_once
from equipoise.convert.core.tensor import TensorRef

WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.default)?(?:\.(?P<kind>weight|bias))?",
    re.ASCII,
)
_UNKNOWN_PARTS = ("lora_", "vera_", "ia3_", "hada_", "lokr_", "oft_", "prompt_", "trainable_tokens")


def merge_adapter(
    tensors: Mapping[str, TensorRef],
    adapter: Mapping[str, TensorRef],
    settings: AdapterSettings,
    path: Path,
) -> tuple[dict[str, TensorRef], str]:
    """Returns the tensors of a base model with an adapter merged into them, and a note.

    Weights with an update are computed where they are read, in float64, and rounded once. Tensors that the adapter holds whole
    (``modules_to_save``, biases) replace those of the base.

    Args:
        tensors: The tensors of the base by their names in PyTorch.
        adapter: The tensors of the adapter.
        settings: The adapter's settings.
        path: The adapter's folder, for messages.

    Raises:
        CheckpointError: The adapter is of another base, or has parts that are not known here.
    """
    parts, whole = _sort_parts(adapter, path)
    merged = dict(tensors)
    names = _BaseNames(tensors, path)
    for name, ref in whole.items():
        base = names.find(name)
        merged[base] = replace(ref, name=base)
    for module, found in parts.items():
        base = names.find(f"{module}.weight")
        merged[base] = merged_ref(merged[base], _update(module, found, settings, path))
        if "lora_B.bias" in found:
            bias = names.find(f"{module}.bias")
            merged[bias] = _merged_bias(
                merged[bias], found["lora_B.bias"], settings.scaling(module)
            )
    kind = "DoRA" if any("lora_magnitude_vector" in found for found in parts.values()) else "LoRA"
    replaced = f", {len(whole)} tensors replaced by the adapter's own" if whole else ""
    return merged, f"{kind} adapter {path.name} merged into {len(parts)} weights{replaced}"


def _sort_parts(
    adapter: Mapping[str, TensorRef], path: Path
) -> tuple[dict[str, dict[str, TensorRef]], dict[str, TensorRef]]:
    """Returns the parts of updates by module, and the tensors that replace whole ones by their names in the base."""
    parts: dict[str, dict[str, TensorRef]] = {}
    whole: dict[str, TensorRef] = {}
    for name, ref in adapter.items():
        bare = name.removeprefix(_PREFIX)
        match = _PART.fullmatch(bare)
        if match is not None:
            kind = ".bias" if match["kind"] == "bias" else ""
            found = parts.setdefault(match["module"], {})
            if match["part"] + kind in found:
                raise CheckpointError(
                    "the adapter has this part twice, with and without the adapter's name",
                    file=path,
                    tensor=name,
                    found=found[match["part"] + kind].name,
                )
            found[match["part"] + kind] = ref
        elif any(part.startswith(_UNKNOWN_PARTS) for part in bare.split(".")):
            raise CheckpointError(
                "the adapter has a part of a kind that is not merged here", file=path, tensor=name
            )
        elif ".original_module." not in bare:  # what `modules_to_save` replaces
            plain = re.sub(r"\.(modules_to_save(\.default)?|base_layer)\.", ".", bare)
            if plain == bare or plain not in whole:
                whole[plain] = ref
    return parts, whole


class _BaseNames:
    """Finds the tensors of the base that parts of an adapter mean.

    The base may have been saved without its head, whose class puts a prefix before all names (``bert.encoder...`` for
    ``encoder...``), or with another one.
    """

    def __init__(self, tensors: Mapping[str, TensorRef], path: Path) -> None:
        self._tensors = tensors
        self._path = path
        self._by_ending: dict[str, list[str]] = {}
        for name in tensors:
            for ending in _endings(name):
                self._by_ending.setdefault(ending, []).append(name)

    def find(self, name: str) -> str:
        """Returns the name in the base.

        Raises:
            CheckpointError: There is none, or several.
        """
        if name in self._tensors:
            return name
        found = next((ending for ending in _endings(name) if ending in self._tensors), "")
        longer = self._by_ending.get(name, [])
        if found:
            return found
        if len(longer) == 1:
            return longer[0]
        raise CheckpointError(
            "the adapter changes a weight that the base model does not hold",
            file=self._path,
            tensor=name,
            expected=", ".join(sorted(self._tensors)[:3]) + " ...",
            hint="give the base model that adapter_config.json names (base_model_name_or_path); a tied output layer is not "
            "stored, so that an adapter of it must be merged with peft",
        )


def _endings(name: str) -> Iterable[str]:
    """Yields a name without its first part, without its first two, and so on."""
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _update(
    module: str, found: Mapping[str, TensorRef], settings: AdapterSettings, path: Path
) -> LoraUpdate:
    is_embedding = "lora_embedding_A" in found
    middle = "embedding_" if is_embedding else ""
    down, up = found.get(f"lora_{middle}A"), found.get(f"lora_{middle}B")
    if down is None or up is None:
        raise CheckpointError(
            "the adapter holds one of the two factors of an update",
            file=path,
            tensor=next(iter(found.values())).name,
            hint="the file is incomplete; download it again",
        )
    return LoraUpdate(
        down=down,
        up=up,
        scaling=settings.scaling(module),
        transposed=is_embedding or settings.inputs_first,
        magnitude=found.get("lora_magnitude_vector"),
    )


def _merged_bias(base: TensorRef, bias: TensorRef, scaling: float) -> TensorRef:
    """Returns a bias with that of ``lora_B`` added."""
    values = base.read().astype("float64") + scaling * bias.read().astype("float64")
    rounded = round_once(values, base.dtype)
    return TensorRef(base.name, base.dtype, base.shape, base.file, load=lambda: rounded)
