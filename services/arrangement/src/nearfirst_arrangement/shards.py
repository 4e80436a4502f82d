"""Which candidate runs a large arrangement waits for, so that any number of workers share its comparisons."""

from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import ArrangementSpec, Granularity, Method, Order, Similarity
from nearfirst.contracts.candidates import CandidateKind, CandidatesSpec
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.runs import RunKind
from nearfirst.registry.content_runs import content_run
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store


def candidate_runs(
    session: Session,
    spec: ArrangementSpec,
    train: Dataset,
    train_embeddings: str,
    test_embeddings: str,
    store: Store,
    settings: Settings,
) -> list[str]:
    """Ids of the candidate runs that an arrangement merges; none where one worker compares all rows by itself.

    Args:
        session: open transaction.
        spec: the arrangement.
        train: its training dataset.
        train_embeddings: id of the run that embeds it.
        test_embeddings: id of the run that embeds the test dataset.
        store: has artifacts.
        settings: a training dataset of more than `candidate_shard_rows` rows is cut into shards of so many.
    """
    return [
        content_run(
            session, RunKind.CANDIDATES, shard, store, depends_on=lambda: [train_embeddings, test_embeddings]
        ).id
        for shard in candidate_specs(spec, train.num_examples, train_embeddings, test_embeddings, settings)
    ]


def candidate_specs(
    spec: ArrangementSpec, num_train: int, train_embeddings: str, test_embeddings: str, settings: Settings
) -> list[CandidatesSpec]:
    """The shards of an arrangement's comparisons; none when the pool is small, or known only after a selection."""
    if num_train <= settings.candidate_shard_rows:
        return []
    return [
        CandidatesSpec(
            find=find,
            train=spec.train,
            train_embeddings=train_embeddings,
            test=spec.test,
            test_embeddings=test_embeddings,
            similarity=spec.similarity if spec.method is Method.WSD else Similarity.COSINE,
            start=start,
            stop=min(start + settings.candidate_shard_rows, num_train),
        )
        for find in _wanted(spec)
        for start in range(0, num_train, settings.candidate_shard_rows)
    ]


def _wanted(spec: ArrangementSpec) -> list[CandidateKind]:
    """What an arrangement needs to know of the whole pool of training rows."""
    if spec.select is not None or spec.test_per_task is not None:
        return []
    if spec.method is Method.WSD and spec.granularity is Granularity.FINE:
        return [CandidateKind.AGGREGATES]
    if spec.method is not Method.TMA:
        return []
    if spec.order is Order.MIN:
        return [CandidateKind.NEAREST]
    if spec.order is Order.MAX:
        return [CandidateKind.FARTHEST]
    if spec.rounds is not None:
        return [CandidateKind.NEAREST]
    if spec.limit is not None:
        return [CandidateKind.NEAREST, CandidateKind.FARTHEST]
    # Every row of the pool is in the order, with its similarity to the nearest test row.
    return [CandidateKind.NEAREST, CandidateKind.AGGREGATES]
