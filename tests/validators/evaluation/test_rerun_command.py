"""The command line in a report repeats the validation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from equipoise.cli import main
from equipoise.validators.core.request import Request
from equipoise.validators.core.tolerance import Tolerance
from equipoise.validators.evaluation.rerun_command import rerun_command


def parse(text: str) -> dict[str, Any]:
    """Returns the arguments as the command parses them."""
    program, name, *arguments = shlex.split(text)
    assert program == "equipoise"
    found = main.root.get_command(click.Context(main.root), name)
    assert found is not None
    return found.make_context(name, arguments).params


def test_plain_request() -> None:
    found = rerun_command(Request(Path("models/bert")), "fill-mask", {})
    assert found == (
        "equipoise validate models/bert --task fill-mask --precision fp32 --device cpu --threads 1"
    )


def test_request_with_every_option() -> None:
    request = Request(
        Path("my models/bert"),
        [Path("a b.onnx")],
        backends=["flax", "my.py"],
        device="cuda:1",
        precision="bfloat16",
        tf32=True,
        samples=[{"text": "a"}],
        cases=["single", "batch"],
        tolerance=Tolerance(atol=1e-5, rtol=0.5),
        threads=3,
        against_golden=Path("golden"),
    )
    found = parse(rerun_command(request, "fill-mask", {"oracle": "/x y/python"}))
    assert (found["model"], found["artifacts"]) == ("my models/bert", (Path("a b.onnx"),))
    assert (found["backends"], found["task"], found["cases"]) == (
        "flax,my.py",
        "fill-mask",
        "single,batch",
    )
    assert (found["device"], found["precision"], found["tf32"]) == ("cuda:1", "bf16", True)
    assert (found["atol"], found["rtol"], found["threads"]) == (1e-5, 0.5, 3)
    assert found["environments"] == (("oracle", "/x y/python"),)
    assert found["against_golden"] == Path("golden")
    assert found["samples"] == Path("samples.json")
