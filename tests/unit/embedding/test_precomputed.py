"""Vectors from files: what is read, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst_embedding.precomputed import read_vectors


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_rows_of_any_real_type_become_unit_float32(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "X.npy"
    np.save(path, np.array([[3, 4], [0, -2]], dtype=dtype))
    vectors = read_vectors(path, 2)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, -1]], atol=1e-7)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((3, 2)), "have 3 rows; wanted 2"),
        (np.ones(2), r"shape \(2,\)"),
        (np.ones((2, 0)), r"shape \(2, 0\)"),
        (np.array([[1.0, np.nan], [1, 1]]), "row 0 has NaN"),
        (np.array([[1.0, 1], [0, 0]]), "row 1 has length"),
        (np.array([["a", "b"], ["c", "d"]]), "wanted real numbers"),
        (np.array([[None, {}], [1, 2]], dtype=object), "can't be read as .npy"),
    ],
)
def test_what_is_no_embedding_is_refused_with_the_files_name(tmp_path: Path, rows: np.ndarray, message: str) -> None:
    path = tmp_path / "X.npy"
    np.save(path, rows, allow_pickle=True)
    with pytest.raises(InvalidEmbeddings, match=message) as caught:
        read_vectors(path, 2)
    assert str(path) in caught.value.detail


def test_a_file_that_is_no_npy_or_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.npy", tmp_path / "text.npy"):
        if path.stem == "text":
            path.write_text("not numpy")
        with pytest.raises(InvalidEmbeddings, match=path.name):
            read_vectors(path, 2)
