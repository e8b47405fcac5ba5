"""The corpus of faults: planting is exact and repeatable, and the validator catches a sample of the faults."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
CAUGHT_AT_LEAST = 29
"""Of 30."""


@pytest.fixture(scope="module", autouse=True)
def package() -> Iterator[None]:
    """Makes ``benchmarks/faults`` a package that can be imported."""
    pytest.importorskip("onnx")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Returns an artifact with a two-layer ONNX program whose nodes name their modules."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    weights = {
        "model.a.weight": np.arange(16, dtype=np.float32).reshape(4, 4) / 8,
        "model.a.bias": np.array([1, -2, 3, -4], np.float32),
        "model.b.scale": np.array([1, 1, 2, 1], np.float32),
        "eps": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "model.a.weight"], ["product"], "product"),
        helper.make_node("Add", ["product", "model.a.bias"], ["linear"], "linear"),
        helper.make_node("Softmax", ["linear"], ["weights"], "softmax", axis=-1),
        helper.make_node("Mul", ["weights", "eps"], ["logits"], "scale"),
    ]
    for node, module in zip(nodes, ("model.a", "model.a", "model.b", "model.b"), strict=True):
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", str(["", "model", module, node.name])
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        value_info=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4])
            for name in ("product", "linear", "weights")
        ],
    )
    save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        str(tmp_path / "model.onnx"),
    )
    return tmp_path


def run(artifact: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(artifact / "model.onnx"), options)
    return np.asarray(session.run(None, {"x": x})[0])


def expected(x: np.ndarray, bias: float = 1.0, factor: float = 0.5, axis: int = -1) -> np.ndarray:
    """Returns what the program computes, with NumPy."""
    weight = np.arange(16, dtype=np.float32).reshape(4, 4) / 8
    values = x @ weight + bias * np.array([1, -2, 3, -4], np.float32)
    powers = np.exp(values - values.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True) * factor)


def plant(artifact: Path, function: str, /, **parameters: Any) -> Any:
    corpus = import_module("faults.corpus")
    kind = corpus.Kind("kind", "class", function, ("onnx",), 1, parameters)
    return corpus.plant(kind, artifact, np.random.default_rng(0), "onnx", artifact)


X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "parameters", "changed", "module"),
    [
        ("onnx_operators.lose_bias", {}, {"bias": 0.0}, "a"),
        ("onnx_operators.add_bias_twice", {}, {"bias": 2.0}, "a"),
        ("onnx_operators.scale_constant", {"factor": 1.5}, {"factor": 0.75}, "b"),
        ("onnx_values.scale_output", {"factor": 3.0}, {"factor": 1.5}, "b"),
        (
            "onnx_operators.set_operator_attribute",
            {"operator": "Softmax", "name": "axis", "value": 0},
            {"axis": 0},
            "b",
        ),
        ("weights.zero_bias", {}, {"bias": 0.0}, "a"),
    ],
)
def test_planted_program_computes_what_numpy_does(
    small: Path, function: str, parameters: Any, changed: Any, module: str
) -> None:
    np.testing.assert_allclose(run(small, X), expected(X), rtol=1e-5)
    planted = plant(small, function, **parameters)
    assert planted.module == module
    np.testing.assert_allclose(run(small, X), expected(X, **changed), rtol=1e-5)


def test_batch_fault_needs_its_batch(small: Path) -> None:
    plant(small, "onnx_inputs.wrong_from_batch", rows=4)
    np.testing.assert_allclose(run(small, X), expected(X), rtol=1e-5)
    four = np.concatenate([X, X[:1]])
    np.testing.assert_allclose(run(small, four), expected(four) + 0.1, rtol=1e-5)


def test_rows_are_mixed_from_a_batch_on(small: Path) -> None:
    plant(small, "onnx_inputs.mix_rows", rows=3)
    np.testing.assert_allclose(run(small, X), np.roll(expected(X), -1, axis=0), rtol=1e-5)
    np.testing.assert_allclose(run(small, X[:2]), expected(X[:2]), rtol=1e-5)


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("tf32", 11), ("float16", 11)])
def test_products_lose_the_bits_of_their_dtype(small: Path, dtype: str, bits: int) -> None:
    import ml_dtypes

    graph = import_module("faults.planting.onnx_graph")
    values = import_module("faults.planting.onnx_values")
    program = graph.OnnxProgram(small / "model.onnx")
    program.insert("x", lambda add, value: values.cast_through(add, value, dtype))
    program.graph.output[0].name = "x_rounded"
    builder = graph.Builder(program, len(program.nodes))
    rounded = program.producer("product").input[0]
    output = builder("Identity", rounded)
    graph.rename(program.producer(output).output, output, "x_rounded")
    program.save()
    if dtype == "tf32":
        right = np.ldexp(np.round(np.frexp(X)[0] * 2**bits), np.frexp(X)[1] - bits)
    else:
        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
        right = X.astype(kind).astype(np.float32)
    np.testing.assert_array_equal(run(small, X), right)


def test_no_site_is_said(small: Path) -> None:
    error = import_module("faults.planting.onnx_graph").NoSiteError
    with pytest.raises(error):
        plant(small, "onnx_inputs.ignore_mask")


def test_fault_is_the_same_for_the_same_seed(
    small: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copy(small / "model.onnx", other)
    one, two = (plant(path, "weights.perturb_element") for path in (small, other))
    assert one == two
    assert (small / "model.onnx").read_bytes() == (other / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("found", "rejected"),
    [
        (0.0, ()),
        (3e-5, ("1e-5", "1.3e-6", "1e-8")),
        (5e-4, ("1e-4", "1e-5", "1.3e-6", "1e-8")),
        (0.05, ("verify", "1e-3", "1e-4", "1e-5", "1.3e-6", "1e-8")),
    ],
)
def test_criteria_have_their_thresholds(found: float, rejected: tuple[str, ...]) -> None:
    peers = import_module("faults.peers")
    values = {"logits": np.linspace(1, 2, 12, dtype=np.float32).reshape(2, 6)}
    shifted = {"logits": (values["logits"] + np.float32(found))}
    verdicts = peers.judge_as_peers(values, shifted)
    for name, rejects in verdicts.items():
        assert rejects == any(one in name for one in rejected), name


def test_broken_output_is_rejected_by_all() -> None:
    peers = import_module("faults.peers")
    values = {"logits": np.ones((2, 6), np.float32)}
    broken = {"logits": np.full((2, 6), np.nan, np.float32)}
    assert all(peers.judge_as_peers(values, broken).values())
    assert all(peers.judge_as_peers(values, None).values())


def test_every_kind_names_a_function_and_a_class() -> None:
    titles, kinds = import_module("faults.corpus").read_table()
    assert {one.class_name for one in kinds} == set(titles)
    for kind in kinds:
        module, _, name = kind.plant.partition(".")
        assert callable(getattr(import_module(f"faults.planting.{module}"), name)), kind.name


def test_page_matches_the_results() -> None:
    """``make faults`` writes both."""
    page = import_module("faults.page")
    assert page.PAGE.read_text(encoding="utf-8") == page.render_page()
    assert len(page.PAGE.read_text(encoding="utf-8").splitlines()) < 300


def test_corpus_is_as_large_as_it_says() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["faults"]
    faults = [one for one in rows if one["class_name"] != "correct"]
    assert len(faults) >= 300
    assert len({one["fixture"] for one in faults}) >= 25
    assert len({one["backend"] for one in faults}) == 9


def test_every_miss_has_a_reason() -> None:
    page = import_module("faults.page")
    rows, _ = page.read_results()
    unexplained = [
        one.fault.name
        for one in rows
        if not (one.caught or one.fault.class_name == page.CORRECT)
        and page.reason_of(one).startswith("Not explained")
    ]
    assert not unexplained


def test_no_fixed_tolerance_is_right() -> None:
    """1e-5 takes an epsilon of a layer norm that is wrong for right, and a correct program for wrong."""
    faults = json.loads(RESULTS.read_text(encoding="utf-8"))["faults"]
    rows = {one["name"]: one for one in faults}
    (criterion,) = {name for one in rows.values() for name in one["peers"] if "Polygraphy" in name}
    assert criterion.endswith("1e-5")
    epsilon = rows["exported-with-epsilon/onnx/text-classification"]
    assert criterion not in epsilon["peers"]
    assert epsilon["code"] == 1
    correct = rows["unchanged/tflite/image-classification"]
    assert criterion in correct["peers"]
    assert correct["code"] == 0


def test_no_correct_program_is_rejected() -> None:
    page = import_module("faults.page")
    rows, _ = page.read_results()
    correct = [one for one in rows if one.fault.class_name == page.CORRECT]
    assert len(correct) > 100
    assert [one.fault.name for one in correct if one.judgement["code"]] == []


@pytest.mark.slow
@pytest.mark.transformers
def test_sample_of_faults_is_caught(tmp_path: Path) -> None:
    """Two models, exported here; 30 faults of all classes that can be planted in them, chosen by a seed."""
    pytest.importorskip("transformers")
    from equipoise.cli.main import run as run_command
    from equipoise.validators.runtime.process import WorkerPool

    corpus_module = import_module("faults.corpus")
    league = import_module("faults.league")
    fixtures = ["text-classification", "image-classification"]
    for name in fixtures:
        output = tmp_path / "programs" / name / "onnx"
        output.parent.mkdir(parents=True)
        command = ["export", str(corpus_module.FIXTURES / name), str(output), "--to", "onnx"]
        assert run_command([*command, "--no-validate", "--threads", "1"]) == 0
    _, kinds = corpus_module.read_table()
    kinds = [one for one in kinds if "onnx" in one.backends and not one.among]
    corpus = corpus_module.Corpus(tmp_path / "corpus", tmp_path / "programs", backends=("onnx",))
    faults = list(corpus.plant(kinds, fixtures))
    chosen = np.random.default_rng(0).permutation(len(faults))[:30]
    rows = []
    with WorkerPool(time_limit=60) as pool:
        for name in fixtures:
            with import_module("faults.judge").open_judge(
                corpus_module.FIXTURES / name, pool
            ) as judge:
                for fault in (faults[i] for i in chosen if faults[i].fixture == name):
                    judgement = judge.judge(corpus.artifact(fault)).as_dict()
                    rows.append(league.Row(fault, judgement))
    count = league.count_rows(rows)
    assert count.faults == 30
    missed = [one.fault.name for one in rows if not one.caught]
    assert count.caught >= CAUGHT_AT_LEAST, missed
