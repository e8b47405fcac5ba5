"""``run`` where it was silently wrong: labels, lengths, options, prompts, and what lies beside the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

from task_models import ROOT

from equipoise.cli.main import run as command
from equipoise.convert.core.errors import EquipoiseError, InputError
from equipoise.validators.core.types import Case
from equipoise.validators.generation.whisper import next_segment, whisper_prompt
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.models.positions import decoder_positions, encoder_positions
from equipoise.validators.pipeline import run_pipeline
from equipoise.validators.runtime.process import WorkerPool
from equipoise.validators.tasks.base import find_task, infer_task, pipeline_case
from equipoise.validators.tasks.shared.seq2seq import TextToTextTask

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

Edit = Callable[..., Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """Returns a function that copies a fixture and sets fields of its config; None removes one."""

    def edit(name: str, **values: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(ROOT / "tasks" / name, folder)
        file = folder / "config.json"
        config = {**json.loads(file.read_text()), **values}
        kept = {key: value for key, value in config.items() if value is not None}
        file.write_text(json.dumps(kept))
        return folder

    return edit


def _answer(
    folder: Path, workers: WorkerPool, text: str = "a wonderful film", **options: Any
) -> Any:
    (answer,) = run_pipeline(
        "text-classification", folder, [{"text": text}], workers=workers, options=options
    )
    return answer


def test_labels_without_names_are_numbered(edited: Edit, workers: WorkerPool) -> None:
    folder = edited("text-classification", id2label=None, label2id=None)
    assert _answer(folder, workers)["label"] == "LABEL_1"


def test_labels_follow_their_numbers(edited: Edit, workers: WorkerPool) -> None:
    names = {"1": "GOOD", "0": "BAD"}
    folder = edited("text-classification", id2label=names)
    assert _answer(folder, workers)["label"] == "GOOD"
    many = {str(index): f"class{index}" for index in sorted(range(12), key=str)}
    model = ModelFolder(edited("feature-extraction", id2label=many))
    assert list(model.labels.values())[:4] == ["class0", "class1", "class2", "class3"]


def test_labels_that_contradict_the_weights_are_refused(edited: Edit, workers: WorkerPool) -> None:
    folder = edited("text-classification", id2label={"0": "A"}, num_labels=2, problem_type=None)
    with pytest.raises(EquipoiseError, match=r"config names 1|size mismatch|differ"):
        _answer(folder, workers)


def test_texts_are_not_cut(workers: WorkerPool) -> None:
    folder = ROOT / "tasks" / "text-classification"
    text = "a wonderful film " * 30
    with pytest.raises(InputError, match=r"has \d+ tokens, and the model takes 40"):
        _answer(folder, workers, text)
    cut = _answer(folder, workers, text, truncation=True)
    assert cut == _answer(folder, workers, text, truncation=True, max_length=40)


def test_positions_are_those_of_the_model(edited: Edit) -> None:
    assert encoder_positions(ModelFolder(ROOT / "tasks" / "token-classification")) is not None
    llama = ModelFolder(ROOT / "tasks" / "text-generation-llama")
    assert (encoder_positions(llama), decoder_positions(llama)) == (None, None)
    gpt2 = ModelFolder(ROOT / "tasks" / "text-generation")
    assert decoder_positions(gpt2) == 72
    bert = ModelFolder(edited("text-classification", max_position_embeddings=2048))
    assert encoder_positions(bert) == 2048


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text-classification", '{"txt": "good"}'], "sample 0 has no field 'text'"),
        (["question-answering", '{"question": "Who?"}'], "sample 0 has no field 'context'"),
        (["text-classification", "good", "--device", "cudaa"], "not cpu, cuda or cuda:N"),
    ],
)
def test_calls_that_cannot_be_run_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task, *rest = arguments
    assert command(["run", task, str(ROOT / "tasks" / task), *rest]) == 2
    assert message in capsys.readouterr().err


def test_a_stride_that_leaves_no_room_is_refused(workers: WorkerPool) -> None:
    """The library of tokenizers panics, which is no Exception."""
    folder = ROOT / "tasks" / "document-question-answering"
    sample = json.loads((folder / "samples.json").read_text())[0]["inputs"]
    sample["image"] = str(folder / sample["image"])
    with pytest.raises(InputError, match="refuses a text"):
        run_pipeline(
            "document-question-answering",
            folder,
            [sample],
            workers=workers,
            options={"max_seq_len": 12, "doc_stride": 8},
        )


def test_a_tokenizer_without_padding_pads_with_another_token(edited: Edit) -> None:
    folder = edited("text-classification")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "pad_token": None}))
    model = ModelFolder(folder)
    assert model.tokenizer.pad_token is None
    task = find_task("text-classification")
    texts = ("good", "a good film")
    batch = task.encode(model, Case("batch", tuple({"text": text} for text in texts)))
    assert batch.arrays["attention_mask"].sum(1).tolist() == [3, 5]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("topk=3", "did you mean 'top_k'"),
        ("top_k=many", "takes an integer"),
        ("function_to_apply=tanh", "no such function_to_apply"),
        ("stride=4", "not supported"),
        ("nonsense=1", "has no option nonsense"),
    ],
)
def test_no_option_is_dropped(
    option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(ROOT / "tasks" / "text-classification")
    assert command(["run", "text-classification", folder, "x", "--option", option]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        {"penalty_alpha": 0.6}, {"num_beam_groups": 2}, {"dola_layers": "low"}, {"max_time": 2.0},
        {"do_sample": True}, {"prompt_lookup_num_tokens": 2}, {"force_words_ids": [[3]]},
        {"num_return_sequences": 2},
    ],
)  # fmt: skip
def test_generation_that_is_not_supported_is_refused(
    options: dict[str, Any], workers: WorkerPool
) -> None:
    folder = ROOT / "tasks" / "text-generation"
    with pytest.raises(InputError):
        run_pipeline("text-generation", folder, ["Anna"], workers=workers, options=options)


def test_sampling_is_reproducible(workers: WorkerPool) -> None:
    folder = ROOT / "tasks" / "text-generation"

    def draw(seed: int) -> Any:
        options = {"do_sample": True, "seed": seed, "max_new_tokens": 12, "temperature": 3.0}
        return run_pipeline("text-generation", folder, ["Anna"], workers=workers, options=options)

    assert draw(1) == draw(1)
    assert len({json.dumps(draw(seed)) for seed in range(1, 5)}) > 1


def test_generation_config_is_not_ignored(tmp_path: Path, workers: WorkerPool) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "tasks" / "text-generation", folder)
    file = folder / "generation_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "num_return_sequences": 2, "num_beams": 2})
    )
    options = {"max_new_tokens": 5}
    (answer,) = run_pipeline("text-generation", folder, ["Anna"], workers=workers, options=options)
    assert len(answer) == 2
    file.write_text(json.dumps({**json.loads(file.read_text()), "penalty_alpha": 0.6}))
    with pytest.raises(InputError, match="penalty_alpha"):
        run_pipeline("text-generation", folder, ["Anna"], workers=workers, options=options)


WHISPER = {
    "decoder_start_token_id": 10,
    "lang_to_id": {"<|en|>": 11, "<|de|>": 12},
    "task_to_id": {"translate": 13, "transcribe": 14},
    "no_timestamps_token_id": 20,
    "forced_decoder_ids": [[1, None], [2, 14]],
    "is_multilingual": True,
}


def _whisper(folder: Path, **generation: Any) -> ModelFolder:
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", "vocab_size": 40}))
    (folder / "generation_config.json").write_text(json.dumps({**WHISPER, **generation}))
    return ModelFolder(folder)


def test_whisper_starts_with_language_and_task(tmp_path: Path) -> None:
    model = _whisper(tmp_path)
    detected = whisper_prompt(model, {})
    assert (len(detected.tokens), detected.language_at, detected.language_ids) == (4, 1, (11, 12))
    assert detected.tokens[2:] == (14, 20)
    german = {"language": "german"}
    assert whisper_prompt(model, german).tokens == (10, 12, 14, 20)
    translated = {"language": "de", "task": "translate", "return_timestamps": True}
    assert whisper_prompt(model, translated).tokens == (10, 12, 13)
    prompted = whisper_prompt(model, {"prompt_ids": [30, 31], "language": "en"})
    assert prompted.tokens == (30, 31, 10, 11, 14, 20)
    with pytest.raises(InputError, match="no language klingon"):
        whisper_prompt(model, {"language": "klingon"})


def test_whisper_of_english_takes_no_language(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="English alone"):
        whisper_prompt(_whisper(tmp_path, is_multilingual=False), {"language": "en"})


def test_a_segment_ends_where_the_last_text_is_finished() -> None:
    first = 100
    assert next_segment(np.array([100, 5, 110, 110, 6]), first, 200) == ([100, 5, 110, 110], 20)
    assert next_segment(np.array([100, 5, 110]), first, 200) == ([100, 5, 110], 200)
    assert next_segment(np.array([5, 6]), first, 200) == ([5, 6], 200)


def test_languages_are_named_by_the_call() -> None:
    model = ModelFolder(ROOT / "tasks" / "translation")
    known = {"en_XX": 50, "de_DE": 51}

    def build(texts: list[str], *, src_lang: str, tgt_lang: str, **_: Any) -> dict[str, Any]:
        ids = np.array([[known[src_lang], 3, 2]])
        return {"input_ids": ids, "forced_bos_token_id": known[tgt_lang]}

    model.__dict__["tokenizer"] = SimpleNamespace(
        _build_translation_inputs=build, get_added_vocab=lambda: known
    )
    task = find_task("translation")

    def case(**options: str) -> Case:
        return pipeline_case(({"text": "Hi."},), cache=False, task="translation", options=options)

    batch = task.encode(model, case(src_lang="en_XX", tgt_lang="de_DE"))
    assert batch.arrays["input_ids"][0, 0] == 50
    assert batch.case.options["forced_bos_token_id"] == 51
    with pytest.raises(InputError, match="names none"):
        task.encode(model, case())
    with pytest.raises(InputError, match=r"no language de[\s\S]*did you mean 'de_DE'"):
        task.encode(model, case(src_lang="en_XX", tgt_lang="de"))


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_seamless_is_refused(task: str, edited: Edit) -> None:
    model = ModelFolder(edited("translation", model_type="seamless_m4t"))
    case = pipeline_case(({"text": "Hi."},), cache=False, task=task)
    with pytest.raises(InputError, match="SeamlessM4T is not supported"):
        TextToTextTask.encode(find_task(task), model, case)  # type: ignore[arg-type]


def test_an_adapter_beside_its_base_is_refused(edited: Edit, workers: WorkerPool) -> None:
    folder = edited("text-classification")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(EquipoiseError, match=r"adapter lies here[\s\S]*--merge-adapter"):
        _answer(folder, workers)


def test_quantized_weights_are_refused_in_one_line(edited: Edit, workers: WorkerPool) -> None:
    quantized = {"quant_method": "gptq", "bits": 4}
    folder = edited("text-classification", quantization_config=quantized)
    with pytest.raises(InputError, match=r"quantized by gptq[\s\S]*--dequantize"):
        _answer(folder, workers)


def test_code_of_the_folder_is_refused_in_one_line(edited: Edit, workers: WorkerPool) -> None:
    folder = edited(
        "text-classification", auto_map={"AutoModel": "modeling_x.XModel"}, model_type="x",
        architectures=["XModel"],
    )  # fmt: skip
    with pytest.raises(EquipoiseError, match="Python code of its own") as caught:
        _answer(folder, workers)
    assert "trust_remote_code" not in str(caught.value)


def test_a_missing_tokenizer_is_named(tmp_path: Path, workers: WorkerPool) -> None:
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(ROOT / "tasks" / "text-generation" / name, tmp_path)
    with pytest.raises(EquipoiseError, match=r"no tokenizer[\s\S]*image-classification"):
        infer_task(ModelFolder(tmp_path))
    with pytest.raises(EquipoiseError, match="there is no tokenizer"):
        run_pipeline("text-generation", tmp_path, ["Anna"], workers=workers)


def test_tokens_are_those_of_the_tokenizer_file() -> None:
    """Transformers 5 builds T5's tokenizer from its vocabulary alone."""
    from tokenizers import Tokenizer

    folder = ROOT / "tasks" / "translation-t5"
    rules = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "translate English to German: The cat sees a dog."
    assert ModelFolder(folder).tokenizer(text)["input_ids"] == rules.encode(text).ids


def test_a_field_of_the_sample_as_an_option(workers: WorkerPool) -> None:
    """`candidate_labels` may be given as an option, as in a call of pipeline(): a list, or names between commas."""
    model = ROOT / "tasks" / "zero-shot-classification"
    sample = {"text": "The owl flies.", "candidate_labels": ["bird", "fish"]}
    expected = run_pipeline("zero-shot-classification", model, [sample], workers=workers)
    for labels in (["bird", "fish"], "bird, fish"):
        found = run_pipeline(
            "zero-shot-classification",
            model,
            ["The owl flies."],
            workers=workers,
            options={"candidate_labels": labels},
        )
        assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        "exponential_decay_length_penalty=[2]",
        "exponential_decay_length_penalty=[1, 1e30]",
        'eos_token_id=["x"]',
        "no_repeat_ngram_size=-1",
        "sequence_bias=[3]",
    ],
)
def test_values_that_do_not_fit_are_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """pipeline() raises whatever Python does; a call with such an option is bad input, and no defect."""
    folder = str(ROOT / "tasks" / "translation")
    assert (
        command(["run", "translation", folder, "The owl finds the dog.", "--option", option]) == 2
    )
    assert option.partition("=")[0] in capsys.readouterr().err
