"""Samples of normalization: with and without weights, fp16 and bf16, several axes."""

from __future__ import annotations

from collections.abc import Iterator

from aten_cases.tensors import Call, Tensors, call


def cases(t: Tensors) -> Iterator[Call]:
    x = t.f(2, 3, 4) * 2 + 1
    yield call("native_layer_norm.default", x, [4], t.f(4), t.f(4), 1e-5)
    yield call("native_layer_norm.default", x, [3, 4], t.f(3, 4), None, 0.5)
    yield call("native_layer_norm.default", x, [4], None, t.f(4), 0.1)
    yield call("native_layer_norm.default", t.h(2, 3, 4), [4], t.h(4), t.h(4), 1e-5)
    groups = t.f(2, 6, 5) * 2 + 1
    yield call("native_group_norm.default", groups, t.f(6), t.f(6), 2, 6, 5, 3, 1e-5)
    yield call("native_group_norm.default", groups, None, t.f(6), 2, 6, 5, 2, 0.5)
    yield call("native_group_norm.default", t.f(2, 6), t.f(6), None, 2, 6, 1, 2, 0.5)
    yield call("native_group_norm.default", t.f(1, 4, 2, 3), t.f(4), t.f(4), 1, 4, 6, 1, 0.1)
    yield call("native_group_norm.default", t.h(2, 6, 5), t.h(6), t.h(6), 2, 6, 5, 3, 1e-5)
    stats = (t.f(3), t.f(3).abs() + 0.5)
    trained = "_native_batch_norm_legit_no_training.default"
    yield call(trained, x, t.f(3), t.f(3), *stats, 0.1, 1e-5)
    yield call(trained, x, None, None, *stats, 0.1, 0.5)
    yield call(trained, t.f(2, 3, 2, 2), t.f(3), None, *stats, 0.1, 0.5)
    yield call(trained, t.f(4, 3), t.f(3), t.f(3), *stats, 0.1, 0.5)
    statistics = (t.h(3), t.h(3).abs() + 0.5)
    yield call(trained, t.h(2, 3, 4), t.h(3), t.h(3), *statistics, 0.1, 1e-5)
    batch = "_native_batch_norm_legit.no_stats"
    yield call(batch, x, t.f(3), t.f(3), True, 0.1, 1e-5)
    yield call(batch, t.f(2, 3, 2, 2), None, None, True, 0.1, 0.5)
    yield call(batch, t.f(4, 3), t.f(3), t.f(3), True, 0.1, 0.5)
    yield call(batch, t.h(2, 3, 4), t.h(3), t.h(3), True, 0.1, 0.5)
    # Halves far from zero: what is left of them after the mean needs its digits.
    far = t.h(2, 6, 5) * 0.125 + 3
    yield call("native_layer_norm.default", far, [5], None, None, 1e-5)
    yield call("native_group_norm.default", far, None, None, 2, 6, 5, 2, 1e-5)
