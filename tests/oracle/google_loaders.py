"""The loaders of TF1 checkpoints in transformers 4.57.6: which of them judge Equipoise, and why the others cannot.

``tests/oracle/test_google.py`` compares the list with the installed release.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google_checkpoints import cases


@dataclass(frozen=True)
class Listed:
    """A loader that judges nothing of Equipoise.

    Attributes:
        reason: Why.
        copy_of: Module whose loader it repeats, statement by statement.
    """

    reason: str
    copy_of: str = ""


LISTED = {
    "deprecated.qdqbert.modeling_qdqbert": Listed(
        "BERT's loader; its class needs NVIDIA's pytorch_quantization to be built", "bert.modeling_bert"
    ),
    "deprecated.realm.modeling_realm": Listed(
        "reads embedder, scorer and reader of REALM from three modules of TensorFlow Hub in one; transformers 5 has no such class"
    ),
    "deprecated.trajectory_transformer.modeling_trajectory_transformer": Listed(
        "BERT's loader, copied; the model was never a checkpoint of TensorFlow", "bert.modeling_bert"
    ),
    "lxmert.modeling_lxmert": Listed(
        "BERT's loader, copied; the model was never a checkpoint of TensorFlow, and the loader cannot reach `x_layers`",
        "bert.modeling_bert",
    ),
    "megatron_bert.modeling_megatron_bert": Listed(
        "BERT's loader, copied; the model was never a checkpoint of TensorFlow", "bert.modeling_bert"
    ),
    "openai.modeling_openai": Listed("reads arrays of NumPy (`params_0.npy` ...), no checkpoint of TensorFlow"),
    "roc_bert.modeling_roc_bert": Listed(
        "BERT's loader, copied; the model was never published as a checkpoint of TensorFlow", "bert.modeling_bert"
    ),
}  # fmt: skip
"""Module of a loader -> why it judges nothing."""

NOTES = {
    "bert.modeling_bert": "it looks for the head of run_classifier.py on the model itself, where the test lends it",
    "big_bird.modeling_big_bird": "of its two branches that for checkpoints; the other reads a SavedModel of TriviaQA",
    "bert_generation.modeling_bert_generation": "the encoder; a stand-in for TensorFlow Hub, which does not run with new TensorFlow",
    "deprecated.nezha.modeling_nezha": "it looks for `bert` on the model, where the test lends it",
    "funnel.modeling_funnel": "right where the heads together are as wide as the model, as in all published ones",
    "mobilebert.modeling_mobilebert": "it looks for the head of run_classifier.py on the model itself, where the test lends it",
    "mobilenet_v2.modeling_mobilenet_v2": "with the moving averages, which it takes too",
    "rembert.modeling_rembert": "it skips the head of pre-training, and so does Equipoise: no class has it in that form",
    "xlnet.modeling_xlnet": "the heads of run_squad.py, which it does not know, are compared by outputs (1e-5)",
}  # fmt: skip
"""Module of a loader -> what has to be said about how it judges."""


def judging_modules() -> list[str]:
    """Returns the modules whose loaders fill models in tests/oracle/test_google.py."""
    return sorted({case.model.rpartition(".")[0] for case in cases()})


def page_lines() -> Iterator[str]:
    """Yields the part of docs/architectures.md about these loaders."""
    judging = judging_modules()
    names: dict[str, list[str]] = {}
    for case in cases():
        names.setdefault(case.model.rpartition(".")[0], []).append(case.name)
    yield "## Google's names (TF1)"
    yield ""
    yield f"transformers 4.57.6 has {len(judging) + len(LISTED)} functions `load_tf_weights_in_*`. `tests/oracle/test_google.py` writes checkpoints with"
    yield "`tf.compat.v1.train.Saver` under the names of each repository (slots of optimizers, moving averages, steps and partitioned variables"
    yield f"among them) and lets {len(judging)} of the functions fill models: every parameter is equal to Equipoise's, bit for bit. The others are listed with"
    yield "the reason. A head that no function reads, and a config that only a repository has, are tested in `tests/convert/test_google_folders.py`."
    yield ""
    yield "| loader | proven by | remark |"
    yield "| --- | --- | --- |"
    for module in sorted({*judging, *LISTED}):
        package = module.rpartition(".")[0]
        proof = ", ".join(names[module]) if module in names else "not proven"
        remark = LISTED[module].reason if module in LISTED else NOTES.get(module, "")
        yield f"| {package} | {proof} | {remark} |"
    yield ""
    yield "4.57.6 has no such function for Pegasus and BigBird-Pegasus: their names are not read."
