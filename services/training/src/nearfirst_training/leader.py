"""A run on several machines, as the worker that has claimed it sees the others (docs/adr/0013)."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from nearfirst.contracts.nodes import FollowerStatus, NodePart, PartState, ranks_by_node
from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.progress import Cancelled, Interrupted
from nearfirst.queue.context import RunContext
from nearfirst.registry import node_parts
from nearfirst.registry.node_parts import NodeLost
from nearfirst_training.job import TrainingJob
from nearfirst_training.outcome import ProcessDied, TrainingFailed
from nearfirst_training.tenure import LOOKS_PER_HEARTBEAT
from nearfirst_training.torchrun import SAVING_STATE_S

T = TypeVar("T")


def split(job: TrainingJob, context: RunContext) -> tuple[TrainingJob, list[NodePart]]:
    """A job with this machine's part in it, and the parts of the others; none when one machine is enough."""
    settings, node = context.worker.settings, context.worker.capacity.node
    if node is None:
        return job, []
    gpus_per_node = node.num_gpus if job.settings.gpus else 0
    ranks = ranks_by_node(job.settings.num_processes, node.num_nodes, gpus_per_node)
    if len(ranks) == 1:
        return job, []
    parts = [
        NodePart(
            index=index,
            num_nodes=len(ranks),
            num_ranks=num_ranks,
            endpoint=settings.rendezvous,
            rendezvous_id=f"{context.run_id}.{context.claim.attempt}",
            timeout_s=settings.rendezvous_timeout_s,
        )
        for index, num_ranks in enumerate(ranks)
    ]
    return job.model_copy(update={"node": parts[0]}), parts[1:]


Trouble = NearfirstError | Interrupted
"""Why an attempt can't go on."""


@contextmanager
def followed(context: RunContext, parts: Sequence[NodePart], job_file: Path) -> Iterator[Callable[[], None]]:
    """Have followers do their parts while the block runs; when it has ended, all their processes are gone.

    Args:
        context: of the run.
        parts: of the other machines; none: nothing is done.
        job_file: what this machine starts. Followers look for its bytes, to know that they see the run's folder.

    Yields:
        To be called often: it raises as soon as a follower can't go on.

    Raises:
        NodeLost: a machine vanished or couldn't do its part. In place of the errors of this machine's processes,
            which only miss the others.
        TrainingFailed: a rank of another machine said what was wrong.
        Interrupted: another machine is being shut down.
    """
    if not parts:
        yield lambda: None
        return
    followers = Followers(context)
    followers.ask(parts, f"sha256:{hashlib.sha256(job_file.read_bytes()).hexdigest()}")
    try:
        yield followers.check
    except (ProcessDied, TrainingFailed) as error:
        # Another machine's torchrun may be ending its ranks, and only then be able to say which of them it lost.
        raise explained(error, followers.end(tell_s=SAVING_STATE_S)) from error
    finally:
        followers.end()


class Followers:
    """The other machines of an attempt."""

    def __init__(self, context: RunContext) -> None:
        settings = context.worker.settings
        self._context = context
        self._poll_s = settings.heartbeat_s / LOOKS_PER_HEARTBEAT
        # A heartbeat more than a follower that is cut off from the registry gives its own processes.
        self._alive_s = settings.lease_s + settings.heartbeat_s
        self._looked_s = time.monotonic()
        self._faltered_s: float | None = None
        self._have_ended = False

    def ask(self, parts: Sequence[NodePart], job_digest: str) -> None:
        """Ask the group's followers for their parts. Raises NodeLost when one isn't there."""
        settings = self._context.worker.settings
        self._context.write(
            lambda session: node_parts.ask_followers(
                session, self._context.claim, settings.node_group, parts, job_digest, settings.lease_s
            )
        )

    def check(self) -> None:
        """Look at the followers, some times in a heartbeat.

        A rank that only says that it lost another may have lost one of this machine's, which get `save_grace_s` to say
        why.

        Raises:
            NodeLost, TrainingFailed, Interrupted: as `followed` says.
        """
        now = time.monotonic()
        if now - self._looked_s < self._poll_s:
            return
        self._looked_s = now
        trouble = worst_of(self._statuses())
        if trouble is None:
            return
        self._faltered_s = self._faltered_s or now
        if knows_why(trouble) or now - self._faltered_s > self._context.worker.settings.save_grace_s:
            raise trouble

    def end(self, tell_s: float = 0.0) -> list[FollowerStatus]:
        """Wait for the end of the followers' parts; those that take longer than `tell_s` are asked to end.

        Returns:
            How they were. None of their processes is left.

        Raises:
            Fenced: the lease was lost meanwhile. They end by themselves, before anybody else may claim the run.
        """
        if self._have_ended:
            return []
        self._have_ended = True
        self._wait(give_up_s=time.monotonic() + tell_s)
        self._insist(lambda: self._context.write(lambda s: node_parts.ask_for_the_end(s, self._context.claim)))
        statuses = self._wait(give_up_s=None)
        self._insist(lambda: self._context.write(lambda s: node_parts.forget_parts(s, self._context.claim)))
        return statuses

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask the registry however long it is away: the run must not be let go of before the followers have ended."""
        while True:
            try:
                return ask()
            except (Cancelled, Interrupted):  # from looking, between two tries, at what the work was told
                time.sleep(self._poll_s)

    def _wait(self, give_up_s: float | None) -> list[FollowerStatus]:
        """Until each follower has reported or vanished, or until `give_up_s` (monotonic)."""
        while True:
            statuses = self._insist(self._statuses)
            is_late = give_up_s is not None and time.monotonic() >= give_up_s
            if is_late or self._context.is_lost() or not any(s.is_alive and s.outcome is None for s in statuses):
                return statuses
            time.sleep(self._poll_s)

    def _statuses(self) -> list[FollowerStatus]:
        return self._context.read(lambda session: node_parts.followers_of(session, self._context.claim, self._alive_s))


def trouble_of(follower: FollowerStatus) -> Trouble | None:
    """Why an attempt can't go on with a follower; None: it can, or could when this follower ended."""
    who = f"node {follower.index} ({follower.host})"
    outcome = follower.outcome
    if outcome is None:
        return None if follower.is_alive else NodeLost(f"{who} vanished")
    match outcome.state:
        case PartState.FAILED:
            return TrainingFailed(outcome.code or NearfirstError.code, f"{who}: {outcome.detail}")
        case PartState.DIED:
            return NodeLost(f"{who}: {outcome.detail}")
        case PartState.INTERRUPTED:
            return Interrupted(f"{who} is being shut down")
        case PartState.ENDED:
            return None


def worst_of(followers: Sequence[FollowerStatus]) -> Trouble | None:
    """The trouble that tells most: a rank's own reason, then a vanished machine, then a rank that lost another."""
    troubles = [trouble for trouble in map(trouble_of, followers) if trouble is not None]
    return min(troubles, key=_how_little_it_tells, default=None)


def _how_little_it_tells(trouble: Trouble) -> int:
    return 2 * (not knows_why(trouble)) + (not isinstance(trouble, TrainingFailed))


def knows_why(trouble: Trouble) -> bool:
    """Whether it says what was wrong: a rank's `internal_error` may be no more than a lost connection."""
    return not isinstance(trouble, TrainingFailed) or trouble.code != NearfirstError.code


def explained(error: ProcessDied | TrainingFailed, followers: Sequence[FollowerStatus]) -> Trouble:
    """Why this machine's processes ended: what they said, unless they only missed those of another machine."""
    trouble = worst_of(followers)
    if trouble is None or (isinstance(error, TrainingFailed) and knows_why(error)):
        return error
    if knows_why(trouble):
        return trouble
    if isinstance(error, TrainingFailed) and isinstance(trouble, TrainingFailed):
        return TrainingFailed(error.code, f"{error.detail}; {trouble.detail}")
    return error
