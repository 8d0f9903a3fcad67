"""Workloads whose models have what checkpoints differ in: BatchNorm, a head, tied weights."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from toy_workload import Toy

State = dict[str, Tensor]


class NormedToy(Toy):
    """Points in the plane, through BatchNorm to a head of two classes."""

    def build_model(self, generator: Generator) -> nn.Module:
        body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        model = nn.ModuleDict({"body": body, "head": nn.Linear(3, 2)})
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        return model


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.table.weight


class TiedToy(Toy):
    """A model whose head is its table."""

    def build_model(self, generator: Generator) -> nn.Module:  # noqa: ARG002 (no values are needed)
        return _Tied()


def make(kind: type[Toy]) -> Toy:
    """Build a workload without shifts."""
    return kind(0, [], [])


def state_of(workload: Toy, seed: int = 0) -> State:
    """Return the weights of a model, drawn from a seed."""
    model = workload.build_model(torch.Generator().manual_seed(seed))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
