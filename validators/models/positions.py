"""The number of positions of a model: where it has one embedding for each, a longer text has none.

Models with rotary or relative positions take texts of any length, whatever ``max_position_embeddings`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipoise.convert.core.framework_types import JsonValue
from equipoise.validators.models.folder import ModelFolder

OFFSET_BY_PADDING = frozenset(
    {"roberta", "xlm-roberta", "camembert", "longformer", "xlm-roberta-xl", "mpnet", "data2vec-text",
     "layoutlmv3", "esm", "ibert", "roberta-prelayernorm", "xmod", "xlm-roberta-flash", "clap_text_model",
     "bertweet", "luke", "markuplm"}
)  # fmt: skip
"""Model types that number positions from the padding id + 1 on."""

_ENCODERS = frozenset(
    {"albert", "bert", "big_bird", "blip_text_model", "blip", "clip", "clip_text_model", "convbert", "deberta", "deberta-v2",
     "distilbert", "electra", "ernie", "flaubert", "fnet", "git", "layoutlm", "layoutlmv2", "lxmert", "megatron-bert",
     "mobilebert", "nystromformer", "rembert", "roc_bert", "siglip", "siglip_text_model", "splinter", "squeezebert",
     "tapas", "vilt", "visual_bert", "xclip", "xlm", "yoso", *OFFSET_BY_PADDING}
)  # fmt: skip
_DECODERS = frozenset(
    {"biogpt", "codegen", "ctrl", "git", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "imagegpt", "openai-gpt", "opt",
     "blip", "blip_text_model", "bert", "roberta", "xlm-roberta", "camembert", "electra", "big_bird"}
)  # fmt: skip
_BOTH = frozenset(
    {"bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "led", "marian", "mbart", "mvp", "pegasus", "plbart",
     "whisper"}
)  # fmt: skip
"""Encoder-decoders, or their decoders alone, with a table of positions on both sides."""

_ENCODER_FIELDS = ("max_encoder_position_embeddings", "max_position_embeddings", "n_positions")
DECODER_FIELDS = (
    *("max_target_positions", "max_decoder_position_embeddings", "max_position_embeddings"),
    *("n_positions", "n_ctx"),
)
"""Fields with the number of a decoder's positions."""


def encoder_positions(model: ModelFolder) -> int | None:
    """Returns how many tokens the part of a model that reads a text has positions for; None: any number."""
    config = model.config.get("text_config") or model.config
    kind = str(config.get("model_type") or model.model_type)
    if kind not in _ENCODERS | _BOTH | _DECODERS or _is_position_free(config):
        return None
    size = _first(config, _ENCODER_FIELDS) or _first(model.config, _ENCODER_FIELDS)
    if size is None:
        size = _DEFAULTS.get(kind)
    return _without_padding(size, kind, config)


def decoder_positions(model: ModelFolder) -> int | None:
    """Returns how many tokens the part of a model that writes a text has positions for; None: any number."""
    config = model.config.get("decoder") or model.config.get("text_config") or model.config
    kind = str(config.get("model_type") or model.model_type)
    if kind not in _DECODERS | _BOTH:
        return None
    size = _first(config, DECODER_FIELDS) or _DEFAULTS.get(kind)
    return _without_padding(size, kind, config)


_DEFAULTS = {"clip": 77, "clip_text_model": 77, "siglip": 64, "siglip_text_model": 64, "gpt2": 1024, "bert": 512,
             "distilbert": 512, "roberta": 514, "bart": 1024, "opt": 2048, "gpt_neo": 2048, "whisper": 448}  # fmt: skip
"""Positions of model types whose configs may leave out the default."""


def _is_position_free(config: Mapping[str, JsonValue]) -> bool:
    """Checks whether a model of a type with a table of positions has none: DeBERTa without ``position_biased_input``."""
    return config.get("model_type") in ("deberta", "deberta-v2") and not config.get(
        "position_biased_input", True
    )


def _without_padding(size: int | None, kind: str, config: Mapping[str, JsonValue]) -> int | None:
    """Returns a number of positions without those up to the padding id, where a model type leaves these out."""
    if size is None or kind not in OFFSET_BY_PADDING:
        return size
    return size - int(config.get("pad_token_id", 1) or 0) - 1


def _first(config: Mapping[str, JsonValue], names: Sequence[str]) -> int | None:
    return next(iter(find_sizes((config,), *names)), None)


def find_sizes(configs: Sequence[Mapping[str, JsonValue]], *names: str) -> list[int]:
    """Returns the numbers that parts of a config have under some names, those of the first part first."""
    return [
        int(part[name]) for part in configs for name in names if isinstance(part.get(name), int)
    ]
