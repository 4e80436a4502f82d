"""What a run row tells its user: how far it is, and where its result lies."""

from nearfirst.contracts.problems import NotReady
from nearfirst.contracts.runs import Progress, RunState
from nearfirst.registry.models import RunRow


def progress_of(row: RunRow) -> Progress | None:
    """How far a run is; None before it has said so."""
    if row.progress_done is None or row.progress_unit is None:
        return None
    return Progress(done=row.progress_done, total=row.progress_total, unit=row.progress_unit, eta_s=row.progress_eta_s)


def artifact_of(row: RunRow) -> str:
    """The artifact of a run that has succeeded.

    Raises:
        NotReady: it hasn't.
    """
    if row.state != RunState.SUCCEEDED or row.artifact is None:
        raise NotReady(f"{row.id} has no result: it is {row.state}")
    return row.artifact
