"""Misspelt names are answered with the nearest known ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click import Context

from equipoise.cli._examples import EXAMPLES
from equipoise.cli.main import root
from equipoise.convert.core.hints import did_you_mean

FORMATS = ["pytorch", "pytorch-bin", "pytorch-safetensors", "flax-safetensors", "tensorflow"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TensorFlow", "did you mean 'tensorflow'?"),
        ("safetensors", "did you mean 'pytorch-safetensors' or 'flax-safetensors'?"),
        ("pytroch", "did you mean 'pytorch'?"),
        ("xyz", None),
        ("", None),
    ],
)
def test_nearest(name: str, expected: str | None) -> None:
    assert did_you_mean(name, FORMATS) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["convrt"], "there is no command 'convrt'; did you mean 'convert'?"),
        (["qwerty"], "there is no command 'qwerty'"),
        (["convert", "MODEL", "out", "--to", "onnx"], "`equipoise export MODEL OUTPUT --to ...`"),
        (["convert", "MODEL", "out", "--to", "flaxx"], "did you mean 'flax'?"),
        (["export", "MODEL", "out", "--to", "flax"], "`equipoise convert SOURCE OUTPUT --to ...`"),
        (["export", "MODEL", "out", "--to", "onxn"], "did you mean 'onnx'?"),
        (["run", "sentimental-analysis", "MODEL", "x"], "did you mean 'sentiment-analysis'?"),
        (["validate", "MODEL", "--cases", "sinle"], "did you mean 'single'?"),
        (["validate", "MODEL", "--backends", "onxn"], "did you mean 'onnx'?"),
    ],
)
def test_commands(
    arguments: list[str], expected: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    model = Path(__file__).parents[2] / "fixtures" / "tasks" / "text-classification"
    names = {"MODEL": model, "out": tmp_path / "out"}
    done = cli(*(names.get(one, one) for one in arguments))
    assert done.code == 2
    assert expected in done.err


def test_every_command_has_examples_that_its_options_allow() -> None:
    context = Context(root)
    assert sorted(EXAMPLES) == root.list_commands(context)
    for name, lines in EXAMPLES.items():
        command = root.get_command(context, name)
        assert command is not None
        for line in lines:
            program, called, *arguments = line.replace("'", "").split()
            assert (program, called) == ("equipoise", name)
            command.make_context(name, arguments, resilient_parsing=False)
            assert line in command.get_help(Context(command, info_name=name))


def test_summaries_are_whole(cli: Callable[..., Any]) -> None:
    text = " ".join(cli("--help").out.split())
    assert "INPUTS and print the result as JSON." in text
    assert "141 the reader of the output ended." in text
    assert "..." not in text.partition("Commands:")[2]
