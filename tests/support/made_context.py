"""DiagnosticContext of a diagnostic, made of weights that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.states import mean_state
from stockpot.seeding import seeded_generator
from stockpot.storage.store import Store
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec

State = Mapping[str, Tensor]
DIGITS = WorkloadSpec("digits", seed=0, val_shifts=("blur",), test_shifts=("noise",))


def make_context(
    root: Path, base: State, ingredients: Sequence[State], soups: Mapping[str, State] | None = None
) -> DiagnosticContext:
    """Put weights of the digits' net into a store; without soups, their uniform average is one."""
    return make_context_of(DIGITS, root, base, ingredients, soups)


def make_context_of(
    spec: WorkloadSpec,
    root: Path,
    base: State,
    ingredients: Sequence[State],
    soups: Mapping[str, State] | None = None,
) -> DiagnosticContext:
    """Do the same for another workload; every soup is said to be the uniform average."""
    workload = spec.build()
    metric = next(iter(workload.metrics))
    names = [f"ingredient-{number:02d}" for number in range(len(ingredients))]
    details = {"coefficients": dict.fromkeys(names, 1 / len(names))}
    merged = {"uniform": mean_state(ingredients)} if soups is None else soups

    def put(kind: str, name: str, state: State, details: Mapping[str, Any]) -> LoadedModel:
        model = Store(root).save(kind, f"{kind}-{name}", name, state, {})
        return LoadedModel(root, replace(model, details=details).scored({f"val/{metric}": 0.5}))

    return DiagnosticContext(
        workload=workload,
        device="cpu",
        seed=0,
        metric=metric,
        base=put("base", "base", base, {}),
        ingredients=tuple(
            put("ingredient", name, state, {})
            for name, state in zip(names, ingredients, strict=True)
        ),
        soups=tuple(put("soup", name, state, details) for name, state in merged.items()),
    )


def initial_state(workload: Workload, seed: int = 0) -> dict[str, Tensor]:
    """Return weights as they are before any training."""
    net = workload.build_model(seeded_generator(seed, "initial state"))
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def moved(state: State, size: float, seed: int) -> dict[str, Tensor]:
    """Move each weight at random, by `size` times the deviation of its tensor."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + size * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in state.items()
    }
