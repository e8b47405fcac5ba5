"""Every class of every model type agrees with transformers 4.57.6: names, shapes, values and outputs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import transformers_fixes
import worker_functions
from architectures_page import SHOWN

from equipoise.convert import convert, open_checkpoint
from equipoise.convert.architectures.computed_tensors import APPROXIMATE_GENERATORS
from equipoise.convert.architectures.config import Config
from equipoise.convert.architectures.expand import Parameter, expand
from equipoise.convert.core.errors import CoverageError
from equipoise.convert.layouts import layout_module
from equipoise.fixtures import models
from equipoise.fixtures.inputs import make_inputs
from equipoise.validators.runtime.process import WorkerProcess
from equipoise.validators.runtime.remote import RemoteModel

from cases import FAMILIES, Case, cases, specs  # isort: skip - tests are no package

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-5
"""Largest difference relative to the largest absolute output."""

REPEATED = ("decoder.bias", "embed_tokens.weight")
"""Copies of other parameters that 4.57.6 omits from untied checkpoints and transformers 5 needs."""

REPORTED_DIFFERENCE = re.compile("answers otherwise")

Outputs = Mapping[str, npt.NDArray[Any]]


def tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (ref.dtype.name, ref.shape, ref.read().tobytes())
        for name, ref in open_checkpoint(folder).items()
    }


def assert_outputs_agree(found: Outputs, expected: Outputs, what: str) -> float:
    """Asserts that outputs agree; returns the largest error relative to the output's scale."""
    largest = 0.0
    shared = [name for name in expected if name in found]
    assert shared, f"{what}: no output in common: {sorted(found)} and {sorted(expected)}"
    for name in shared:
        wanted = expected[name]
        # A loss is a number in PyTorch and has an axis in TensorFlow.
        values = found[name].reshape(wanted.shape) if wanted.size == 1 else found[name]
        assert values.shape == wanted.shape, f"{what}: {name}"
        scale = float(np.abs(wanted).max()) or 1.0
        error = float(np.abs(values - wanted).max()) / scale
        assert error <= TOLERANCE, f"{what}: {name} is off by {error:.2e} of its scale"
        largest = max(largest, error)
    return largest


def marked_cases() -> Iterator[Any]:
    """Returns all cases; one of each model type is marked ``representative``, of a class that both frameworks have if possible."""
    every = cases()
    chosen: dict[str, Case] = {}
    for case in sorted(every, key=lambda case: -len(case.cls.names)):
        chosen.setdefault(case.spec.model_type, case)
    for case in every:
        one = chosen[case.spec.model_type] is case
        yield pytest.param(case, id=case.name, marks=pytest.mark.representative if one else ())


@pytest.mark.parametrize("case", list(marked_cases()))
def test_class(
    case: Case,
    oracle: WorkerProcess,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    about = models.about(case.family, case.config)
    source = tmp_path / "pytorch"
    oracle.call(
        models.__file__,
        "save",
        model_type=case.family,
        name=case.config,
        class_name=case.cls.name,
        folder=str(source),
    )
    config = Config.read(source / "config.json").values
    given = make_inputs(
        models.input_kind(case.family), config, case.cls.name, about.get("extra_inputs", ())
    )
    # 4.57.6 leaves tied names out of untied checkpoints and then loads them at random; ours has them all.
    complete = tmp_path / "complete"
    convert(source, complete, to="pytorch", architecture=case.cls.name)
    fixes = about.get("mended", {})
    for name in fixes:
        oracle.call(transformers_fixes.__file__, "apply_fix", name=name)
    reference = None
    if "pytorch" not in about.get("cannot_run", {}):
        follow = pytorch_names(case, source, lambda one: one.computed is not None)
        reference = run(oracle, "pytorch", case.cls.name, complete, given, rebuilt=follow)
    own: dict[str, Path] = {}
    for layout in ("tensorflow", "flax"):
        if layout not in case.cls.names:
            continue
        target = tmp_path / layout
        form = about.get("formats", {}).get(layout, layout)
        if refusal := about.get("refuses", {}).get(layout):
            with pytest.raises(CoverageError, match=refusal):
                convert(source, target, to=form)
            record_property(SHOWN, case.shown(layout, "refused", reason=refusal))
            continue
        notes = convert(source, target, to=form).values["notes"]
        wrong = about.get("wrong", {}).get(layout)
        assert (
            any(wrong in note for note in notes)
            if wrong
            else not any(map(REPORTED_DIFFERENCE.search, notes))
        )
        assert_round_trip(target, source, case, tmp_path)
        if reason := about.get("cannot_run", {}).get(layout):
            record_property(SHOWN, case.shown(layout, "values", reason=reason))
            continue
        own[layout] = tmp_path / f"{layout}-own"
        cls = case.cls.names[layout].removeprefix("TF").removeprefix("Flax")
        safe = form.endswith("safetensors")
        inputs_here = None if reference is None else given
        found = run(
            oracle,
            layout,
            cls,
            target,
            inputs_here,
            own[layout],
            safe,
            called_first=layout in about.get("called_first", ()),
        )
        assert_round_trip(own[layout], source, case, tmp_path)
        if reference is None or (wrong and not fixes):
            reason = wrong or about["cannot_run"]["pytorch"]
            record_property(SHOWN, case.shown(layout, "values", reason=reason))
            continue
        error = assert_outputs_agree(found, reference, f"{layout} of {case.name}")
        reason = "; ".join(fixes.values())
        record_property(SHOWN, case.shown(layout, "forward", error=error, reason=reason))
    if len(own) == 2:
        convert(own["tensorflow"], tmp_path / "direct", to="flax")
        assert tensors(tmp_path / "direct") == tensors(tmp_path / "flax")


def run(
    oracle: WorkerProcess,
    layout: str,
    cls: str,
    folder: Path,
    given: Outputs | None,
    save_to: Path | None = None,
    safe: bool = False,
    rebuilt: Collection[str] = (),
    *,
    called_first: bool = False,
) -> Outputs:
    """Loads with no missing and no unexpected tensors, runs if there are inputs, and saves with the framework.

    Tensors that are ``rebuilt`` from the config may be missing: MarianForCausalLM reports them for its own files.
    """
    if called_first:
        oracle.call(worker_functions.__file__, "build_variables_by_a_call", class_name=f"TF{cls}")
    model = RemoteModel(oracle, layout, cls, folder)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert set(model.info[key]) <= set(rebuilt), f"{key} in {layout}"
    outputs = {} if given is None else model.run(given)
    if save_to is not None:
        oracle.call(
            worker_functions.__file__,
            "save",
            model=model.name,
            folder=str(save_to),
            safe_serialization=safe,
        )
    model.drop()
    return outputs


def assert_round_trip(folder: Path, source: Path, case: Case, tmp_path: Path) -> None:
    """Asserts that conversion back to PyTorch gives the same tensors, bit for bit.

    For tensors that no model reads, and those that frameworks round differently, only shape and dtype must match.
    """
    back = tmp_path / "back"
    convert(folder, back, to="pytorch")
    found, expected = tensors(back), tensors(source)
    repeated = {name for name in found.keys() - expected.keys() if name.endswith(REPEATED)}
    values = set(expected.values())
    assert all(found.pop(name) in values for name in repeated)
    for name in unused_parameters(case, source) & found.keys():
        assert found.pop(name)[:2] == expected.pop(name)[:2], name
    assert found == expected
    shutil.rmtree(back)


def unused_parameters(case: Case, source: Path) -> set[str]:
    """Returns PyTorch's names of parameters that the spec marks unused, or that frameworks round differently."""
    return pytorch_names(
        case,
        source,
        lambda one: one.computed in ("unused", *APPROXIMATE_GENERATORS) and one.dtype is None,
    )


def pytorch_names(case: Case, source: Path, wanted: Callable[[Parameter], bool]) -> set[str]:
    """Returns PyTorch's names of some parameters."""
    expansion = expand(case.spec, case.cls, Config.read(source / "config.json"))
    return {
        name
        for rule in layout_module("pytorch").view(expansion).rules
        for parameter, name in zip(rule.sources, rule.targets, strict=False)
        if wanted(expansion.parameters[parameter])
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_specs_have_all_classes(family: str, oracle: WorkerProcess) -> None:
    theirs = oracle.call(models.__file__, "classes", model_type=family)
    for layout, prefix in (("tensorflow", "TF"), ("flax", "Flax")):
        ours = {
            cls.names[layout].removeprefix(prefix)
            for spec in specs(family)
            for cls in spec.classes.values()
            if layout in cls.names
        }
        assert sorted(ours) == theirs[layout]
