"""Reads the modules of a sentence-transformers folder that follow its transformer; what has no graph is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.convert.checkpoints.sentence_modules import find_root
from equipoise.convert.core.errors import CheckpointError
from equipoise.convert.core.json_values import read_json
from equipoise.convert.files.containment import check_readable
from equipoise.convert.folders.recognition import MODULES_NAME

WITH_MODULES = " with sentence modules"
"""End of a class name that means the class with the modules of the folder."""
SENTENCE_EMBEDDING = "sentence_embedding"
ATTRIBUTE = "sentence_modules"
"""Attribute of the model that holds the modules; names of their weights begin with it."""
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

KINDS = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
"""Modules that have a place in a graph; a dropout does nothing outside of training."""
POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of a pooling's config up to sentence-transformers 5.3, in the order in which vectors are concatenated -> the mode."""
ACTIVATIONS = (
    *(
        "Tanh",
        "Identity",
        "ReLU",
        "GELU",
        "SiLU",
        "Sigmoid",
        "LeakyReLU",
        "ELU",
        "Softplus",
        "Mish",
    ),
)
"""Activations of dense layers: modules of ``torch.nn`` with their default arguments."""


@dataclass(frozen=True)
class SentenceModule:
    """One module after the transformer.

    Attributes:
        kind: ``Pooling``, ``Dense``, ``Normalize``, ``LayerNorm`` or ``Dropout``.
        folder: Its folder; one without files need not exist.
        settings: Content of its ``config.json``.
    """

    kind: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> Path | None:
        """Its file of weights; None if it has none."""
        return next(
            (self.folder / one for one in WEIGHT_FILES if (self.folder / one).is_file()), None
        )


def split_class_name(name: str) -> tuple[str, bool]:
    """Splits a class name into the class of transformers and whether the folder's modules belong to the model.

    >>> split_class_name("BertModel with sentence modules"), split_class_name("BertModel")
    (('BertModel', True), ('BertModel', False))
    """
    return name.removesuffix(WITH_MODULES), name.endswith(WITH_MODULES)


def read_sentence_modules(folder: Path) -> list[SentenceModule]:
    """Returns the modules that follow a transformer; empty for a folder that is no sentence-transformers model.

    Raises:
        CheckpointError: A module or one of its settings has no place in one graph.
    """
    root = find_root(folder)
    if root is None:
        return []
    entries = read_json(root / MODULES_NAME, [dict])
    return [_read_module(root, entry) for entry in entries[1:]]


def _read_module(root: Path, entry: Mapping[str, Any]) -> SentenceModule:
    package, _, kind = str(entry.get("type", "")).rpartition(".")
    name = str(entry.get("path", ""))
    if (
        Path(name).name != name
        or package.partition(".")[0] != "sentence_transformers"
        or kind not in KINDS
    ):
        raise _refused(root / MODULES_NAME, f"the module {package}.{kind}", ", ".join(KINDS))
    folder = root / name
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        check_readable(path, root)
    config = folder / "config.json"
    module = SentenceModule(kind, folder, read_json(config) if config.is_file() else {})
    if kind == "Pooling" and (unknown := set(pooling_modes(module)) - set(POOLING_KEYS.values())):
        raise _refused(
            config, f"the pooling {', '.join(sorted(unknown))}", ", ".join(POOLING_KEYS.values())
        )
    if kind == "Dense":
        _check_dense(module, config)
    if kind in ("Dense", "LayerNorm") and module.weights is None:
        raise CheckpointError(
            f"the module {kind} has no weights", file=folder, expected=WEIGHT_FILES[0]
        )
    return module


def _check_dense(module: SentenceModule, config: Path) -> None:
    activation = str(module.settings.get("activation_function", "Tanh")).rpartition(".")
    if activation[0].partition(".")[0] not in ("", "torch") or activation[2] not in ACTIVATIONS:
        raise _refused(config, f"the activation {''.join(activation)}", ", ".join(ACTIVATIONS))
    for key in ("module_input_name", "module_output_name"):
        if (module.settings.get(key) or SENTENCE_EMBEDDING) != SENTENCE_EMBEDDING:
            raise _refused(
                config, f"a dense layer with {key} {module.settings[key]}", SENTENCE_EMBEDDING
            )


def _refused(file: Path, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{found} is not known here, so the sentence's embedding has no graph",
        file=file,
        expected=expected,
        hint="--graph body exports the transformer alone",
    )


def pooling_modes(module: SentenceModule) -> list[str]:
    """Returns the modes of a pooling, in the order in which their vectors are concatenated.

    >>> pooling_modes(SentenceModule("Pooling", Path(), {"pooling_mode_mean_tokens": True}))
    ['mean']
    """
    modes = module.settings.get("pooling_mode")
    if modes is not None:
        return [modes] if isinstance(modes, str) else [str(mode) for mode in modes]
    return [mode for key, mode in POOLING_KEYS.items() if module.settings.get(key)] or ["mean"]


def excludes_prompt(modules: list[SentenceModule]) -> bool:
    """Returns whether a pooling leaves out the tokens of a prompt."""
    return any(
        one.kind == "Pooling" and not one.settings.get("include_prompt", True) for one in modules
    )


def default_prompt(folder: Path) -> str:
    """Returns the text that ``encode`` puts before every sentence; empty for none."""
    root = find_root(folder)
    config = (root or folder) / "config_sentence_transformers.json"
    settings = read_json(config) if config.is_file() else {}
    name = settings.get("default_prompt_name")
    return str((settings.get("prompts") or {}).get(name) or "") if name else ""
