"""What a run measures, in the order in which training tells it."""

import pytest

from nearfirst.contracts.training import MetricRow


def rows_of(steps: range) -> list[list[MetricRow]]:
    """Each step's measurements; the test loss every other step."""
    told = []
    for step in steps:
        told.append([MetricRow(step=step, name=name, value=step / 8) for name in ("train_loss", "lr")])
        if step % 2 == 0:
            told.append([MetricRow(step=step, name="test_loss/task (a)", value=step / 4)])
    return told


@pytest.fixture
def measured() -> dict[str, list[list[MetricRow]]]:
    """A run of 8 steps that is killed after step 6, and goes on from its state at step 4, which it tells again."""
    return {"first": rows_of(range(1, 7)), "second": rows_of(range(1, 9))}


@pytest.fixture
def expected() -> dict[str, list[tuple[int, float]]]:
    """Step and value of every metric, each once."""
    return {
        "train_loss": [(step, step / 8) for step in range(1, 9)],
        "lr": [(step, step / 8) for step in range(1, 9)],
        "test_loss/task (a)": [(step, step / 4) for step in range(2, 9, 2)],
    }
