"""Orders to look at: rows with their texts, and two orders compared."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from scipy.stats import spearmanr
from tests.support.page_orders import NUM_TRAIN, PageOrders, register, rows_of_test, train_rows, vectors

from nearfirst_arrangement.arrangements.orders import overlap_of, read_span


def examples(client: TestClient, arrangement: str, **query: object) -> dict:
    answer = client.get(f"/arrangements/{arrangement}/examples", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def order_of(client: TestClient, arrangement: str) -> list[dict]:
    return [json.loads(line) for line in client.get(f"/arrangements/{arrangement}/order").text.splitlines()]


def test_each_row_comes_with_its_text_and_the_test_row_that_a_full_search_finds(
    client: TestClient, orders: PageOrders
) -> None:
    shown = examples(client, orders.nearest)["items"]
    assert [each["row"] for each in shown] == order_of(client, orders.nearest)
    train, test = vectors()
    similarity = train @ test.T
    for each in shown:
        index = each["row"]["index"]
        nearest = int(similarity[index].argmax())
        assert each["example"]["id"] == f"train-{index}"
        assert each["example"]["turns"][0]["content"] == train_rows()[index]["prompt"]
        assert each["nearest_test"]["id"] == f"test-{nearest}"
        assert each["nearest_test"]["index"] == nearest
        assert each["nearest_test"]["turns"][0]["content"] == rows_of_test()[nearest]["prompt"]


def test_without_embeddings_no_test_row_is_the_nearest(client: TestClient, orders: PageOrders) -> None:
    shown = examples(client, orders.random)["items"]
    assert len(shown) == NUM_TRAIN
    assert all(each["nearest_test"] is None for each in shown)


def test_pages_follow_each_other_to_the_end_and_begin_at_any_position(client: TestClient, orders: PageOrders) -> None:
    pages = [examples(client, orders.nearest, start=20, limit=7)]
    while pages[-1]["next_cursor"] is not None:
        pages.append(examples(client, orders.nearest, cursor=pages[-1]["next_cursor"], limit=7))
    positions = [[each["row"]["position"] for each in page["items"]] for page in pages]
    assert positions == [list(range(20, 27)), list(range(27, 34)), [34, 35]]
    assert examples(client, orders.nearest, start=NUM_TRAIN) == {"items": [], "next_cursor": None}


def test_a_start_beside_a_cursor_is_refused(client: TestClient, orders: PageOrders) -> None:
    cursor = examples(client, orders.nearest, limit=7)["next_cursor"]
    answer = client.get(f"/arrangements/{orders.nearest}/examples", params={"cursor": cursor, "start": 3})
    assert (answer.status_code, answer.json()["detail"][:12]) == (422, "start: got 3")


@pytest.mark.parametrize("what", ["examples", "overlap"])
def test_an_order_that_is_not_there_yet_answers_409(client: TestClient, orders: PageOrders, what: str) -> None:
    path = {"examples": "examples", "overlap": f"overlap/{orders.nearest}"}[what]
    assert client.get(f"/arrangements/{orders.queued}/{path}").status_code == 409


def test_an_arrangement_says_when_it_was_asked_for_and_when_it_ran(client: TestClient, orders: PageOrders) -> None:
    done, waiting = (client.get(f"/arrangements/{each}").json() for each in (orders.nearest, orders.queued))
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert waiting["created_at"] > done["created_at"]
    assert waiting["started_at"] is waiting["finished_at"] is None


def test_two_orders_of_the_registry_are_compared_row_by_row(client: TestClient, orders: PageOrders) -> None:
    found = client.get(f"/arrangements/{orders.nearest}/overlap/{orders.farthest}").json()
    one, other = ([row["index"] for row in order_of(client, each)] for each in (orders.nearest, orders.farthest))
    assert found["num_shared"] == NUM_TRAIN
    assert found["shared"] == [len({*one[:n]} & {*other[:n]}) / n for n in found["rows"]]


def test_orders_of_different_rows_are_not_compared(client: TestClient, orders: PageOrders) -> None:
    strange = register(client, "strange.jsonl", train_rows()[:4])
    body = {"train": strange, "test": orders.test, "method": "as_is"}
    other = client.post("/arrangements", json=body).json()["id"]
    answer = client.get(f"/arrangements/{orders.nearest}/overlap/{other}")
    assert answer.status_code == 422
    assert "wanted two orders of the same rows" in answer.json()["detail"]


@pytest.mark.parametrize(("num_rows", "num_other"), [(1, 1), (7, 7), (40, 25), (300, 1000)])
def test_overlap_is_what_sets_and_scipy_say(num_rows: int, num_other: int) -> None:
    random = np.random.default_rng(num_rows)
    index, other = random.permutation(max(num_rows, 30))[:num_rows], random.permutation(1000)[:num_other]
    other = other if num_rows == 300 else random.permutation(30)[:num_other]
    found = overlap_of(index, other)
    both = sorted({*index.tolist()} & {*other.tolist()})
    places = [[list(each).index(row) for row in both] for each in (index, other)]
    assert (found.num_rows, found.num_rows_other, found.num_shared) == (len(index), len(other), len(both))
    assert found.rows[-1] == min(len(index), len(other))
    assert found.rows == sorted(set(found.rows))
    assert found.shared == [len({*index[:n].tolist()} & {*other[:n].tolist()}) / n for n in found.rows]
    if len(both) < 2:
        assert found.rank_correlation is None
    else:
        assert found.rank_correlation == pytest.approx(spearmanr(*places).statistic, abs=1e-12)


def test_the_same_order_the_reverse_and_one_that_leaves_it() -> None:
    order = np.random.default_rng(0).permutation(50)
    same, reverse = overlap_of(order, order.copy()), overlap_of(order, order[::-1].copy())
    assert (same.num_same_start, same.rank_correlation, set(same.shared)) == (50, 1.0, {1.0})
    assert (reverse.num_same_start, reverse.rank_correlation) == (0, -1.0)
    swapped = order.copy()
    swapped[[10, 11]] = swapped[[11, 10]]
    assert overlap_of(order, swapped).num_same_start == 10


def test_orders_without_a_row_in_common() -> None:
    found = overlap_of(np.arange(5), np.arange(5, 8))
    assert (found.num_shared, found.rank_correlation, found.rows, set(found.shared)) == (0, None, [1, 2, 3], {0.0})


@pytest.mark.parametrize(("start", "limit"), [(0, 3), (2, 4), (5, 1), (9, 5), (10, 3), (0, 100)])
def test_rows_are_read_across_row_groups(tmp_path: Path, start: int, limit: int) -> None:
    path = tmp_path / "order.parquet"
    pq.write_table(pa.table({"position": list(range(10))}), path, row_group_size=3)
    num_rows, rows = read_span(path, start, limit)
    assert num_rows == 10
    assert [row["position"] for row in rows] == list(range(10))[start : start + limit]
