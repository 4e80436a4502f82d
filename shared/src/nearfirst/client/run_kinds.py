"""Runs that the API has under a name of their own, told by the first letters of their ids."""

from dataclasses import dataclass

from nearfirst.client.shown import ShownEvaluation, ShownReportedArrangement, ShownStudy, ShownTrainJob
from nearfirst.client.transport import path_to
from nearfirst.contracts.problems import InvalidInput

Run = ShownReportedArrangement | ShownTrainJob | ShownEvaluation | ShownStudy


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the API serves runs of a kind."""

    model: type[Run]
    collection: str
    can_resume: bool

    def path(self, run_id: str) -> str:
        """Where one of them is."""
        return path_to(self.collection, run_id)


_KINDS = {
    "arr_": _Kind(ShownReportedArrangement, "arrangements", can_resume=False),
    "job_": _Kind(ShownTrainJob, "train-jobs", can_resume=True),
    "evl_": _Kind(ShownEvaluation, "evaluations", can_resume=True),
    "std_": _Kind(ShownStudy, "studies", can_resume=True),
}


def kind_of(run_id: str) -> _Kind:
    """How the API serves the run with this id.

    Raises:
        InvalidInput: it is of none of the kinds.
    """
    for prefix, kind in _KINDS.items():
        if run_id.startswith(prefix):
            return kind
    raise InvalidInput(
        f"id: got {run_id!r}, wanted an arrangement (arr_...), a training job (job_...), an evaluation (evl_...) or a "
        "study (std_...)"
    )


def is_train_job(run_id: str) -> bool:
    """Whether an id is a training job's."""
    return run_id.startswith("job_")
