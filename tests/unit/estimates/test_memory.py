"""Memory by arithmetic, against tensors that torch really holds."""

from contextlib import nullcontext
from typing import Any

import pytest

from nearfirst.contracts.estimates import MemoryEstimate
from nearfirst.contracts.training import ModelSpec, TrainSettings
from nearfirst.estimates.memory import memory_estimate
from nearfirst.estimates.model_shape import ModelShape, shape_of_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROWS, TOKENS = 4, 128
CONFIG = {
    "model_type": "llama",
    "vocab_size": 500,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def settings(**fields: Any) -> TrainSettings:
    return TrainSettings(model=ModelSpec(name_or_path="tiny"), **fields)


def estimated(shape: ModelShape, chosen: TrainSettings, *, pass_tokens: int = ROWS * TOKENS) -> MemoryEstimate:
    total = shape.num_parameters
    return memory_estimate(
        shape, chosen, num_parameters=total, num_trainable=total, pass_tokens=pass_tokens, row=TOKENS
    )


def built(attention: str = "sdpa") -> Any:
    fields = {name: value for name, value in CONFIG.items() if name != "model_type"}
    config = transformers.LlamaConfig(**fields)
    return transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention
    ).train()


def num_bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_weights_gradients_and_moments_are_exactly_what_torch_holds() -> None:
    model = built()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, 500, (1, 8))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    found = estimated(shape_of_config(CONFIG), settings())
    assert found.weights_bytes == num_bytes(model.parameters())
    assert found.gradient_bytes == num_bytes(weight.grad for weight in model.parameters())
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim() > 0]
    assert found.optimizer_bytes == num_bytes(moments)
    assert found.certain_bytes == 16 * shape_of_config(CONFIG).num_parameters
    parts = (found.working_bytes, found.activation_bytes, found.logit_bytes)
    assert found.total_bytes == found.certain_bytes + sum(parts)


def kept_for_backward(model: Any, precision: str) -> int:
    """Bytes of what autograd keeps of a forward pass through the layers, weights and their copies left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    shapes = {tuple(weight.shape) for weight in model.parameters()} | {
        tuple(weight.shape)[::-1] for weight in model.parameters()
    }
    kept: dict[int, tuple[int, Any]] = {}  # the tensor is held, so that its address isn't used again

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tuple(tensor.shape) not in shapes:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    cast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cast:
        model.model(input_ids=torch.randint(0, 500, (ROWS, TOKENS)), use_cache=False)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_within_a_tenth_of_what_autograd_keeps(precision: str, attention: str) -> None:
    found = estimated(shape_of_config(CONFIG), settings(precision=precision, attention=attention))
    assert found.activation_bytes == pytest.approx(kept_for_backward(built(attention), precision), rel=0.1)


def test_checkpointed_layers_keep_their_input_and_one_layer_the_rest() -> None:
    model = built()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    kept = kept_for_backward(model, "fp32")
    shape = shape_of_config(CONFIG)
    one_layer = 32 * 256 + 8 * 128 + 16 * 688
    output_layer = 4 * 256  # keeps its input, and isn't among the layers that were measured
    found = estimated(shape, settings(activation_checkpointing=True)).activation_bytes
    assert found - (one_layer + output_layer) * ROWS * TOKENS == pytest.approx(kept, rel=0.02)


def test_fsdp_gives_each_process_its_part_and_ddp_all() -> None:
    shape = shape_of_config(CONFIG)
    whole = estimated(shape, settings(processes=2, strategy="ddp"))
    part = estimated(shape, settings(processes=2, strategy="fsdp"))
    assert whole.certain_bytes == 16 * shape.num_parameters
    assert part.certain_bytes == 8 * shape.num_parameters
    assert (whole.working_bytes, part.host_bytes) == (0, 0)
    # 4 bytes of the two layers that are whole at a time and of what is in none, and a whole gradient of the larger.
    whole_at_a_time = shape.root_parameters + 2 * shape.layer_parameters
    assert part.working_bytes == 4 * whole_at_a_time + 4 * max(shape.root_parameters, shape.layer_parameters)


def test_offloaded_states_are_in_the_memory_of_the_cpu() -> None:
    shape = shape_of_config(CONFIG)
    found = estimated(shape, settings(processes=4, strategy="fsdp", offload_optimizer=True))
    assert found.certain_bytes == 0
    assert found.host_bytes == 4 * shape.num_parameters
    assert found.total_bytes == found.working_bytes + found.activation_bytes + found.logit_bytes


def test_frozen_weights_have_no_gradients_and_no_moments() -> None:
    shape = shape_of_config(CONFIG)
    found = memory_estimate(shape, settings(tuning="lora"), num_parameters=1000, num_trainable=10, pass_tokens=8, row=8)
    assert (found.weights_bytes, found.gradient_bytes, found.optimizer_bytes) == (4000, 40, 80)


def test_bf16_keeps_a_copy_of_every_matrix_that_is_multiplied_with() -> None:
    tied = shape_of_config({**CONFIG, "tie_word_embeddings": True})
    model = built()
    multiplied = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    for shape in (tied, shape_of_config(CONFIG)):
        assert estimated(shape, settings(precision="bf16")).working_bytes == 2 * multiplied
