"""Weights of PyTorch's archives, which keep parameters and buffers apart from constants of the code."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.convert.containers.pytorch import CONSTANT_PREFIX
from equipoise.convert.core.tensor import TensorRef
from equipoise.validators.audit.content.weights import ProgramWeight, WeightRole


def archive_weights(tensors: Mapping[str, TensorRef]) -> tuple[ProgramWeight, ...]:
    """Returns the tensors of an archive with what they are in the program."""
    return tuple(
        ProgramWeight(
            ref,
            role=WeightRole.CONSTANT if name.startswith(CONSTANT_PREFIX) else WeightRole.PARAMETER,
        )
        for name, ref in tensors.items()
    )
