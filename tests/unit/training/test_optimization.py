import pytest
import torch

from nearfirst.contracts.training import OptimizerSpec, ScheduleSpec
from nearfirst_training.optimization import clip_gradients, learning_rate, make_optimizer


def rates(num_steps, **spec):
    return [learning_rate(step, num_steps, ScheduleSpec(**spec), 2.0) for step in range(1, num_steps + 1)]


def test_constant_stays_at_the_peak_after_a_linear_warmup():
    assert rates(5, kind="constant", warmup_steps=4) == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_linear_falls_to_the_final_ratio_at_the_last_step():
    assert rates(5, kind="linear", final_ratio=0.5) == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])


def test_cosine_is_torchs_annealing():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9, eta_min=0.2)
    expected = []
    for _ in range(10):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(10, kind="cosine", final_ratio=0.1) == pytest.approx(expected)


def test_cosine_after_warmup_peaks_at_its_last_step_and_ends_at_the_ratio():
    found = rates(12, kind="cosine", final_ratio=0.1, warmup_steps=3)
    assert found[2] == max(found) == 2.0
    assert found[-1] == pytest.approx(0.2)
    assert found[2:] == sorted(found[2:], reverse=True)


def test_a_warmup_longer_than_the_run_only_rises():
    assert rates(2, kind="cosine", warmup_steps=4) == [0.5, 1.0]


def test_a_run_of_one_step_trains_at_the_peak():
    assert rates(1, kind="cosine", final_ratio=0.1) == [2.0]


def test_weight_decay_acts_on_matrices_only():
    model = torch.nn.Linear(3, 3)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, OptimizerSpec(lr=0.1, weight_decay=0.5))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(model.bias.detach(), before["bias"])


@pytest.mark.parametrize(("max_norm", "left"), [(1.0, 1.0), (None, 5.0), (10.0, 5.0)])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(max_norm, left):
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert clip_gradients(model, max_norm).item() == pytest.approx(5.0)
    assert model.weight.grad.norm().item() == pytest.approx(left, rel=1e-5)
