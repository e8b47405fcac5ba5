"""The request of a validation: what to run, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.precision import PRECISIONS, TF32
from equipoise.validators.core.tolerance import DEFAULTS, Tolerance
from equipoise.validators.core.types import Sample

Progress = Callable[[str], None]
"""Called with a description of each step."""


@dataclass(frozen=True)
class Request:
    """The settings of a validation.

    Attributes:
        model: The model's folder.
        artifacts: Programs and checkpoints to compare with the model.
        backends: Backends to run the model itself on; None: all backends of classes that are available. A name that
            ends in ``.py`` is a file that defines a backend (see ``backends/base.py``); it gets the PyTorch checkpoint.
        sentence: Whether the modules of a sentence-transformers model (pooling ...) belong to what is run.
        task: The task; None: the one that the model is made for.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: The floating-point dtype under test.
        tf32: Whether float32 matrix products may be rounded to TensorFloat-32.
        samples: Samples to use instead of those of the folder or task.
        max_samples: Largest number of samples to run; None: all.
        cases: Names of the cases to run; None: all.
        budget: Seconds that the validation may take: cases that do not fit are left out and named; None: no limit.
        tolerance: The tolerance; None: the default of the precision.
        threads: Number of threads of each framework; 0 keeps its default.
        divergence: Whether to locate the first module whose error is beyond noise.
        depth: Whether to measure the error of each module.
        repro: A folder for minimal scripts that reproduce divergences.
        save_golden: A folder to store PyTorch's outputs in.
        against_golden: A folder with stored outputs, used instead of running PyTorch.
        progress: Called with a description of each step.
    """

    model: Path
    artifacts: Sequence[Path] = ()
    backends: Sequence[str] | None = None
    sentence: bool = False
    task: str | None = None
    device: str = "cpu"
    precision: str = "float32"
    tf32: bool = False
    samples: Sequence[Sample] | None = None
    max_samples: int | None = None
    cases: Sequence[str] | None = None
    budget: float | None = None
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
        """The tolerance that applies."""
        if self.precision not in DEFAULTS:
            raise InputError(
                "no such precision", found=self.precision, expected=", ".join(PRECISIONS.values())
            )
        return self.tolerance or DEFAULTS[self.precision]

    def allowed_for(self, quantized: str) -> Tolerance:
        """Returns the tolerance that applies to a program.

        Args:
            quantized: What quantized its weights; empty for floats.
        """
        return self.tolerance or DEFAULTS["int8"] if quantized else self.allowed

    @property
    def rounding(self) -> str:
        """What the factors of a matrix product are rounded to: the precision, or TensorFloat-32."""
        return TF32 if self.tf32 and self.precision == "float32" else self.precision

    def options(self, **more: Any) -> dict[str, Any]:
        """Returns the options that every backend is loaded with."""
        return {
            "dtype": self.precision,
            "device": self.device,
            "threads": self.threads,
            "tf32": self.tf32,
            **more,
        }
