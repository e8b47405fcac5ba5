"""Measures what a verdict costs: the export of a decoder of 0.6 billion parameters to ONNX, with and without it.

    python benchmarks/verdict_cost.py [--work FOLDER] [--layers N] [--repeats N]

The model has the shape of Qwen3 0.6B with random weights in a bfloat16 file; it is exported in float32 with its cache. The tokenizer
has a token for each word of the samples, as one with a large vocabulary has, and no limit of its own.
Seconds and the peak of resident memory, summed over all processes, go to ``benchmarks/results/verdict-cost.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine  # isort: skip - scripts in the same folder, not a package
from export_large import run_and_measure  # isort: skip

HERE = Path(__file__).parent
RESULT = HERE / "results" / "verdict-cost.json"
GOAL = 1.5
"""Target: largest time of an export with its verdict, as a multiple of the export alone."""


def write_model(folder: Path, layers: int) -> int:
    """Writes the model; returns the number of its parameters."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = transformers.Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return sum(value.numel() for value in model.parameters())


def write_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of whole words: those of the samples of text generation."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from equipoise.validators.tasks.text_generation import TASK

    splitter = pre_tokenizers.Whitespace()
    texts = [str(sample["text"]) for sample in TASK.samples(None)]
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {word: index for index, word in enumerate(["<unk>", "<eos>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    names = {"unk_token": "<unk>", "eos_token": "<eos>", "pad_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def measure(source: Path, out: Path, count: int, *options: str) -> dict[str, Any]:
    """Exports the model and returns seconds, peak memory in bytes and relative to float64 weights, and the verdict."""
    command = [sys.executable, "-m", "equipoise", "export", str(source), str(out)]
    found = run_and_measure([*command, "--to", "onnx", "--force", *options], 8 * count)
    verdict = json.loads((out / "artifact.json").read_text())["verdict"]
    return {**found, "verdict": verdict["verdict"]}


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest of so many runs counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.work, prefix="equipoise-bench-") as work:
        source, out = Path(work, "model"), Path(work, "out")
        count = write_model(source, given.layers)
        runs = [
            (measure(source, out, count, "--no-validate"), measure(source, out, count))
            for _ in range(given.repeats)
        ]
        alone, judged = (
            min(kind, key=lambda one: one["seconds"]) for kind in zip(*runs, strict=True)
        )
        ratio = judged["seconds"] / alone["seconds"]
        result = {
            "machine": describe_machine(None),
            "parameters": count,
            "alone": alone,
            "judged": judged,
            "ratio": round(ratio, 2),
            "goal": GOAL,
        }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
