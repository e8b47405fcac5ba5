"""Writes the model of ``export_large.py`` in a process of its own: folder, layers, width."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TASK = Path(__file__).parent.parent / "fixtures" / "tasks" / "text-classification"


def main(folder: Path, layers: int, width: int) -> None:
    """A wide BERT with random weights and the fixture's words, in one file."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=4 * width,
        num_attention_heads=width // 64,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
    )
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder, max_shard_size="100GB")
    for path in TASK.iterdir():
        if path.name.startswith(("vocab", "tokenizer", "special")):
            shutil.copy(path, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
