"""Tucker adapters: the change in Tucker form, its sizes, and what it can represent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from stockpot.ingredients.finetuning.adapted_layers import layers_to_adapt
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.reparametrisation import ComputedTensors
from stockpot.ingredients.finetuning.tucker import TuckerChange, insert_tucker
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=1e-2,
    weight_decay=0.0,
    epochs=1,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    adapter="tucker",
    adapter_rank=4,
    adapter_alpha=6.0,
)
DIGITS = Digits(0, [], [])


class Grouped(nn.Module):
    """Layers of several kinds, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, groups=3, dilation=2, padding=2)
        self.back = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.linear = nn.Linear(4 * 64, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.back(self.grouped(self.first(images)).relu()).flatten(1)
        outputs: Tensor = self.head(self.linear(features).relu())
        return outputs


def _change(*sizes: int, rank: int = 4, scale: float = 1.5) -> TuckerChange:
    weight = torch.randn(*sizes, generator=Generator().manual_seed(1))
    return TuckerChange(weight, rank=rank, scale=scale, generator=Generator().manual_seed(2))


def _moved() -> tuple[ComputedTensors, dict[str, Tensor]]:
    """Return a net with adapters as if they had been trained, and its weights before."""
    torch.manual_seed(3)
    net = Grouped()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    adapted = insert_tucker(net, layers_to_adapt(net, HOW), HOW)
    for name, parameter in net.named_parameters():
        if name in adapted.trained.trained:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return adapted, before


def test_a_linear_layer_changes_by_the_product_of_its_factors_and_core() -> None:
    change = _change(10, 6)
    nn.init.normal_(change.core)
    weight = torch.randn(10, 6)

    out, into = change.factors
    expected = weight + 1.5 * out @ change.core @ into.T

    assert change.core.shape == (4, 4)
    assert_close(change(weight), expected)


def test_a_convolution_changes_by_the_core_times_a_factor_along_each_axis() -> None:
    change = _change(5, 3, 3, 2, scale=1.0)
    nn.init.normal_(change.core)
    weight = torch.zeros(5, 3, 3, 2)

    expected = torch.einsum("abcd,oa,ib,hc,wd->oihw", change.core, *change.factors)

    assert change.core.shape == (4, 3, 3, 2)  # channels have the rank or fewer, kernels their size
    assert_close(change(weight), expected)


@pytest.mark.parametrize("sizes", [(10, 6), (12, 7, 3), (12, 7, 3, 5), (9, 5, 2, 3, 2)])
def test_the_number_of_trained_weights_is_that_of_core_and_factors(sizes: tuple[int, ...]) -> None:
    change = _change(*sizes)

    ranks = [min(4, size) for size in sizes[:2]] + [*sizes[2:]]
    expected = torch.tensor(ranks).prod() + sum(n * r for n, r in zip(sizes, ranks, strict=True))
    assert sum(one.numel() for one in change.parameters()) == expected


def test_with_full_ranks_any_change_can_be_represented() -> None:
    change = _change(5, 4, 3, 3, rank=9, scale=2.0)
    target = torch.randn(5, 4, 3, 3)
    bases = [torch.linalg.qr(factor.detach())[0] for factor in change.factors]
    for factor, basis in zip(change.factors, bases, strict=True):
        factor.data = basis
    change.core.data = torch.einsum("oihw,oa,ib,hc,wd->abcd", target / 2, *bases)

    assert_close(change(torch.zeros_like(target)), target, rtol=0, atol=1e-4)


def test_the_outputs_do_not_change_before_the_first_step() -> None:
    torch.manual_seed(3)
    net = Grouped()
    images = torch.randn(3, 1, 8, 8)
    before = net(images)

    adapted = insert_tucker(net, layers_to_adapt(net, HOW), HOW)

    assert torch.equal(net(images), before)
    names = {name.partition(".parametrizations")[0] for name in adapted.trained.trained}
    assert names == {"first", "grouped", "back", "linear"}


def test_merged_weights_give_the_outputs_of_base_and_adapter() -> None:
    adapted, before = _moved()
    images = torch.randn(3, 1, 8, 8)
    plain = Grouped()

    plain.load_state_dict(adapted.merged(adapted.model.state_dict()))

    assert_close(plain(images), adapted.model(images), rtol=0, atol=1e-5)
    start = Grouped()
    start.load_state_dict(before)
    assert (plain(images) - start(images)).abs().max() > 0.05


def test_all_but_the_adapted_weights_stay_and_core_and_factors_are_saved() -> None:
    start = DIGITS.build_model(seeded_generator(0)).state_dict()

    tuned = fine_tune(DIGITS, start, HOW, split="pretrain")

    changed = {name for name in start if not torch.equal(start[name], tuned[name])}
    assert changed == {"features.0.weight", "features.2.weight", "features.5.weight"}
    assert [*tuned] == [*start]
    assert tuned.adapter is not None
    saved, config = tuned.adapter.tensors, tuned.adapter.config
    factors = [saved[f"features.2.weight.factors.{axis}"] for axis in range(4)]
    change = torch.einsum("abcd,oa,ib,hc,wd->oihw", saved["features.2.weight.core"], *factors)
    expected = start["features.2.weight"] + config["scale"] * change
    assert config["scale"] == 1.5
    assert_close(tuned["features.2.weight"], expected, rtol=0, atol=1e-6)


def test_the_mean_of_changes_is_not_the_change_of_mean_factors() -> None:
    changes = [_change(6, 5), _change(6, 5)]
    for number, change in enumerate(changes):
        torch.manual_seed(number)
        for parameter in change.parameters():
            nn.init.normal_(parameter)
    zero = torch.zeros(6, 5)
    mean = (changes[0](zero) + changes[1](zero)) / 2
    pairs = zip(changes[0].parameters(), changes[1].parameters(), strict=True)
    for first, second in list(pairs):
        first.data = (first.data + second.data) / 2

    assert (changes[0](zero) - mean).abs().max() > 0.1


def test_factors_depend_on_the_seed() -> None:
    nets = [DIGITS.build_model(seeded_generator(0)) for _ in range(3)]
    factors = []
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        how = replace(HOW, seed=seed)
        adapted = insert_tucker(net, layers_to_adapt(net, how), how)
        saved = adapted.saved(net.state_dict())
        assert saved is not None
        factors.append(saved.tensors["features.0.weight.factors.0"])

    assert torch.equal(factors[0], factors[1])
    assert not torch.equal(factors[0], factors[2])
