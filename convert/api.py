"""The conversion as one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, Unpack

from equipoise.convert.checkpoints.hub import resolve_source
from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
from equipoise.convert.conversion.execute import Progress, execute
from equipoise.convert.conversion.manifest import Manifest
from equipoise.convert.conversion.plan_types import Plan
from equipoise.convert.conversion.planner import plan
from equipoise.convert.conversion.routes import find_format


class PlanOptions(TypedDict, total=False):
    """Options of :func:`equipoise.convert.plan`, described there."""

    dtype: str | None
    architecture: str | None
    max_shard_size: int | None
    allow: Mapping[str, str] | None
    allow_lossy: bool
    unproven: bool


class ConversionOptions(PlanOptions, total=False):
    """Options of a conversion: how to plan it, and how to open its source."""

    config: str | Path | None
    layout: str | None
    revision: str | None
    subtree: str | None
    variant: str | None
    dequantize: bool
    merge_adapter: str | Path | None


def plan_conversion(
    source: str | Path,
    *,
    to: str,
    config: str | Path | None = None,
    layout: str | None = None,
    revision: str | None = None,
    subtree: str | None = None,
    variant: str | None = None,
    dequantize: bool = False,
    merge_adapter: str | Path | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Opens a source and plans its conversion; reads headers only. See :func:`convert` for the options."""
    find_format(to)  # says first what is misspelt
    path = resolve_source(source, revision, layout=layout, variant=variant)
    checkpoint = open_checkpoint(
        path,
        layout=layout,
        config=config,
        subtree=subtree,
        variant=variant,
        dequantize=dequantize,
        merge_adapter=merge_adapter,
    )
    return plan(checkpoint, to, **options)


def convert(
    source: str | Path,
    output: str | Path,
    *,
    to: str,
    force: bool = False,
    progress: Progress | None = None,
    **options: Unpack[ConversionOptions],
) -> Manifest:
    """Converts a checkpoint and returns the manifest of the conversion.

    Args:
        source: A folder, a weights file, or an id or ``hf://`` URL of the Hub.
        output: The folder to write; it appears when it is complete.
        to: ``pytorch``, ``tensorflow``, ``flax`` or the name of a format, e.g. ``tensorflow-safetensors``.
        force: Replaces an output folder that exists.
        progress: Called with bytes written, total bytes, and the current tensor.
        **options: ``dtype``: ``fp32``, ``fp16`` or ``bf16`` casts every floating-point tensor; None keeps all dtypes.
            ``max_shard_size``: largest number of tensor bytes in a file; None writes one file.
            ``architecture``: a model type or class to use instead of the config's.
            ``config``: a ``config.json`` that is not next to the weights.
            ``layout``: takes the weights of this layout where the source has several.
            ``allow``: tensors that may be lost although the plan would be refused -> the reason.
            ``allow_lossy``: leaves out every tensor that the target's class cannot hold; the manifest's notes name each.
            ``unproven``: converts where no code of others has judged a layout of this class; the manifest's notes say so.
            ``revision``: branch, tag or commit of a source on the Hub.
            ``subtree``: what the names of the weights begin with, where a file holds several models.
            ``variant``: takes the weights of this variant, e.g. ``fp16``.
            ``dequantize``: computes plain weights from quantized ones (fp8, int8, NF4, GPTQ, AWQ ...).
            ``merge_adapter``: a folder with a LoRA adapter of PEFT, which is merged into the weights.

    Raises:
        InputError: The source, the plan or the output is wrong; nothing is left behind.
    """
    return execute(
        plan_conversion(source, to=to, **options), output, force=force, progress=progress
    )
