"""The client's calls of /evaluations."""

from collections.abc import Collection

from nearfirst.client.rows import Listing, Rows
from nearfirst.client.shown import ShownEvaluation
from nearfirst.client.transport import Transport, path_to
from nearfirst.contracts.evaluations import (
    CurvePoint,
    EvaluatedExample,
    EvaluationSpec,
    EvaluationUnit,
    MetricName,
)
from nearfirst.contracts.runs import RunAccepted


class EvaluationCalls:
    """What `Client` asks about evaluations."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def evaluate(self, spec: EvaluationSpec, idempotency_key: str | None = None) -> RunAccepted:
        """Submit an evaluation; `idempotency_key` as in `Client.arrange`."""
        return self._transport.post(RunAccepted, "/evaluations", spec, idempotency_key)

    def evaluation(self, evaluation_id: str) -> ShownEvaluation:
        """An evaluation and how far it is."""
        return self._transport.get(ShownEvaluation, path_to("evaluations", evaluation_id))

    def evaluations(self) -> Listing[ShownEvaluation]:
        """All evaluations, fetched page by page."""
        return self._transport.listing(ShownEvaluation, "/evaluations")

    def evaluation_units(self, evaluation_id: str) -> Listing[EvaluationUnit]:
        """An evaluation's units by step, then kind, fetched page by page."""
        return self._transport.listing(EvaluationUnit, path_to("evaluations", evaluation_id, "units"))

    def evaluation_curve(
        self, evaluation_id: str, metric: MetricName | str | None = None, task: str | None = None
    ) -> Rows[CurvePoint]:
        """What was measured so far, by step.

        Args:
            evaluation_id: the evaluation, finished or not.
            metric: keep this one; None: all that were asked for.
            task: keep this one in `by_task`; None: all.
        """
        given = {"metric": None if metric is None else str(metric), "task": task}
        params = {name: value for name, value in given.items() if value is not None}
        return self._transport.listing(CurvePoint, path_to("evaluations", evaluation_id, "curve"), params).all()

    def evaluation_examples(
        self,
        evaluation_id: str,
        *,
        step: int | None = None,
        task: str | None = None,
        indices: Collection[int] = (),
    ) -> Listing[EvaluatedExample]:
        """What checkpoints made of the test examples, by index, then step, fetched page by page.

        Args:
            evaluation_id: the evaluation, finished or not.
            step: of this checkpoint; None: with `indices` of all, else of the last one of which anything was measured.
            task: of this task; None: of all.
            indices: only these rows of the test dataset; none: all that are measured.
        """
        params: dict[str, str | list[str]] = {"index": [str(index) for index in indices]}
        if step is not None:
            params["step"] = str(step)
        if task is not None:
            params["task"] = task
        return self._transport.listing(EvaluatedExample, path_to("evaluations", evaluation_id, "examples"), params)
