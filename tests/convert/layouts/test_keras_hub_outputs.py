"""KerasHub's outputs: PyTorch computes the same after a conversion, heads, pictures and sounds included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from equipoise.convert import convert
from equipoise.fixtures.keras_hub_models import MODELS, TOKENS, config_of
from equipoise.fixtures.make_keras_hub_goldens import make_mixed_input

GOLDEN = Path(__file__).parent / "golden" / "keras_hub"
PICTURE_TOKENS = {"paligemma": [29] * 16, "blip-2": [28] * 5, "blip-2+t5": [28] * 5}
"""What stands in transformers for the picture that KerasHub puts before a text."""
TOKEN_FIELDS = {
    "blip-2": {"image_token_index": 28},
    "blip-2+t5": {"image_token_index": 28},
    "gemma4": {"image_token_id": 27, "audio_token_id": 26},
    "gemma4+moe": {"image_token_id": 27},
}
"""Fields that say which token stands for a picture, which KerasHub has in its preprocessors."""


def inputs_of(name: str) -> dict[str, Any]:
    """Returns what ``fixtures/make_keras_hub_goldens.py`` gave to KerasHub's model, for PyTorch's."""
    torch = pytest.importorskip("torch")
    config = config_of(name)
    tokens = torch.tensor(TOKENS)
    mask = torch.ones_like(tokens)
    inputs = {"input_ids": tokens, "attention_mask": mask}
    if "d_model" in config or "decoder" in config:
        inputs |= {"decoder_input_ids": tokens, "decoder_attention_mask": mask}
    first = {"roberta": 2, "xlm-roberta": 2, "esm+absolute": config.get("pad_token_id")}
    plain = MODELS[name].get("like", name)
    if plain in first:  # KerasHub counts from the first token, whatever it is
        inputs["position_ids"] = torch.arange(4).expand(2, 4) + first[plain]
    if name in PICTURE_TOKENS:
        tokens = torch.tensor([[*PICTURE_TOKENS[name], *TOKENS[0]]])
        picture = torch.tensor(make_picture(config["vision_config"]["image_size"]))
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        types = {"token_type_ids": torch.zeros_like(tokens)} if name == "paligemma" else {}
        if name == "blip-2+t5":
            types = {"decoder_input_ids": torch.tensor(TOKENS[:1])}
        return {**inputs, **types, "pixel_values": picture}
    if name in ("gemma4", "gemma4+moe"):
        inputs = mixed_inputs()
        return {
            key: one for key, one in inputs.items() if config["audio_config"] or "feat" not in key
        }
    if "image_size" in config:
        return {"pixel_values": torch.tensor(make_picture(config["image_size"]))}
    if name == "metaclip_2":
        size = config["vision_config"]["image_size"]
        return {**inputs, "pixel_values": torch.tensor(make_picture(size))}
    return inputs


def mixed_inputs() -> dict[str, Any]:
    """Returns the text of the goldens with a picture and a sound in it, by the names of transformers."""
    torch = pytest.importorskip("torch")
    given = {key: torch.tensor(value) for key, value in make_mixed_input().items()}
    return {
        "input_ids": given["token_ids"],
        "attention_mask": given["padding_mask"],
        "pixel_values": given["pixel_values"][0],
        "image_position_ids": given["pixel_position_ids"][0],
        "input_features": given["audio_mel"][0],
        "input_features_mask": given["audio_mel_mask"][0].bool(),
        "mm_token_type_ids": given["vision_mask"],
    }


def make_picture(size: int) -> Any:
    """Returns the picture of the goldens, with the channels first."""
    values = (np.arange(size * size * 3) % 7 / 7).astype(np.float32)
    return values.reshape(1, size, size, 3).transpose(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.transformers
@pytest.mark.parametrize("name", load_file(GOLDEN / "outputs.safetensors"))
def test_pytorch_computes_what_keras_hub_computes(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    manifest = convert(GOLDEN / name, tmp_path / "back", to="pytorch")
    is_blip = name.startswith("blip-2")
    named = "task" in MODELS[name] or is_blip
    cls = getattr(transformers, MODELS[name]["class"]) if named else transformers.AutoModel
    load = cls.from_pretrained
    pad = {"pad_token_id": 0} if name == "smollm3" else {}
    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = load(tmp_path / "back", **plain, **pad, **TOKEN_FIELDS.get(name, {})).eval()
    with torch.no_grad():
        outputs = model(**inputs_of(name), output_hidden_states=is_blip)
    if is_blip:
        text = outputs.language_model_outputs
        hidden = text.hidden_states if name == "blip-2" else text.decoder_hidden_states
        outputs = {"last_hidden_state": hidden[-1]}
    kinds = ("last_hidden_state", "logits_per_image", "logits")
    found = next(outputs[kind] for kind in kinds if kind in outputs).numpy()
    expected = load_file(GOLDEN / "outputs.safetensors")[name].reshape(found.shape)
    is_same = np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    wrong = MODELS[name].get("wrong", False)
    assert is_same != wrong
    assert wrong <= ("computes other outputs than PyTorch" in str(manifest.values["notes"]))
