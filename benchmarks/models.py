"""Defines the models whose conversion is measured; as a script, writes one of them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Model:
    """A model that is written with random weights.

    Attributes:
        title: Name in the report.
        model_type: As in ``config.json``.
        class_name: PyTorch class name.
        config: Config values.
        rounds: How often each conversion is measured.
        theirs: Whether the conversion by transformers 4.57.6 is measured for comparison.
    """

    title: str
    model_type: str
    class_name: str
    config: dict[str, Any]
    rounds: int
    theirs: bool = False


MODELS = {
    "tiny": Model(
        "a small BERT",
        "bert",
        "BertModel",
        {"vocab_size": 5000, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
        | {"num_attention_heads": 4, "max_position_embeddings": 512, "type_vocab_size": 2},
        rounds=2,
        theirs=True,
    ),
    "bert-base": Model(
        "BERT-base",
        "bert",
        "BertModel",
        {"vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072}
        | {"num_hidden_layers": 12, "num_attention_heads": 12}
        | {"max_position_embeddings": 512, "type_vocab_size": 2},
        rounds=3,
        theirs=True,
    ),
    "bert-3gb": Model(
        "a BERT of 3 GB",
        "bert",
        "BertModel",
        {"vocab_size": 30522, "hidden_size": 2048, "intermediate_size": 8192}
        | {"num_hidden_layers": 14, "num_attention_heads": 32}
        | {"max_position_embeddings": 512, "type_vocab_size": 2},
        rounds=3,
    ),
    "t5-large": Model(
        "T5-large",
        "t5",
        "T5ForConditionalGeneration",
        {"vocab_size": 32128, "d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_heads": 16}
        | {"num_layers": 24, "num_decoder_layers": 24, "relative_attention_num_buckets": 32},
        rounds=2,
    ),
}


def main(name: str, folder: str) -> None:
    """Writes a model and prints its sizes as JSON."""
    from equipoise.convert import open_checkpoint
    from equipoise.fixtures.synthetic import write_checkpoint

    model = MODELS[name]
    write_checkpoint(Path(folder), model.model_type, model.class_name, model.config)
    sizes = [ref.nbytes for ref in open_checkpoint(folder).values()]
    print(json.dumps({"bytes": sum(sizes), "tensors": len(sizes), "largest": max(sizes)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
