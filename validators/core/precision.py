"""Names of the precisions."""

from __future__ import annotations

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"}
"""Values of ``--precision`` -> dtypes."""

TF32 = "tf32"
"""float32 with matrix products whose factors are rounded to TensorFloat-32."""
