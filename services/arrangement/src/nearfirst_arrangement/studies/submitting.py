"""From a study's spec to its nodes: arrangements, train jobs and evaluations, equal ones once."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from nearfirst.contracts.arrangements import ArrangementSpec, Representation
from nearfirst.contracts.base import Contract
from nearfirst.contracts.embeddings import EmbeddingSpec
from nearfirst.contracts.evaluations import EvaluationSettings, EvaluationSpec
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.studies import StudyArrangement, StudySpec
from nearfirst.contracts.training import TrainSettings, TrainSpec
from nearfirst.registry import records
from nearfirst.registry.content_runs import content_key, revive
from nearfirst.registry.embedding_runs import embedding_spec, resolve_representation
from nearfirst.registry.models import RunRow
from nearfirst.registry.studies import Node
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.arrangements import service as arrangements
from nearfirst_arrangement.evaluations import service as evaluations
from nearfirst_arrangement.train_jobs import service as train_jobs


class ArrangementContent(Contract):
    """What decides an order: studies that ask for the same share its run."""

    spec: ArrangementSpec
    """With a resolved representation."""
    embeddings: list[EmbeddingSpec]
    """Of the training and the test set; they have the encoder's fingerprint."""


class Submission:
    """Queues the nodes of one study, or of the seeds that are added to it."""

    def __init__(self, session: Session, spec: StudySpec, settings: Settings, store: Store) -> None:
        self._session = session
        self._spec = spec
        self._settings = settings
        self._store = store
        self._orders: dict[str, RunRow] = {}
        """Arrangements by their content."""
        self._jobs: dict[tuple[str, int], tuple[str, str]] = {}
        """Train job and evaluation by arrangement and seed."""

    def nodes(self) -> list[Node]:
        """Queue everything, seed by seed, so that the curves grow together.

        Raises:
            NotFound: no such dataset.
            InvalidInput: the datasets don't have what an arrangement asks for; the model or the evaluation can't be.
            PathNotAllowed: a folder.
        """
        found: list[Node] = []
        for seed in self._spec.seeds:
            for arrangement in self._spec.arrangements:
                with named(arrangement):
                    order = self._order(arrangement, seed)
                job, evaluation = self._run(order.id, seed)
                runs = {RunKind.ARRANGEMENT: order.id, RunKind.TRAIN_JOB: job, RunKind.EVALUATION: evaluation}
                found += [Node(arrangement.label, seed, kind, run_id) for kind, run_id in runs.items()]
        return found

    def _order(self, arrangement: StudyArrangement, seed: int) -> RunRow:
        content = order_content(self._session, self._spec, arrangement, seed, self._settings)
        key = content_key(content)
        if key not in self._orders:
            row = arrangements.create(self._session, content.spec, key, self._settings, self._store)
            self._orders[key] = revive(self._session, row, self._store)
        return self._orders[key]

    def _run(self, arrangement_id: str, seed: int) -> tuple[str, str]:
        """The training on an order with a seed, and its evaluation."""
        if (arrangement_id, seed) not in self._jobs:
            job = train_jobs.create(self._session, train_spec(self._spec, arrangement_id, seed), None, self._settings)
            evaluation = EvaluationSpec(
                **_fields(self._spec.evaluation, EvaluationSettings),
                train_job=job.id,
                test=self._spec.test,
                priority=self._spec.priority,
            )
            row = evaluations.create(self._session, evaluation, None, self._settings, self._store)
            self._jobs[arrangement_id, seed] = job.id, row.id
        return self._jobs[arrangement_id, seed]


def order_content(
    session: Session, spec: StudySpec, arrangement: StudyArrangement, seed: int, settings: Settings
) -> ArrangementContent:
    """What decides the order that an arrangement has with a seed.

    Raises:
        NotFound: no such dataset.
        PathNotAllowed, InvalidModel, InvalidInput: the encoder.
    """
    rules = arrangement.rules(seed)
    representation = spec.representation or (Representation() if rules.needs_embeddings else None)
    if representation is not None:
        representation = resolve_representation(representation, settings)
    order = ArrangementSpec(
        **_fields(rules, type(rules)),
        train=arrangement.train or spec.train,
        test=spec.test,
        representation=representation,
    )
    datasets = [records.get_dataset(session, selection.dataset) for selection in (order.train, order.test)]
    embeddings = [] if representation is None else [embedding_spec(each, representation) for each in datasets]
    return ArrangementContent(spec=order, embeddings=embeddings)


def train_spec(spec: StudySpec, arrangement_id: str, seed: int) -> TrainSpec:
    """The training of a study on an order with a seed."""
    fields = _fields(spec.training, TrainSettings) | {"seed": seed}
    return TrainSpec(**fields, arrangement=arrangement_id, priority=spec.priority)


def _fields(settings: Contract, kind: type[Contract]) -> dict[str, object]:
    return {name: getattr(settings, name) for name in kind.model_fields}


@contextmanager
def named(arrangement: StudyArrangement) -> Iterator[None]:
    """Errors of the input name the arrangement that they are of."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(f"arrangement {arrangement.label!r}: {error.detail}", errors=error.errors) from error
