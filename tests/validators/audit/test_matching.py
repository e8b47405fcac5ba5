"""Weights are traced by their content, known operations explain them, and everything else is named with the rows that are wrong."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from audited import Arrays, audit_arrays, explanations, problems, references

from equipoise.validators.audit.audit import Auditor
from equipoise.validators.audit.content.weights import ProgramContent

RNG = np.random.default_rng(7)
WIDTH = 24


def normal(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
    return RNG.normal(0, 0.1, shape).astype(np.float32)


def source() -> Arrays:
    """Returns the weights of a small encoder."""
    found = {
        "bert.embeddings.words.weight": normal(93, WIDTH),
        "bert.embeddings.positions.weight": normal(40, WIDTH),
        "bert.embeddings.types.weight": normal(2, WIDTH),
        "bert.dense.weight": normal(36, WIDTH),
        "bert.dense.bias": normal(36),
        "classifier.weight": normal(2, WIDTH),
        "classifier.bias": normal(2),
    }
    for name in ("query", "key", "value"):
        found[f"bert.attention.{name}.weight"] = normal(WIDTH, WIDTH)
        found[f"bert.attention.{name}.bias"] = normal(WIDTH)
    return found


SOURCE = source()
QUERY, KEY, VALUE = (f"bert.attention.{name}.weight" for name in ("query", "key", "value"))
WORDS = "bert.embeddings.words.weight"


def without(*names: str) -> Arrays:
    return {name: value for name, value in SOURCE.items() if name not in names}


def test_weights_without_their_names_are_traced(tmp_path: Path) -> None:
    program = {f"val_{index}": value for index, value in enumerate(SOURCE.values())}
    report = audit_arrays(SOURCE, program, tmp_path)
    assert report.findings == report.unknown == report.missing == ()
    assert {one.sources[0] for one in report.traced} == set(SOURCE)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda w: w.T, "transposed"),
        (lambda w: w.reshape(6, 4, WIDTH), "reshaped"),
        (lambda w: w.reshape(6, 4, WIDTH).transpose(2, 0, 1), "transposed and reshaped"),
        (lambda w: w.astype(np.float16), "cast to float16"),
        (lambda w: w.T.astype(ml_dtypes.bfloat16), "transposed, cast to bfloat16"),
        (lambda w: w.astype(np.float16).astype(np.float32), "rounded to float16"),
    ],
)
def test_order_of_axes_and_casts(change: object, how: str, tmp_path: Path) -> None:
    dtype = "float16" if "float16" in how and "bfloat16" not in how else "float32"
    dtype = "bfloat16" if "bfloat16" in how else dtype
    program = {name: value.astype(value.dtype) for name, value in without(QUERY).items()}
    report = audit_arrays(
        {QUERY: SOURCE[QUERY]},
        {"w": change(SOURCE[QUERY])},
        tmp_path,
        dtype,  # type: ignore[operator]
    )
    assert program
    assert explanations(report) == {"w": how}
    assert report.findings == ()


def test_query_key_and_value_put_together(tmp_path: Path) -> None:
    parts = [SOURCE[name] for name in (QUERY, KEY, VALUE)]
    biases = [SOURCE[name.replace("weight", "bias")] for name in (QUERY, KEY, VALUE)]
    program = without(
        QUERY, KEY, VALUE, *(n.replace("weight", "bias") for n in (QUERY, KEY, VALUE))
    )
    program |= {
        "qkv": np.concatenate([one.T for one in parts], axis=1),
        "bias": np.concatenate(biases),
    }
    report = audit_arrays(SOURCE, program, tmp_path)
    assert report.findings == report.missing == ()
    assert [one.sources for one in report.explained if one.name == "qkv"] == [(QUERY, KEY, VALUE)]
    assert explanations(report)["bias"] == "concatenated"


def test_parts_and_stacks(tmp_path: Path) -> None:
    """A fused weight of the source is split, a table is cut off, and experts are stacked."""
    fused = normal(3 * WIDTH, WIDTH)
    experts = {f"experts.{index}.up.weight": normal(30, WIDTH) for index in range(4)}
    program = {
        "second": fused[WIDTH : 2 * WIDTH],
        "positions": SOURCE["bert.embeddings.positions.weight"][None, :15],
        "stack": np.stack([one.T for one in experts.values()]),
    }
    table = {"positions.weight": SOURCE["bert.embeddings.positions.weight"]}
    report = audit_arrays({"in_proj_weight": fused, **table, **experts}, program, tmp_path)
    assert report.findings == ()
    assert explanations(report) == {
        "second": f"rows {WIDTH}-{2 * WIDTH - 1}",
        "positions": "rows 0-14",
        "stack": "concatenated",
    }


def test_batch_normalization_folded_by_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    torch.manual_seed(0)
    convolution, norm = torch.nn.Conv2d(3, 20, 3).eval(), torch.nn.BatchNorm2d(20).eval()
    for one in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        one.data.uniform_(0.5, 2)
    fused = fuse_conv_bn_eval(convolution, norm)
    source = {
        f"{path}.{name}": value.detach().numpy()
        for path, module in (("conv", convolution), ("norm", norm))
        for name, value in module.state_dict().items()
    }
    program = {"w": fused.weight.detach().numpy(), "b": fused.bias.detach().numpy()}
    report = audit_arrays(source, program, tmp_path)
    assert set(explanations(report).values()) == {"batch normalization folded"}
    assert report.findings == report.missing == ()
    program["w"][7] *= 1.001
    assert audit_arrays(source, program, tmp_path).findings


def test_weight_normalization_folded_by_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(6, 8, 5), dim=2)
    module.parametrizations.weight.original0.data.uniform_(0.5, 2)
    source = {f"conv.{name}": value.numpy() for name, value in module.state_dict().items()}
    program = {"w": module.weight.detach().numpy(), "b": source["conv.bias"]}
    report = audit_arrays(source, program, tmp_path)
    assert explanations(report)["w"] == "weight normalization folded"
    assert report.findings == report.missing == ()


def test_a_scale_is_folded_in(tmp_path: Path) -> None:
    """The square root of the width of a head, and the scale of each row that a layer norm left."""
    rows = {"norm.weight": RNG.uniform(0.5, 2, WIDTH).astype(np.float32)}
    program = {"q": SOURCE[QUERY] / np.float32(8), "k": SOURCE[KEY] * rows["norm.weight"][:, None]}
    report = audit_arrays({**SOURCE, **rows}, {**without(QUERY, KEY), **program}, tmp_path)
    assert report.findings == report.missing == ()
    assert [explanations(report)[name] for name in program] == [
        "times 0.125",
        "scaled by a vector",
    ]


def test_tables_are_computed(tmp_path: Path) -> None:
    hidden = np.where(np.tri(20, dtype=bool), 0, -np.inf).astype(np.float32)
    rates = (10000 ** (-np.arange(0, 64, 2) / 64)).astype(np.float32)
    angles = np.arange(50)[:, None] * rates
    tables = {
        "mask": hidden[None, None],
        "positions": np.arange(40)[None],
        "rates": rates,
        "ones": np.ones(30, np.float32),
        "waves": np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)[None],
    }
    report = audit_arrays(SOURCE, {**SOURCE, **tables}, tmp_path)
    assert report.findings == report.unknown == report.non_finite == ()
    assert {name: explanations(report)[name] for name in tables} == {
        "mask": "mask",
        "positions": "evenly spaced numbers",
        "rates": "frequencies",
        "ones": "filled with 1",
        "waves": "sinusoidal positions",
    }


def zero_rows(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[41:] = 0


def swap_rows(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[[45, 47]] = w[[47, 45]]


def put_nan(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[60, 3] = np.nan


def round_to_bf16(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w[...] = w.astype(ml_dtypes.bfloat16)


def shift_one(w: np.ndarray) -> None:  # type: ignore[type-arg]
    w.reshape(-1)[0] += 1e-3


FAULTS = [
    (WORDS, zero_rows, "rows 41-92 are zero"),
    (WORDS, swap_rows, "rows 45 and 47 are swapped"),
    (WORDS, put_nan, "row 60 is not finite"),
    ("bert.dense.weight", round_to_bf16, "864 of 864 elements are rounded to bfloat16"),
    ("classifier.bias", shift_one, "1 of 2 elements differ by at most 0.001 (element 0)"),
    ("bert.dense.bias", shift_one, "1 of 36 elements differ by at most 0.001 (element 0)"),
]


@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
@pytest.mark.parametrize(("name", "fault", "problem"), FAULTS)
def test_a_fault_is_named(
    name: str, fault: object, problem: str, named: bool, tmp_path: Path
) -> None:
    wrong = SOURCE[name].copy()
    fault(wrong)  # type: ignore[operator]
    program = {**without(name), name if named else "val_9": wrong}
    report = audit_arrays(SOURCE, program, tmp_path)
    (found,) = report.not_accounted
    assert (found.problem, found.nearest) == (problem, name)
    assert report.missing == ()
    assert [one.nan for one in report.non_finite] == ([1] if fault is put_nan else [])


def test_faults_within_a_fused_weight(tmp_path: Path) -> None:
    fused = np.concatenate([SOURCE[name].T for name in (QUERY, KEY, VALUE)], axis=1)
    fused[:, WIDTH + 6 : WIDTH + 9] = 0
    report = audit_arrays(SOURCE, {**without(QUERY, KEY, VALUE), "qkv": fused}, tmp_path)
    (found,) = report.not_accounted
    assert (found.problem, found.nearest) == ("rows 6-8 are zero", KEY)


def test_swapped_tensors_are_told_by_their_names(tmp_path: Path) -> None:
    program = {**SOURCE, QUERY: SOURCE[KEY], KEY: SOURCE[QUERY]}
    report = audit_arrays(SOURCE, program, tmp_path)
    assert problems(report) == {
        QUERY: f"holds the values of {KEY}",
        KEY: f"holds the values of {QUERY}",
    }


def test_weights_of_another_seed(tmp_path: Path) -> None:
    report = audit_arrays(SOURCE, source(), tmp_path)
    assert len(report.not_accounted) == len(SOURCE)
    nameless = {f"val_{i}": value for i, value in enumerate(source().values()) if value.size > 16}
    report = audit_arrays(SOURCE, nameless, tmp_path)
    assert len(report.not_accounted) == len(nameless)
    assert all("is missing" in one.problem for one in report.not_accounted)


def test_one_weight_in_a_narrower_dtype(tmp_path: Path) -> None:
    half = SOURCE["bert.dense.weight"].astype(np.float16)
    report = audit_arrays(SOURCE, {**SOURCE, "bert.dense.weight": half}, tmp_path)
    assert problems(report) == {
        "bert.dense.weight": "is stored as float16, the source and the program as float32"
    }


def test_a_vector_of_ones_excuses_nothing(tmp_path: Path) -> None:
    """A layer norm that was not trained holds ones: a weight times ones, up to rounding, is a weight that is a little wrong."""
    ones = {"norm.weight": np.ones(WIDTH, np.float32), "norm.bias": np.zeros(WIDTH, np.float32)}
    wrong = SOURCE[QUERY].astype(np.float16)
    wrong[3] *= np.float16(1.004)
    report = audit_arrays(
        {**SOURCE, **ones}, {**without(QUERY), **ones, "w": wrong}, tmp_path, "float16"
    )
    assert list(problems(report)) == ["w"]


def test_values_that_are_not_finite_are_named_on_both_sides(tmp_path: Path) -> None:
    broken = {**SOURCE, WORDS: SOURCE[WORDS].copy()}
    broken[WORDS][60, 3] = np.nan
    report = audit_arrays(broken, broken, tmp_path)
    assert [(one.side, one.name, one.nan, one.rows) for one in report.non_finite] == [
        ("program", WORDS, 1, "60"),
        ("source", WORDS, 1, "60"),
    ]
    assert report.findings == ()  # the program is what the source is


def test_an_overflow_of_a_cast_is_a_finding(tmp_path: Path) -> None:
    large = {name: value.copy() for name, value in SOURCE.items()}
    large[WORDS][92] = 1e5
    halves = {name: value.astype(np.float32).clip(-1e6, 1e6) for name, value in large.items()}
    with np.errstate(over="ignore"):
        halves = {name: value.astype(np.float16) for name, value in halves.items()}
    report = audit_arrays(large, halves, tmp_path, "float16")
    (finding,) = report.findings
    assert (
        finding == f"program: {WORDS} holds values that are not finite: {WIDTH} infinite in rows 92"
    )


def test_missing_and_unknown(tmp_path: Path) -> None:
    program = {**without("bert.embeddings.types.weight"), "extra": normal(7, 9)}
    report = audit_arrays(SOURCE, program, tmp_path)
    assert report.missing == ("bert.embeddings.types.weight",)
    assert [one.name for one in report.unknown] == ["extra"]
    assert report.findings == ()
    zeroed = {**without("bert.dense.bias"), "b": np.zeros(36, np.float32)}
    assert problems(audit_arrays(SOURCE, zeroed, tmp_path)) == {
        "b": "is like no tensor of the source; bert.dense.bias, which has its size, is missing"
    }


def test_sums_of_rows(tmp_path: Path) -> None:
    """A sequence of fixed length folds the rows of positions and of the first token type."""
    positions, types = (SOURCE[f"bert.embeddings.{name}.weight"] for name in ("positions", "types"))
    program = {**without("bert.embeddings.positions.weight"), "sum": positions[:15] + types[0]}
    report = audit_arrays(SOURCE, program, tmp_path)
    assert explanations(report)["sum"] == "sum of two tensors"


def test_integers_and_small_constants_are_counted(tmp_path: Path) -> None:
    """Unless they are the source's: there a bias of two numbers is compared."""
    own = {"ids": np.array([3, 1, 4, 1, 5, 9, 2, 6] * 9), "small": normal(16), "large": normal(17)}
    report = audit_arrays(SOURCE, {**SOURCE, **own}, tmp_path)
    assert report.findings == ()
    assert report.small == 2
    assert [one.name for one in report.unknown] == ["large"]
    bias = {**SOURCE, "classifier.bias": SOURCE["classifier.bias"] + np.float32(1e-3)}
    assert list(problems(audit_arrays(SOURCE, bias, tmp_path))) == ["classifier.bias"]


def test_a_computed_table_is_known_by_its_form_alone(tmp_path: Path) -> None:
    """Frequencies of another base have that form too: the outputs must show them."""
    rates = {
        f"of {base}": (base ** (-np.arange(0, 64, 2) / 64)).astype(np.float32)
        for base in (10000, 500)
    }
    report = audit_arrays(SOURCE, {**SOURCE, **rates}, tmp_path)
    assert report.findings == report.unknown == ()
    assert [explanations(report)[name] for name in rates] == ["frequencies", "frequencies"]


def test_files_that_are_not_read_as_tensors_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constants of a compiled module: those of the source are found by their bytes, others are not seen."""
    module = tmp_path / "module"
    module.write_bytes(b"code" + SOURCE[WORDS].tobytes() + normal(50, 50).tobytes() + b"end")
    monkeypatch.setattr(
        "equipoise.validators.audit.audit.read_program",
        lambda *_: ProgramContent((), (module,)),
    )
    report = Auditor(references(SOURCE), "float32").audit("stablehlo", tmp_path)
    assert [one.sources for one in report.traced] == [(WORDS,)]
    assert report.findings == report.unknown == ()
    assert set(report.missing) == set(SOURCE) - {WORDS}
