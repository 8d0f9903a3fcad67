"""Layers by the names of their parameters, and their learning rates."""

from __future__ import annotations

import pytest
from torch import nn

from stockpot.ingredients.finetuning.layer_decay import layers_of, parameter_groups
from stockpot.workloads.images.conv_net import ConvNet


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (
            ["features.0.weight", "features.0.bias", "head.weight"],
            ["features.0", "features.0", "head"],
        ),
        (
            [
                "bert.embeddings.words.weight",
                "bert.embeddings.norm.weight",
                "bert.encoder.layer.0.attention.weight",
                "bert.encoder.layer.0.mlp.2.weight",
                "bert.encoder.layer.1.attention.weight",
                "bert.pooler.dense.weight",
                "classifier.weight",
            ],
            [
                *["bert.embeddings"] * 2,
                *["bert.encoder.layer.0"] * 2,
                *["bert.encoder.layer.1", "bert.pooler", "classifier"],
            ],
        ),
        (["net.first.weight", "net.second.weight"], ["net.first", "net.second"]),
        (["weight"], ["weight"]),
    ],
)
def test_a_layer_is_a_numbered_module_or_the_largest_module_without_one(
    names: list[str], layers: list[str]
) -> None:
    assert layers_of(names) == layers


def test_rates_fall_from_the_last_layer_to_the_first() -> None:
    groups = parameter_groups(ConvNet(10), 0.5)

    assert [group["lr_scale"] for group in groups] == [0.125, 0.25, 0.5, 1.0]
    assert [len(group["params"]) for group in groups] == [2, 2, 2, 2]


def test_without_decay_all_trained_parameters_are_one_group() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)

    (group,) = parameter_groups(net, 1.0)

    assert group == {"params": [net[1].weight, net[1].bias], "lr_scale": 1.0}
