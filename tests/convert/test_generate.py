import numpy as np

from equipoise.convert.generate import generate

ANGLE = 2 / 10000 ** (2 / 6)


def test_sinusoidal_has_sines_first() -> None:
    table = generate("sinusoidal", (4, 6), np.dtype("float32"))
    assert table.dtype == np.float32
    assert table[0].tolist() == [0, 0, 0, 1, 1, 1]
    angles = [2, ANGLE, 2 / 10000 ** (4 / 6)]
    np.testing.assert_allclose(table[2], [*np.sin(angles), *np.cos(angles)], rtol=1e-6)


def test_interleaved_alternates() -> None:
    table = generate("sinusoidal_interleaved", (4, 6), np.dtype("float32"))
    np.testing.assert_allclose(
        table[2, :4], [np.sin(2), np.cos(2), np.sin(ANGLE), np.cos(ANGLE)], rtol=1e-6
    )


def test_zeros_in_any_dtype() -> None:
    assert generate("unused", (), np.dtype("int64")).tolist() == 0
    assert generate("zeros", (2,), np.dtype("float16")).tolist() == [0, 0]
