"""Writes the tensors of a folder in TensorFlow's layout as a TensorFlow checkpoint: ``tensor_bundle.py SOURCE OUTPUT``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def write_tensor_bundle(source: Path, output: Path) -> None:
    """Writes a checkpoint with the names and the config of the source."""
    import tensorflow as tf

    from equipoise.convert import open_checkpoint

    output.mkdir()
    refs = list(open_checkpoint(source).values())
    tf.raw_ops.SaveV2(
        prefix=str(output / "model.ckpt"),
        tensor_names=[ref.name.removesuffix(":0") for ref in refs],
        shape_and_slices=[""] * len(refs),
        tensors=[tf.constant(ref.read()) for ref in refs],
    )
    shutil.copy(source / "config.json", output)


if __name__ == "__main__":
    write_tensor_bundle(Path(sys.argv[1]), Path(sys.argv[2]))
