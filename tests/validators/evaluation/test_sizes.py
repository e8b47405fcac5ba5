"""Cases reach sizes that no trace had: the longest text, both sides of a power of two, five rows, odd images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from task_models import FIXTURES, ROOT, folder

from equipoise.validators.core.types import Case
from equipoise.validators.evaluation.further_cases import all_cases
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task, load_samples
from equipoise.validators.tasks.shared import text
from equipoise.validators.tasks.shared.images import load_image

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]
BERT = ROOT / "tasks" / "text-classification"
FAULTY = Path(__file__).parents[1] / "faulty"


def cases_of(model: ModelFolder) -> dict[str, Case]:
    task = infer_task(model)
    return {case.name: case for case in all_cases(task, model, list(load_samples(task, model)))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text-classification", (31, 33, 40)),
        ("token-classification", (31, 33, 62)),
        ("question-answering", (63, 65, 80)),
    ],
)
def test_lengths_of_texts(name: str, expected: tuple[int, ...]) -> None:
    model = folder(name)
    task, cases = infer_task(model), cases_of(model)
    lengths = [
        task.encode(model, cases[one]).arrays["input_ids"].shape[1]
        for one in ("below-power", "above-power", "long")
    ]
    assert tuple(lengths) == expected


@pytest.mark.parametrize("name", FIXTURES)
def test_a_case_has_more_rows_than_any_trace(name: str) -> None:
    cases = cases_of(folder(name)).values()
    assert max(len(case.samples) for case in cases) >= 5


def test_generation_steps_over_a_power_of_two() -> None:
    model = folder("text-generation")
    task, cases = infer_task(model), cases_of(model)
    for name in ("over-power", "over-power-cache"):
        assert task.encode(model, cases[name]).arrays["input_ids"].shape[1] == 63
        assert cases[name].options["max_new_tokens"] == 3


def test_token_types_of_a_second_segment() -> None:
    """A program that ignores token types is right on every text without a pair."""
    model = folder("text-classification")
    batch = infer_task(model).encode(model, cases_of(model)["below-power"])
    assert batch.arrays["token_type_ids"].tolist() == [[0] * 15 + [1] * 16]


@pytest.mark.parametrize(
    ("name", "length"), [("zero-shot-image-classification", 20), ("visual-question-answering", 20)]
)
def test_a_label_and_a_question_are_as_long_as_the_model_takes(name: str, length: int) -> None:
    model = folder(name)
    batch = infer_task(model).encode(model, cases_of(model)["long"])
    assert batch.arrays["input_ids"].shape[1] == length


@pytest.mark.parametrize(
    ("name", "positions"),
    [("translation", 60), ("image-to-text", 24), ("automatic-speech-recognition-seq2seq", 24)],
)
def test_a_decoder_comes_to_its_last_position(name: str, positions: int) -> None:
    model = folder(name)
    case = cases_of(model)["long-answer"]
    tokens = infer_task(model).encode(model, case).arrays["decoder_input_ids"]
    assert tokens.shape == (1, positions - case.options["max_new_tokens"])
    assert not set(tokens[0, 5:].tolist()) & set(model.tokenizer.all_special_ids)


def test_a_long_page_fills_its_rows() -> None:
    model = folder("document-question-answering")
    batch = infer_task(model).encode(model, cases_of(model)["long"])
    rows, tokens = batch.arrays["input_ids"].shape
    assert rows > 1
    assert tokens == 72
    assert batch.arrays["attention_mask"][0].all()


def test_a_large_image_has_odd_sides() -> None:
    for name in ("object-detection", "image-segmentation-panoptic"):
        case = cases_of(folder(name))["large"]
        assert [side % 2 for side in load_image(case.samples[0]).size] == [1, 1]


def test_the_longest_text_is_cut_where_it_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BERT's layer of 24 numbers: attention over 20 tokens, quadratic, and two operations a weight and token."""
    model = folder("text-classification")
    config, tokens = model.config, 21
    operations = 2 * model.weight_count * tokens
    operations += 4 * config["num_hidden_layers"] * config["hidden_size"] * tokens**2
    monkeypatch.setattr(text, "LONG_CASE_OPERATIONS", operations + 1)
    case = cases_of(model)["long"]
    assert case.options["max_tokens"] == tokens
    assert case.note == "its text has 21 tokens; the model takes 40"


def test_limits_of_the_longest_text() -> None:
    """The scores of a layer are two copies of eight bytes for each pair of tokens and head."""
    assert text.LONG_CASE_OPERATIONS == 400e9
    assert text.LONG_CASE_SCORE_BYTES == 2 << 30


def test_cases_of_a_text_and_of_a_generated_text() -> None:
    cases = cases_of(folder("text-classification"))
    names = ("single", "batch", "padded", "below-power", "above-power", "long", "batch-5")
    assert tuple(cases)[: len(names)] == names
    model, task = folder("text-generation"), infer_task(folder("text-generation"))
    cases = cases_of(model)
    for name, beams, cached, rows in (
        ("greedy", 1, False, 1),
        ("greedy-cache", 1, True, 1),
        ("beam", 4, False, 1),
        ("beam-cache", 4, True, 1),
        ("batch", 1, False, 3),
        ("batch-cache", 1, True, 3),
        ("batch-beam-cache", 4, True, 3),
    ):
        options = cases[name].options
        assert (options["num_beams"], bool(options.get("cache"))) == (beams, cached)
        mask = task.encode(model, cases[name]).arrays["attention_mask"]
        assert len(mask) == rows
        assert mask[:, -1].all(), "padding is on the left"
        assert mask.all() == (rows == 1)


def test_a_batch_is_unequal_and_may_have_more_padding_than_it_needs() -> None:
    model = folder("text-classification")
    task, cases = infer_task(model), cases_of(model)
    masks = {
        name: task.encode(model, cases[name]).arrays["attention_mask"]
        for name in ("batch", "padded")
    }
    assert len(set(masks["batch"].sum(axis=1))) > 1
    assert masks["padded"].shape[1] == masks["batch"].shape[1] + 5
    assert (masks["padded"].sum(axis=1) == masks["batch"].sum(axis=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "case"), [("rows_from_four_on", "batch-5"), ("above_a_block", "above-power")]
)
def test_a_fault_of_one_size_is_caught(
    fault: str, case: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    report, backend = tmp_path / "report.json", FAULTY / f"{fault}.py"
    options = ("--backends", backend, "--threads", 1, "--json", report)
    assert cli("validate", BERT, *options).code == 1
    (result,) = json.loads(report.read_text())["backends"]
    wrong = {one["case"] for one in result["cases"] if one["verdict"] == "diverged"}
    assert wrong == {case}


@pytest.mark.slow
def test_what_is_cut_is_told(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], tmp_path: Path
) -> None:
    monkeypatch.setattr(text, "LONG_CASE_SCORE_BYTES", 4 * 24 * 30**2)
    done = cli("validate", BERT, "--backends", "pytorch", "--threads", 1)
    assert done.code == 0
    assert "long: its text has 30 tokens; the model takes 40" in done.out
