"""One or more command lines for each command, which its help text ends with."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "bisect": (
        "equipoise bisect bert/ bert-tf/",
        "equipoise bisect gpt2/ gpt2-onnx/ --repro repro/",
    ),
    "convert": (
        "equipoise convert bert_model.ckpt bert-pt/ --to pytorch",
        "equipoise convert t5/tf_model.h5 t5-flax/ --to flax --dtype bf16",
    ),
    "derive": ("equipoise derive my-model/ --output my_model.toml",),
    "diff": ("equipoise diff bert/ bert-tf/", "equipoise diff bert/ bert-onnx/model.onnx"),
    "env": ("equipoise env create oracle --path .venv-oracle", "equipoise env list"),
    "export": (
        "equipoise export bert/ bert-onnx/ --to onnx",
        "equipoise export gpt2/ gpt2-jax/ --to stablehlo --budget 5m",
    ),
    "fleet": (
        "equipoise fleet convert models/ --out results/ -- --to flax",
        "equipoise fleet status results/",
    ),
    "inspect": ("equipoise inspect flax_model.msgpack", "equipoise inspect bert/ --tensors"),
    "matrix": ("equipoise matrix models/* --markdown tasks.md",),
    "routes": ("equipoise routes --from flax", "equipoise routes --mermaid"),
    "run": (
        "equipoise run text-classification bert/ 'I liked it.'",
        "equipoise run translation t5-onnx/ 'Good morning.' --option num_beams=4",
    ),
    "validate": (
        "equipoise validate bert/ --report report.html",
        "equipoise validate bert/ bert-onnx/ --backends onnx --junit junit.xml",
    ),
    "verify": (
        "equipoise verify bert-tf/",
        "equipoise verify bert-onnx/ --source bert/",
    ),
}


def examples_of(name: str) -> str | None:
    """Returns the examples of a command as the end of its help text; None if it has none."""
    lines = EXAMPLES.get(name)
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)]) if lines else None
