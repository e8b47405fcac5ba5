"""The tolerances, each with its reason. Relaxing one needs a cause in writing.

A tolerance is a factor on measured noise, not an absolute error: the reference at the precision under test has an
error against its own truth in float64, and another correct backend has about as much. For a worked example see
:mod:`equipoise.validators.judgement.verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """The limits for *within noise* and *decision-safe*.

    Attributes:
        rms_factor: Limit of the root mean square error, in multiples of the reference's own.
        max_factor: Limit of the largest error, in multiples of the reference's own.
        floor: Minimum of the noise, in roundings of the output's scale.
        ceiling: Relative error (rms over the output's rms) beyond which nothing is decision-safe.
        atol: Absolute error that the user allows in addition.
        rtol: Relative error that the user allows in addition.
    """

    rms_factor: float = 8.0
    max_factor: float = 16.0
    floor: float = 2.0
    ceiling: float = 0.01
    atol: float = 0.0
    rtol: float = 0.0


DEFAULTS: dict[str, Tolerance] = {
    "float64": Tolerance(),
    "float32": Tolerance(),
    "float16": Tolerance(ceiling=0.05),
    "bfloat16": Tolerance(ceiling=0.1),
    "int8": Tolerance(ceiling=0.2),
}

MODULE_TOLERANCE = Tolerance(floor=4.0)
"""Tolerance of the outputs of modules, whose noise is measured only once."""

REASONS: dict[str, str] = {
    "rms_factor": (
        "Correct backends sum in another order and use other kernels for exp, tanh and erf; Flax computes variances "
        "as E[x^2] - E[x]^2, which costs digits where the mean is large. Over all fixtures, backends and 20 draws "
        "of inputs the rms error stayed below 5 times the noise (benchmarks/results/false-alarms.md); a bias of "
        "1e-4, an epsilon of 1e-5 for 1e-12 or the rounding of one layer to bf16 exceed 20."
    ),
    "max_factor": (
        "The largest of many errors scatters more than their mean: twice the factor of the rms."
    ),
    "floor": (
        "By chance the error of a reference may be smaller than the rounding of its last operation; any last "
        "addition may cost two roundings of the output's scale."
    ),
    "ceiling": (
        "Margins are those of a few samples. A model with an error of more than 1 % (fp16 5 %, bf16 10 %, int8 20 %) "
        "of the output may well decide differently on the next input, and counts as diverged."
    ),
    "atol": "0 unless --atol is set: an absolute error means nothing without the model's noise.",
    "rtol": "0 unless --rtol is set.",
}
