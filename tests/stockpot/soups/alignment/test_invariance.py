from __future__ import annotations

import pytest
import torch
from alignment_nets import NETS, ResidualNet, random_inputs, seeded
from torch import Generator, nn

from stockpot.errors import InputError
from stockpot.soups.alignment import Spec, check_invariance, trace_spec

NORM = ("weight", "bias", "running_mean", "running_var")


def _norm(name: str, permutation: str) -> dict[str, tuple[str, ...]]:
    return {
        **{f"{name}.{own}": (permutation,) for own in NORM},
        f"{name}.num_batches_tracked": (),
    }


# Written by hand: what is added to one another shares P0 or P1, inner channels are Q1 and Q2.
RESIDUAL: Spec = {
    "stem.0.weight": ("P0", None, None, None),
    **_norm("stem.1", "P0"),
    "block.conv1.weight": ("Q1", "P0", None, None),
    **_norm("block.norm1", "Q1"),
    "block.conv2.weight": ("P0", "Q1", None, None),
    **_norm("block.norm2", "P0"),
    "down.conv1.weight": ("Q2", "P0", None, None),
    **_norm("down.norm1", "Q2"),
    "down.conv2.weight": ("P1", "Q2", None, None),
    **_norm("down.norm2", "P1"),
    "shortcut.weight": ("P1", "P0", None, None),
    **_norm("shortcut_norm", "P1"),
    "head.weight": (None, "P1"),
    "head.bias": (None,),
}


def _check(net: nn.Module, spec: Spec) -> None:
    generator = Generator().manual_seed(0)
    check_invariance(net, spec, random_inputs(generator), generator)


def test_the_spec_of_a_residual_net_by_hand_passes() -> None:
    net = seeded(ResidualNet(pool=True))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    _check(net, RESIDUAL)

    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_flattened_head_takes_a_block_of_places_a_channel() -> None:
    _check(seeded(ResidualNet(pool=False)), {**RESIDUAL, "head.weight": (None, ("P1", 16))})


@pytest.mark.parametrize(
    "wrong",
    [
        {"block.conv2.weight": ("Q3", "Q1", None, None), **_norm("block.norm2", "Q3")},
        {"shortcut.weight": ("P1", None, None, None)},
        {"stem.1.running_mean": (None,)},
        {"down.norm1.weight": (None,)},
        {"head.weight": (None, None)},
        {"head.bias": ("P2",)},
    ],
)
def test_a_wrong_entry_is_found(wrong: Spec) -> None:
    with pytest.raises(InputError, match="must not change the outputs, got a relative"):
        _check(seeded(ResidualNet(pool=True)), {**RESIDUAL, **wrong})


@pytest.mark.parametrize("own", ["weight", "bias", "running_mean", "running_var"])
def test_a_wrong_entry_of_a_norm_that_is_still_as_initialised_is_found(own: str) -> None:
    net = seeded(ResidualNet(pool=True))
    net.stem[1].reset_parameters()

    with pytest.raises(InputError, match="must not change the outputs, got a relative"):
        _check(net, {**RESIDUAL, f"stem.1.{own}": (None,)})


@pytest.mark.parametrize("name", NETS)
def test_each_entry_of_a_traced_spec_is_needed(name: str) -> None:
    net = seeded(NETS[name]())
    spec = trace_spec(net, random_inputs(Generator().manual_seed(0)))
    # Softmax takes away what all keys have in common.
    listed = [x for x, axes in spec.items() if any(axes) and x != "keys.bias"]

    assert len(listed) > 2
    for x in listed:
        with pytest.raises(InputError, match="must not change the outputs"):
            _check(net, {**spec, x: (None,) * len(spec[x])})
