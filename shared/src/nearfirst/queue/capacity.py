"""What a worker has for its runs, and which of it each run has now."""

import csv
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nearfirst.contracts.nodes import gpu_of_group
from nearfirst.contracts.workers import Gpu, GroupNode, RunOnWorker
from nearfirst.settings import Settings

log = logging.getLogger(__name__)

_NVIDIA_SMI = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
_NVIDIA_SMI_TIMEOUT_S = 30.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class _Found:
    """A GPU that nvidia-smi lists."""

    index: str
    uuid: str
    name: str
    memory_bytes: int | None


def find_gpus(settings: Settings) -> list[Gpu]:
    """The GPUs that this process may give to its runs.

    Those of `settings.gpus`, else of `settings.cuda_visible_devices`, else all that nvidia-smi lists. As CUDA does, a
    list ends before its first `-1`.
    """
    found = _ask_nvidia_smi()
    wanted = settings.cuda_visible_devices if settings.gpus is None else settings.gpus
    if wanted is None:
        return [Gpu(id=gpu.index, name=gpu.name, memory_bytes=gpu.memory_bytes) for gpu in found]
    gpus: list[Gpu] = []
    for gpu_id in filter(None, (part.strip() for part in wanted.split(","))):
        if gpu_id == "-1":
            break
        known = next((gpu for gpu in found if gpu_id == gpu.index or gpu.uuid.startswith(gpu_id)), None)
        gpus.append(
            Gpu(id=gpu_id) if known is None else Gpu(id=gpu_id, name=known.name, memory_bytes=known.memory_bytes)
        )
    return gpus


def _ask_nvidia_smi() -> list[_Found]:
    try:
        answer = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi doesn't answer, so its GPUs aren't known: %s", error)
        return []
    rows = csv.reader(answer.stdout.splitlines(), skipinitialspace=True)
    return [_Found(index, uuid, name, _bytes(mebibytes)) for index, uuid, name, mebibytes in rows]


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None  # `[N/A]` where the GPU shares the CPU's memory


def num_usable_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Allocation:
    """What a run has of a worker, until it is given back."""

    def __init__(self, run_id: str, gpus: tuple[str, ...], give_back: Callable[["Allocation"], None]) -> None:
        self.run_id = run_id
        self.gpus = gpus
        """Ids of its GPUs; empty: a place for a CPU job."""
        self._give_back = give_back

    def give_back(self) -> None:
        """Say that every process of the run is gone. Once."""
        self._give_back(self)


class Capacity:
    """A worker's GPUs and its places for CPU jobs. Safe for several threads."""

    def __init__(self, gpus: Sequence[Gpu] = (), cpu_jobs: int = 1, node: GroupNode | None = None) -> None:
        """`node`: of a leader, whose group does one run at a time; `gpus` are those of the whole group then."""
        self.gpus = tuple(gpus)
        self.cpu_jobs = cpu_jobs
        self.node = node
        self._held: list[Allocation] = []
        self._lock = threading.Lock()

    @property
    def num_threads(self) -> int:
        """Most runs that can be under way at once; at least 1."""
        return 1 if self.node is not None else max(1, len(self.gpus) + self.cpu_jobs)

    def allocate(self, run_id: str, num_gpus: int) -> Allocation | None:
        """GPUs of its own for a run, the first free ones; with `num_gpus` 0 a place for a CPU job. None: not free."""
        with self._lock:
            taken = {gpu for allocation in self._held for gpu in allocation.gpus}
            free = [gpu.id for gpu in self.gpus if gpu.id not in taken]
            num_cpu_jobs = sum(not allocation.gpus for allocation in self._held)
            if self.node is not None and self._held:
                return None
            if len(free) < num_gpus or (num_gpus == 0 and num_cpu_jobs >= self.cpu_jobs):
                return None
            allocation = Allocation(run_id, tuple(free[:num_gpus]), self._remove)
            self._held.append(allocation)
            return allocation

    def in_use(self) -> list[RunOnWorker]:
        """What each run has now."""
        with self._lock:
            return [RunOnWorker(run_id=held.run_id, gpus=list(held.gpus)) for held in self._held]

    def _remove(self, allocation: Allocation) -> None:
        with self._lock:
            self._held.remove(allocation)


def training_capacity(settings: Settings) -> Capacity:
    """What a training worker has: this machine, or its whole node group, whose machines are taken to be alike."""
    gpus, cpu_jobs = find_gpus(settings), settings.cpu_jobs
    if cpu_jobs is None:
        cpu_jobs = int(not gpus)
    if settings.nodes == 1:
        return Capacity(gpus, cpu_jobs)
    all_gpus = [
        gpu.model_copy(update={"id": gpu_of_group(index, gpu.id)}) for index in range(settings.nodes) for gpu in gpus
    ]
    return Capacity(all_gpus, min(cpu_jobs, 1), group_node(settings, len(gpus)))


def group_node(settings: Settings, num_gpus: int) -> GroupNode:
    """What a machine of a node group says of its place in it."""
    return GroupNode(group=settings.node_group, index=settings.node_index, num_nodes=settings.nodes, num_gpus=num_gpus)
