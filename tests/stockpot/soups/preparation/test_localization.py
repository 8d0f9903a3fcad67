"""Learned masks of Localize-and-Stitch: where the skill lies, not where weights moved most."""

from __future__ import annotations

import pytest
import torch
from measured_nets import Built
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.preparation.localization import Localization


class WithDeadWeight(nn.Module):
    """A linear classifier, and a weight that has no effect on its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        self.dead = nn.Parameter(torch.zeros(4))

    def forward(self, points: Tensor) -> Tensor:
        outputs: Tensor = self.layer(points) + 0 * self.dead.sum()
        return outputs


BASE = {"layer.weight": torch.zeros(2, 2), "dead": torch.zeros(4)}
MODEL = {"layer.weight": torch.tensor([[0.4, -0.4], [-0.4, 0.4]]), "dead": torch.full((4,), 9.0)}


def _masks(model: dict[str, Tensor] = MODEL, **options: float) -> dict[str, Tensor]:
    preparation = Localization(**options)  # type: ignore[arg-type]
    workload = Built(WithDeadWeight)
    return preparation.compute(workload, model, seed=0, device="cpu", base=BASE)


def test_the_mask_moves_from_the_largest_entries_to_those_that_lower_the_loss() -> None:
    first, learned = (_masks(density=0.5, l1=0.1, steps=steps) for steps in (1, 60))

    assert (first["dead"].sum(), first["layer.weight"].sum()) == (4, 0)
    assert (learned["dead"].sum(), learned["layer.weight"].sum()) == (0, 4)


@pytest.mark.parametrize(("density", "kept"), [(0.01, 1), (0.25, 2), (1.0, 8)])
def test_the_density_is_exact_and_at_least_one_entry_is_kept(density: float, kept: int) -> None:
    masks = _masks(density=density)

    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    assert {name: (mask.dtype, mask.shape) for name, mask in masks.items()} == {
        name: (torch.bool, tensor.shape) for name, tensor in MODEL.items()
    }


def test_a_loss_that_is_not_finite_is_refused() -> None:
    broken = {**MODEL, "layer.weight": torch.full((2, 2), torch.inf)}

    with pytest.raises(InputError, match="loss of the masked model must be finite"):
        _masks(broken)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"density": 0.0}, "density must be in"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and above 0"),
        ({"l1": -1.0}, "l1 must be finite and at least 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Localization(**options)  # type: ignore[arg-type]
