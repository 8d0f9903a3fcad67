"""Fine-tuning in a random subspace: P, its columns, and means of coordinates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from stockpot.diagnostics.states import mean_state
from stockpot.errors import InputError
from stockpot.ingredients.finetuning.adapters import TunedWeights
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters, SubspaceKind
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.random_projections import hadamard, random_projections
from stockpot.ingredients.finetuning.subspace import COORDINATES, expand, train_in_subspace
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.seeding import seeded_generator
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=0.1,
    weight_decay=0.0,
    epochs=1,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    subspace=12,
)
DIGITS = Digits(0, [], [])
KINDS: tuple[SubspaceKind, ...] = ("fastfood", "dense", "sparse")
every_kind = pytest.mark.parametrize("kind", KINDS)
SIZES = {"a.weight": 700, "a.bias": 9, "b.weight": 1600}
CPU = torch.device("cpu")


def _matrix(kind: SubspaceKind, dimension: int, seed: int = 0) -> Tensor:
    """Return P (D, d), column by column."""
    rows = random_projections(SIZES, dimension, kind, seed, CPU)
    eye = torch.eye(dimension)
    return torch.stack([torch.cat([part(unit) for part in rows.values()]) for unit in eye], dim=1)


def _start() -> dict[str, Tensor]:
    state: dict[str, Tensor] = DIGITS.build_model(seeded_generator(0)).state_dict()
    return state


def _tuned(**values: object) -> TunedWeights:
    how = replace(HOW, **values)  # type: ignore[arg-type]
    return fine_tune(DIGITS, _start(), how, split="pretrain")


@every_kind
def test_the_columns_have_length_one(kind: SubspaceKind) -> None:
    lengths = _matrix(kind, 20).norm(dim=0)

    # fastfood leaves out rows of each tensor's last block: its lengths are 1 on average
    tolerance = 0.15 if kind == "fastfood" else 1e-5
    assert_close(lengths, torch.ones(20), rtol=0, atol=tolerance)
    assert lengths.square().mean().item() == pytest.approx(1, abs=0.05)


@every_kind
def test_the_columns_are_nearly_orthogonal_and_depend_on_the_seed_alone(
    kind: SubspaceKind,
) -> None:
    matrix = _matrix(kind, 20)

    assert torch.linalg.matrix_rank(matrix) == 20
    assert (matrix.T @ matrix - torch.eye(20)).abs().max() < 0.3
    assert torch.equal(matrix, _matrix(kind, 20))
    assert not torch.equal(matrix, _matrix(kind, 20, seed=1))


def test_sparse_columns_have_about_the_root_of_the_weights_in_entries() -> None:
    entries = (_matrix("sparse", 20) != 0).sum(dim=0)

    root = round(math.sqrt(sum(SIZES.values())))
    assert ((entries > 0.9 * root) & (entries <= root)).all()


def test_the_hadamard_transform_is_that_of_its_matrix() -> None:
    expected = torch.ones(1, 1)
    for _ in range(3):
        expected = torch.cat(
            [torch.cat([expected, expected], 1), torch.cat([expected, -expected], 1)]
        )
    rows = torch.randn(5, 8, generator=Generator().manual_seed(0))

    assert_close(hadamard(rows), rows @ expected)
    assert torch.equal(hadamard(rows[:, :1]), rows[:, :1])


@every_kind
def test_the_model_is_unchanged_at_zero_to_the_bit(kind: SubspaceKind) -> None:
    net = DIGITS.build_model(seeded_generator(0))
    images = DIGITS.dataset("val").tensors[0][:20]
    before, start = net(images), _start()
    how = replace(HOW, subspace_kind=kind)

    made = train_in_subspace(net, how, TrainedParts.of(net, how))

    assert torch.equal(net(images), before)
    merged = made.merged(net.state_dict())
    assert [*merged] == [*start]
    assert all(torch.equal(merged[name], start[name]) for name in start)
    assert made.trained.trained == {COORDINATES}


@every_kind
def test_the_gradient_of_coordinates_is_that_of_weights_times_p(kind: SubspaceKind) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    inputs = torch.randn(4, 6)
    net(inputs).square().sum().backward()
    slopes = torch.cat([one.grad.flatten() for one in net.parameters() if one.grad is not None])
    how = replace(HOW, subspace=7, subspace_kind=kind)
    sizes = {name: one.numel() for name, one in net.named_parameters()}
    rows = random_projections(sizes, 7, kind, 0, CPU)
    matrix = torch.stack([torch.cat([p(e) for p in rows.values()]) for e in torch.eye(7)], dim=1)

    train_in_subspace(net, how, TrainedParts.of(net, how))
    net(inputs).square().sum().backward()

    found = dict(net.named_parameters())[COORDINATES].grad
    assert_close(found, matrix.T @ slopes, rtol=1e-4, atol=1e-4)


@every_kind
def test_coordinates_and_seed_give_the_ingredient_to_the_bit(kind: SubspaceKind) -> None:
    tuned = _tuned(subspace_kind=kind)

    assert tuned.adapter is not None
    assert tuned.adapter.tensors.keys() == {COORDINATES}
    assert tuned.adapter.config["seed"] == 0
    again = expand(_start(), tuned.adapter.config, tuned.adapter.tensors[COORDINATES])
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in again.items())
    assert not torch.equal(tuned["head.weight"], _start()["head.weight"])


@every_kind
def test_the_mean_of_coordinates_is_the_mean_of_weights(kind: SubspaceKind) -> None:
    ingredients = [_tuned(subspace_kind=kind, seed=seed) for seed in (1, 2, 3)]
    adapters = [one.adapter for one in ingredients if one.adapter]
    mean = torch.stack([one.tensors[COORDINATES] for one in adapters]).mean(dim=0)

    soup = mean_state(ingredients)

    assert adapters[0].config == adapters[2].config
    assert not torch.equal(ingredients[0]["head.weight"], ingredients[1]["head.weight"])
    assert_close(expand(_start(), adapters[0].config, mean), soup, rtol=0, atol=1e-6)


def test_with_as_many_dimensions_as_weights_anything_can_be_fitted() -> None:
    target = torch.randn(sum(SIZES.values()), generator=Generator().manual_seed(1))
    sizes = {"weight": 60}
    rows = random_projections(sizes, 60, "dense", 0, CPU)
    matrix = torch.stack([rows["weight"](unit) for unit in torch.eye(60)], dim=1)

    coordinates = torch.linalg.solve(matrix, target[:60])

    assert_close(rows["weight"](coordinates), target[:60], rtol=0, atol=1e-3)


def test_frozen_weights_have_no_part_in_the_subspace() -> None:
    tuned, start = _tuned(frozen="features.0.*"), _start()

    assert tuned.adapter is not None
    assert "features.0.weight" not in tuned.adapter.config["sizes"]
    same = {name for name in start if torch.equal(tuned[name], start[name])}
    assert same == {"features.0.weight", "features.0.bias"}


def test_tied_weights_stay_tied() -> None:
    net = nn.Module()
    net.embedding = nn.Embedding(9, 4)
    net.output = nn.Linear(4, 9, bias=False)
    net.output.weight = net.embedding.weight
    how = replace(HOW, subspace=3)
    made = train_in_subspace(net, how, TrainedParts.of(net, how))
    net.subspace_coordinates.data.fill_(1.0)

    merged = made.merged(net.state_dict())

    assert torch.equal(net.embedding.weight, net.output.weight)
    assert torch.equal(merged["embedding.weight"], merged["output.weight"])
    assert torch.equal(merged["output.weight"], net.output.weight)


def test_a_recurrent_net_uses_the_moved_weights() -> None:
    net = nn.GRU(3, 4)
    inputs, how = torch.randn(5, 2, 3), replace(HOW, subspace=6)
    made = train_in_subspace(net, how, TrainedParts.of(net, how))
    net.subspace_coordinates.data.fill_(2.0)
    plain = nn.GRU(3, 4)

    plain.load_state_dict(made.merged(net.state_dict()))

    assert_close(net(inputs)[0], plain(inputs)[0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"subspace": 10**6}, "subspace: must be at most the number of trained weights, 36690"),
        ({"subspace": 30_000, "subspace_kind": "dense"}, "take fastfood"),
        ({"adapter": "lora"}, "adapter: must be 'none' with subspace"),
        ({"compander": 1.2}, "compander: must be 0.0 with subspace"),
        ({"sparsity": 0.5}, "sparsity: must be 0.0 with subspace"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        _tuned(**values)
