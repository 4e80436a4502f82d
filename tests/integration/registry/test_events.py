"""The history of runs: each change once, in order, and none missed by whoever follows."""

import threading

from tests.support.runs import claimed, finish, new_run

from nearfirst.registry import runs
from nearfirst.registry.database import Database
from nearfirst.registry.events import list_events
from nearfirst.registry.runs import Claim


def test_events_tell_each_change_once_and_in_order(database: Database) -> None:
    run_id = new_run(database)
    held = claimed(database, run_id)
    with database.write() as session:
        runs.record_progress(session, held, done=1, total=4, unit="rows", eta_s=3.0)
    finish(database, held)
    with database.read() as session:
        events = list_events(session, 0, run_id)
    seen = [(event.type, event.data.get("state"), event.data.get("done")) for event in events]
    assert seen == [
        ("state", "queued", None),
        ("state", "running", None),
        ("progress", None, 1),
        ("state", "succeeded", None),
    ]
    with database.read() as session:
        assert list_events(session, events[1].seq, run_id) == events[2:]


def test_a_reader_that_follows_sequence_numbers_misses_no_event_of_concurrent_writers(database: Database) -> None:
    ids = [new_run(database) for _ in range(4)]
    claims = [claimed(database, run_id) for run_id in ids]
    writing = threading.Event()
    writing.set()
    seen: list[int] = []

    def follow() -> None:
        after = 0
        while True:
            was_writing = writing.is_set()
            with database.read() as session:
                fresh = list_events(session, after, None)
            if fresh:
                after = fresh[-1].seq
                seen.extend(event.seq for event in fresh)
            elif not was_writing:
                return

    def write(held: Claim) -> None:
        for done in range(25):
            with database.write() as session:
                runs.record_progress(session, held, done=done, total=25, unit="rows", eta_s=None)

    reader = threading.Thread(target=follow)
    writers = [threading.Thread(target=write, args=(held,)) for held in claims]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    reader.join()
    assert len(seen) == len(set(seen)) == 4 + 4 + 100
