from __future__ import annotations

import measured_nets
import pytest
import torch
from measured_nets import points
from torch import Tensor, nn

from stockpot.soups.preparation.gram_matrices import GramMatrices, layer_inputs


def measure(model: nn.Module, *, n: int = 8, max_in: int = 16384) -> dict[str, Tensor]:
    return measured_nets.measure(GramMatrices(n, max_in), model)


def test_of_a_linear_layer_it_is_the_mean_product_of_its_inputs() -> None:
    found = measure(nn.Linear(2, 3))

    assert found.keys() == {"weight"}
    torch.testing.assert_close(found["weight"], (points().mT @ points() / 8).unsqueeze(0))


def test_a_layer_further_in_is_measured_behind_those_before_it() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.9), nn.ReLU(), nn.Linear(4, 3))
    inputs = torch.relu(model[0](points().float())).double()

    found = measure(model)

    assert found.keys() == {"0.weight", "3.weight"}
    torch.testing.assert_close(found["3.weight"][0], inputs.mT @ inputs / 8)


def test_positions_before_the_last_axis_are_inputs_of_their_own() -> None:
    model = nn.Sequential(nn.Unflatten(1, (2, 1)), nn.Linear(1, 3), nn.Flatten())

    found = measure(model)

    torch.testing.assert_close(found["1.weight"], points().square().mean().view(1, 1, 1))


def test_a_layer_that_is_called_twice_has_one_mean_over_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, points: Tensor) -> Tensor:
            called: Tensor = self.layer(self.layer(points))
            return called

    model = Twice()
    inputs = torch.cat([points(), model.layer(points().float()).double()])

    found = measure(model)

    torch.testing.assert_close(found["layer.weight"][0], inputs.mT @ inputs / 16)


def test_of_a_layer_with_many_inputs_the_diagonal_is_kept() -> None:
    model = nn.Linear(2, 3)

    torch.testing.assert_close(
        measure(model, max_in=1)["weight"], measure(model)["weight"].diagonal(dim1=1, dim2=2)
    )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), ((2, 1), 1), (1, (1, 2))])
def test_unfolded_inputs_times_weights_are_what_a_convolution_computes(
    groups: int, padding: int, stride: int, dilation: int
) -> None:
    layer = nn.Conv2d(4, 6, (3, 2), stride, padding, dilation, groups, bias=False)
    images = torch.randn(2, 4, 7, 6, generator=torch.Generator().manual_seed(2))

    rows = layer_inputs(layer, images)  # (G, R, D)

    products = rows @ layer.weight.reshape(groups, 6 // groups, -1).mT  # (G, R, out / G)
    computed = layer(images).permute(1, 0, 2, 3).reshape(groups, 6 // groups, -1).mT
    torch.testing.assert_close(products, computed)


def test_a_grouped_convolution_has_a_matrix_a_group() -> None:
    unflatten, layer = nn.Unflatten(1, (2, 1, 1)), nn.Conv2d(2, 4, 1, groups=2)

    found = measure(nn.Sequential(unflatten, layer, nn.Flatten()))["1.weight"]

    torch.testing.assert_close(found, points().square().mean(dim=0).view(2, 1, 1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 1, padding="same"),
        nn.Conv2d(2, 2, 1, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(2),
        nn.Conv3d(2, 2, 1),
    ],
    ids=str,
)
def test_what_is_no_such_layer_is_left_out(layer: nn.Module) -> None:
    shape = (2, 3, 3, 3) if isinstance(layer, nn.Conv3d) else (2, 3, 3)
    widen = nn.Linear(2, 2 * 3 ** (len(shape) - 1))

    found = measure(nn.Sequential(widen, nn.Unflatten(1, shape), layer, nn.Flatten()))

    assert found.keys() == {"0.weight"}


def test_a_layer_that_is_never_called_is_left_out() -> None:
    model = nn.Linear(2, 2)
    model.unused = nn.Linear(2, 2)

    assert measure(model).keys() == {"weight"}


def test_models_are_measured_in_float64_on_as_many_examples_as_asked_for() -> None:
    found = measure(nn.Linear(2, 3), n=1)["weight"]

    assert found.dtype == torch.float64
    assert torch.linalg.matrix_rank(found[0]) == 1
