"""How several processes share a model: each has a whole one (DDP), or a part of it (FSDP2).

Gradients are summed over ranks, never averaged: each rank's loss is already divided by the scored tokens of the whole
step.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from nearfirst.contracts.training import LoraSpec, TrainSettings
from nearfirst_training.world import World


def with_adapters(model: Any, spec: LoraSpec) -> Any:
    """The model with frozen weights and low-rank adapters beside them (PEFT), drawn from torch's global generator.

    Raises:
        InvalidModel: the model has no layer of these names, or PEFT isn't installed.
    """
    from nearfirst.contracts.problems import InvalidModel

    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise InvalidModel("tuning: lora needs PEFT: pip install 'nearfirst-training[lora]'") from error
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # PEFT divides it by the rank; any number will do
        lora_dropout=spec.dropout,
        target_modules=spec.target_modules or "all-linear",
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InvalidModel(f"lora.target_modules: {error}") from error


def shared(model: Any, settings: TrainSettings, world: World) -> Any:
    """The model as the loop calls it: itself, or shared by all ranks as `settings.strategy` says.

    Args:
        model: a transformers (or PEFT) model; its weights are the same on every rank. For `single` and `ddp` on
            `world.device`, for `fsdp` anywhere.
        settings: strategy, precision, compilation and activation checkpointing.
        world: all ranks.
    """
    if settings.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    blocks = _blocks(model)
    if settings.compile:
        for block in blocks:  # one compilation serves all blocks, of any length
            block.compile(dynamic=True)
    match settings.resolved_strategy:
        case "fsdp":
            return _sharded(model, blocks, settings, world)
        case "ddp" if world.size > 1:
            return _replicated(model, world)
        case _:
            return model


def _blocks(model: Any) -> list[torch.nn.Module]:
    """The layers that transformers wants to be kept whole."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _replicated(model: Any, world: World) -> DistributedDataParallel:
    device_ids = [world.device] if world.device.type == "cuda" else None
    replica = DistributedDataParallel(
        model, device_ids=device_ids, broadcast_buffers=False, gradient_as_bucket_view=True
    )
    replica.register_comm_hook(None, _summed)
    return replica


def _summed(
    _state: object,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # torch has it, its stubs don't; DDP checks the annotation
) -> torch.futures.Future[torch.Tensor]:
    """A bucket's gradients, added up over all ranks (DDP would divide them by their number)."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    added_up: torch.futures.Future[torch.Tensor] = work.get_future().then(lambda done: done.value()[0])
    return added_up


def _sharded(model: Any, blocks: list[torch.nn.Module], settings: TrainSettings, world: World) -> FSDPModule:
    mesh = init_device_mesh(world.device.type, (world.size,))
    mixed = MixedPrecisionPolicy()
    if settings.precision == "bf16":
        mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy() if settings.offload_optimizer else OffloadPolicy()
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, mp_policy=mixed, offload_policy=offload)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    sharded: FSDPModule = model
    return sharded


def gradient_exchange(model: Any, *, is_last: bool) -> AbstractContextManager[Any]:
    """Around a forward and its backward pass: DDP's ranks exchange gradients in their last one, FSDP's in each."""
    if isinstance(model, DistributedDataParallel) and not is_last:
        return model.no_sync()
    return nullcontext()


def is_sharded(model: Any) -> bool:
    """Whether each rank has a part of the weights only."""
    return isinstance(model, FSDPModule)
