"""Features of layers: Gram matrices, and for norms the mean squares of normalized inputs."""

from __future__ import annotations

import pytest
import torch
from measured_nets import measure, points
from torch import Tensor, nn
from torch.nn import functional

from stockpot.soups.preparation.gram_matrices import GramMatrices
from stockpot.soups.preparation.layer_features import LayerFeatures


class ShiftedRmsNorm(nn.Module):
    """As in Gemma: the scale is stored as its difference from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0]))

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.rms_norm(inputs, (2,)) * (1 + self.weight)


def test_linear_layers_have_their_gram_matrices() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))

    found = measure(LayerFeatures(8), net)

    expected = measure(GramMatrices(8), net)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("norm", [nn.LayerNorm(2), nn.RMSNorm(2), ShiftedRmsNorm()], ids=repr)
def test_norms_have_the_mean_squares_of_their_normalized_inputs(norm: nn.Module) -> None:
    is_layer_norm = isinstance(norm, nn.LayerNorm)
    normalize = functional.layer_norm if is_layer_norm else functional.rms_norm
    expected = normalize(points(), (2,)).square().mean(dim=0)
    assert isinstance(norm.weight, nn.Parameter)
    before = norm.weight.detach().clone()

    found = measure(LayerFeatures(8), nn.Sequential(norm, nn.Linear(2, 3)))

    torch.testing.assert_close(found["0.weight"], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(norm.weight, before)


def test_a_batch_norm_is_measured_with_its_running_statistics_also_where_its_scale_is_0() -> None:
    norm = nn.BatchNorm1d(2)
    norm.weight.data[1] = 0
    norm.running_mean, norm.running_var = torch.tensor([0.5, -0.5]), torch.tensor([4.0, 0.25])

    found = measure(LayerFeatures(8), nn.Sequential(norm, nn.Linear(2, 3)))

    normalized = (points() - torch.tensor([0.5, -0.5])) / torch.tensor([4.0, 0.25]).sqrt()
    torch.testing.assert_close(
        found["0.weight"], normalized.square().mean(dim=0), rtol=1e-4, atol=1e-4
    )
