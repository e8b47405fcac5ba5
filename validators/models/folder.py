"""A model's folder as the validators read it: its configs, and the tokenizer and processors that encode samples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from equipoise.convert import open_checkpoint
from equipoise.convert.checkpoints.checkpoint import Checkpoint
from equipoise.convert.checkpoints.companion_files import companion_paths
from equipoise.convert.checkpoints.labels import config_labels
from equipoise.convert.core.errors import CheckpointError, EquipoiseError, InputError
from equipoise.convert.core.framework_types import JsonValue, Processor, Tokenizer
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.containment import check_readable
from equipoise.convert.folders.quantization import quantization_method
from equipoise.convert.folders.recognition import find_model_folder

_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_PROCESSOR_CONFIGS = ("preprocessor_config.json", "processor_config.json")


class LabelNames(dict[int, str]):
    """The names of a model's classes by index.

    Args:
        folder: The model's folder.
        names: The names; see :func:`config_labels`.
    """

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        super().__init__(names)
        self._folder = folder

    def __missing__(self, index: int) -> str:
        """Raises an error: the model has more classes than the config names."""
        raise InputError(
            f"the model has a class {index}, and its config names {len(self)}",
            file=self._folder / "config.json",
            hint="correct id2label, or leave it out and give num_labels",
        )


class ModelFolder:
    """A folder in the layout of Hugging Face, or an artifact with the same config, tokenizer and processor files.

    Tokenizers and processors come from transformers, which needs no framework for them; arrays are NumPy's. Transformers
    follows links and reads pipes, so that a folder with such companions is refused.

    Args:
        path: The folder.

    Raises:
        CheckpointError: There is no config, or a companion leads out of the folder.

    Attributes:
        path: The folder.
        config: Content of ``config.json``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_model_folder(Path(path))
        for file in companion_paths(self.path):
            check_readable(file, self.path)
        self.config: dict[str, JsonValue] = self._read_json("config.json", required=True)

    @property
    def model_type(self) -> str:
        """Model type in the config, such as ``bert``."""
        return str(self.config.get("model_type", ""))

    @property
    def class_name(self) -> str:
        """PyTorch class in the config, without the prefix of another framework; empty if there is none."""
        names = self.config.get("architectures") or [""]
        return str(names[0]).removeprefix("TF").removeprefix("Flax")

    @cached_property
    def generation_config(self) -> dict[str, JsonValue]:
        """Content of ``generation_config.json``; without that file, ``config.json`` with its defaults.

        Special tokens that it lacks are those of the config, as in transformers. BLIP's own ``generate`` always starts and
        ends with the special tokens of its text model.
        """
        settings = self._read_json("generation_config.json") or self._config_with_defaults()
        parts = [self.config.get(name) or {} for name in ("text_config", "decoder", "generator")]
        for name in _SPECIAL_TOKENS:
            values = (part[name] for part in (self.config, *parts) if part.get(name) is not None)
            if settings.get(name) is None:
                settings[name] = next(values, None)
        if self.model_type == "blip":
            text = self._config_with_defaults()
            settings.update(
                bos_token_id=text["bos_token_id"],
                eos_token_id=text["sep_token_id"],
                pad_token_id=text["pad_token_id"],
            )
        return settings

    @cached_property
    def preprocessor_config(self) -> dict[str, JsonValue]:
        """Content of ``preprocessor_config.json``, or of ``processor_config.json`` in newer folders."""
        first, second = _PROCESSOR_CONFIGS
        return self._read_json(first) or self._read_json(second)

    @cached_property
    def labels(self) -> dict[int, str]:
        """Names of the classes by index, in the order of the indices; a class without a name is an error."""
        return LabelNames(self.path, config_labels(self.config))

    @cached_property
    def weight_bytes(self) -> int:
        """Size of the weights on disk in bytes; 0 if there are none, as in the folder of a program's companions."""
        checkpoint = self._checkpoint
        return 0 if checkpoint is None else sum(file.stat().st_size for file in checkpoint.files)

    @cached_property
    def weight_count(self) -> int:
        """Number of all elements of the weights; 0 if there are none."""
        checkpoint = self._checkpoint
        return 0 if checkpoint is None else sum(ref.size for ref in checkpoint.tensors.values())

    @cached_property
    def quantization(self) -> str | None:
        """What quantized the weights, such as ``gptq (4 bits)``; None for plain ones."""
        names = self._checkpoint.tensors if self._checkpoint is not None else ()
        return quantization_method(self.config, names)

    @cached_property
    def _checkpoint(self) -> Checkpoint | None:
        try:
            return open_checkpoint(self.path)
        except EquipoiseError:
            return None

    @property
    def has_image_processor(self) -> bool:
        """Whether the folder has an image processor."""
        return self._has_processor_part("image_processor", "image_mean", "do_resize")

    @property
    def has_feature_extractor(self) -> bool:
        """Whether the folder has a feature extractor for audio."""
        return self._has_processor_part("feature_extractor", "sampling_rate")

    def _has_processor_part(self, part: str, *keys: str) -> bool:
        # Class names are ambiguous: image processors were once called feature extractors.
        config = self.preprocessor_config
        if part in config:
            return True
        return any(key in config for key in keys)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder has a tokenizer."""
        names = (
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "vocab.json",
            "spiece.model",
        )
        return any((self.path / name).exists() for name in names)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of transformers."""
        from transformers import AutoTokenizer

        if not self.has_tokenizer:
            raise self.needs_tokenizer()
        return follow_tokenizer_file(self._load(AutoTokenizer), self.path)

    @cached_property
    def image_processor(self) -> Processor:
        """The image processor of transformers."""
        from transformers import AutoImageProcessor

        return self._load(AutoImageProcessor)

    @cached_property
    def feature_extractor(self) -> Processor:
        """The feature extractor of transformers."""
        from transformers import AutoFeatureExtractor

        return self._load(AutoFeatureExtractor)

    @cached_property
    def processor(self) -> Processor:
        """The processor of transformers: a tokenizer with an image processor or feature extractor."""
        from transformers import AutoProcessor

        processor = self._load(AutoProcessor)
        if getattr(processor, "tokenizer", None) is not None:
            processor.tokenizer = follow_tokenizer_file(processor.tokenizer, self.path)
        return processor

    def load_processors(self) -> None:
        """Loads what the folder has of tokenizer and processors; one that cannot be loaded fails when it is used."""
        with suppress(EquipoiseError):
            _ = self.has_tokenizer and self.tokenizer
        with suppress(EquipoiseError):
            _ = self.has_image_processor and self.image_processor

    @cached_property
    def own_code(self) -> tuple[str, ...]:
        """Python classes that the folder brings itself (``auto_map`` in its configs), e.g. ``modeling_x.XModel``."""
        names = ("config.json", "tokenizer_config.json", *_PROCESSOR_CONFIGS)
        tables = [self._read_json(name).get("auto_map") for name in names]
        values = [one for table in tables if isinstance(table, dict) for one in table.values()]
        flat = [part for one in values for part in (one if isinstance(one, list) else [one])]
        return tuple(dict.fromkeys(str(one) for one in flat if one))

    def needs_tokenizer(self, tasks: Sequence[str] = ()) -> CheckpointError:
        """Returns the error for a folder without a tokenizer, which a task on text needs.

        Args:
            tasks: Names of the tasks that need none.
        """
        return CheckpointError(
            "there is no tokenizer in the folder",
            file=self.path,
            expected="tokenizer.json, or a vocabulary: vocab.txt, vocab.json, *.model",
            hint="copy the tokenizer's files next to the weights; without one go "
            + (", ".join(tasks) or "tasks on images or audio alone"),
        )

    def needs_own_code(self) -> CheckpointError:
        """Returns the error for a folder that cannot be loaded without its own code."""
        return CheckpointError(
            f"it needs Python code of its own ({', '.join(self.own_code)}); no code of a model's folder is run "
            "(use a version whose class is in transformers)",
            file=self.path,
        )

    @property
    def own_code_note(self) -> str:
        """A note on code of the folder that is not run; empty if there is none."""
        if not self.own_code:
            return ""
        return f"{self.path.name} brings Python code of its own ({', '.join(self.own_code)}); it is not run"

    def _config_with_defaults(self) -> dict[str, JsonValue]:
        from transformers import AutoConfig

        loaded: dict[str, JsonValue] = self._load(AutoConfig).to_dict()
        inner = loaded.get("text_config") or loaded.get("decoder") or {}
        return {**inner, **loaded}

    def _load(self, loader: Processor) -> Processor:
        try:
            with warnings.catch_warnings():
                # Marian warns that it does not normalize punctuation without sacremoses; not needed here.
                warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
                return loader.from_pretrained(str(self.path), trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            if self.own_code:
                raise self.needs_own_code() from error
            raise CheckpointError(
                f"transformers cannot load the {loader.__name__.removeprefix('Auto').lower()}: {error}",
                file=self.path,
                hint="copy the files of tokenizer and processor next to the weights",
            ) from error

    def _read_json(self, name: str, *, required: bool = False) -> dict[str, JsonValue]:
        path = self.path / name
        if path.exists():
            return read_json(path)  # type: ignore[no-any-return]
        if required:
            raise CheckpointError(
                "there is no config.json", file=self.path, hint="use the folder of a model"
            )
        return {}


def follow_tokenizer_file(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """Returns a tokenizer with the rules of the folder's ``tokenizer.json``, if it has one.

    Transformers 5 builds several of these (BERT, T5, LLaMA, NLLB, mBART-50 ...) from their vocabulary alone: what the file
    says of special tokens around a text, prefixes and pieces is lost, and a text gets other tokens than in transformers 4.57.6. The normalizer
    of WordPiece stays: settings such as ``do_lower_case`` go before the file, in both versions.

    Args:
        tokenizer: As transformers made it; tokens that it adds stay.
        folder: The model's folder.

    Raises:
        CheckpointError: The file cannot be read.
    """
    file = folder / "tokenizer.json"
    if not file.is_file() or not getattr(tokenizer, "is_fast", False):
        return tokenizer
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Rules

    try:
        rules = Rules.from_file(str(file))
    except Exception as error:  # the library tokenizers has no class of its own
        raise CheckpointError(f"not a tokenizer: {error}", file=file) from error
    is_sentencepiece = type(rules.model).__name__ == "Unigram" or bool(
        getattr(rules.model, "byte_fallback", False)
    )
    is_wordpiece = type(rules.model).__name__ == "WordPiece"
    if not is_sentencepiece and not is_wordpiece:
        return tokenizer  # byte-level BPE is read from the file in both versions
    if is_wordpiece and tokenizer._tokenizer.normalizer is not None:
        rules.normalizer = tokenizer._tokenizer.normalizer
    vocabulary = rules.get_vocab()
    missing = [
        AddedToken(str(token), special=token.special, normalized=token.normalized)
        for token in tokenizer.added_tokens_decoder.values()
        if str(token) not in vocabulary
    ]
    rules.add_tokens(missing)
    rules.no_truncation()
    rules.no_padding()
    tokenizer._tokenizer = rules
    return tokenizer
