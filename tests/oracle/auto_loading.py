"""Functions that tests call with transformers 4.57.6 in the oracle's worker process, or with transformers 5 in their own."""

from __future__ import annotations

from typing import Any


def load_classifier(folder: str) -> dict[str, Any]:
    """Loads a folder with the auto classes, and returns what they found in config and weights."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    auto = transformers.AutoModelForSequenceClassification
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    return {
        "model_type": config.model_type,
        "num_labels": config.num_labels,
        "vocab_size": config.vocab_size,
        "class": type(model).__name__,
        "problems": [
            *map(str, info["missing_keys"]),
            *map(str, info["unexpected_keys"]),
            *map(str, info["mismatched_keys"]),
        ],
    }


def save_epochs(folder: str, final: str) -> None:
    """Saves a TensorFlow model's weights after each of three epochs, as Keras' ModelCheckpoint does, and the last whole."""
    from transformers import BertConfig, TFBertForSequenceClassification

    config = BertConfig(
        vocab_size=19,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=11,
        architectures=["BertForSequenceClassification"],
    )
    model = TFBertForSequenceClassification(config)
    model.build_in_name_scope()
    config.save_pretrained(folder)
    for epoch in (1, 2, 3):
        model.set_weights([value + epoch for value in model.get_weights()])
        model.save_weights(f"{folder}/cp-{epoch:04d}.ckpt")
    model.save_pretrained(final)
