"""Writes docs/run.md from the declared parameters of pipelines and the calls that are compared: ``python tools/run_page.py --write``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
AGREEMENT = ROOT / "tests" / "validators" / "agreement"
sys.path[:0] = [str(AGREEMENT)]

from call_data import all_calls, task_of

from equipoise.validators.parameters.declarations import (
    Parameter,
    declared_tasks,
    generation_fields,
    pipeline_of,
    tokenizer_parameters,
    whisper_fields,
)

PAGE = ROOT / "docs" / "run.md"

HEAD = """\
# `equipoise run`: every option of `pipeline()`

`equipoise run TASK MODEL INPUTS --option NAME=VALUE` returns the result of `pipeline(TASK, MODEL)(INPUTS, NAME=VALUE)`
of transformers 4.57.6, on any backend. `tools/run_page.py` writes this page from `validators/parameters/` and from the calls of
`tests/validators/agreement/calls`: {calls} calls of {tasks} tasks on {models} models, each made with `pipeline()` in an environment of
its own and compared in structure, texts, labels and scores (to 1e-4).

    equipoise run text-classification MODEL "A long text." --option truncation=true --option top_k=null
    equipoise run translation MODEL "The house." --option src_lang=en_XX --option tgt_lang=de_DE
    equipoise run text-generation MODEL '[{{"role": "user", "content": "Hello"}}]' --option max_new_tokens=20
    equipoise run automatic-speech-recognition MODEL talk.wav --option return_timestamps=true
    equipoise run image-to-text MODEL cat.png --option 'generate_kwargs={{"num_beams": 3, "num_return_sequences": 2}}'

A value is JSON; what is not JSON is a text. In Python, `run_pipeline` of `equipoise.validators.pipeline` takes the options as a
dictionary, and `TaskPipeline` loads a model once for many samples.

- **Nothing is dropped.** An option that the task does not have is refused with the nearest one that it has, a value of the wrong
  kind with what it takes, and what is not supported by its name (the lists below).
- **Nothing is cut in silence.** A text longer than the model's positions is refused with both numbers where `pipeline()` fails;
  `truncation`, `stride`, `max_seq_len` and `doc_stride`, `chunk_length_s` or Whisper's `return_timestamps` take it whole or in parts.
- **Labels** are those of the config as transformers builds it: by number, `LABEL_0` and so on where there are no names.
- **Tokens** are those of `tokenizer.json`, with every version of transformers.
- **No tokens are drawn unasked.** `pipeline()` draws tokens in text generation unless `do_sample` is false; `run` takes the likeliest
  ones and says so. `--option do_sample=true --option seed=1` draws them, the same ones each time.
- **Segments** of instance segmentation stand with the best last, on top of the others; `pipeline()` leaves their order to PyTorch's `topk`, which specifies none.
- **Answers with a score of 0**, which question answering adds where `top_k` is larger than the number of spans, are others and stand in another order.
- **`null`** takes the value of the model's files away, as in `pipeline()`: `eos_token_id=null` never ends. Where `pipeline()` fails with `null` of a field that
  has a plain default (`max_length`, `length_penalty`), `run` takes the default. Negative numbers that Python would count from the end are refused.
- `return_timestamps` is an option of the call; within `generate_kwargs`, where its effect depends on the model's files, it is refused.
- `batch_size` and `num_workers` of every task, and `timeout` of tasks on images, are taken and change nothing.
- A LoRA adapter beside its base, quantized weights, code of a model's own and SeamlessM4T are refused in one line that says what to do.

## Options of each task

| task | option | takes | what it does |
|---|---|---|---|
"""

SILENT = ("every", "timeout")


def render() -> str:
    """Returns the page."""
    calls = all_calls()
    models = {call["model"] for call in calls}
    tasks = {task_of(call) for call in calls}
    lines = [HEAD.format(calls=f"{len(calls):,}", tasks=len(tasks), models=len(models))]
    for task in declared_tasks():
        lines += _task_rows(task, sum(task_of(call) == task for call in calls))
    lines += ["", "## Options of the tokenizer", ""]
    lines += _table(tokenizer_parameters().values(), ("encode",))
    lines += ["", f"Refused: {_names(tokenizer_parameters(), 'refused')}."]
    lines += ["", "## Generation", "", _generation_text(), ""]
    lines += _table(generation_fields().values(), ("used",))
    lines += ["", f"Without effect on the text: {_names(generation_fields(), 'none')}.", ""]
    lines += ["Refused where they are not off:", ""]
    lines += [
        f"- `{one.name}`: {one.about}"
        for one in generation_fields().values()
        if one.effect == "refused"
    ]
    lines += ["", "## Whisper", "", WHISPER, ""]
    lines += _table(whisper_fields().values(), ("used",))
    lines += ["", f"Refused: {_names(whisper_fields(), 'refused')}."]
    lines += ["", "## transformers 5", "", NEWEST, ""]
    lines += ["| task | transformers 5 | of |", "|---|---|---|", *map(_change_row, _changes())]
    return "\n".join(lines).replace("|\n\n|", "|\n|") + "\n"


def _changes() -> list[dict[str, Any]]:
    """Returns what the pipelines of transformers 5 do otherwise."""
    found: list[dict[str, Any]] = json.loads((AGREEMENT / "newest.json").read_text("utf-8"))
    return found


def _change_row(change: Mapping[str, Any]) -> str:
    names = [f"`{one}`" for one in change.get("options", ())]
    names += [one.rpartition("/")[2] for one in change.get("models", ())]
    return f"| {', '.join(change['tasks'])} | {change['reason']} | {', '.join(names) or 'every call'} |"


NEWEST = """\
The same calls are made with `pipeline()` of the newest transformers too, where it has the pipeline. Its results are those of 4.57.6, but for this, where `run`
stays with 4.57.6."""
WHISPER = """\
Without `language` a multilingual model detects it. Audio beyond the model's window is written segment by segment with
`return_timestamps=true`, or in chunks with `chunk_length_s`. These are options of the call, or fields of `generate_kwargs`."""


def _generation_text() -> str:
    flat = [task for task in declared_tasks() if _generation_of(task) == "flat"]
    inside = [task for task in declared_tasks() if _generation_of(task) == "kwargs"]
    return (
        f"Fields of `GenerationConfig` are options of {', '.join(flat)}; of {', '.join(inside)} they stand inside "
        "`generate_kwargs`. The model's `generation_config.json` and `task_specific_params` hold as in `pipeline()`."
    )


def _generation_of(task: str) -> str:
    pipeline = pipeline_of(task)
    return pipeline.generation if pipeline is not None else ""


def _task_rows(task: str, count: int) -> list[str]:
    pipeline = pipeline_of(task)
    assert pipeline is not None
    shown = [one for one in pipeline.parameters.values() if one.group not in (*SILENT, "tokenizer")]
    rows = [
        (
            f"`{one.name}`",
            _kind(one),
            f"refused: {one.about}" if one.effect == "refused" else one.about,
        )
        for one in shown
    ]
    if any(one.group == "tokenizer" for one in pipeline.parameters.values()):
        rows.append(("options of the tokenizer", "", "below"))
    if pipeline.generation == "flat":
        rows.append(("fields of generation", "", "below"))
    first = f"{task} ({count} calls)"
    return [
        f"| {first if index == 0 else ''} | {' | '.join(row)} |"
        for index, row in enumerate(rows or [("none", "", "")])
    ]


def _table(parameters: Iterable[Parameter], effects: tuple[str, ...]) -> list[str]:
    rows = [one for one in parameters if one.effect in effects]
    return [
        "| option | takes | what it does |",
        "|---|---|---|",
        *(f"| `{one.name}` | {_kind(one)} | {one.about} |" for one in rows),
    ]


def _kind(parameter: Parameter) -> str:
    if parameter.effect == "refused":
        return ""
    if parameter.choices:
        return ", ".join(str(one).lower() for one in parameter.choices)
    kind = {
        "table": "object",
        "texts": "text or list",
        "tokens": "id or list",
        "ids": "list",
        "sequences": "list of lists",
        "biases": "list of pairs",
        "pair": "two numbers",
    }
    base = parameter.takes.removesuffix("?")
    return kind.get(base, base)


def _names(parameters: Mapping[str, Parameter], effect: str) -> str:
    return ", ".join(f"`{one.name}`" for one in parameters.values() if one.effect == effect)


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(render(), encoding="utf-8")
    else:
        print(render())
