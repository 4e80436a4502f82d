"""Shards joined are the bytes of rows that were embedded at once."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst_embedding.artifacts import EmbeddingFiles, join_shards, write_rows

NUM_ROWS, DIMENSIONS = 23, 5


def written(folder: Path, rows: slice, *, encoder: str = "minilm", dimensions: int = DIMENSIONS) -> EmbeddingFiles:
    random = np.random.default_rng(7)
    vectors = random.normal(size=(NUM_ROWS, dimensions)).astype(np.float32)
    truncated = random.random(NUM_ROWS) < 0.3
    folder.mkdir()
    files = EmbeddingFiles.in_folder(folder)
    write_rows(files, vectors[rows], truncated[rows], encoder=encoder, dataset_digest="sha256:00")
    return files


@pytest.mark.parametrize("cuts", [[0, 23], [0, 8, 16, 23], [0, 1, 22, 23], list(range(24))])
def test_joined_shards_are_the_files_of_all_rows(tmp_path: Path, cuts: list[int]) -> None:
    whole = written(tmp_path / "whole", slice(None))
    bounds = list(itertools.pairwise(cuts))
    shards = [written(tmp_path / f"{start}", slice(start, stop)) for start, stop in bounds]
    (tmp_path / "joined").mkdir()
    joined = EmbeddingFiles.in_folder(tmp_path / "joined")
    told: list[tuple[int, int | None, str]] = []
    rows = join_shards(joined, shards, progress=lambda *report: told.append(report))
    assert [path.read_bytes() for path in joined] == [path.read_bytes() for path in whole]
    assert (rows.num_rows, rows.dimensions, rows.encoder) == (23, 5, "minilm")
    assert rows.truncated == np.load(whole.truncated).sum() > 0
    assert told == [(stop, 23, "rows merged") for _, stop in bounds]


def test_shards_of_different_encoders_are_refused_with_both(tmp_path: Path) -> None:
    one = written(tmp_path / "one", slice(0, 10))
    for name, other in {
        "encoder": written(tmp_path / "two", slice(10, 23), encoder="other"),
        "width": written(tmp_path / "wide", slice(10, 23), dimensions=6),
    }.items():
        with pytest.raises(InvalidEmbeddings) as raised:
            join_shards(EmbeddingFiles.in_folder(tmp_path), [one, other])
        assert {"encoder": "other", "width": "(6)"}[name] in raised.value.detail
        assert "minilm (5 dimensions)" in raised.value.detail
