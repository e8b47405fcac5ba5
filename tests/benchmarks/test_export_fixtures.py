"""What the page of tasks says of an export that left no program: the reason, and whose limit it is."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
JAX = (
    "every way to stablehlo failed\n"
    "export: LoweringError: aten.arange.start_step in model: ConcretizationTypeError: Abstract tracer value (jax.errors)\n"
    "            transformers: LoweringError: the same"
)


@pytest.fixture
def export_fixtures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delitem(sys.modules, "export_fixtures", raising=False)
    return import_module("export_fixtures")


def test_one_line_says_why_and_whose_limit_it_is(
    export_fixtures: ModuleType, tmp_path: Path
) -> None:
    for name, target, text in (
        ("speech", "stablehlo", JAX),
        ("summary", "tflite", "it runs the model at 14 sizes, and the target's programs have one"),
        ("odd", "onnx", "every way to onnx failed\nexport: ValueError: odd (builtins.ValueError)"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{target}.txt").write_text(text)
    lines = export_fixtures.failures_section(tmp_path).splitlines()
    assert lines[1] == "## Not exported"
    odd, speech, summary = lines[3:]
    assert odd == "- odd, onnx: every way to onnx failed: export: ValueError: odd"
    assert speech.startswith(
        "- speech, stablehlo: every way to stablehlo failed: export: LoweringError: aten.arange.start_step"
    )
    assert "; a limit of JAX: no array has a size that depends on values" in speech
    assert summary.endswith("TensorFlow's converter fails where sizes are not fixed (2.21)")
    assert export_fixtures.failures_section(tmp_path / "none").endswith(
        "Every export left a program.\n"
    )
