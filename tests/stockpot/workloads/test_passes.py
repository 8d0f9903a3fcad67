from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from toy_workload import Toy

from stockpot.workloads.batches import TokenDataset
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.texts.tied_weights import hold_tied_weights_once


class Listed(Dataset[tuple[Tensor, Tensor]]):
    """Examples that are no tensors as a whole."""

    def __init__(self, points: Tensor, targets: Tensor) -> None:
        self._examples = list(zip(points, targets, strict=True))

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._examples[index]


@pytest.mark.parametrize("num_examples", [1, 6, 1024, 2500])
def test_outputs_in_parts_are_those_of_one_pass(num_examples: int) -> None:
    workload = Toy(0, [], [], sizes=f"{num_examples},4")
    points, targets = workload.dataset("val").tensors
    model = empty_model(workload, "cpu")

    examples = Examples(workload, workload.dataset("val"), "cpu")

    torch.testing.assert_close(examples.outputs(model), points @ model.weight.t())
    assert torch.equal(examples.targets, targets)


def test_outputs_of_some_texts_are_in_the_order_of_their_indices() -> None:
    lengths = torch.tensor([3, 1, 2, 1])
    dataset = TokenDataset(torch.arange(4.0)[:, None].repeat(1, 2), torch.zeros(4), lengths=lengths)
    workload = Toy(0, [], [])
    model = empty_model(workload, "cpu")
    put_weights(model, {"weight": torch.eye(2)})

    found = Examples(workload, dataset, "cpu").outputs_of(model, torch.tensor([0, 2, 3]))

    assert found[:, 0].tolist() == [0, 2, 3]


def test_the_loss_is_the_mean_over_all_examples() -> None:
    workload = Toy(0, [], [], sizes="2500,4")
    points, targets = workload.dataset("val").tensors
    model = empty_model(workload, "cpu")
    examples = Examples(workload, workload.dataset("val"), "cpu")

    loss = examples.loss(examples.outputs(model))

    expected = torch.nn.functional.cross_entropy(points @ model.weight.t(), targets)
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("num_examples", [1, 2500])
def test_one_pass_gives_outputs_and_the_loss_of_each(num_examples: int) -> None:
    workload = Toy(0, [], [], sizes=f"{num_examples},4")
    model = empty_model(workload, "cpu")
    examples = Examples(workload, workload.dataset("val"), "cpu")

    outputs, losses = examples.outputs_and_losses(model)

    assert torch.equal(outputs, examples.outputs(model))
    assert losses.shape == (num_examples,)
    assert losses.mean().item() == pytest.approx(examples.loss(outputs))


def test_a_data_set_of_single_examples_gives_the_same_outputs() -> None:
    workload = Toy(0, [], [])
    model = empty_model(workload, "cpu")
    of_tensors = Examples(workload, workload.dataset("val"), "cpu")

    listed = Examples(workload, Listed(*workload.dataset("val").tensors), "cpu")

    torch.testing.assert_close(listed.outputs(model), of_tensors.outputs(model))
    assert torch.equal(listed.targets, of_tensors.targets)


def test_outputs_carry_no_gradient() -> None:
    workload = Toy(0, [], [])

    outputs = Examples(workload, workload.dataset("val"), "cpu").outputs(
        empty_model(workload, "cpu")
    )

    assert not outputs.requires_grad


def test_put_weights_copies_nothing() -> None:
    model = empty_model(Toy(0, [], []), "cpu")
    weight = torch.ones(2, 2)

    put_weights(model, {"weight": weight})

    assert model.weight.data_ptr() == weight.data_ptr()


def test_weights_that_are_written_again_are_not_loaded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workload = Toy(0, [], [])
    model, weights = empty_model(workload, "cpu"), {"weight": torch.ones(2, 2)}
    examples = Examples(workload, workload.dataset("val"), "cpu")
    put_weights(model, weights)
    before = examples.outputs(model).clone()
    weights["weight"].mul_(3)
    monkeypatch.setattr(model, "load_state_dict", None)

    put_weights(model, weights)

    torch.testing.assert_close(examples.outputs(model), 3 * before)
    with pytest.raises(TypeError):  # other memory is loaded, also with equal values
        put_weights(model, {"weight": weights["weight"].clone()})


def test_tied_weights_that_are_written_again_stay_tied() -> None:
    net = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 3), "head": torch.nn.Linear(3, 5)})
    net["head"].weight = net["embed"].weight
    hold_tied_weights_once(net)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    put_weights(net, weights)
    weights["embed.weight"].fill_(7)

    put_weights(net, weights)

    assert net["head"].weight is net["embed"].weight
    assert torch.equal(net["head"].weight, torch.full((5, 3), 7.0))


def test_put_weights_refuses_other_names() -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        put_weights(empty_model(Toy(0, [], []), "cpu"), {"bias": torch.ones(2)})


def test_an_empty_model_is_in_eval_mode() -> None:
    assert not empty_model(Toy(0, [], []), "cpu").training


def test_weights_that_a_model_uses_are_still_copied_into_others() -> None:
    workload = Toy(0, [], [], sizes="4,4")
    weights = empty_model(workload, "cpu").state_dict()
    put_weights(empty_model(workload, "cpu"), weights)
    other = empty_model(workload, "cpu")

    other.load_state_dict(weights)
    other.weight.data += 1

    assert not torch.equal(other.weight, weights["weight"])
