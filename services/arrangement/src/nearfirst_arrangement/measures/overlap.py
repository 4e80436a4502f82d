"""Test texts that are trained on, whole or almost."""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.progress import ProgressCallback
from nearfirst.contracts.reports import MAX_EXAMPLES, Leaks, NearDuplicate, NearDuplicates, TextMatch, TextMatches
from nearfirst_arrangement.measures.inputs import MeasuredRows, UnitVectors
from nearfirst_arrangement.measures.rounding import rounded

NEAR_DUPLICATE_SIMILARITY = 0.98
_REPORT_EVERY = 1024
"""Texts between two calls of the progress callback."""


def normalised_text(text: str) -> str:
    r"""A text as it is compared with others: NFKC, case folding, and one space for every run of white space.

    >>> normalised_text(" Ｗhat\n is  this?")
    'what is this?'
    """
    if text.isascii():  # nothing to normalise, and far faster
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_leaks(
    train: MeasuredRows, test: MeasuredRows, progress: ProgressCallback
) -> tuple[Leaks, npt.NDArray[np.bool_]]:
    """Rows of the order whose text or instruction also is in the test set.

    Args:
        train: n rows in training order.
        test: M rows.
        progress: called with texts compared.

    Returns:
        The leaks, and (n,) whether a row's embedded text is one.
    """
    num_train = len(train)

    def report(done: int) -> None:
        progress(done, 2 * num_train, "texts compared")

    by_text, is_leak_n = _matches(train, test, train.texts, test.texts, report)
    by_instruction, _ = _matches(
        train, test, train.instructions, test.instructions, lambda done: report(num_train + done)
    )
    return Leaks(text=by_text, instruction=by_instruction), is_leak_n


def _matches(
    train: MeasuredRows,
    test: MeasuredRows,
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    report: Callable[[int], None],
) -> tuple[TextMatches, npt.NDArray[np.bool_]]:
    test_rows_of: dict[str, list[int]] = {}
    for row, text in enumerate(test_texts):
        if key := normalised_text(text):
            test_rows_of.setdefault(key, []).append(row)
    is_match_n = np.zeros(len(train), dtype=np.bool_)
    examples: list[TextMatch] = []
    found: set[str] = set()
    for position, text in enumerate(train_texts):
        if position % _REPORT_EVERY == 0:
            report(position)
        key = normalised_text(text)
        if key not in test_rows_of:
            continue
        is_match_n[position] = True
        found.add(key)
        if len(examples) < MAX_EXAMPLES:
            test_id = test.ids[test_rows_of[key][0]]
            examples.append(TextMatch(position=position, train_id=train.ids[position], test_id=test_id))
    report(len(train))
    num_rows = int(is_match_n.sum())
    matches = TextMatches(
        num_rows=num_rows,
        share=rounded(num_rows / len(train)),
        num_test_rows=sum(len(test_rows_of[key]) for key in found),
        examples=examples,
    )
    return matches, is_match_n


def find_near_duplicates(
    train: MeasuredRows, test: MeasuredRows, vectors: UnitVectors, is_leak_n: npt.NDArray[np.bool_]
) -> NearDuplicates:
    """Rows of the order whose similarity to their nearest test row is above `NEAR_DUPLICATE_SIMILARITY`.

    Args:
        train: n rows in training order.
        test: M rows.
        vectors: of both.
        is_leak_n: rows whose text is a test row's, to tell them apart from those that only come close.
    """
    positions = np.flatnonzero(vectors.nearest_similarity > NEAR_DUPLICATE_SIMILARITY)
    most_similar = positions[np.argsort(-vectors.nearest_similarity[positions], kind="stable")]
    return NearDuplicates(
        threshold=NEAR_DUPLICATE_SIMILARITY,
        num_rows=len(positions),
        share=rounded(len(positions) / len(train)),
        examples=[
            NearDuplicate(
                position=position,
                train_id=train.ids[position],
                test_id=test.ids[vectors.nearest_test[position]],
                similarity=rounded(vectors.nearest_similarity[position]),
                is_leak=bool(is_leak_n[position]),
            )
            for position in most_similar[:MAX_EXAMPLES].tolist()
        ],
    )
