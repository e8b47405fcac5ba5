"""The pytest plugin, in separate runs of pytest."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sample_reports

from equipoise.cli.validate import exit_code
from equipoise.validators import pytest_plugin
from equipoise.validators import validate as validating
from equipoise.validators.core.request import Request

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
MODULE = "equipoise.validators.pytest_plugin"
BERT = ROOT / "fixtures" / "tasks" / "text-classification"
HEAVY = ("numpy", "torch", "transformers", "h5py", "click", "equipoise.convert")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a test file with this plugin and no other, and with options."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def call(source: str, *options: object) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess("-p", MODULE, *map(str, options))

    return call


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Replaces validation by a lookup of hand-made reports by model name; records the requests."""
    received: list[Request] = []
    found = {
        "fine": sample_reports.report(sample_reports.backend(), sample_reports.absent_backend()),
        "bad": sample_reports.full_report(),
        "safe": sample_reports.report(sample_reports.safe_backend()),
        "alone": sample_reports.report(sample_reports.absent_backend()),
    }

    def validate(request: Request, workers: object) -> object:
        received.append(request)
        return found[request.model.name]

    monkeypatch.setattr(validating, "validate", validate)
    return received


def test_entry_point() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert settings["entry-points"]["pytest11"] == {"equipoise": MODULE}


def test_passes_and_forwards_arguments(run: Any, requests: list[Request]) -> None:
    outcome = run(
        """
        def test_one(parity):
            report = parity("models/fine")
            assert report.verdict.value == "within noise"

        def test_two(parity):
            parity("fine", ["a.onnx"], backends=["flax"], task="ner", precision="bf16", strict=True,
                   samples=[{"text": "a"}], cases=["single"], against_golden="golden", device="cuda")
        """
    )
    outcome.assert_outcomes(passed=2)
    one, two = requests
    assert (one.model, one.backends, one.precision, one.depth) == (
        Path("models/fine"),
        None,
        "float32",
        False,
    )
    assert (list(two.artifacts), two.backends, two.task) == ([Path("a.onnx")], ["flax"], "ner")
    assert (two.precision, two.samples, two.cases) == ("bfloat16", [{"text": "a"}], ["single"])
    assert (two.against_golden, two.device) == (Path("golden"), "cuda")


def test_samples_from_a_file(run: Any, requests: list[Request], tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    samples.write_text('[{"inputs": {"text": "a"}}]')
    run(f"def test_one(parity): parity('fine', samples={str(samples)!r})").assert_outcomes(passed=1)
    assert requests[0].samples == [{"text": "a"}]


def test_failure_shows_the_table(run: Any, requests: list[Request]) -> None:
    outcome = run("def test_one(parity): parity('bad')")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        [
            "E*AssertionError: pytorch (faulty) diverged, onnx decision-safe, crash failed",
            "E*backend *verdict *ratio *decisions *seconds *memory*",
            "E*pytorch (faulty) *diverged *3/4*",
            "E*single logits: rms error 4.3, noise floor 1e-07*",
            "E*tensorflow *not run",
            "E*- pytorch (faulty): first beyond noise in the case single: bert.encoder.layer.1.attention*",
            "E*verdict: failed",
        ]
    )
    # The traceback ends at the call, not inside of the plugin.
    outcome.stdout.no_fnmatch_line("*objection*")


def test_strict_and_nothing_compared(run: Any, requests: list[Request]) -> None:
    outcome = run(
        """
        def test_safe(parity): parity("safe", strict=False)
        def test_strict(parity): parity("safe")
        def test_alone(parity): parity("alone")
        """
    )
    outcome.assert_outcomes(passed=1, failed=2)
    outcome.stdout.fnmatch_lines(
        ["E*onnx decision-safe", "E*no backend was available to compare with"]
    )


def test_reports_are_written(run: Any, requests: list[Request], tmp_path: Path) -> None:
    source = """
        import pytest

        @pytest.mark.parametrize("name", ["bad/../bad", "fine"])
        def test_one(parity, name):
            parity("fine")
            parity(name)
        """
    run(source, "--equipoise-report", tmp_path / "reports").assert_outcomes(passed=1, failed=1)
    written = sorted(path.name for path in (tmp_path / "reports").iterdir())
    stem = "test_reports_are_written.py-test_one"
    names = [f"{stem}-bad-..-bad", f"{stem}-bad-..-bad-2", f"{stem}-fine", f"{stem}-fine-2"]
    assert written == sorted(f"{name}.{kind}" for name in names for kind in ("html", "json"))
    values = json.loads((tmp_path / "reports" / f"{names[1]}.json").read_text())
    assert values["verdict"] == "failed"
    assert requests[0].depth


def test_environments(run: Any, requests: list[Request]) -> None:
    source = """
        def test_one(parity):
            assert parity.workers.interpreters == {"oracle": "/a=b", "onnx": "tools"}
        """
    options = ["--equipoise-env", "oracle=/a=b", "--equipoise-env", "onnx=tools"]
    run(source, *options).assert_outcomes(passed=1)
    outcome = run(source, "--equipoise-env", "oracle")
    assert outcome.ret != 0
    outcome.stdout.fnmatch_lines(["*--equipoise-env oracle: expected BACKEND=PYTHON*"])


def test_plugin_imports_nothing_heavy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run of pytest loads the plugin, so loading it must import nothing heavy."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        f"""
        import sys

        def test_one():
            assert {MODULE!r} in sys.modules
            assert [name for name in {HEAVY!r} if name in sys.modules] == []
        """
    )
    pytester.runpytest_subprocess("-p", MODULE, "-W", "error").assert_outcomes(passed=1)


def test_as_an_installed_plugin(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest finds the plugin by its entry point, with warnings as errors and strict settings."""
    info = pytester.mkdir("site") / "equipoise_by_name-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: equipoise-by-name\nVersion: 1\n")
    # Where equipoise itself is installed with it, pytest takes the first of one name.
    (info / "entry_points.txt").write_text(f"[pytest11]\nequipoise = {MODULE}\n")
    monkeypatch.setenv("PYTHONPATH", str(info.parent))
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n"
    )
    pytester.makepyfile("def test_one(parity): assert parity.count == 0")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("--help").stdout.fnmatch_lines(
        ["*--equipoise-env=BACKEND=PYTHON*"]
    )


@pytest.mark.transformers
@pytest.mark.slow
def test_a_real_model(run: Any) -> None:
    pytest.importorskip("torch")
    crash = Path(__file__).parent / "faulty" / "crash.py"
    outcome = run(
        f"""
        def test_fine(parity):
            report = parity({str(BERT)!r}, backends=["pytorch"], cases=["single", "batch"])
            assert [result.verdict.value for result in report.backends] == ["identical"]

        def test_crash(parity):
            parity({str(BERT)!r}, backends=[{str(crash)!r}], cases=["single", "batch"])
        """
    )
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["E*AssertionError: crash failed", "E*(signal 11)*"])


def test_failure_message_is_empty_on_success() -> None:
    assert (
        pytest_plugin.failure_message(sample_reports.report(sample_reports.backend()), strict=True)
        == ""
    )


@pytest.mark.parametrize("strict", [True, False])
def test_it_fails_wherever_the_exit_code_is_not_0(strict: bool) -> None:
    backends = [
        sample_reports.backend(),
        sample_reports.safe_backend(),
        replace(sample_reports.safe_backend(), quantized="int8-dynamic"),
        sample_reports.diverged_backend(),
        sample_reports.failed_backend(),
        sample_reports.absent_backend(),
    ]
    for report in [sample_reports.report(), *map(sample_reports.report, backends)]:
        failed = bool(pytest_plugin.failure_message(report, strict=strict))
        assert failed == (exit_code(report, strict=strict) != 0)
