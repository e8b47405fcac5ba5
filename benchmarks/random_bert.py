"""Writes a BERT of any size with random weights and the tokenizer of a fixture.

python benchmarks/random_bert.py FOLDER LAYERS WIDTH
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TASK = Path(__file__).parent.parent / "fixtures" / "tasks" / "text-classification"


def write_random_bert(folder: Path, **config: int) -> Path:
    """Writes the model in one file, and its tokenizer; returns the folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    names = {0: "NEGATIVE", 1: "POSITIVE"}
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(id2label=names, **config)
    )
    model.save_pretrained(folder, max_shard_size="100GB")
    for path in TASK.iterdir():
        if path.name.startswith(("vocab", "tokenizer", "special")):
            shutil.copy(path, folder)
    return folder


if __name__ == "__main__":
    WIDTH = int(sys.argv[3])
    write_random_bert(
        Path(sys.argv[1]),
        num_hidden_layers=int(sys.argv[2]),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_attention_heads=WIDTH // 64,
    )
