"""What a validation is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.validators.metrics import TF32
from equipoise.validators.tolerance import DEFAULTS, Tolerance

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"}
"""What ``--precision`` takes."""

Progress = Callable[[str], None]
"""Told what is at work."""


@dataclass(frozen=True)
class Request:
    """A validation to be.

    Attributes:
        model: The model's folder.
        artifacts: Programs and checkpoints that should answer like it.
        backends: Backends to run the model itself on; None: all classes that can be had. A name that ends in
            ``.py`` is a file that is a backend (see ``backends/base.py``); it gets the PyTorch checkpoint.
        task: The task; None: the one that the model is made for.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: The float dtype under test.
        tf32: Lets float32 matrix products be rounded to TensorFloat-32.
        samples: Samples in place of the folder's or the task's own.
        cases: Names of the cases to run; None: all.
        tolerance: What is allowed; None: the table's entry for the precision.
        threads: Of each framework; 0 leaves them alone.
        divergence: Whether to look for the first module beyond noise.
        depth: Whether to measure the error along the depth of the model.
        repro: A folder for minimal scripts of divergences.
        save_golden: A folder to keep PyTorch's outputs in.
        against_golden: A folder that has them; PyTorch is not run.
        progress: Told what is at work.
    """

    model: Path
    artifacts: Sequence[Path] = ()
    backends: Sequence[str] | None = None
    task: str | None = None
    device: str = "cpu"
    precision: str = "float32"
    tf32: bool = False
    samples: Sequence[Mapping[str, Any]] | None = None
    cases: Sequence[str] | None = None
    tolerance: Tolerance | None = None
    threads: int = 1
    divergence: bool = True
    depth: bool = False
    repro: Path | None = None
    save_golden: Path | None = None
    against_golden: Path | None = None
    progress: Progress = field(default=lambda text: None)

    @property
    def allowed(self) -> Tolerance:
        """The tolerance that holds."""
        if self.precision not in DEFAULTS:
            raise InputError(
                "no such precision", found=self.precision, expected=", ".join(PRECISIONS.values())
            )
        return self.tolerance or DEFAULTS[self.precision]

    @property
    def rounding(self) -> str:
        """What a product's factors are rounded to: the precision, or TensorFloat-32."""
        return TF32 if self.tf32 and self.precision == "float32" else self.precision

    def options(self, **more: Any) -> dict[str, Any]:
        """What every backend is loaded with."""
        return {
            "dtype": self.precision,
            "device": self.device,
            "threads": self.threads,
            "tf32": self.tf32,
            **more,
        }
