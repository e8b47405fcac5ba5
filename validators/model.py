"""A model's folder as the validators see it: its config, and what turns samples into arrays."""

from __future__ import annotations

import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

from equipoise.convert.core.errors import CheckpointError

_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


class ModelFolder:
    """A folder in Hugging Face's layout, or an artifact that carries the same companions.

    Tokenizers and processors come from transformers, which needs no framework for them; arrays are numpy's.

    Attributes:
        path: The folder.
        config: What ``config.json`` says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config: dict[str, Any] = self._json("config.json", required=True)

    @property
    def model_type(self) -> str:
        """As in the config, e.g. ``bert``."""
        return str(self.config.get("model_type", ""))

    @property
    def class_name(self) -> str:
        """PyTorch's class as the config names it, without the prefix of another framework; or empty."""
        names = self.config.get("architectures") or [""]
        return str(names[0]).removeprefix("TF").removeprefix("Flax")

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """What ``generation_config.json`` says; older folders say it in their config, or by its defaults.

        Special tokens that it leaves open are the config's, as in transformers; BLIP's own ``generate`` begins and ends
        with those of its text, whatever is stated.
        """
        stated = self._json("generation_config.json") or self._config_with_defaults()
        parts = [self.config.get(name) or {} for name in ("text_config", "decoder", "generator")]
        for name in _SPECIAL_TOKENS:
            known = (part[name] for part in (self.config, *parts) if part.get(name) is not None)
            if stated.get(name) is None:
                stated[name] = next(known, None)
        if self.model_type == "blip":
            text = self._config_with_defaults()
            stated.update(
                bos_token_id=text["bos_token_id"],
                eos_token_id=text["sep_token_id"],
                pad_token_id=text["pad_token_id"],
            )
        return stated

    @cached_property
    def preprocessor_config(self) -> dict[str, Any]:
        """What ``preprocessor_config.json`` says; newer folders have ``processor_config.json``."""
        return self._json("preprocessor_config.json") or self._json("processor_config.json")

    @cached_property
    def labels(self) -> dict[int, str]:
        """The names of the classes by their index."""
        return {int(index): str(name) for index, name in self.config.get("id2label", {}).items()}

    @property
    def has_image_processor(self) -> bool:
        """Whether pictures can be turned into pixel values."""
        return self._prepares("image_processor", "image_mean", "do_resize")

    @property
    def has_feature_extractor(self) -> bool:
        """Whether sounds can be turned into features."""
        return self._prepares("feature_extractor", "sampling_rate")

    def _prepares(self, part: str, *marks: str) -> bool:
        # Names of classes do not tell: image processors were called feature extractors once.
        config = self.preprocessor_config
        if part in config:
            return True
        return any(mark in config for mark in marks)

    @property
    def has_tokenizer(self) -> bool:
        """Whether text can be turned into tokens."""
        names = (
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "vocab.json",
            "spiece.model",
        )
        return any((self.path / name).exists() for name in names)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        from transformers import AutoTokenizer

        return self._load(AutoTokenizer)

    @cached_property
    def image_processor(self) -> Any:
        """The image processor of transformers."""
        from transformers import AutoImageProcessor

        return self._load(AutoImageProcessor)

    @cached_property
    def feature_extractor(self) -> Any:
        """The feature extractor of transformers."""
        from transformers import AutoFeatureExtractor

        return self._load(AutoFeatureExtractor)

    @cached_property
    def processor(self) -> Any:
        """The processor of transformers: tokenizer and image processor or feature extractor in one."""
        from transformers import AutoProcessor

        return self._load(AutoProcessor)

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """What ``samples.json`` holds, each with ``inputs``; empty without that file."""
        found: list[dict[str, Any]] = self._json("samples.json") or []  # type: ignore[assignment]
        return found

    def _config_with_defaults(self) -> dict[str, Any]:
        from transformers import AutoConfig

        loaded: dict[str, Any] = self._load(AutoConfig).to_dict()
        inner = loaded.get("text_config") or loaded.get("decoder") or {}
        return {**inner, **loaded}

    def _load(self, loader: Any) -> Any:
        try:
            with warnings.catch_warnings():
                # Marian's way of saying that it does not normalise punctuation; nothing here needs it.
                warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
                return loader.from_pretrained(str(self.path))
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise CheckpointError(
                f"transformers cannot load the {loader.__name__.removeprefix('Auto').lower()}: {error}",
                file=self.path,
                hint="copy the tokenizer's and processor's files beside the weights",
            ) from error

    def _json(self, name: str, *, required: bool = False) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_text())  # type: ignore[no-any-return]
        except FileNotFoundError:
            if not required:
                return {}
            raise CheckpointError(
                "there is no config.json", file=self.path, hint="give a model's folder"
            ) from None
        except ValueError as error:
            raise CheckpointError(f"not JSON: {error}", file=path) from error
