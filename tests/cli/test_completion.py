"""A shell completes commands, options and their values."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from equipoise.cli.main import root


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "conv", {"convert"}),
        (["run"], "text-c", {"text-classification"}),
        (
            ["convert", "a", "b", "--to"],
            "flax",
            {"flax", "flax-msgpack", "flax-orbax", "flax-safetensors"},
        ),
        (["export", "a", "b", "--to"], "s", {"saved-model", "stablehlo"}),
        (["validate", "a", "--backends"], "onnx,tf", {"onnx,tflite"}),
        (["validate", "a", "--precision"], "", {"fp32", "fp16", "bf16"}),
        (["validate", "a"], "--jun", {"--junit"}),
        (["bisect", "a", "--task"], "vis", {"visual-question-answering"}),
    ],
)
def test_words(words: list[str], incomplete: str, expected: set[str]) -> None:
    shell = ShellComplete(root, {}, "equipoise", "_EQUIPOISE_COMPLETE")
    found = {one.value for one in shell.get_completions(words, incomplete)}
    assert found == expected
