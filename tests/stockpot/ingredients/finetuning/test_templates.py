"""Layers as mixtures of shared templates: sums by hand, exact starts, plain training, growth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from killed_runs import train_killed
from torch import Tensor, nn
from torch.testing import assert_close

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.optimizers import build_optimizer
from stockpot.ingredients.finetuning.reparametrisation import ComputedTensors
from stockpot.ingredients.finetuning.templates import (
    Mixture,
    grown_mixtures,
    nearest_mixtures,
    share_templates,
)
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.seeding import seeded_generator
from stockpot.soups.concat.concatenate import concatenate
from stockpot.workloads.digits import Digits
from stockpot.workloads.images.residual_net import ResidualNet
from stockpot.workloads.initialisation import initialised
from stockpot.workloads.passes import empty_model, put_weights

State = dict[str, Tensor]


class Residual(Digits):
    """The digits with a net two of whose convolutions have weights of one shape."""

    def build_model(self, generator: torch.Generator) -> nn.Module:
        return initialised(lambda: ResidualNet(1, 10), generator)


WORKLOAD = Residual(0, [], [])
IMAGES = WORKLOAD.dataset("val").tensors[0][:20]
PAIR = ("blocks.0.residual.0.weight", "blocks.0.residual.3.weight")
HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.1,
    epochs=1,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    templates=1,
)


@cache
def _start(seed: int) -> State:
    """Return the weights of a net, the second of the pair a multiple of the first."""
    state = WORKLOAD.build_model(seeded_generator(seed)).state_dict()
    state[PAIR[1]] = -0.5 * state[PAIR[0]]
    return state


def _net(state: State, how: Hyperparameters = HOW) -> tuple[nn.Module, ComputedTensors]:
    net = empty_model(WORKLOAD, "cpu")
    put_weights(net, {name: tensor.clone() for name, tensor in state.items()})
    made = share_templates(net, how, TrainedParts.of(net, how))
    assert made is not None
    return net, made


def _rank(state: State) -> int:
    rows = torch.stack([state[name].double().flatten() for name in PAIR])
    return int(torch.linalg.matrix_rank(rows, rtol=1e-5))


def test_weights_are_the_sums_of_templates_times_coefficients() -> None:
    templates = nn.Parameter(torch.arange(16.0).view(2, 2, 2, 2))  # (M, k, out, in)
    coefficients = torch.tensor([[[1.0, 0.0], [2.0, -1.0]], [[0.0, 3.0], [0.0, 1.0]]])
    mixture = Mixture(torch.zeros(4, 4), coefficients=coefficients, templates=templates)

    found = mixture(coefficients)

    (first, second), (third, fourth) = templates.detach()
    assert torch.equal(found[:2, :2], first)
    assert torch.equal(found[:2, 2:], 2 * first - second)
    assert torch.equal(found[2:, :2], 3 * fourth)
    assert torch.equal(found[2:, 2:], fourth)
    assert not torch.equal(third, fourth)


def test_weights_that_are_mixtures_are_found_and_others_keep_their_lengths() -> None:
    draw = torch.Generator().manual_seed(0)
    exact = torch.tensordot(
        torch.randn(5, 2, generator=draw), torch.randn(2, 3, 4, generator=draw), dims=1
    )
    others = torch.randn(5, 3, 4, generator=draw)

    again, nearest = (
        torch.tensordot(*nearest_mixtures(weights, 2), dims=1) for weights in (exact, others)
    )

    assert_close(again, exact.double())
    assert_close(nearest.flatten(1).norm(dim=1), others.double().flatten(1).norm(dim=1))
    singular = torch.linalg.svdvals(nearest.flatten(1))
    assert singular[2] < 1e-12 * singular[0]


def test_the_model_is_unchanged_at_the_start_if_its_weights_are_mixtures() -> None:
    plain = empty_model(WORKLOAD, "cpu").eval()
    put_weights(plain, _start(0))

    net, made = _net(_start(0))

    assert [own for name, own in made.names.items() if name != own] == [*PAIR]
    assert_close(net.eval()(IMAGES), plain(IMAGES), rtol=0, atol=1e-5)


def test_folded_weights_are_those_of_the_forward_pass_to_the_bit() -> None:
    net, made = _net(_start(0))
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    plain = empty_model(WORKLOAD, "cpu").eval()

    put_weights(plain, made.merged(net.state_dict()))

    assert torch.equal(plain(IMAGES), net.eval()(IMAGES))


def test_layers_of_a_trained_net_share_their_template_and_the_ingredient_is_plain() -> None:
    tuned = fine_tune(WORKLOAD, None, HOW, split="pretrain")

    assert _rank(WORKLOAD.build_model(seeded_generator(0)).state_dict()) == 2
    assert _rank(tuned) == 1
    assert [*tuned] == [*_start(0)]
    assert tuned.adapter is None


def test_as_many_templates_as_layers_are_plain_training() -> None:
    plain, whole = (
        fine_tune(WORKLOAD, _start(0), replace(HOW, templates=count), split="pretrain")
        for count in (0, 2)
    )

    assert all(torch.equal(plain[name], whole[name]) for name in plain)


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    how = replace(HOW, optimizer="adamp", clip_norm=1.0)
    whole = fine_tune(WORKLOAD, None, how, split="pretrain")

    resumed = train_killed(WORKLOAD, how, tmp_path)

    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_coefficients_are_trained_without_weight_decay() -> None:
    net, made = _net(_start(0))
    made.trained.begin_epoch(net, 0)

    groups = build_optimizer(net, HOW).param_groups

    bare = [group["params"] for group in groups if group["weight_decay"] == 0]
    assert [[one.shape for one in each] for each in bare] == [[(1, 1, 1), (1, 1, 1)]]
    assert sum(len(group["params"]) for group in groups) == len([*net.parameters()])


def test_new_coefficients_are_orthogonal_to_those_before_them() -> None:
    draw = torch.Generator().manual_seed(0)
    own = [torch.randn(12, generator=draw) for _ in range(3)]

    grid = grown_mixtures(own)

    assert all(torch.equal(grid[net, net], vector.double()) for net, vector in enumerate(own))
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    new = torch.stack([grid[pair] for pair in pairs])
    assert_close(new @ new.T, torch.eye(6).double())
    assert (new @ torch.stack(own).double().T).abs().max() < 1e-9


def test_with_too_few_templates_they_are_the_last_right_singular_vector() -> None:
    own = [torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])]

    grid = grown_mixtures(own)

    # Of [[3, 0], [0, 1]] it is (0, 1); with that added, singular values are 3 and sqrt(2).
    assert_close(grid[0, 1].abs(), torch.tensor([0.0, 1.0]).double())
    assert_close(grid[1, 0].abs(), torch.tensor([0.0, 1.0]).double())


def test_a_grown_net_has_the_small_nets_blocks_and_mixtures_of_their_rows_between() -> None:
    nets = [_start(1), _start(2)]
    wide = concatenate(WORKLOAD, nets, [0.5, 0.5]).weights

    _, made = _net(wide, replace(HOW, templates=3))
    grown = made.merged(made.model.state_dict())

    changed = {name for name, tensor in wide.items() if not torch.equal(grown[name], tensor)}
    assert changed == {n for n in wide if n.startswith("blocks") and wide[n].ndim == 4}
    weight, size = grown[PAIR[0]], len(nets[0][PAIR[0]])
    for net, small in enumerate(nets):
        rows = slice(net * size, (net + 1) * size)
        assert torch.equal(weight[rows, rows], small[PAIR[0]])
    # Orthogonal to (1, 0, 0): a mixture of the other layer and a template that was drawn.
    upper = weight[:size, size:].flatten()
    templates = made.model.get_parameter("templates_0")[0].detach().flatten(1)
    known = torch.stack([*templates[1:], upper]).double()
    assert torch.linalg.matrix_rank(known, rtol=1e-5) == 2


def test_nets_that_grow_must_be_mixtures_of_the_templates() -> None:
    random = WORKLOAD.build_model(seeded_generator(3)).state_dict()
    wide = concatenate(WORKLOAD, [random, _start(1)], [0.5, 0.5]).weights

    _net(concatenate(WORKLOAD, [_start(2), _start(1)], [0.5, 0.5]).weights)
    with pytest.raises(InputError, match=r"2 layers of each net .* mixtures of 1 templates, got"):
        _net(wide)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"frozen": PAIR[0]}, "templates: needs trained linear or convolution layers"),
        ({"adapter": "lora"}, "adapter: must be 'none' with templates, which layers share"),
        ({"compander": 1.2}, "compander: must be 0.0 with templates"),
        ({"sparsity": 0.5}, "sparsity: must be 0.0 with templates"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], expected: str) -> None:
    how = replace(HOW, **values)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=expected):
        fine_tune(WORKLOAD, None, how, split="pretrain")
