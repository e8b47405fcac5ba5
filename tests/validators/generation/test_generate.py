"""``generate`` gives the tokens of transformers' own ``generate``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from task_models import FIXTURES, folder, runner
from torch_runner import TorchRunner

from equipoise.convert.core.errors import InputError
from equipoise.validators.core.types import Arrays, Batch, Case
from equipoise.validators.generation.generate import (
    generate,
    generation_settings,
    greedy_margins,
)
from equipoise.validators.generation.logits_processors import process_logits
from equipoise.validators.generation.read_settings import read_settings
from equipoise.validators.generation.settings import GenerationSettings
from equipoise.validators.models.folder import ModelFolder
from equipoise.validators.tasks.base import infer_task, load_samples

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]

GENERATIVE_FIXTURES = sorted(
    set(FIXTURES)
    & {
        "text-generation",
        "text-generation-llama",
        "summarization",
        "translation",
        "translation-t5",
        "automatic-speech-recognition-seq2seq",
        "image-to-text",
        "image-text-to-text",
    }
)

SETTINGS: list[dict[str, Any]] = [
    {},
    {"max_new_tokens": 7},
    {"min_length": 15, "max_new_tokens": 20},
    {"min_new_tokens": 12, "max_new_tokens": 14},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6, "max_new_tokens": 12},
    {"no_repeat_ngram_size": 1, "max_new_tokens": 12},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 15, "max_new_tokens": 20},
    {"suppress_tokens": [5, 6, 7, 20, 21], "begin_suppress_tokens": [9, 10, 11]},
    {"bad_words_ids": [[12], [8, 9], [30, 31, 32]], "max_new_tokens": 10},
    {"forced_eos_token_id": 1, "max_new_tokens": 6},
    {"eos_token_id": [1, 2, 15, 33], "pad_token_id": 3},
]

BEAM_SETTINGS: list[dict[str, Any]] = [
    {"length_penalty": 0.0},
    {"length_penalty": 2.5},
    {"length_penalty": -1.0},
    {"early_stopping": True},
    {"early_stopping": "never"},
]


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True], ids=["whole", "cache"])
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", GENERATIVE_FIXTURES)
def test_same_tokens_as_transformers(name: str, beams: int, cache: bool) -> None:
    model, runs = folder(name), runner(name)
    batch = _batch(name, {"num_beams": beams, "cache": cache})
    for settings in [*SETTINGS, *(BEAM_SETTINGS if beams > 1 else [])]:
        _same(model, runs, batch, settings)


@pytest.mark.parametrize("beams", [1, 3])
def test_forced_first_token(beams: int) -> None:
    name = "summarization"
    batch = _batch(name, {"num_beams": beams})
    _same(
        folder(name), runner(name), batch, {"forced_bos_token_id": 7, "begin_suppress_tokens": [9]}
    )


def test_teacher_forcing_reports_own_choices() -> None:
    model, runs = folder("text-generation"), runner("text-generation")
    batch = _batch("text-generation", {"num_beams": 1})
    reference = generate(runs, model, batch.arrays, {"num_beams": 1})
    other = reference["sequences"].copy()
    position = batch.arrays["input_ids"].shape[1]
    other[:, position] = 11
    forced = generate(runs, model, batch.arrays, {"num_beams": 1}, {"sequences": other})
    assert forced["sequences"][:, position].tolist() == reference["sequences"][:, position].tolist()
    assert forced["logits"].shape[1] <= reference["logits"].shape[1]
    np.testing.assert_array_equal(forced["logits"][:, 0], reference["logits"][:, 0])
    assert not np.allclose(forced["logits"][:, 1], reference["logits"][:, 1])


def test_teacher_forcing_with_own_tokens() -> None:
    model, runs = folder("summarization"), runner("summarization")
    batch = _batch("summarization", {"num_beams": 1})
    reference = generate(runs, model, batch.arrays, {"num_beams": 1})
    forced = generate(runs, model, batch.arrays, {"num_beams": 1, "cache": True}, reference)
    np.testing.assert_array_equal(forced["sequences"], reference["sequences"])
    np.testing.assert_allclose(forced["logits"], reference["logits"], atol=1e-4)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", GENERATIVE_FIXTURES)
def test_one_pass_over_all_tokens_gives_what_the_loop_gives(name: str, beams: int) -> None:
    """With unequal prompts, so that there is padding; the second run follows the tokens of the first."""
    model, runs = folder(name), runner(name)
    batch = _batch(name, {"num_beams": beams})
    loop = generate(runs, model, batch.arrays, batch.case.options)
    options = {**batch.case.options, "teacher_forcing": True, "cache": True}
    counted = CountingRunner(runs)
    forced = generate(counted, model, batch.arrays, options, loop)
    assert counted.calls == 1
    output = "logits" if beams == 1 else "sequences_scores"
    np.testing.assert_allclose(forced[output], loop[output], atol=1e-4)
    np.testing.assert_array_equal(forced["sequences"], loop["sequences"])


class CountingRunner:
    """Counts the forward passes of a runner."""

    caches = True

    def __init__(self, runs: TorchRunner) -> None:
        self._runs = runs
        self.accepts = runs.accepts
        self.calls = 0

    def run(self, inputs: Arrays, **kwargs: Any) -> Arrays:
        self.calls += 1
        return self._runs.run(inputs, **kwargs)

    def step(self, *args: Any, **kwargs: Any) -> tuple[Arrays, str]:
        raise AssertionError("a pass over all tokens needs no cache")


def test_margins_hold() -> None:
    """An error below the margin changes no token; a larger one can."""
    model, runs = folder("text-generation"), runner("text-generation")
    batch = _batch("text-generation", {"num_beams": 1})
    outputs = generate(runs, model, batch.arrays, {"num_beams": 1})
    search = generation_settings(model, {"num_beams": 1})
    margins = greedy_margins(search, outputs["sequences"], outputs["logits"])
    for index, row in enumerate(margins):
        logits = outputs["logits"][index, : len(row)].astype(np.float64)
        best = logits.argmax(-1)
        for factor, same in ((0.99, True), (1.01, False)):
            moved = logits + row[:, None] * factor
            moved[np.arange(len(row)), best] -= 2 * row * factor
            assert (moved.argmax(-1) == best).all() == same


def test_missing_cache_is_reported() -> None:
    class Cacheless(TorchRunner):
        caches = False

        def __init__(self) -> None:
            pass

        accepts = frozenset({"input_ids"})  # type: ignore[assignment]

    arrays = {"input_ids": np.zeros((1, 2), np.int64)}
    with pytest.raises(InputError, match="has no KV cache"):
        generate(Cacheless(), folder("text-generation"), arrays, {"cache": True})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(InputError, match="penalty_alpha"):
        read_settings({"penalty_alpha": 0.6}, {})


def test_limits() -> None:
    assert read_settings({"max_new_tokens": 5}, {}).max_total_length(3) == 8
    assert read_settings({"max_length": 50}, {}).max_total_length(3) == 50
    assert read_settings({}, {}).max_total_length(3) == 23
    assert read_settings({"max_position_embeddings": 21}, {}).max_total_length(3) == 21
    assert read_settings({"max_new_tokens": 5}, {"max_new_tokens": 2}).max_total_length(3) == 5


def test_no_repeat_ngram_size_of_one_bans_all_earlier_tokens() -> None:
    scores = process_logits(
        GenerationSettings(no_repeat_ngram_size=1), np.array([[2, 3]]), np.zeros((1, 5)), 2
    )
    assert np.isinf(scores[0]).tolist() == [False, False, True, True, False]


def _batch(name: str, options: dict[str, Any]) -> Batch:
    model = folder(name)
    task = infer_task(model)
    side = {"padding_side": "left"} if task.name == "text-generation" else {}
    samples = tuple(load_samples(task, model)[:3])
    return task.encode(model, Case("batch", samples, {**side, **options}))


def _same(model: ModelFolder, runs: TorchRunner, batch: Batch, settings: dict[str, Any]) -> None:
    import torch

    options = batch.case.options
    changed = ModelFolder(model.path)
    changed.generation_config.update(settings)
    ours = generate(runs, changed, batch.arrays, options)
    theirs = _transformers_generate(runs, batch.arrays, int(options.get("num_beams", 1)), settings)
    wanted = theirs.sequences.numpy()
    found = ours["sequences"][:, -wanted.shape[1] :]
    np.testing.assert_array_equal(found, wanted, err_msg=str(settings))
    if "sequences_scores" in ours:
        np.testing.assert_allclose(ours["sequences_scores"], theirs.sequences_scores, atol=1e-4)
    else:
        logits = torch.stack(theirs.logits, 1).numpy()
        alive = ours["logits"].any(-1)
        np.testing.assert_allclose(ours["logits"][alive], logits[alive], atol=1e-4)


def _transformers_generate(
    runs: TorchRunner, arrays: Arrays, beams: int, settings: dict[str, Any]
) -> Any:
    import torch

    given = {key: torch.from_numpy(value) for key, value in arrays.items()}
    given.pop("decoder_input_ids", None)
    shared = {"num_beams": beams, "do_sample": False, "return_dict_in_generate": True}
    return runs.model.generate(
        **given, **shared, output_logits=True, output_scores=True, **settings
    )
