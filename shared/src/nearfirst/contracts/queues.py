"""Names on the broker. A message carries a run id and nothing else."""

from enum import StrEnum

from nearfirst.contracts.runs import RunKind


class Queue(StrEnum):
    """One queue for each kind of worker."""

    EMBEDDING = "nearfirst.embedding"
    ARRANGEMENT = "nearfirst.arrangement"
    TRAINING = "nearfirst.training"


class TaskName(StrEnum):
    """Celery task names."""

    EMBED = "nearfirst.embed"
    EMBED_SHARD = "nearfirst.embed_shard"
    CANDIDATES = "nearfirst.candidates"
    ARRANGE = "nearfirst.arrange"
    TRAIN = "nearfirst.train"


ROUTES: dict[RunKind, tuple[TaskName, Queue]] = {
    RunKind.EMBEDDING: (TaskName.EMBED, Queue.EMBEDDING),
    RunKind.EMBEDDING_SHARD: (TaskName.EMBED_SHARD, Queue.EMBEDDING),
    RunKind.CANDIDATES: (TaskName.CANDIDATES, Queue.ARRANGEMENT),
    RunKind.ARRANGEMENT: (TaskName.ARRANGE, Queue.ARRANGEMENT),
    RunKind.TRAIN_JOB: (TaskName.TRAIN, Queue.TRAINING),
}
