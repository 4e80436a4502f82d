"""The command line of torchrun, read by torchrun itself."""

from torch.distributed.run import config_from_args, parse_args

from nearfirst.contracts.nodes import NodePart
from nearfirst_training.torchrun import torchrun_command


def read(command):
    """torchrun's own idea of a command line: the launch, the program, and its arguments."""
    assert command[1:3] == ["-m", "torch.distributed.run"]
    return config_from_args(parse_args(command[3:]))


def test_the_ranks_of_one_machine_meet_on_it_and_are_not_started_again(make_job):
    config, program, arguments = read(torchrun_command(make_job(processes=3), "some.module", "--rank", "job.json"))
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (1, 1, 3, 0)
    assert [str(word) for word in arguments[-4:]] == ["-m", "some.module", "--rank", "job.json"]
    assert program.endswith("python") or "python" in program


def test_each_machine_starts_its_own_ranks_and_waits_for_the_others_at_the_first(make_job):
    part = NodePart(
        index=1, num_nodes=3, num_ranks=2, endpoint="leader.group:29400", rendezvous_id="job_a.4", timeout_s=77
    )
    config, _, _ = read(torchrun_command(make_job(processes=5, node=part), "some.module"))
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (3, 3, 2, 0)
    # Of torchrun's rendezvous only the static one numbers ranks by machine.
    assert (config.rdzv_backend, config.rdzv_configs["rank"]) == ("static", 1)
    assert (config.rdzv_endpoint, config.run_id) == ("leader.group:29400", "job_a.4")
    assert float(config.rdzv_configs["timeout"]) == 77


def test_a_machine_looks_for_its_own_gpus_only(make_job):
    part = NodePart(index=1, num_nodes=2, num_ranks=3, endpoint="a:1", rendezvous_id="job_a.1", timeout_s=1)
    assert make_job(gpus=8).num_local_gpus == 8
    assert make_job(gpus=8, node=part).num_local_gpus == 3
    assert make_job(processes=8, node=part).num_local_gpus == 0
