from collections import Counter

import pytest

from nearfirst.client.demo.sample import Sampling, draw_sample
from nearfirst.contracts.problems import InvalidInput
from nearfirst.data.example import Example, Message

SAMPLING = Sampling(train_tasks=3, rows_per_task=4, test_rows_per_task=60, max_chars=100, seed=0)


def example(task: str, number: int, split: str | None = None, text: str = "question") -> Example:
    turns = (Message("user", text), Message("assistant", f"answer {number}"))
    meta = {} if split is None else {"split": split}
    return Example(id=f"{task}/{number}", task=task, turns=turns, references=(turns[1].content,), meta=meta)


def pool(num_train_tasks: int = 6, rows: int = 10, num_test_tasks: int = 2) -> list[Example]:
    train = [example(f"train{task}", row, "train") for task in range(num_train_tasks) for row in range(rows)]
    test = [example(f"test{task}", row, "test") for task in range(num_test_tasks) for row in range(80)]
    other = [example("extra", row, "extra") for row in range(10)]
    return [*other, *test, *train]


def ids(examples: tuple[Example, ...]) -> list[str]:
    return [example.id for example in examples]


def test_train_and_test_rows_come_from_their_splits_in_the_sizes_asked_for():
    sample = draw_sample(pool(), SAMPLING)
    assert Counter(Counter(example.task for example in sample.train).values()) == {4: 3}
    assert Counter(example.task for example in sample.test) == {"test0": 60, "test1": 60}
    assert {example.meta["split"] for example in sample.train} == {"train"}
    assert sample.split_by == "field"


def test_the_same_seed_draws_the_same_rows_and_another_seed_others():
    again = Sampling(**{**vars_of(SAMPLING), "seed": 0})
    other = Sampling(**{**vars_of(SAMPLING), "seed": 1})
    assert draw_sample(pool(), SAMPLING) == draw_sample(pool(), again)
    assert ids(draw_sample(pool(), SAMPLING).train) != ids(draw_sample(pool(), other).train)


def vars_of(sampling: Sampling) -> dict[str, int]:
    return {
        name: getattr(sampling, name)
        for name in ("train_tasks", "rows_per_task", "test_rows_per_task", "max_chars", "seed")
    }


def test_the_rows_do_not_depend_on_the_files_order_and_keep_it():
    forwards, backwards = draw_sample(pool(), SAMPLING), draw_sample(pool()[::-1], SAMPLING)
    assert ids(forwards.train) == ids(backwards.train)[::-1]
    assert ids(forwards.test) == ids(backwards.test)[::-1]


def test_a_larger_sample_contains_a_smaller_one():
    larger = Sampling(train_tasks=3, rows_per_task=6, test_rows_per_task=70, max_chars=100, seed=0)
    small, large = draw_sample(pool(), SAMPLING), draw_sample(pool(), larger)
    assert set(ids(small.train)) < set(ids(large.train))
    assert set(ids(small.test)) < set(ids(large.test))


def test_fewer_tasks_than_asked_for_give_more_rows_each_to_the_same_number_in_total():
    sample = draw_sample(pool(num_train_tasks=2, rows=50), SAMPLING)
    assert Counter(example.task for example in sample.train) == {"train0": 6, "train1": 6}


def test_few_test_tasks_give_more_rows_each_as_far_as_they_have_them():
    sampling = Sampling(**{**vars_of(SAMPLING), "test_rows_per_task": 1})
    assert Counter(example.task for example in draw_sample(pool(), sampling).test) == {"test0": 50, "test1": 50}
    assert Counter(example.task for example in draw_sample(pool(num_test_tasks=1), sampling).test) == {"test0": 80}


def test_rows_over_the_longest_length_are_never_drawn():
    long = [example(f"long{task}", row, "train", text="x" * 101) for task in range(3) for row in range(10)]
    sample = draw_sample([*long, *pool()], SAMPLING)
    assert {example.task for example in sample.train} <= {f"train{task}" for task in range(6)}


def test_without_a_split_field_a_fifth_of_the_tasks_is_held_out():
    examples = [example(f"task{task}", row) for task in range(10) for row in range(50)]
    sample = draw_sample(examples, SAMPLING)
    train_tasks = {example.task for example in sample.train}
    test_tasks = {example.task for example in sample.test}
    assert sample.split_by == "tasks"
    assert len(test_tasks) == 2
    assert not train_tasks & test_tasks


def test_without_splits_and_tasks_a_fifth_of_the_rows_is_held_out():
    examples = [example("", row) for row in range(100)]
    sample = draw_sample(examples, SAMPLING)
    assert sample.split_by == "rows"
    assert len(sample.test) == 20
    assert not set(ids(sample.train)) & set(ids(sample.test))


@pytest.mark.parametrize("missing", ["train", "test"])
def test_data_without_rows_for_one_side_is_refused_by_name(missing):
    examples = [example for example in pool() if example.meta["split"] != missing]
    with pytest.raises(InvalidInput, match=f"no {missing} rows"):
        draw_sample(examples, SAMPLING)
