"""Types that tasks, backends, references and reports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
"""Arrays by the names of inputs or outputs."""

Answer: TypeAlias = Any
"""The result of one sample, as ``pipeline()`` returns it."""
CallOption: TypeAlias = Any
"""An option of a pipeline's call, such as ``top_k``; also a keyword argument of a model's forward."""
SampleValue: TypeAlias = Any
"""One input of a sample: a text, a path, an opened image, an array, a table, or a list of these."""
TokenizerOutput: TypeAlias = Any
"""``transformers.BatchEncoding``."""
TokenIds: TypeAlias = Any
"""Token ids as a list or an array."""
PIPELINE = "pipeline"
"""Option of a case: it is a call of ``pipeline()``, whose own defaults of generation apply."""

Sample = Mapping[str, Any]
"""One sample, with the input names of ``pipeline()``; media are paths or already opened."""


class Runner(Protocol):
    """A loaded model that maps named arrays to named arrays, wherever it runs.

    Outputs are flattened to dotted names (``logits``, ``encoder.last_hidden_state``) without caches. Floating-point
    outputs keep their width (float64 stays float64); bfloat16 is returned as float32, which holds it exactly.
    """

    @property
    def accepts(self) -> frozenset[str]:
        """Names of the inputs that the model accepts."""
        ...

    @property
    def caches(self) -> bool:
        """Whether :meth:`step` works: the model keeps keys and values between calls."""
        ...

    def run(self, inputs: Mapping[str, Array], **kwargs: CallOption) -> Arrays:
        """Runs one forward pass; ``kwargs`` are further keyword arguments of the model's forward."""
        ...

    def step(
        self,
        inputs: Mapping[str, Array],
        state: str | None = None,
        order: Sequence[int] | None = None,
        **kwargs: CallOption,
    ) -> tuple[Arrays, str]:
        """Runs one forward pass with a KV cache.

        Args:
            inputs: In the first step all inputs; later the new tokens only (``input_ids`` or ``decoder_input_ids``),
                with the attention mask over all tokens so far, and position ids if the model accepts them. The
                encoder's result is kept with the cache.
            state: Name of the cache to continue from; the call consumes it.
            order: Rows of the cache to continue with, such as ``[0, 0, 2]`` in beam search. None keeps all rows.
            kwargs: Further keyword arguments of the model's forward.

        Returns:
            The outputs, and the name of the new cache.
        """
        ...


@dataclass(frozen=True)
class Case:
    """One way to call the model: which samples form a batch, and how they are padded.

    Attributes:
        name: ``single``, ``batch``, ``padded``, ``long``, ``greedy-cache`` ...
        samples: The samples of the batch.
        options: Options of the task's ``encode`` and ``run``, such as ``max_tokens``, ``padding_side``, ``num_beams``.
        note: What the case does not reach although the model does, for the report; empty if there is nothing to say.
    """

    name: str
    samples: tuple[Sample, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Batch:
    """The samples of a case as arrays.

    Attributes:
        case: The case.
        arrays: The model's inputs by name.
        kwargs: Further keyword arguments of the model's forward.
        valid: Boolean masks by output name; their axes are the leading axes of the output, and False marks padding.
            Outputs without a mask count as a whole.
        context: What decoding needs: offsets, sizes, words.
    """

    case: Case
    arrays: Arrays
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    valid: Mapping[str, Array] = field(default_factory=dict)
    context: Any = None


@dataclass(frozen=True)
class Decision:
    """A result that a person reads off an output, and how far the output may move before it flips.

    Attributes:
        name: What is decided: ``label``, ``token 3``, ``span``.
        value: The decision as plain data.
        output: Name of the output.
        rows: Index into that output, as for NumPy, of the entries that decide.
        margins: For every leading entry of ``output[rows]`` (the shape is a prefix of that shape) the largest absolute
            error of any element under which the decision holds. For an argmax that is half the distance of the two
            largest logits; for a threshold, the distance from it.
        allowance: Share of entries that may exceed their margin, such as pixels at the border of a mask.
    """

    name: str
    value: Any
    output: str
    rows: Any
    margins: Array
    allowance: float = 0.0


@dataclass(frozen=True)
class CapturedModule:
    """Inputs and outputs of one module in one forward pass.

    Attributes:
        path: The module's path as the backend names it.
        kind: Its class.
        weights: Names of the weights in and below it; None where the path is PyTorch's own.
        inputs: Its input arrays by name or position.
        outputs: Its output arrays.
    """

    path: str
    kind: str
    weights: tuple[str, ...] | None
    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class ForwardPass:
    """The inputs of one forward pass of a loop.

    Attributes:
        inputs: The model's inputs.
        cached: Whether it is a step with a cache, which continues from the pass before it.
        order: Rows of the cache to continue with; None: all.
    """

    inputs: Arrays
    cached: bool = False
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class CapturedPass:
    """Outputs of one forward pass, and the values of every module in the order in which they ended."""

    outputs: Arrays
    modules: Sequence[CapturedModule]


@dataclass(frozen=True)
class CapturedPasses:
    """The same forward pass on truth, reference and backend."""

    truth: CapturedPass
    reference: CapturedPass
    found: CapturedPass


@dataclass(frozen=True)
class ErrorMetrics:
    """The distance of values from a truth.

    Attributes:
        count: Number of values compared.
        max_abs: Largest absolute difference.
        rms: Root mean square of the differences.
        max_rel: Largest relative difference over values of at least a thousandth of the largest one; below that,
            relative differences mean nothing.
        ulp: Largest difference in units in the last place of the precision.
        cosine: Cosine similarity of all values together.
        scale: Root mean square of the truth.
        nonfinite: Number of values that are NaN or infinite on one side only.
    """

    count: int
    max_abs: float
    rms: float
    max_rel: float
    ulp: float
    cosine: float
    scale: float
    nonfinite: int

    @property
    def relative(self) -> float:
        """``rms`` relative to the truth's: the error of an output as a whole."""
        return self.rms / self.scale if self.scale else (0.0 if self.rms == 0 else float("inf"))
