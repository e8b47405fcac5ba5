"""Derives one architecture and compares it with Equipoise's own, or converts with it: the worker of ``derive_coverage.py``."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import expand
from equipoise.convert.architectures.spec import ArchitectureSpec, load_spec
from equipoise.convert.core.errors import EquipoiseError
from equipoise.convert.derive import DerivedArchitecture, derive
from equipoise.convert.derive.probe.model_classes import build_errors
from equipoise.convert.derive.spec_file.check import file_tensors
from equipoise.convert.derive.spec_file.compose import parse_spec
from equipoise.convert.layouts import layout_module
from equipoise.fixtures import models
from equipoise.fleet.running.worker_loop import Tell, serve

CONFIGS = Path(__file__).parent / "export_configs.json"
TWO_LABEL_SUFFIXES = ("QuestionAnswering", "QuestionAnsweringSimple", "AlbertForPreTraining")
TIME_LIMIT_SECONDS = 120
"""CPU time limit for one type; its worker ends if it takes longer."""


def run(arguments: list[str], tell: Tell) -> int:
    """Derives a type and prints what became of it.

    Args:
        arguments: ``own`` or ``types``, the model type, a folder.
        tell: Not used: a type is one step.
    """
    what, model_type, _ = arguments
    _limit_time()
    try:
        found = derive_own_spec(model_type) if what == "own" else derive_type(model_type)
    except (*build_errors(), EquipoiseError) as error:
        found = {"result": "failed", "why": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps(found))
    return 0


def _limit_time() -> None:
    """Lets the system end this process after some CPU time: other jobs may occupy the cores."""
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT_SECONDS)


def derive_own_spec(model_type: str) -> dict[str, Any]:
    """Returns whether the derived file needs the same tensors as Equipoise's own, for every class and config of fixtures/."""
    import transformers

    spec = load_spec(model_type)
    family = next(
        (
            one
            for one in possible_families(model_type)
            if (models.CONFIGS / f"{one}.toml").is_file()
        ),
        "",
    )
    assert spec is not None
    if model_type not in transformers.CONFIG_MAPPING:
        return {"result": "unknown", "why": "transformers 5 no longer has this type"}
    kind = transformers.CONFIG_MAPPING[model_type]
    configs = {}
    for name in models.config_names(family):
        values = models.config_values(family, name)
        parts = [key for key in ("text", "vision") if key in model_type.split("_")]
        if family != model_type and parts:
            values = values.get(f"{parts[0]}_config", {})
        plain = kind().to_dict()
        values = {
            key: float(one) if isinstance(plain.get(key), float) else one
            for key, one in values.items()
        }
        configs[name] = kind(**values).to_dict()
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, one in configs.items():
            files.append(Path(folder) / f"{name}.json")
            files[-1].write_text(json.dumps(one, default=str))
        first, *also = map(str, files)
        compared, differing, missing = compare_specs(spec, family, configs, derive(first))
        one_config = bool(compared) and not differing
        if not one_config and also:
            _limit_time()
            compared, differing, missing = compare_specs(
                spec, family, configs, derive(first, also=also)
            )
    good = compared and not differing
    return {
        "result": "complete" if good else "differs",
        "why": "; ".join(differing[:3]) or ("" if compared else "nothing to compare"),
        "compared": compared,
        "from one config": one_config,
        "not in transformers 5": missing,
    }


def compare_specs(
    spec: ArchitectureSpec, family: str, configs: Mapping[str, Any], found: DerivedArchitecture
) -> tuple[int, list[str], list[str]]:
    """Returns the number of comparisons of a derived file with Equipoise's own, the differences, and the missing classes."""
    derived = parse_spec(found.text, spec.model_type)
    differing, compared = [], 0
    for name, values in configs.items():
        meant = models.about(family, name).get("classes")
        for cls in spec.classes.values():
            theirs = derived.class_by_name(cls.name)
            if (meant and cls.name not in meant) or theirs is None:
                continue
            try:
                # Heads for spans and sentence order have two logits, whatever the labels.
                two = cls.name.endswith(TWO_LABEL_SUFFIXES)
                config = Config({**values, "id2label": {"0": "", "1": ""}} if two else values)
                expansion = expand(spec, cls, config)
                ours, ours_allowed = file_tensors(expansion)
                needed, allowed = file_tensors(expand(derived, theirs, config))
                # A tower saved alone has names with or without its prefix; Equipoise's spec accepts both.
                view = layout_module("pytorch").view(expansion)
                aliases = view.aliases
                needed, allowed = (
                    {aliases.get(n, n): shape for n, shape in one.items()}
                    for one in (needed, allowed)
                )
            except EquipoiseError as error:
                differing.append(f"{cls.name} under {name}: {error.message}")
                continue
            compared += 1
            # A counter or a computed table may be stored or not: both files are right.
            odd = {
                n
                for n in ours.keys() ^ needed.keys()
                if n in allowed and ours_allowed.get(n) == allowed[n]
            }
            # Transformers 5 computes some tensors that transformers 4 stored, such as Swin's relative position index.
            made = {n for n, one in expansion.parameters.items() if one.computed}
            odd |= {
                target
                for rule in view.rules
                if made.issuperset(rule.sources)
                for target in rule.targets
                if target not in allowed
            }
            wrong = {n for n in ours.keys() | needed.keys() if ours.get(n) != needed.get(n)} - odd
            differing += [f"{cls.name} under {name}: {one}" for one in sorted(wrong)[:2]]
    missing = [c.name for c in spec.classes.values() if derived.class_by_name(c.name) is None]
    return compared, differing, missing


def possible_families(model_type: str) -> list[str]:
    """Returns the families whose configs may fit a type: its own, and that of the model it is a tower of."""
    return [model_type, model_type.partition("_text_model")[0].partition("_vision_model")[0]]


def derive_type(model_type: str) -> dict[str, Any]:
    """Returns whether a type is derived completely and converts to Flax's layout and back bit for bit."""
    import torch
    import transformers

    entry = json.loads(CONFIGS.read_text())["types"][model_type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = {**entry["config"], "model_type": model_type, "architectures": [entry["class"]]}
        (folder / "config.json").write_text(json.dumps(values))
        try:
            found = derive(str(folder))
        except EquipoiseError as error:
            return {"result": "not built", "why": error.message + f" {error.found}"[:200]}
        about = {"configs": found.configs, "classes": len(found.classes)}
        bad = [f"{cls}: {many[0]}" for cls, many in found.classes.items() if many]
        why = "; ".join([*found.unsolved, *bad])[:400]
        if not found.exact_for_given_config:
            return {"result": "incomplete", "why": why, **about}
        file = folder / "derived.toml"
        file.write_text(found.text)
        torch.manual_seed(0)
        config = transformers.CONFIG_MAPPING[model_type].from_dict(values)
        cls = entry["class"] if entry["class"] in found.classes else next(iter(found.classes))
        getattr(transformers, cls)(config).save_pretrained(folder / "model")
        problem = round_trip(folder / "model", folder, file)
        if problem:
            return {"result": "round trip", "why": problem, **about}
        return {"result": "complete" if found.complete else "as given", "why": why, **about}


def round_trip(model: Path, folder: Path, file: Path) -> str:
    """Converts PyTorch -> Flax -> PyTorch; returns a description of the differences, empty if there are none."""
    try:
        convert(model, folder / "flax", to="flax", architecture=str(file))
        convert(folder / "flax", folder / "back", to="pytorch", architecture=str(file))
    except EquipoiseError as error:
        return str(error).replace(f"{folder}/", "")[:300]
    before, after = (
        {n: (ref.dtype, ref.shape, ref.read().tobytes()) for n, ref in open_checkpoint(one).items()}
        for one in (model, folder / "back")
    )
    wrong = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    return f"{len(wrong)} tensors differ: {wrong[:3]}" if wrong else ""


if __name__ == "__main__":
    import_module("transformers.models.bert.modeling_bert")  # what every type needs
    serve(run)
