"""Nets side by side: their exact ensemble, and what cannot be put side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_transformers import write_bert, write_csv, write_llama
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.soups.concat.concatenate import concatenate
from stockpot.workloads.causal_lm import CausalLanguageModel
from stockpot.workloads.digits import Digits
from stockpot.workloads.images.residual_net import ResidualNet
from stockpot.workloads.passes import empty_model, put_weights
from stockpot.workloads.tables.mlp import Mlp
from stockpot.workloads.text_classification import TextClassification
from stockpot.workloads.wide_nets import count_nets

COEFFICIENTS = (0.5, 0.3, 0.2)


class NetWorkload:
    """A net with random inputs, of which concat needs no more."""

    task = "classification"

    def __init__(self, build: Callable[[], nn.Module], *shape: int) -> None:
        self._build, self._shape = build, shape

    def build_model(self, generator: torch.Generator) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            return self._build()

    def dataset(self, split: str) -> TensorDataset:
        seed = {"train": 0, "val": 1}[split]
        inputs = torch.randn(16, *self._shape, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(inputs, torch.zeros(16, dtype=torch.long))

    def forward(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return model(batch[0])


class Transformer(nn.Module):
    """One block with pre-norm, GroupNorm in front, and heads of two units."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4))
        self.norm, self.last_norm = norm(4), norm(4)
        self.qkv = nn.ModuleList(nn.Linear(4, 4) for _ in "qkv")
        self.out, self.head = nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, rows: Tensor) -> Tensor:
        units = self.stem(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        read = self.norm(units)
        q, k, v = (one(read).unflatten(-1, (-1, 2)).transpose(1, 2) for one in self.qkv)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(self.last_norm(units + self.out(attended)).mean(dim=1))


class Depthwise(nn.Module):
    """A depthwise convolution between two others, and a 1 x 1 head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU()
        )
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images)).mean(dim=(2, 3))


NETS = {
    "mlp": NetWorkload(lambda: Mlp(5, 7, 3), 5),
    "linear": NetWorkload(lambda: nn.Linear(5, 3), 5),
    "residual": NetWorkload(lambda: ResidualNet(2, 3), 2, 8, 8),
    "transformer": NetWorkload(Transformer, 6, 3),
    "rms norm": NetWorkload(lambda: Transformer(nn.RMSNorm), 6, 3),
    "depthwise": NetWorkload(Depthwise, 2, 8, 8),
}


def states_of(workload: Any, count: int = 3) -> list[dict[str, Tensor]]:
    """Random nets, also in biases, scales and BatchNorm's statistics."""
    states = []
    for seed in range(count):
        net = workload.build_model(seeded_generator(seed, "net"))
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in net.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                noise = 0.1 * torch.rand(tensor.shape, generator=generator)
                tensor.data += noise
            assert "num_batches" in name or tensor.is_floating_point()
        states.append({n: t.detach().clone() for n, t in net.state_dict().items()})
    return states


def outputs(workload: Any, state: dict[str, Tensor], split: str = "val") -> Tensor:
    net = empty_model(workload, "cpu")
    put_weights(net, state)
    with torch.no_grad():
        return workload.forward(net, workload.dataset(split)[torch.arange(2)])


def assert_is_ensemble(workload: Any, states: list[dict[str, Tensor]]) -> None:
    wide = concatenate(workload, states, COEFFICIENTS)
    mean = sum(c * outputs(workload, s) for c, s in zip(COEFFICIENTS, states, strict=True))
    gap = (outputs(workload, wide.weights) - mean).abs().max() / mean.abs().max()
    assert gap <= 1e-6
    assert wide.num_nets == 3


@pytest.mark.parametrize("name", NETS)
def test_the_wide_net_is_the_weighted_ensemble(name):
    assert_is_ensemble(NETS[name], states_of(NETS[name]))


def test_the_conv_net_of_digits():
    workload = Digits(0, [], [])
    states = states_of(workload)
    assert_is_ensemble(workload, states)

    wide = concatenate(workload, states, COEFFICIENTS).weights
    assert wide["features.2.weight"].shape == (240, 96, 3, 3)
    assert torch.equal(wide["features.2.weight"][80:160, 32:64], states[1]["features.2.weight"])
    assert not wide["features.2.weight"][80:160, :32].any()
    assert torch.equal(wide["head.weight"][:, :40], states[0]["head.weight"] * 0.5)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for split, noun in (("train", "film"), ("val", "book"), ("test", "it")):
        rows = [{"text": f"the {noun} is {word}", "label": word} for word in ("good", "bad")]
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    return tmp_path


def test_a_bert_classifier_has_one_norm_per_net(texts):
    write_bert(texts / "bert")
    workload = TextClassification(0, [], [], model=str(texts / "bert"), data=str(texts / "data"))
    states = states_of(workload)
    assert_is_ensemble(workload, states)
    wide = concatenate(workload, states, COEFFICIENTS)
    assert wide.num_norms == 5  # of the embeddings, and two in each of two layers
    assert wide.weights["bert.encoder.layer.0.attention.self.query.weight"].shape == (48, 48)


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_gives_the_mean_of_logits(texts, tied):
    write_llama(texts / "llama", tied=tied)
    workload = CausalLanguageModel(0, [], [], model=str(texts / "llama"), data=str(texts / "data"))
    states = states_of(workload)
    wide = concatenate(workload, states, COEFFICIENTS)

    def logits(state: dict[str, Tensor]) -> Tensor:
        net = empty_model(workload, "cpu")
        put_weights(net, state)
        with torch.no_grad():
            return net(input_ids=torch.tensor([[2, 5, 6, 7]])).logits

    mean = sum(c * logits(s) for c, s in zip(COEFFICIENTS, states, strict=True))
    assert (logits(wide.weights) - mean).abs().max() <= 1e-6 * mean.abs().max()


def test_one_net_is_returned_bit_for_bit():
    workload = NETS["residual"]
    state = states_of(workload, 1)[0]
    wide = concatenate(workload, [state], [1.0]).weights
    assert list(wide) == list(state)
    assert all(torch.equal(wide[name], state[name]) for name in state)


def test_a_net_becomes_ordinary_again():
    workload = NETS["transformer"]
    states = states_of(workload)
    wide = concatenate(workload, states, COEFFICIENTS).weights
    net = empty_model(workload, "cpu")
    before = copy.deepcopy(net.state_dict())
    for state in (wide, states[0], {n: torch.cat([t, t]) for n, t in before.items()}, before):
        if state["norm.weight"].shape == (8,):
            continue
        put_weights(net, state)
        batch = workload.dataset("val")[torch.arange(2)]
        assert torch.equal(workload.forward(net, batch), outputs(workload, state))


def test_weights_of_another_form_are_refused_by_torch():
    net = empty_model(NETS["mlp"], "cpu")
    wrong = {n: t[:3] if t.ndim else t for n, t in net.state_dict().items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        put_weights(net, wrong)


@pytest.mark.parametrize("num_nets", [1, 2])
def test_weights_with_other_classes_are_not_those_of_a_wide_net(num_nets):
    net = empty_model(NETS["mlp"], "cpu")
    states = states_of(NETS["mlp"], num_nets)
    wide = concatenate(NETS["mlp"], states, [1.0] * num_nets).weights
    *_, weight, bias = wide
    more = {**wide, **{name: torch.cat([wide[name]] * 2) for name in (weight, bias)}}

    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    found = [count_nets(shapes, {n: t.shape for n, t in each.items()}) for each in (wide, more)]

    assert found == [num_nets, None]
    with pytest.raises(RuntimeError, match="size mismatch"):
        put_weights(net, more)


class WithParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.ones(4))
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.first(rows) + self.position)


class MixedUnits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.first(rows).softmax(dim=-1))


class FixedWidth(MixedUnits):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.first(rows).view(-1, 4))


REFUSED = {
    "the net itself.*got WithParameter": WithParameter,
    "mixes units": MixedUnits,
    "depends on its width|cannot be made wider": FixedWidth,
    "MultiheadAttention|NonDynamically": lambda: nn.TransformerEncoderLayer(
        3, 1, 4, batch_first=True
    ),
    "'1'.*got LSTM": lambda: nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 2)),
    "must be linear": lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_put_side_by_side_is_refused_in_words(words):
    workload = NetWorkload(REFUSED[words], 3)
    with pytest.raises(InputError, match=words):
        concatenate(workload, states_of(workload, 2), (0.5, 0.5))
