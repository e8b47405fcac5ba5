"""What a verdict does not see, as docs/validate.md lists it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sample_reports

pytest.importorskip("torch")

from task_models import FIXTURES, ROOT, folder

from equipoise.validators.backends.base import Session
from equipoise.validators.evaluation.companions import find_companion_folder
from equipoise.validators.generation.read_settings import read_settings
from equipoise.validators.judgement.results import Verdict
from equipoise.validators.tasks.base import infer_task, load_samples

pytestmark = pytest.mark.transformers
BERT = ROOT / "tasks" / "text-classification"
FAULTY = Path(__file__).parent / "faulty"


@pytest.mark.slow
def test_a_fault_of_one_token_that_no_sample_has(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The report names the machine that the verdict is about, and no weight of such a backend is audited."""
    report = tmp_path / "report.json"
    options = ("--backends", FAULTY / "one_token.py", "--threads", 1, "--json", report)
    assert cli("validate", BERT, *options).code == 0
    samples = tmp_path / "samples.json"
    samples.write_text(json.dumps([{"inputs": {"text": "I enjoyed it"}}]))
    assert cli("validate", BERT, *options[:4], "--samples", samples).code == 1
    values = json.loads(report.read_text())
    (result,) = values["backends"]
    assert (values["device"], result["about"]["threads"], result["about"]["device"]) == (
        "cpu",
        1,
        "cpu",
    )
    assert {"system", "processor", "cores", "versions"} <= values["machine"].keys()
    assert result["audit"] is None


@pytest.mark.slow
def test_the_models_own_weights_are_the_measure(cli: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = shutil.copytree(BERT, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["classifier.weight"] = -tensors["classifier.weight"]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    options = ("--backends", "pytorch", "--cases", "single", "--threads", 1)
    assert cli("validate", model, *options).code == 0
    assert cli("validate", BERT, model, *options).code == 1


def test_sampling_is_not_run() -> None:
    plain = read_settings({"num_beams": 2}, {})
    sampling = {"do_sample": True, "temperature": 0.1, "top_k": 3, "top_p": 0.5}
    assert read_settings({"num_beams": 2, **sampling}, {}) == plain


def test_a_backend_has_forward_passes_alone() -> None:
    methods = {name for name, value in vars(Session).items() if callable(value) and name[0] != "_"}
    passes, facts = {"run", "step", "capture"}, {"about", "names", "renamed", "peak_bytes"}
    assert methods == {*passes, *facts, "synchronize", "close"}


@pytest.mark.parametrize("name", FIXTURES)
def test_a_model_gets_what_its_pipeline_gives_it(name: str) -> None:
    """No labels, and no request for attentions or hidden states."""
    model = folder(name)
    task = infer_task(model)
    batch = task.encode(model, task.cases(model, load_samples(task, model))[0])
    given = {*batch.arrays, *batch.kwargs}
    assert not given & {"labels", "output_attentions", "output_hidden_states"}


def test_a_program_alone_has_no_files_beside_it(tmp_path: Path) -> None:
    program = tmp_path / "a" / "b" / "c" / "model.onnx"
    assert find_companion_folder(program) is None
    program.parent.mkdir(parents=True)
    (program.parent / "config.json").write_text("{}")
    assert find_companion_folder(program) == program.parent


def test_speed_and_memory_change_no_verdict() -> None:
    slow = sample_reports.case("single", seconds=(900.0, 900.0))
    found = sample_reports.backend(cases=(slow,), seconds=1800.0, peak_bytes=1 << 40)
    assert found.verdict is Verdict.WITHIN_NOISE
