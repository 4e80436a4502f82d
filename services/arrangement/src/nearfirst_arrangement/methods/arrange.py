"""The one way in: rules and embeddings to an order. A new method is registered in `METHODS`.

Shapes: N train rows, M test rows, D dimensions.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, Method
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES
from nearfirst.similarity.embeddings import check_same_dimensions, normalise
from nearfirst_arrangement.methods.arranged import ArrangedOrder, MethodFunction, Pool
from nearfirst_arrangement.methods.tma import arrange_tma
from nearfirst_arrangement.methods.unranked import arrange_as_is, arrange_random
from nearfirst_arrangement.methods.wsd import arrange_wsd

METHODS: Mapping[Method, MethodFunction] = MappingProxyType(
    {
        Method.WSD: arrange_wsd,
        Method.TMA: arrange_tma,
        Method.RANDOM: arrange_random,
        Method.AS_IS: arrange_as_is,
    }
)


def arrange(
    rules: ArrangementRules,
    train_embeddings: npt.ArrayLike | None,
    test_embeddings: npt.ArrayLike | None,
    num_train: int,
    *,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
) -> ArrangedOrder:
    """Arrange a pool of training rows for a test set.

    Args:
        rules: method, order and their parameters.
        train_embeddings: (N, D), of any real dtype and length; may be memory-mapped. None only for random and as_is.
        test_embeddings: (M, D); given exactly when `train_embeddings` is.
        num_train: N, at least 1.
        memory_budget_bytes: what the computation may take beside the embeddings and its results.
        progress: called with absolute counts of the phase that runs; it may raise to stop.

    Returns:
        A pure function of `rules` and the embeddings' values: no block size, thread count or memory budget changes a
        bit of it, because similarities are computed exactly (docs/adr/0002-exact-similarity.md). Ties: the lower train
        index first, always.

    Raises:
        InvalidEmbeddings: NaN, infinity or zeros in a row (named), other widths or row counts than wanted (with both).
        InvalidInput: `limit` above the pool, `rounds` beyond the last, embeddings missing.
    """
    if num_train < 1:
        raise InvalidInput(f"num_train: got {num_train}, wanted at least one row to arrange")
    if (train_embeddings is None) != (test_embeddings is None):
        missing = "train_embeddings" if train_embeddings is None else "test_embeddings"
        raise InvalidInput(f"{missing}: got none; give embeddings of both sides, or of neither")
    train_ND = test_MD = None
    if train_embeddings is not None and test_embeddings is not None:
        train_ND = normalise(train_embeddings, name="train_embeddings")
        test_MD = normalise(test_embeddings, name="test_embeddings")
        check_same_dimensions(train_ND, test_MD)
        if len(train_ND) != num_train:
            raise InvalidEmbeddings(f"train_embeddings: got {len(train_ND)} rows, wanted {num_train}, one a train row")
    return METHODS[rules.method](rules, Pool(num_train, train_ND, test_MD, memory_budget_bytes, progress))
