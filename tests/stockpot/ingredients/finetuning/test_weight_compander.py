"""Weight Compander: unchanged at the start, slopes, folding, and what has no weight decay."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.optimizers import build_optimizer
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.ingredients.finetuning.weight_compander import Compander, compand
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=1e-2,
    weight_decay=0.1,
    epochs=1,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    compander=1.2,
)
DIGITS = Digits(0, [], [])
IMAGES = DIGITS.dataset("val").tensors[0][:50]


def _net() -> nn.Module:
    return DIGITS.build_model(seeded_generator(0))


def _weight() -> Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def test_the_model_is_unchanged_at_the_start_and_slopes_are_as_asked() -> None:
    net, plain = _net(), _net()

    made = compand(net, 1.2, TrainedParts.of(net, HOW))

    assert_close(net(IMAGES), plain(IMAGES), rtol=0, atol=1e-5)
    merged = made.merged(net.state_dict())
    assert [*merged] == [*plain.state_dict()]
    for name, tensor in plain.state_dict().items():
        assert_close(merged[name], tensor, rtol=0, atol=1e-6)
    for module in net.modules():
        if isinstance(module, Compander):
            assert (module.log_bound - module.log_width).exp().item() == pytest.approx(1.2)


def test_weights_are_a_times_the_arcus_tangent_of_v_over_b_and_stay_bounded() -> None:
    weight = _weight()
    compander = Compander(weight, slope=2.0)
    a, b = compander.log_bound.exp().item(), compander.log_width.exp().item()
    hidden = torch.tensor([[-1e9, -1.0, 0.0, 0.3, 1e9]])

    found = compander(hidden)

    assert a * math.pi / 2 == pytest.approx(1.5 * weight.abs().max().item())
    assert a / b == pytest.approx(2.0)
    assert_close(found, a * torch.atan(hidden / b))
    assert found.abs().max() <= a * math.pi / 2 * (1 + 1e-6)
    assert found[0, 2] == 0


def test_the_gradient_of_v_is_that_of_w_times_the_slope_there() -> None:
    weight = _weight()
    compander = Compander(weight, slope=1.2)
    hidden = compander.right_inverse(weight).detach().requires_grad_()
    upstream = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))

    compander(hidden).backward(upstream)

    a, b = compander.log_bound.exp().detach(), compander.log_width.exp().detach()
    expected = upstream * (a / b) / (1 + (hidden.detach() / b).square())
    assert hidden.grad is not None
    assert_close(hidden.grad, expected)


def test_with_a_large_bound_and_slope_one_weights_are_v() -> None:
    compander = Compander(_weight(), slope=1.0)
    nn.init.constant_(compander.log_bound, math.log(1e4))
    nn.init.constant_(compander.log_width, math.log(1e4))

    assert_close(compander(_weight()), _weight(), rtol=0, atol=1e-3)


def test_folded_weights_are_those_of_the_forward_pass_to_the_bit() -> None:
    net, plain = _net(), _net()
    made = compand(net, 1.2, TrainedParts.of(net, HOW))
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)

    plain.load_state_dict(made.merged(net.state_dict()))

    assert torch.equal(plain.get_submodule("head").weight, net.get_submodule("head").weight)
    assert torch.equal(plain(IMAGES), net(IMAGES))


def test_bounds_and_widths_are_trained_without_weight_decay() -> None:
    net = _net()
    made = compand(net, 1.2, TrainedParts.of(net, HOW))
    made.trained.begin_epoch(net, 0)

    groups = build_optimizer(net, HOW).param_groups

    assert [len(group["params"]) for group in groups] == [8, 8]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    bare = {id(one) for one in groups[1]["params"]}
    assert bare == {
        id(one)
        for module in net.modules()
        if isinstance(module, Compander)
        for one in module.parameters()
    }


def test_a_run_gives_a_plain_ingredient() -> None:
    start = _net().state_dict()

    tuned = fine_tune(DIGITS, start, HOW, split="pretrain")

    assert [*tuned] == [*start]
    assert tuned.adapter is None
    assert all(not torch.equal(tuned[name], start[name]) for name in start)


def test_frozen_zero_and_tied_weights_biases_and_norms_are_left_alone() -> None:
    net = nn.Module()
    net.embedding = nn.Embedding(9, 4)
    net.tied = nn.Linear(4, 9)
    net.tied.weight = net.embedding.weight
    net.norm = nn.BatchNorm1d(4)
    net.zero = nn.Linear(4, 4)
    nn.init.zeros_(net.zero.weight)
    net.kept = nn.Linear(4, 4)
    net.used = nn.Conv1d(4, 4, 3)
    how = replace(HOW, frozen="kept.*")

    made = compand(net, 1.2, TrainedParts.of(net, how))

    assert [own for name, own in made.names.items() if name != own] == ["used.weight"]
    assert made.trained.frozen == {"kept.weight", "kept.bias"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"frozen": "*.weight"}, "compander: needs a linear or convolution layer"),
        ({"adapter": "lora"}, "adapter: must be 'none' with compander"),
        ({"sparsity": 0.5}, "sparsity: must be 0.0 with compander"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], expected: str) -> None:
    how = replace(HOW, **values)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=expected):
        fine_tune(DIGITS, None, how, split="pretrain")
