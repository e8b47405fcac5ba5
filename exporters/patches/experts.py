"""Mixtures of experts: computes all experts in one batched product, which exporters can translate."""

from __future__ import annotations

from equipoise.convert.core.framework_types import TorchModel

NOTE = "experts are computed by batched_mm"


def use_batched_experts(model: TorchModel) -> list[str]:
    """Switches a mixture of experts to ``batched_mm`` in place; returns notes for artifact.json.

    torch.onnx and the ATen lowering have no translation of transformers' default, ``grouped_mm``.
    """
    if not getattr(model, "_can_set_experts_implementation", lambda: False)():
        return []
    if not any("experts" in name for name, _ in model.named_modules()):
        return []
    model.set_experts_implementation("batched_mm")
    return [NOTE]
