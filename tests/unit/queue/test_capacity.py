"""What a worker has, and who has what of it."""

import threading
from pathlib import Path

import pytest

from nearfirst.contracts.queues import training_queue, training_queues
from nearfirst.contracts.workers import Gpu
from nearfirst.queue.capacity import Allocation, Capacity, find_gpus, training_capacity
from nearfirst.settings import Settings

NVIDIA_SMI = """#!/bin/sh
echo "0, GPU-aaa1, NVIDIA H100 80GB HBM3, 81559"
echo "1, GPU-bbb2, NVIDIA GB10, [N/A]"
"""


def gpus(count: int) -> list[Gpu]:
    return [Gpu(id=str(number)) for number in range(count)]


def test_each_run_gets_gpus_of_its_own_until_it_gives_them_back() -> None:
    capacity = Capacity(gpus(3), cpu_jobs=0)
    first, second = capacity.allocate("job_a", 2), capacity.allocate("job_b", 1)
    assert first is not None
    assert second is not None
    assert (first.gpus, second.gpus) == (("0", "1"), ("2",))
    assert capacity.allocate("job_c", 1) is None
    assert [run.model_dump() for run in capacity.in_use()] == [
        {"run_id": "job_a", "gpus": ["0", "1"]},
        {"run_id": "job_b", "gpus": ["2"]},
    ]
    first.give_back()
    third = capacity.allocate("job_c", 1)
    assert third is not None
    assert third.gpus == ("0",)


def test_cpu_jobs_have_places_of_their_own() -> None:
    capacity = Capacity(gpus(1), cpu_jobs=1)
    assert capacity.num_threads == 2
    assert capacity.allocate("job_a", 1) is not None
    place = capacity.allocate("job_b", 0)
    assert place is not None
    assert place.gpus == ()
    assert capacity.allocate("job_c", 0) is None
    assert Capacity(gpus(2), cpu_jobs=0).allocate("job_a", 0) is None


def test_a_run_that_comes_back_while_its_first_attempt_is_still_being_killed_gets_other_gpus() -> None:
    capacity = Capacity(gpus(2), cpu_jobs=0)
    first, second = capacity.allocate("job_a", 1), capacity.allocate("job_a", 1)
    assert first is not None
    assert second is not None
    first.give_back()
    assert [run.gpus for run in capacity.in_use()] == [["1"]]


def test_threads_that_allocate_at_once_never_share_a_gpu() -> None:
    capacity = Capacity(gpus(4), cpu_jobs=0)
    held: list[Allocation] = []

    def allocate() -> None:
        for _ in range(50):
            allocation = capacity.allocate("job", 1)
            if allocation is not None:
                held.append(allocation)

    threads = [threading.Thread(target=allocate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(gpu for allocation in held for gpu in allocation.gpus) == ["0", "1", "2", "3"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without GPUs, whatever this one has."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("NEARFIRST_GPUS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_nvidia_smi(folder: Path) -> None:
    program = folder / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)


def test_without_the_drivers_tool_and_settings_there_is_no_gpu(home: Path) -> None:
    assert find_gpus(Settings(home=home)) == []


def test_the_drivers_tool_tells_names_and_memory(home: Path) -> None:
    add_nvidia_smi(home)
    assert find_gpus(Settings(home=home)) == [
        Gpu(id="0", name="NVIDIA H100 80GB HBM3", memory_bytes=81559 * 2**20),
        Gpu(id="1", name="NVIDIA GB10", memory_bytes=None),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "ids"),
    [
        ("CUDA_VISIBLE_DEVICES", "1", ["1"]),
        ("CUDA_VISIBLE_DEVICES", "GPU-bbb", ["GPU-bbb"]),
        ("CUDA_VISIBLE_DEVICES", "0,-1,1", ["0"]),
        ("CUDA_VISIBLE_DEVICES", "", []),
        ("NEARFIRST_GPUS", "1, 0", ["1", "0"]),
        ("NEARFIRST_GPUS", "", []),
        ("NEARFIRST_GPUS", "5", ["5"]),
    ],
)
def test_a_list_of_gpus_is_taken_as_cuda_takes_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, ids: list[str]
) -> None:
    add_nvidia_smi(home)
    monkeypatch.setenv(variable, value)
    found = find_gpus(Settings(home=home))
    assert [gpu.id for gpu in found] == ids
    assert all((gpu.name == "NVIDIA GB10") == (gpu.id in ("1", "GPU-bbb")) for gpu in found)


def test_a_tool_that_fails_means_no_gpu_and_is_told(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_nvidia_smi(home)
    (home / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert find_gpus(Settings(home=home)) == []
    assert "nvidia-smi" in caplog.text


def test_child_processes_get_the_settings_and_not_the_gpus_that_were_left_open(home: Path) -> None:
    environment = Settings(home=home, cpu_jobs=2).as_environment()
    assert environment["NEARFIRST_CPU_JOBS"] == "2"
    assert "NEARFIRST_GPUS" not in environment


def test_a_worker_listens_to_every_queue_that_can_have_a_job_for_it_and_to_none_larger() -> None:
    for num_gpus in range(1, 33):
        queues = training_queues(num_gpus, takes_cpu_jobs=False)
        wanted = {training_queue(asked) for asked in range(1, num_gpus + 1)}
        assert set(queues) == wanted
    assert training_queues(0, takes_cpu_jobs=True) == ["nearfirst.training"]


def test_a_leader_has_the_gpus_of_its_whole_group_and_gives_them_to_one_run_at_a_time(tmp_path: Path) -> None:
    group = {"nodes": 3, "node_group": "big", "rendezvous": "a:1"}
    capacity = training_capacity(Settings(home=tmp_path, gpus="0,1", **group))
    assert [gpu.id for gpu in capacity.gpus] == ["0:0", "0:1", "1:0", "1:1", "2:0", "2:1"]
    assert (capacity.cpu_jobs, capacity.num_threads) == (0, 1)
    assert capacity.node is not None
    assert (capacity.node.group, capacity.node.num_nodes, capacity.node.num_gpus) == ("big", 3, 2)
    allocation = capacity.allocate("job_a", 3)
    assert allocation is not None
    assert allocation.gpus == ("0:0", "0:1", "1:0")
    assert capacity.allocate("job_b", 1) is None
    allocation.give_back()
    assert capacity.allocate("job_b", 6) is not None
