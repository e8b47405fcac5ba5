"""Checkpoints, with numpy only: no framework is ever imported to convert."""

from equipoise.convert.api import convert
from equipoise.convert.checkpoint import Checkpoint, open_checkpoint
from equipoise.convert.execute import execute
from equipoise.convert.from_pretrained import from_pretrained
from equipoise.convert.manifest import Manifest
from equipoise.convert.planner import plan
from equipoise.convert.steps import Plan
from equipoise.convert.tensor import TensorRef

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
