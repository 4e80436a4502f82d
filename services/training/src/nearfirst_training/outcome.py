"""What came of a training process that has ended."""

from typing import Any

from nearfirst.contracts.problems import Crashed, NearfirstError
from nearfirst.contracts.progress import Interrupted
from nearfirst_training.process import TrainingProcess


class TrainingFailed(NearfirstError):
    """The training process ended with an error, whose code and detail this carries."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]  # the process's own code, not one of this class
        self.title = "Training failed"  # type: ignore[misc]
        self.status = 500 if code == NearfirstError.code else 422  # type: ignore[misc]


class ProcessDied(Crashed):
    """The training process ended without a word."""

    code = "training_process_died"
    title = "Training process died"


def outcome_of(process: TrainingProcess) -> dict[str, Any]:
    """The result of a process that has ended.

    Raises:
        Interrupted: it was told to end, and not by its caller.
        TrainingFailed: it said what was wrong.
        ProcessDied: it didn't. Of several ranks the others may have said that they lost one.
    """
    if process.result is not None:
        return process.result
    error, ending = process.error, process.how_it_ended()
    has_reason = error is not None and error["code"] != NearfirstError.code
    if error is not None and (has_reason or not (ending.was_killed or process.was_interrupted)):
        raise TrainingFailed(error["code"], error["detail"])
    if process.was_interrupted and not ending.was_killed:
        raise Interrupted("the training process was told to end")
    raise ProcessDied(f"{ending.in_words()}; its last words: {process.last_words()}")
