"""``equipoise run`` gives the results of ``pipeline()`` in transformers 4.57.6 on every backend."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

from pipeline_results import compare
from task_models import ROOT

from equipoise.cli.main import run as command
from equipoise.convert.core.errors import InputError
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.parameters.options import sort_options
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.pipeline_io import parse_inputs
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.tasks.base import find_task, infer_task, load_samples

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

TOUR = {
    "text-classification": ("pytorch", "tensorflow", "flax"),
    "token-classification": ("pytorch", "tensorflow", "flax"),
    "question-answering": ("pytorch", "tensorflow", "flax"),
    "fill-mask": ("pytorch", "tensorflow", "flax"),
    "text-generation": ("pytorch", "tensorflow", "flax"),
    "summarization": ("pytorch", "tensorflow", "flax"),
    "translation": ("pytorch", "tensorflow", "flax"),
    "feature-extraction": ("pytorch", "tensorflow", "flax"),
    "zero-shot-classification": ("pytorch", "tensorflow", "flax"),
    "image-classification": ("pytorch", "tensorflow", "flax"),
    "image-to-text": ("pytorch", "tensorflow", "flax"),
    "zero-shot-image-classification": ("pytorch", "tensorflow", "flax"),
    "automatic-speech-recognition-ctc": ("pytorch", "tensorflow", "flax"),
    "automatic-speech-recognition-seq2seq": ("pytorch", "tensorflow", "flax"),
    "audio-classification": ("pytorch", "tensorflow"),
    "document-question-answering": ("pytorch", "tensorflow"),
    "image-segmentation-semantic": ("pytorch", "tensorflow"),
    "object-detection": ("pytorch",),
    "visual-question-answering": ("pytorch",),
}
"""Examples of transformers' quick tours, and the backends with a class for the fixture's model."""


@pytest.fixture(scope="module")
def workers(pytestconfig: pytest.Config) -> Iterator[WorkerPool]:
    with WorkerPool({"oracle": pytestconfig.getoption("--oracle")}, time_limit=300) as found:
        yield found


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [(name, one) for name, backends in TOUR.items() for one in backends]
)
def test_same_results_as_pipeline(name: str, backend: str, workers: WorkerPool) -> None:
    golden = json.loads((ROOT / "pipelines" / f"{name}.json").read_text())
    call = golden["calls"][0]
    model = ModelFolder(ROOT / "tasks" / name)
    task = infer_task(model)
    samples = load_samples(task, model)
    found = run_pipeline(
        task.name, model.path, samples, backend=backend, workers=workers, options=call["options"]
    )
    for ours, theirs in zip(found, call["results"], strict=True):
        compare(ours, theirs, f"{name} on {backend}")


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(ROOT / "tasks" / "question-answering")
    words = ["Where does Anna live?", "Anna lives in London."]
    assert command(["run", "question-answering", folder, *words, "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "London"
    assert found["start"] == 14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-task", "text-classification", "x"], "no such task"),
        (["question-answering", "question-answering", "only one"], "takes 2 inputs"),
        (["text-classification", "text-classification", "{broken"], "not JSON"),
        (["image-classification", "image-classification", "no/such.png"], "no/such.png"),
        (["text-classification", "text-classification", "x", "--backend", "onnx"], "no program"),
        (["text-generation", "text-generation", "x", "--option", "do_sample=true"], "sampling"),
        (["object-detection", "text-classification", "x"], "no class"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    task, model, *rest = arguments
    assert command(["run", task, str(ROOT / "tasks" / model), *rest]) == 2
    assert message in capsys.readouterr().err


def test_samples_from_texts() -> None:
    task = find_task("zero-shot-classification")
    model = ModelFolder(ROOT / "tasks" / "zero-shot-classification")
    wanted = [{"text": "Goal!", "candidate_labels": ["sport", "food"]}]
    assert parse_inputs(task, model, ["Goal!", "sport, food"]) == wanted
    assert parse_inputs(task, model, ["candidate_labels=sport,food", "text=Goal!"]) == wanted
    assert parse_inputs(task, model, [json.dumps(wanted[0])]) == wanted
    folder = ModelFolder(ROOT / "tasks" / "token-classification")
    both = parse_inputs(find_task("ner"), folder, ["One.", "Two."])
    assert both == [{"text": "One."}, {"text": "Two."}]


def test_a_chat_is_one_sample() -> None:
    model = ModelFolder(ROOT / "tasks" / "text-generation")
    task = find_task("text-generation")
    messages = [{"role": "user", "content": "Hi."}]
    assert parse_inputs(task, model, [json.dumps(messages)]) == [{"text": messages}]
    assert parse_inputs(task, model, ["[1] Anna"]) == [{"text": "[1] Anna"}]


def test_call_options_are_split() -> None:
    given = {"return_full_text": False, "generate_kwargs": {"num_beams": 4, "do_sample": False}}
    found = sort_options("image-text-to-text", given)
    assert found.decode == {"return_full_text": False}
    assert found.case == {"num_beams": 4, "do_sample": False}
    with pytest.raises(InputError, match="sampling"):
        sort_options("text-generation", {"do_sample": True})
