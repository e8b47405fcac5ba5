"""Converts checkpoints between frameworks with NumPy alone; no framework is imported to convert."""

from equipoise.convert.api import convert
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.opening.open_checkpoint import open_checkpoint
from equipoise.convert.conversion.execute import execute
from equipoise.convert.conversion.manifest import Manifest
from equipoise.convert.conversion.plan_types import Plan
from equipoise.convert.conversion.planner import plan
from equipoise.convert.core.tensor import TensorRef
from equipoise.convert.from_pretrained import from_pretrained

__all__ = [
    "Checkpoint",
    "Manifest",
    "Plan",
    "TensorRef",
    "convert",
    "execute",
    "from_pretrained",
    "open_checkpoint",
    "plan",
]
