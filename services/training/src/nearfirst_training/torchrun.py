"""torchrun's command line for the ranks that a job has on this machine."""

import sys

from nearfirst.contracts.nodes import NodePart
from nearfirst_training.job import TrainingJob

SAVING_STATE_S = 300
"""How long torchrun waits for ranks to end: for the state of a large model to be written."""


def torchrun_command(job: TrainingJob, module: str, *arguments: str) -> list[str]:
    """Start `python -m MODULE ARGUMENTS` once for each rank of the job on this machine.

    On several machines the rendezvous is torchrun's static one: it numbers ranks by machine, so that the main rank is
    where the worker listens. The c10d backend sorts machines by their addresses and ignores `--node-rank`.
    """
    meeting = ["--standalone"] if job.node is None else _meeting(job.node)
    ranks = ["--max-restarts", "0", "--nproc-per-node", str(job.num_local_ranks)]
    ending = ["--shutdown-timeout", str(SAVING_STATE_S)]
    return [sys.executable, "-m", "torch.distributed.run", *meeting, *ranks, *ending, "-m", module, *arguments]


def _meeting(node: NodePart) -> list[str]:
    options = {
        "--nnodes": node.num_nodes,
        "--node-rank": node.index,
        "--rdzv-backend": "static",
        "--rdzv-endpoint": node.endpoint,
        "--rdzv-id": node.rendezvous_id,
        "--rdzv-conf": f"timeout={node.timeout_s}",
    }
    return [word for name, value in options.items() for word in (name, str(value))]
