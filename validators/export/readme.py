"""Writes the ``README.md`` of an artifact: what it is, how its runtime calls it, and its verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.exporters.artifact import Artifact
from equipoise.exporters.artifact_files import JAX_WEIGHTS, TEXT_PROGRAM, TEXT_SAVED_MODEL
from equipoise.exporters.cache_names import PAST_PREFIX, ROLES, USE_CACHE_BRANCH
from equipoise.exporters.target import argument_name

README_NAME = "README.md"
Signature = Mapping[str, Mapping[str, Any]]
"""Name of an input -> its ``dtype`` and ``shape``."""
Sizes = Mapping[str, int]
"""Name of a dynamic axis -> a size that the program takes."""

_RUNTIMES = {
    "onnx": "ONNX Runtime (`pip install onnxruntime`)",
    "torchscript": "PyTorch (`pip install torch`)",
    "torch-export": "PyTorch (`pip install torch`)",
    "stablehlo": "JAX (`pip install jax flax`)",
    "saved-model": "TensorFlow (`pip install tensorflow`)",
    "tflite": "TensorFlow Lite (`pip install tensorflow`, or another of its interpreters)",
}
_LOADING = {
    "onnx": """import numpy as np
import onnxruntime


def call(file, inputs):
    session = onnxruntime.InferenceSession(file)
    for one in session.get_inputs():  # a cache that is still empty
        if one.name not in inputs:
            inputs[one.name] = np.zeros((ROWS, one.shape[1], 0, one.shape[3]), np.FLOAT)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))""",
    "torchscript": """import torch


def call(file, inputs):
    return torch.jit.load(file)(**inputs)""",
    "torch-export": """import torch


def call(file, inputs):
    return torch.export.load(file).module()(**inputs)""",
    "stablehlo": """import jax
import numpy as np
from flax.serialization import msgpack_restore

weights = msgpack_restore(open("WEIGHTS", "rb").read())


def call(file, inputs):
    program = jax.export.deserialize(open(file, "rb").read())
    return program.call(weights, inputs)""",
    "saved-model": """import tensorflow as tf

program = tf.saved_model.load("FILE")


def call(signature, inputs):
    return program.signatures[signature](**inputs)""",
    "tflite": """import numpy as np
import tensorflow as tf


def call(file, inputs):
    return tf.lite.Interpreter(file).get_signature_runner()(**inputs)""",
}
_ARRAYS = {
    "torchscript": "torch.ones({shape}, dtype=torch.{dtype})",
    "torch-export": "torch.ones({shape}, dtype=torch.{dtype})",
    "saved-model": "tf.ones({shape}, tf.{dtype})",
}
_NUMPY_ARRAY = "np.ones({shape}, np.{dtype})"


_FROM_TEXTS = {
    "onnx": f"""import numpy as np
import onnxruntime
from onnxruntime_extensions import get_library_path

options = onnxruntime.SessionOptions()
options.register_custom_ops_library(get_library_path())
session = onnxruntime.InferenceSession("{TEXT_PROGRAM}", options)
texts = np.array(["A wonderful day.", "A boring story."], dtype=object)
names = [one.name for one in session.get_outputs()]
outputs = dict(zip(names, session.run(names, {{"text": texts}})))
print({{name: value.tolist() for name, value in outputs.items()}})""",
    "saved-model": f"""import tensorflow as tf
import tensorflow_text  # registers the operators of the tokenizer

program = tf.saved_model.load("{TEXT_SAVED_MODEL}")
texts = tf.constant(["A wonderful day.", "A boring story."])
outputs = program.signatures["serving_default"](text=texts)
print({{name: value.numpy().tolist() for name, value in outputs.items()}})""",
}


def write_readme(artifact: Artifact, folder: Path, sizes: Sizes) -> None:
    """Writes the ``README.md`` of an artifact.

    Args:
        artifact: The content of ``artifact.json``.
        folder: The artifact's folder.
        sizes: Sizes of the dynamic axes in the example.
    """
    (folder / README_NAME).write_text(readme(artifact, sizes), encoding="utf-8")


def example_sizes(sizes: Sizes) -> dict[str, int]:
    """Returns the sizes of a call whose cache is empty, from those of an example without a cache."""
    length = sizes.get("sequence_length", 1)
    same = dict.fromkeys(("encoder_sequence_length", "total_sequence_length"), length)
    return {**same, "past_sequence_length": 0, **sizes}


def readme(artifact: Artifact, sizes: Sizes) -> str:
    """Returns the text of ``README.md``."""
    origin = f"`{artifact.source['name']}`" if artifact.source.get("name") else "a model"
    parts = [
        f"# {origin} as a program: {artifact.target}",
        f"{artifact.class_name} ({artifact.model_type}), task {artifact.task}, weights in {artifact.precision}.",
        "Equipoise exported it from PyTorch; `artifact.json` beside this file has the details.",
        f"Verdict: {_verdict(artifact)}.",
        _signatures(artifact),
    ]
    if artifact.target in _LOADING:
        runtime = _RUNTIMES[artifact.target]
        parts.append(f"## How to call it\n\nWith {runtime}, in this folder. Replace the ones:")
        parts.append(f"```python\n{_example(artifact, sizes)}\n```")
    if artifact.text_program:
        parts.append(f"## From texts\n\n{_text_program(artifact)}")
        parts.append(f"```python\n{_FROM_TEXTS[artifact.target]}\n```")
    if artifact.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in artifact.notes))
    return "\n\n".join(parts) + "\n"


def _text_program(artifact: Artifact) -> str:
    """Returns what the program from texts does, and on what it was judged."""
    program = artifact.text_program
    judged = program["judged"]
    limit = program["max_tokens"]
    cut = f" Texts are truncated to {limit} tokens." if limit else ""
    return (
        f"`{program['file']}` takes texts and has the tokenizer in its graph, with the operators of {program['needs']} "
        f"(`pip install {program['needs']}`).{cut} Its tokens are those of the tokenizer on {judged['texts']} hard texts and "
        f"{judged['characters']} characters of Unicode, its outputs those of the program from tokens on {judged['answers']} texts."
    )


def _verdict(artifact: Artifact) -> str:
    verdict = artifact.verdict
    if not verdict.get("judged"):
        return "none, it was not compared with the model"
    cases = {name for one in verdict["backends"] for name in one["cases"]}
    return f"{verdict['verdict']}, over {len(cases)} cases against PyTorch ({verdict['date']})"


def _signatures(artifact: Artifact) -> str:
    """Returns the files with their inputs and outputs; the tensors of a cache are one entry."""
    graphs = artifact.graphs or {
        "": {"file": artifact.program, "inputs": artifact.inputs, "outputs": artifact.outputs}
    }
    rows = [
        f"| `{graph.get('signature') or graph['file']}` | {_listed(graph['inputs'])} | {_listed(graph['outputs'])} |"
        for graph in graphs.values()
    ]
    return "\n".join(["| program | inputs | outputs |", "| --- | --- | --- |", *rows])


def _listed(signature: Signature) -> str:
    names = {re.sub(r"\.\d+\.", ".*.", name): one for name, one in signature.items()}
    return ", ".join(
        f"`{name}` {one['dtype']}{_dimensions(one['shape'])}" for name, one in names.items()
    )


def _dimensions(shape: Sequence[object]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _example(artifact: Artifact, sizes: Sizes) -> str:
    """Returns the lines that load and call the program."""
    rows = next(iter(next(iter(artifact.inputs.values()), {"shape": [1]})["shape"]), 1)
    text = _LOADING[artifact.target].replace("WEIGHTS", JAX_WEIGHTS)
    text = text.replace("FILE", artifact.program or _file(artifact, ROLES[0]))
    text = text.replace("ROWS", str(_size(rows, sizes))).replace("FLOAT", artifact.precision)
    if artifact.target == "onnx" and not _has_cache(artifact):
        text = re.sub(r"    for one in session.*?\n    names", "    names", text, flags=re.DOTALL)
    if not artifact.graphs:
        inputs = _inputs(artifact, artifact.inputs, sizes)
        name = "serving_default" if artifact.target == "saved-model" else artifact.program
        return f"{text}\n\n\n{_call('outputs', name, inputs)}\n{_PRINT}"
    first = "decoder" if "decoder" in artifact.graphs else "decoder_merged"
    encoder = artifact.graphs[ROLES[0]]["inputs"]
    decoder = artifact.graphs[first]["inputs"]
    inputs = _inputs(artifact, decoder, {**sizes, "decoder_sequence_length": 1})
    return "\n".join(
        [
            f"{text}\n\n",
            _call("encoded", _name(artifact, ROLES[0]), _inputs(artifact, encoder, sizes)),
            _call("outputs", _name(artifact, first), inputs),
            _PRINT,
        ]
    )


def _call(result: str, name: str, inputs: str) -> str:
    """Returns the lines of a call as a formatter would write them."""
    indented = inputs.replace("\n", "\n    ")
    return f'{result} = call(\n    "{name}",\n    {indented},\n)'


_PRINT = "print({name: tuple(value.shape) for name, value in outputs.items()})"


def _has_cache(artifact: Artifact) -> bool:
    graphs = [graph["inputs"] for graph in artifact.graphs.values()] or [artifact.inputs]
    return any(name.startswith(PAST_PREFIX) for one in graphs for name in one)


def _file(artifact: Artifact, role: str) -> str:
    return str(artifact.graphs[role]["file"])


def _name(artifact: Artifact, role: str) -> str:
    """Returns what ``call`` of the example takes: a file, or a signature of a SavedModel."""
    return str(artifact.graphs[role].get("signature") or _file(artifact, role))


def _inputs(artifact: Artifact, signature: Signature, sizes: Sizes) -> str:
    """Returns the dict of inputs as Python; ONNX Runtime's empty cache is added by ``call``."""
    lines = []
    for name, one in signature.items():
        if name == "encoder_hidden_states":
            value = 'encoded["last_hidden_state"]'
        elif name == USE_CACHE_BRANCH:
            value = "np.array([False])"
        elif name.startswith(PAST_PREFIX):
            continue
        else:
            value = _array(artifact.target, one, sizes)
        lines.append(f'    "{_key(artifact.target, name)}": {value},')
    past = [name for name in signature if name.startswith(PAST_PREFIX)]
    if past and artifact.target != "onnx":
        key = _key(artifact.target, past[0]).replace("0", "{layer}").replace("key", "{part}")
        key = key.replace("{part}", "key", 1)  # the one of past_key_values
        value = _array(artifact.target, signature[past[0]], sizes)
        layers = f'for layer in range({len(past) // 2}) for part in ("key", "value")'
        lines.append(f'    **{{f"{key}": {value} {layers}}},')
    return "\n".join(["{", *lines, "}"])


def _key(target: str, name: str) -> str:
    return name if target in ("onnx", "stablehlo") else argument_name(name)


def _array(target: str, one: Mapping[str, Any], sizes: Sizes) -> str:
    shape = tuple(_size(size, sizes) for size in one["shape"])
    dtype = "bool_" if one["dtype"] == "bool" and target not in _ARRAYS else one["dtype"]
    return _ARRAYS.get(target, _NUMPY_ARRAY).format(shape=shape, dtype=dtype)


def _size(size: object, sizes: Sizes) -> int:
    """Returns a size that a program takes: a number, or what a name or a sum of names stands for.

    >>> _size("past_sequence_length + sequence_length", example_sizes({"sequence_length": 7}))
    7
    """
    if isinstance(size, int):
        return size
    return sum(sizes.get(name, 1) for name in str(size).split(" + "))
