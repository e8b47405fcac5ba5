import numpy as np

from equipoise.convert.architectures.computed_tensors import compute_tensor

ANGLE = 2 / 10000 ** (2 / 6)


def test_sinusoidal_has_sines_first() -> None:
    table = compute_tensor("sinusoidal", (4, 6), np.dtype("float32"))
    assert table.dtype == np.float32
    assert table[0].tolist() == [0, 0, 0, 1, 1, 1]
    angles = [2, ANGLE, 2 / 10000 ** (4 / 6)]
    np.testing.assert_allclose(table[2], [*np.sin(angles), *np.cos(angles)], rtol=1e-6)


def test_interleaved_alternates() -> None:
    table = compute_tensor("sinusoidal_interleaved", (4, 6), np.dtype("float32"))
    np.testing.assert_allclose(
        table[2, :4], [np.sin(2), np.cos(2), np.sin(ANGLE), np.cos(ANGLE)], rtol=1e-6
    )


def test_zeros_in_any_dtype() -> None:
    assert compute_tensor("unused", (), np.dtype("int64")).tolist() == 0
    assert compute_tensor("zeros", (2,), np.dtype("float16")).tolist() == [0, 0]


def test_window_positions_number_the_offset_between_two_positions() -> None:
    assert compute_tensor("window_positions", (4, 4), np.dtype("int32")).tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


def test_relative_distances_are_numbered_as_they_occur() -> None:
    assert compute_tensor("offset_positions", (4, 4), np.dtype("int64")).tolist() == [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [2, 3, 0, 1],
        [3, 2, 1, 0],
    ]


def test_axial_angles_count_columns_then_rows() -> None:
    """Of a square of 2 x 2, in steps of a half: each frequency twice, columns in the first half."""
    base = 100.0
    cosines, sines = (
        compute_tensor(f"axial_rotary_{one}({base}, 0.5)", (4, 8), np.dtype("float32"))
        for one in ("cosines", "sines")
    )
    column = [0.5, 0.5, 0.05, 0.05]
    angles = [[0.0] * 8, [*column, *[0.0] * 4], [*[0.0] * 4, *column], [*column, *column]]
    assert np.allclose(cosines, np.cos(angles), atol=1e-7)
    assert np.allclose(sines, np.sin(angles), atol=1e-7)


def test_rotary_frequencies_fall_from_one() -> None:
    table = compute_tensor("rotary_frequencies", (2,), np.dtype("float32"))
    np.testing.assert_allclose(table, [1, 0.01], rtol=1e-6)
