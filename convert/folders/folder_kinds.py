"""The kinds of folders that people hand over, as a table: what a kind is called, what shows it, what happens to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Treatment(StrEnum):
    """What happens to a folder of a kind."""

    READ = "read"
    BELOW = "a folder below is read"
    REFUSED = "refused"


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder.

    Attributes:
        name: Its name in the table of docs/what-it-reads.md.
        what: What it is, as messages say it.
        signs: Patterns of paths in the folder; one that matches shows the kind. ``*`` stands for any part of one name.
        treatment: What happens to it.
        to_do: The one thing to do about a refused folder, or about one of several files of which a part is missing; ``{folder}`` is the folder, ``{sign}`` the folder of the first
            path that matched, ``{file}`` that path, ``{name}`` its last part, ``{models}`` the models in folders below,
            ``{base}`` the model that an adapter belongs to.
        beside_weights: Whether the kind is refused although the folder holds weights of a known name too.
    """

    name: str
    what: str
    signs: tuple[str, ...]
    treatment: Treatment
    to_do: str = ""
    beside_weights: bool = False


_READ = (
    FolderKind(
        "model",
        "a model's folder",
        (
            "model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack",
            "*.index.json", "saved_model/*/variables/variables.index", "variables/variables.index",
        ),
        Treatment.READ,
    ),
    FolderKind(
        "t5x",
        "a T5X checkpoint",
        ("target.*/.zarray", "checkpoint_*/target.*/.zarray"),
        Treatment.READ,
        "give the folder with the file `checkpoint` and the folders of the arrays",
    ),
    FolderKind(
        "tensorflow-checkpoints",
        "TensorFlow checkpoints, of which the file `checkpoint` names one",
        ("checkpoint", "*.index"),
        Treatment.READ,
    ),
    FolderKind(
        "shards-without-index", "shards without their index", ("*-of-*.*",), Treatment.READ
    ),
    FolderKind(
        "variant",
        "weights of a variant (fp16, bf16 ...)",
        ("model.*.safetensors", "pytorch_model.*.bin"),
        Treatment.READ,
    ),
    FolderKind(
        "deepspeed",
        "a DeepSpeed checkpoint, ZeRO or not",
        (
            "*zero_pp_rank_*_states.pt", "*/*zero_pp_rank_*_states.pt", "mp_rank_*_model_states.pt",
            "*/mp_rank_*_model_states.pt",
        ),
        Treatment.READ,
        "give the folder with the states of all processes",
    ),
    FolderKind(
        "distributed-checkpoint",
        "a checkpoint of torch.distributed.checkpoint (.distcp), in parts for each process",
        ("*.distcp", "*/*.distcp"),
        Treatment.READ,
        "give the folder with `.metadata` and all .distcp files",
    ),
    FolderKind(
        "orbax",
        "an Orbax checkpoint",
        ("_METADATA", "*/_METADATA", "*/*/_METADATA", "*/manifest.ocdbt", "*/*/manifest.ocdbt"),
        Treatment.READ,
        "give the folder with _METADATA and the arrays; what is older than Orbax 0.3 has to be saved again",
    ),
    FolderKind(
        "keras-hub",
        "a KerasHub preset",
        ("model.weights.h5", "model.weights.json", "task.json"),
        Treatment.READ,
        "give the folder with config.json and model.weights.h5; for one without weights, load it with keras_hub and save_to_preset",
    ),
    FolderKind(
        "one-file",
        "one file of weights with a name of its own",
        ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.hdf5", "*.msgpack", "*.keras"),
        Treatment.READ,
    ),
    FolderKind(
        "trainer", "the output folder of a Trainer", ("checkpoint-*/config.json",), Treatment.BELOW
    ),
    FolderKind(
        "sentence-transformers",
        "a sentence-transformers folder whose model lies below",
        ("modules.json",),
        Treatment.BELOW,
    ),
)  # fmt: skip

_REFUSED = (
    FolderKind(
        "peft-adapter",
        "a PEFT adapter",
        ("adapter_config.json",),
        Treatment.REFUSED,
        "merge it into its base: `equipoise convert {base} OUTPUT --to pytorch --merge-adapter {folder}`",
        beside_weights=True,
    ),
    FolderKind(
        "npz",
        "arrays of NumPy (.npz)",
        ("*.npz",),
        Treatment.REFUSED,
        "write them as safetensors: `python -c \"import numpy, safetensors.numpy as s; "
        "s.save_file(dict(numpy.load('{file}')), 'model.safetensors')\"`",
    ),
    FolderKind(
        "gguf",
        "a GGUF model",
        ("*.gguf",),
        Treatment.REFUSED,
        "load it with transformers (from_pretrained({folder!r}, gguf_file={name!r})) and save_pretrained",
    ),
    FolderKind(
        "diffusers",
        "a pipeline of diffusers, which holds several models",
        ("model_index.json",),
        Treatment.REFUSED,
        "give the folder of one of its models: {models}",
    ),
    FolderKind(
        "meta-llama",
        "weights in the layout of Meta's own releases",
        ("consolidated.*.pth", "original/consolidated.*.pth"),
        Treatment.REFUSED,
        "take the release in the layout of transformers, or run its convert_llama_weights_to_hf.py",
    ),
    FolderKind(
        "programs",
        "exported programs, not weights",
        ("artifact.json", "*.onnx", "onnx/*.onnx", "*.tflite", "*.pt2", "program.jax", "*.mlmodel", "openvino_model.xml"),
        Treatment.REFUSED,
        "convert the checkpoint that the program was exported from; `equipoise validate MODEL {folder}` runs programs",
    ),
    FolderKind(
        "incomplete-download",
        "a download that was not finished",
        ("*.incomplete", ".cache/huggingface/download/*.incomplete", "*.part", "*.crdownload", "*.aria2"),
        Treatment.REFUSED,
        "download it again",
    ),
)  # fmt: skip

FOLDER_KINDS = (*_READ, *_REFUSED)
"""All kinds, in the order in which they are looked for; a folder is of the first kind that it shows signs of."""
