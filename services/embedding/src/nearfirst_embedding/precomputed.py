"""Representation kind `precomputed`: vectors that something else made, in .npy files.

Legend: N rows, D dimensions.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.similarity.embeddings import normalise


def read_vectors(path: Path, num_rows: int) -> npt.NDArray[np.float32]:
    """The vectors of a dataset from a file, made length 1.

    Args:
        path: an .npy file; a row for each row of the dataset, any real dtype.
        num_rows: N.

    Returns:
        (N, D) float32. Rows that have length 1 already keep their bits, and the file is memory-mapped then.

    Raises:
        InvalidEmbeddings: no file, not .npy, not (N, D) real numbers, a row with NaN or infinity, or a row of zeros;
            the detail names the file and the row.
    """
    name = f"vectors {path}"
    try:
        # Opened by its header: np.load would go on to zip archives and pickles.
        vectors: npt.NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InvalidEmbeddings(f"{name} can't be read as .npy: {error}") from error
    if vectors.ndim == 2 and len(vectors) != num_rows:
        raise InvalidEmbeddings(f"{name} have {len(vectors)} rows; wanted {num_rows}, one for each row of the dataset")
    return normalise(vectors, name=name)
