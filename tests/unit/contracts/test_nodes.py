"""How a job's ranks and GPUs are shared out over the machines of a group."""

import pytest

from nearfirst.contracts.nodes import gpu_of_group, gpus_of_node, ranks_by_node


@pytest.mark.parametrize("gpus_per_node", [0, 1, 3, 8])
@pytest.mark.parametrize("num_nodes", [2, 3, 5])
def test_every_rank_has_one_machine_and_none_has_more_than_its_gpus(num_nodes: int, gpus_per_node: int) -> None:
    for num_processes in range(1, (gpus_per_node or 4) * num_nodes + 1):
        ranks = ranks_by_node(num_processes, num_nodes, gpus_per_node)
        assert sum(ranks) == num_processes
        assert 1 <= len(ranks) <= num_nodes
        assert min(ranks) > 0
        assert max(ranks) <= (gpus_per_node or max(ranks))


def test_gpus_fill_one_machine_before_the_next_and_processes_on_the_cpu_are_shared_out() -> None:
    assert ranks_by_node(16, 4, 8) == [8, 8]
    assert ranks_by_node(9, 4, 8) == [8, 1]
    assert ranks_by_node(9, 4, 0) == [3, 2, 2, 2]


def test_each_machine_has_its_own_of_the_groups_gpus() -> None:
    ids = [gpu_of_group(node, gpu) for node in (0, 1, 10) for gpu in ("0", "GPU-1f2e")]
    assert [gpus_of_node(ids, node) for node in (0, 1, 10, 2)] == [("0", "GPU-1f2e")] * 3 + [()]
