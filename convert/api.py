"""The conversion as one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from equipoise.convert.checkpoint import open_checkpoint
from equipoise.convert.execute import Progress, execute
from equipoise.convert.manifest import Manifest
from equipoise.convert.planner import plan


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
    progress: Progress | None = None,
) -> Manifest:
    """Converts a checkpoint and returns the account of what was done.

    Args:
        source: A folder or a weights file.
        output: The folder to write; it appears when everything is there.
        to: ``pytorch``, ``tensorflow``, ``flax`` or the name of a format, e.g. ``tensorflow-safetensors``.
        dtype: ``fp32``, ``fp16`` or ``bf16`` casts every floating tensor; None keeps all dtypes.
        max_shard_size: Bytes of tensors in a file; None writes one file.
        force: Replaces an output folder that is there.
        architecture: A model type or class, where the config's is not to be followed.
        config: A ``config.json`` that does not lie beside the weights.
        layout: Takes the weights of this layout where the source holds several.
        allow: Tensors that may be lost although the plan would refuse -> the reason.
        progress: Called with bytes written, bytes in all, and the tensor at work.

    Raises:
        InputError: Something is wrong with the source, the plan or the output; nothing is left behind.
    """
    checkpoint = open_checkpoint(source, layout=layout, config=config)
    planned = plan(
        checkpoint,
        to,
        dtype=dtype,
        architecture=architecture,
        allow=allow,
        max_shard_size=max_shard_size,
    )
    return execute(planned, output, force=force, progress=progress)
