from __future__ import annotations

import pytest
import torch
from alignment_nets import (
    OtherLayers,
    ResidualNet,
    Transformer,
    layer_norm_net,
    mlp,
    random_inputs,
    seeded,
)
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.alignment import Spec, trace_spec
from stockpot.workloads.images.conv_net import ConvNet


def _trace(net: nn.Module) -> Spec:
    return trace_spec(seeded(net), random_inputs(Generator().manual_seed(0)))


def test_hidden_layers_are_named_and_inputs_and_outputs_stay() -> None:
    assert _trace(mlp(width=3, depth=2)) == {
        "1.weight": ("1", None),
        "1.bias": ("1",),
        "3.weight": ("3", "1"),
        "3.bias": ("3",),
        "5.weight": (None, "3"),
        "5.bias": (None,),
    }


def test_a_net_of_one_layer_has_no_permutation() -> None:
    spec = _trace(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    assert spec == {"1.weight": (None, None), "1.bias": (None,)}


def test_flattened_channels_are_blocks() -> None:
    spec = _trace(ConvNet(10))

    assert spec["features.2.weight"] == ("features.2", "features.0", None, None)
    assert spec["features.5.weight"] == ("features.5", ("features.2", 4))


def test_what_is_added_together_shares_a_permutation() -> None:
    spec = _trace(ResidualNet(pool=True))

    assert spec["block.conv1.weight"] == ("block.conv1", "stem.0", None, None)
    assert spec["block.conv2.weight"] == ("stem.0", "block.conv1", None, None)
    assert spec["shortcut.weight"][1] == "stem.0"
    assert spec["shortcut.weight"][0] == spec["down.conv2.weight"][0] == spec["head.weight"][1]
    assert spec["block.norm2.running_var"] == ("stem.0",)
    assert spec["stem.1.num_batches_tracked"] == ()


def test_norms_of_hidden_units_follow_them() -> None:
    spec = _trace(layer_norm_net())

    assert spec["2.weight"] == spec["2.bias"] == ("1",)
    assert spec["5.weight"] == ("4",)


def test_a_residual_stream_has_one_order_and_attention_two_of_its_own() -> None:
    spec = _trace(Transformer())

    stream = {"embed", "attended", "branch.down"}
    assert {spec[f"{name}.weight"][0] for name in stream} == {"embed"}
    assert spec["places"] == (None, "embed")
    assert spec["last_norm.bias"] == spec["branch.norm.weight"] == ("embed",)
    assert spec["queries.weight"] == spec["keys.weight"] == ("queries", "embed")
    assert spec["attended.weight"] == ("embed", "values")
    assert spec["branch.down.weight"] == ("embed", "branch.up")


def test_groups_stay_and_depthwise_channels_follow_their_input() -> None:
    spec = _trace(OtherLayers())

    assert spec["of_all.weight"] == ("first", None, None)
    assert spec["depthwise.weight"] == (("first", 2), None, None, None)
    assert spec["one_group.weight"] == (("first", 2),)
    assert spec["mixed.weight"] == (None, ("first", 2), None, None)
    assert spec["gain"] == (None, None, None)
    assert spec["free.weight"] == (None, None, None, None)
    assert spec["gate.weight"] == ("last", "last", None, None)
    assert spec["head.weight"] == (None, ("last", 4))


def test_tracing_leaves_the_net_as_it_is() -> None:
    net = seeded(ResidualNet(pool=True)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    _trace(net)

    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class _Shared(nn.Module):
    """One layer used twice, which ties what it reads to what it writes; and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.twice = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.twice.weight
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 10)
        self.register_buffer("offset", torch.arange(6.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.mean(dim=(1, 2))))
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        return self.head(self.tied(x))


def test_shared_layers_and_tied_weights_have_one_entry() -> None:
    spec = _trace(_Shared())

    assert spec["twice.weight"] == spec["tied.weight"] == ("first", "first")
    assert spec["tied.bias"] == ("first",)
    assert spec["unused.weight"] == (None, None)


class _Offset(_Shared):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x.mean(dim=(1, 2))) + self.offset)


def test_units_that_meet_a_tensor_outside_of_the_state_dict_stay() -> None:
    assert _trace(_Offset())["first.weight"] == (None, None)


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Identity()])
def test_units_that_become_places_of_an_image_stay(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(8, 8), layer, nn.Flatten(), nn.LazyLinear(10))
    net(torch.ones(1, 1, 8, 8))

    assert _trace(net)["0.weight"] == (None, None)


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class _OneForAll(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class _Cumulative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(dim=1)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (_Branching(), "cannot be traced"),
        (_Two(), "must return one tensor"),
        (_OneForAll(), "separate queries, keys and values and no mask, got 1 tensors"),
        (_Cumulative(), "no rule for an operation, got 'cumsum'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Softmax(dim=1)), "no rule for layer '2'"),
        (nn.Sequential(nn.ConvTranspose2d(1, 2, 3)), "no rule for layer '0'"),
        (nn.Sequential(nn.Flatten(start_dim=0, end_dim=1)), "only the last axes may be flattened"),
    ],
)
def test_a_net_that_cannot_be_followed_needs_a_spec_by_hand(net: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=rf"{message}.*; give the spec by hand$"):
        _trace(net)
