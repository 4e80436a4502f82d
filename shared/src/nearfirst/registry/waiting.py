"""The queue of a kind at one moment: who is next, what runs where, and why the rest waits."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.contracts.workers import GroupNode, RunOnWorker, Worker
from nearfirst.registry.dependencies import is_ready, unfinished_dependencies
from nearfirst.registry.models import RunRow
from nearfirst.registry.placement import Need, Place, startable
from nearfirst.registry.workers import live_workers, missing_nodes, place_of

_WORKER_NAMES = {
    RunKind.EMBEDDING: "embedding",
    RunKind.EMBEDDING_SHARD: "embedding",
    RunKind.CANDIDATES: "arrangement",
    RunKind.ARRANGEMENT: "arrangement",
    RunKind.TRAIN_JOB: "training",
    RunKind.LOSS: "loss",
    RunKind.GENERATION: "generation",
    RunKind.TEXT_METRICS: "metrics",
    RunKind.REWARD: "scoring",
}
_MAX_NAMED = 5


def queue_order() -> tuple[ColumnElement[int], InstrumentedAttribute[int]]:
    """SQL: who is served first."""
    return RunRow.priority.desc(), RunRow.seq


def ready_runs(session: Session, kind: RunKind) -> list[Need]:
    """Queued runs of a kind that may start, in the order in which they are to be served."""
    query = (
        select(RunRow.id, RunRow.num_gpus, RunRow.priority)
        .where(RunRow.kind == kind, RunRow.state == RunState.QUEUED, is_ready())
        .order_by(*queue_order())
    )
    return [Need(run_id, num_gpus, priority) for run_id, num_gpus, priority in session.execute(query).all()]


class Queue:
    """The queue of one kind as it was when this was made."""

    def __init__(self, session: Session, kind: RunKind, alive_s: float) -> None:
        """Look at the registry.

        Args:
            session: open transaction.
            kind: of runs.
            alive_s: a worker that wasn't seen for longer is taken to be gone.
        """
        self._session = session
        self.kind = kind
        self.ready = ready_runs(session, kind)
        self._live = live_workers(session, alive_s)
        self.workers = [worker for worker in self._live if kind in worker.kinds]
        self.places = [self.place(w.id, len(w.gpus), w.cpu_jobs, w.runs, w.node) for w in self.workers]
        self._servable = [need for need in self.ready if self.could_be_served(need)]

    def place(
        self, worker_id: str, num_gpus: int, cpu_jobs: int, runs: Sequence[RunOnWorker], node: GroupNode | None
    ) -> Place:
        """What a worker has free now. A node group takes one run at a time, and only as a whole."""
        is_open = node is None or not (runs or missing_nodes(node, self._live))
        return place_of(worker_id, num_gpus, cpu_jobs, runs, is_open=is_open)

    def could_be_served(self, need: Need) -> bool:
        """Whether a live worker has enough for a run, busy or not."""
        return any(place.could_serve(need) for place in self.places)

    def startable(self) -> set[str]:
        """Ids of the runs that live workers have room for now."""
        return {need.run_id for need, _ in startable(self.ready, self.places)}

    def why_waits(self, row: RunRow) -> str:
        """Why a queued run of this kind hasn't started."""
        if row.is_held:
            return "its study is paused"
        if waits_for := unfinished_dependencies(self._session, row.id):
            return f"waits for {', '.join(waits_for)}"
        need = Need(row.id, row.num_gpus, row.priority)
        if (lacking := self.what_lacks(need)) is not None:
            return lacking
        return self._who_is_ahead(need) or self._who_is_busy(need)

    def what_lacks(self, need: Need) -> str | None:
        """Why no live worker could ever serve a run; None when one could."""
        if self.could_be_served(need):
            return None
        if not self.workers:
            return f"no {_WORKER_NAMES[self.kind]} worker is known"
        if not need.num_gpus:
            return "runs on the CPU, and no worker takes CPU jobs"
        largest = max(len(worker.gpus) for worker in self.workers)
        has = f"the largest worker has {largest}" if largest else "no worker has any"
        return f"asks for {_gpus(need.num_gpus)}, {has}"

    def _who_is_ahead(self, need: Need) -> str | None:
        """How many runs get what this one wants before it does."""
        rivals = [rival for rival in self._servable if rival.resource is need.resource]
        ahead = rivals[: next((i for i, rival in enumerate(rivals) if rival.run_id == need.run_id), 0)]
        higher = sum(rival.priority > need.priority for rival in ahead)
        older = len(ahead) - higher
        counts = []
        if higher:
            counts.append(f"{_jobs(higher)} of higher priority")
        if older:
            counts.append(f"{older} older" if higher else f"{older} older {'job' if older == 1 else 'jobs'}")
        return f"{' and '.join(counts)} {'is' if len(ahead) == 1 else 'are'} ahead" if counts else None

    def _who_is_busy(self, need: Need) -> str:
        """What keeps the workers busy that could serve a run which is next."""
        if need.run_id in self.startable():
            return "a worker has room for it and is being told"
        able = [worker for worker, place in zip(self.workers, self.places, strict=True) if place.could_serve(need)]
        doing = sorted({run.run_id for worker in able for run in worker.runs if bool(run.gpus) == bool(need.num_gpus)})
        if not doing and (reason := self._which_group_lacks(able)):
            return reason
        more = [f"{len(doing) - _MAX_NAMED} more"] if len(doing) > _MAX_NAMED else []
        return f"{self._wants(need, able)} busy with {', '.join([*doing[:_MAX_NAMED], *more])}"

    def _which_group_lacks(self, able: Sequence[Worker]) -> str | None:
        """Which machines the first group lacks that could serve a run."""
        for worker in able:
            if worker.node is not None and (missing := missing_nodes(worker.node, self._live)):
                nodes = ", ".join(map(str, missing))
                return f"group {worker.node.group} waits for its node{'s' if len(missing) > 1 else ''} {nodes}"
        return None

    def _wants(self, need: Need, able: Sequence[Worker]) -> str:
        if not need.num_gpus:
            those = "the only one is" if len(able) == 1 else f"all {len(able)} are"
            return f"needs a worker for {_WORKER_NAMES[self.kind]} on the CPU; {those}"
        those = (
            f"the one worker with {len(able[0].gpus)} is"
            if len(able) == 1
            else f"the {len(able)} workers with as many are"
        )
        return f"needs {_gpus(need.num_gpus)}; {those}"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
