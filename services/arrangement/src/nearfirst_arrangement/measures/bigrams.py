"""KL divergence between the bigrams of training prefixes and those of the test set, from one reading of the texts.

With c_b the count of bigram b in a prefix of T bigrams, q_b its share of the test set's and w_b its weight,

    KL = sum_b w_b (c_b / T) ln((c_b / T) / (q_b + epsilon))
       = (sum_b w_b c_b ln c_b  -  ln T sum_b w_b c_b  -  sum_b w_b c_b ln(q_b + epsilon)) / T.

Each sum changes from one prefix to the next by the bigrams of the rows between them alone, so the work is
proportional to the texts, not to prefixes times vocabulary.

Shapes: P prefixes, S stretches of text (those between prefixes, then the test set), U pairs of a stretch and a bigram
that it has, V distinct bigrams.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.progress import ProgressCallback
from nearfirst.similarity.blocks import spans

_WordCodes: TypeAlias = defaultdict[str, int]
"""Words by their number; asked for a new word, it has one."""

EPSILON = 1e-10
_WORD_BITS = 32
_TEXTS_AT_ONCE = 1024


class _Bigrams(NamedTuple):
    """How often each stretch has each bigram; sorted by bigram, then stretch."""

    bigram: npt.NDArray[np.int64]
    """(U,) 0 to V - 1."""
    stretch: npt.NDArray[np.int64]
    """(U,)"""
    occurrences: npt.NDArray[np.int64]
    """(U,) at least 1."""


def bigram_kl(
    texts: Sequence[str],
    ends: npt.NDArray[np.int64],
    test_texts: Sequence[str],
    fidelity: Fidelity,
    progress: ProgressCallback,
) -> list[float | None] | None:
    """KL(prefix || test) for prefixes of an order, in nats.

    Args:
        texts: (n,) in training order.
        ends: (P,) rows in each prefix, ascending; the last is n.
        test_texts: (M,).
        fidelity: `corrected` weighs each bigram once, `paper` by its occurrences in `texts` and `test_texts` together.
        progress: called with texts read.

    Returns:
        A value for each prefix, None for one without a bigram; None when the test texts have no bigram.

    Notes:
        Bigrams are pairs of neighbouring words of one text; words are what white space separates. The paper's code adds
        epsilon to q, where a bigram of the prefix may be missing, and doesn't normalise again. Memory: 24 bytes for
        each distinct bigram of each stretch, and the vocabulary.

    References: He et al. 2025 (arXiv 2406.11721); the released code lists occurrences, not distinct bigrams.
    """
    found = _count_bigrams(texts, ends, test_texts, progress)
    num_prefixes = len(ends)
    is_test_U = found.stretch == num_prefixes
    if not is_test_U.any():
        return None
    is_first_U = np.diff(found.bigram, prepend=-1) != 0
    weight_V = np.bincount(found.bigram, weights=found.occurrences if fidelity is Fidelity.PAPER else is_first_U)
    test_count_V = np.zeros(len(weight_V))
    test_count_V[found.bigram[is_test_U]] = found.occurrences[is_test_U]
    log_q_V = np.log(test_count_V / test_count_V.sum() + EPSILON)
    train = _Bigrams(*(values[~is_test_U] for values in found))
    before_U, after_U = _counts_before_and_after(train)
    weight_U = weight_V[train.bigram]
    terms = {
        "total": train.occurrences.astype(np.float64),
        "weighted": weight_U * train.occurrences,
        "c_log_c": weight_U * (_c_log_c(after_U) - _c_log_c(before_U)),
        "log_q": weight_U * train.occurrences * log_q_V[train.bigram],
    }
    prefix = {
        name: np.bincount(train.stretch, weights=values, minlength=num_prefixes).cumsum()
        for name, values in terms.items()
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        kl_P = (prefix["c_log_c"] - np.log(prefix["total"]) * prefix["weighted"] - prefix["log_q"]) / prefix["total"]
    return [float(kl) if total else None for kl, total in zip(kl_P, prefix["total"], strict=True)]


def _counts_before_and_after(train: _Bigrams) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(U,) each: how often the bigram was seen before its stretch, and until its end."""
    running_U = train.occurrences.cumsum()
    is_first_U = np.diff(train.bigram, prepend=-1) != 0
    seen_before_bigram = (running_U - train.occurrences)[is_first_U]
    after_U = running_U - np.repeat(seen_before_bigram, np.diff(np.flatnonzero(is_first_U), append=len(is_first_U)))
    return (after_U - train.occurrences).astype(np.float64), after_U.astype(np.float64)


def _c_log_c(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """c ln c, 0 at 0."""
    values: npt.NDArray[np.float64] = counts * np.log(np.maximum(counts, 1.0))
    return values


def _count_bigrams(
    texts: Sequence[str], ends: npt.NDArray[np.int64], test_texts: Sequence[str], progress: ProgressCallback
) -> _Bigrams:
    """Bigrams of the stretches that end at `ends`, and of the test texts as one more stretch."""
    codes: _WordCodes = defaultdict(count().__next__)
    total = len(texts) + len(test_texts)
    found = []
    start = 0
    for stop in ends.tolist():
        found.append(_distinct_bigrams(texts[start:stop], codes))
        progress(stop, total, "texts read")
        start = stop
    found.append(_distinct_bigrams(test_texts, codes))
    progress(total, total, "texts read")
    stretch_U = np.repeat(np.arange(len(found)), [len(keys) for keys, _ in found])
    key_U = np.concatenate([keys for keys, _ in found])
    by_bigram = np.argsort(key_U, kind="stable")
    key_U = key_U[by_bigram]
    bigram_U = np.cumsum(np.diff(key_U, prepend=key_U[:1]) != 0)
    return _Bigrams(bigram_U, stretch_U[by_bigram], np.concatenate([number for _, number in found])[by_bigram])


def _distinct_bigrams(texts: Sequence[str], codes: _WordCodes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bigrams of some texts, as (first word's code) 2^32 + (second's), and their counts; new words get new codes."""
    keys = [_bigram_keys(texts[span], codes) for span in spans(len(texts), _TEXTS_AT_ONCE)]
    distinct, counts = np.unique(np.concatenate(keys), return_counts=True)
    return distinct, counts


def _bigram_keys(texts: Sequence[str], codes: _WordCodes) -> npt.NDArray[np.int64]:
    """The bigrams of some texts. Arrow splits and numbers words as `str.split` and a `dict` do, in half the time."""
    words = pc.utf8_split_whitespace(pa.array(texts, pa.large_string()))
    numbered = words.flatten().dictionary_encode()
    distinct_words = numbered.dictionary.to_pylist()
    code_W = np.array([codes[word] for word in distinct_words], dtype=np.int64)[numbered.indices.to_numpy()]
    text_W = np.repeat(np.arange(len(texts)), words.value_lengths().to_numpy())
    if "" in distinct_words:  # before or after white space at either end of a text
        is_word_W = code_W != codes[""]
        code_W, text_W = code_W[is_word_W], text_W[is_word_W]
    is_pair = text_W[:-1] == text_W[1:]
    keys: npt.NDArray[np.int64] = (code_W[:-1][is_pair] << _WORD_BITS) | code_W[1:][is_pair]
    return keys
