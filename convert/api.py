"""The conversion as one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from equipoise.convert.checkpoints.checkpoint import open_checkpoint
from equipoise.convert.checkpoints.hub import resolve_source
from equipoise.convert.conversion.execute import Progress, execute
from equipoise.convert.conversion.manifest import Manifest
from equipoise.convert.conversion.plan_types import Plan
from equipoise.convert.conversion.planner import plan


def plan_conversion(
    source: str | Path,
    *,
    to: str,
    dtype: str | None = None,
    max_shard_size: int | None = None,
    architecture: str | None = None,
    config: str | Path | None = None,
    layout: str | None = None,
    allow: Mapping[str, str] | None = None,
    allow_lossy: bool = False,
    revision: str | None = None,
) -> Plan:
    """Opens a source and plans its conversion; reads headers only. See :func:`convert`."""
    path = resolve_source(source, revision, layout=layout)
    return plan(
        open_checkpoint(path, layout=layout, config=config),
        to,
        dtype=dtype,
        architecture=architecture,
        allow=allow,
        allow_lossy=allow_lossy,
        max_shard_size=max_shard_size,
    )


def convert(
    source: str | Path,
    output: str | Path,
    *,
    to: str,
    dtype: str | None = None,
    max_shard_size: int | None = None,
    force: bool = False,
    architecture: str | None = None,
    config: str | Path | None = None,
    layout: str | None = None,
    allow: Mapping[str, str] | None = None,
    allow_lossy: bool = False,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Converts a checkpoint and returns the account of what was done.

    Args:
        source: A folder, a weights file, or an id or ``hf://`` URL of the Hub.
        output: The folder to write; it appears when everything is there.
        to: ``pytorch``, ``tensorflow``, ``flax`` or the name of a format, e.g. ``tensorflow-safetensors``.
        dtype: ``fp32``, ``fp16`` or ``bf16`` casts every floating tensor; None keeps all dtypes.
        max_shard_size: Bytes of tensors in a file; None writes one file.
        force: Replaces an output folder that is there.
        architecture: A model type or class, where the config's is not to be followed.
        config: A ``config.json`` that does not lie beside the weights.
        layout: Takes the weights of this layout where the source holds several.
        allow: Tensors that may be lost although the plan would refuse -> the reason.
        allow_lossy: Leaves out every tensor that the target's class has no place for; the manifest's notes name each.
        revision: Branch, tag or commit of a source on the Hub.
        progress: Called with bytes written, bytes in all, and the tensor at work.

    Raises:
        InputError: Something is wrong with the source, the plan or the output; nothing is left behind.
    """
    planned = plan_conversion(
        source,
        to=to,
        dtype=dtype,
        max_shard_size=max_shard_size,
        architecture=architecture,
        config=config,
        layout=layout,
        allow=allow,
        allow_lossy=allow_lossy,
        revision=revision,
    )
    return execute(planned, output, force=force, progress=progress)
