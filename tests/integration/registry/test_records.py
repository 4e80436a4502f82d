"""What a run leaves beside its state: measurements and checkpoints."""

from tests.support.runs import claimed, new_run

from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.registry import records
from nearfirst.registry.database import Database


def test_metrics_page_by_step_and_name_and_a_repeated_step_replaces_its_value(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    rows = [MetricRow(step=s, name=n, value=float(s)) for s in (2, 1) for n in ("b", "a")]
    with database.write() as session:
        records.record_metrics(session, held, rows)
        records.record_metrics(session, held, [MetricRow(step=1, name="a", value=9.0)])
    found: list[MetricRow] = []
    after: tuple[int, str] | None = None
    with database.read() as session:
        while True:
            page, after = records.list_metrics(session, run_id, None, after, 3)
            found += page
            if after is None:
                break
    assert [(row.step, row.name, row.value) for row in found] == [
        (1, "a", 9.0),
        (1, "b", 1.0),
        (2, "a", 2.0),
        (2, "b", 2.0),
    ]


def test_a_deleted_checkpoint_is_forgotten_and_the_other_of_its_step_is_kept(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)

    def checkpoint(step: int, tier: CheckpointTier) -> Checkpoint:
        return Checkpoint(step=step, tier=tier, path="p", size_bytes=1, digest="sha256:00", receipt_head="00")

    with database.write() as session:
        for step, tier in ((1, CheckpointTier.STATE), (1, CheckpointTier.WEIGHTS), (2, CheckpointTier.STATE)):
            records.record_checkpoint(session, held, checkpoint(step, tier), is_progress=True)
        records.forget_checkpoint(session, held, 1, CheckpointTier.STATE)
        found = [(c.step, c.tier.value) for c in records.list_checkpoints(session, run_id)]
    assert found == [(1, "weights"), (2, "state")]


def test_an_attempt_that_begins_earlier_forgets_what_came_after(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    checkpoint = Checkpoint(
        step=4, tier=CheckpointTier.WEIGHTS, path="p", size_bytes=1, digest="sha256:00", receipt_head="00"
    )
    with database.write() as session:
        records.record_metrics(session, held, [MetricRow(step=s, name="loss", value=1.0) for s in range(6)])
        records.record_checkpoint(session, held, checkpoint, is_progress=False)
        records.forget_after(session, held, 3)
    with database.read() as session:
        assert [row.step for row in records.list_metrics(session, run_id, None, None, 10)[0]] == [0, 1, 2, 3]
        assert records.list_checkpoints(session, run_id) == []
