from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import TensorDataset
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.scoring.val_gradients import LabelledVal, UnlabelledVal

WEIGHT = torch.tensor([[0.7, -0.2], [0.1, 0.9]])


def _toy(sizes: str = "41,4") -> Toy:
    return Toy(0, ["near"], ["far"], sizes=sizes, closed="test")


class Relabelled(Toy):
    """The toy workload with every label wrong, and as large as no loss could take."""

    def dataset(self, split: str) -> TensorDataset:
        points, targets = super().dataset(split).tensors
        return TensorDataset(points, targets + 1_000_000)


def _labelled(seed: int = 0, sizes: str = "41,4") -> LabelledVal:
    return LabelledVal(_toy(sizes), "cpu", batch_size=8, seed=seed)


def _unlabelled(workload: Toy) -> UnlabelledVal:
    return UnlabelledVal(workload, "cpu", batch_size=16, seed=0)


def test_the_loss_on_a_batch_is_that_of_scaled_outputs_with_both_gradients() -> None:
    val = LabelledVal(_toy("2,4"), "cpu", batch_size=8, seed=0)
    (loss,) = val.batches(1)  # of the one example that is fitted on

    value, gradient, slope = loss({"weight": WEIGHT}, 1.5)

    points, targets = _toy("2,4").dataset("val").tensors
    weight, beta = WEIGHT.clone().requires_grad_(), torch.tensor(1.5, requires_grad=True)
    losses = functional.cross_entropy(beta * points @ weight.t(), targets, reduction="none")
    expected = losses[int((losses - value).abs().argmin())]
    slopes = torch.autograd.grad(expected, [weight, beta])
    assert value == pytest.approx(expected.item())
    torch.testing.assert_close(gradient["weight"], slopes[0])
    assert slope == pytest.approx(slopes[1].item())


def test_the_halves_share_no_example_and_hold_all() -> None:
    val = _labelled()
    fitted = [loss({"weight": WEIGHT}, 1.0)[0] for loss in val.batches(1)]

    _, loss, fit_loss = val.judge({"weight": WEIGHT}, 1.0)

    points, targets = _toy().dataset("val").tensors
    whole = functional.cross_entropy(points @ WEIGHT.t(), targets).item()
    assert len(fitted) == 3  # 21 examples in batches of 8
    assert fit_loss == pytest.approx((8 * fitted[0] + 8 * fitted[1] + 5 * fitted[2]) / 21)
    assert (21 * fit_loss + 20 * loss) / 41 == pytest.approx(whole)
    assert loss != pytest.approx(fit_loss)


def test_epochs_take_the_same_half_in_other_orders_which_the_seed_fixes() -> None:
    def losses(val: LabelledVal, epoch: int) -> list[float]:
        return [loss({"weight": WEIGHT}, 1.0)[0] for loss in val.batches(epoch)]

    assert losses(_labelled(), 1) == losses(_labelled(), 1)
    assert losses(_labelled(), 1) != losses(_labelled(), 2)
    judged = [_labelled(seed).judge({"weight": WEIGHT}, 1.0) for seed in (0, 0, 1)]
    assert judged[0] == judged[1]
    assert judged[0] != judged[2]


def test_one_example_is_not_enough_for_two_halves() -> None:
    with pytest.raises(InputError, match="val must have at least 2 examples, got 1"):
        _labelled(sizes="1,4")


def test_no_other_split_than_val_is_opened() -> None:
    _labelled().judge({"weight": WEIGHT}, 1.0)
    _unlabelled(_toy()).class_entropy({"weight": WEIGHT})


def test_the_entropy_of_a_batch_has_the_gradient_of_finite_differences() -> None:
    first, *_ = _unlabelled(_toy("16,4")).batches(1)

    value, gradient, _ = first({"weight": WEIGHT}, 1.0)

    inputs = _toy("16,4").dataset("val").tensors[0]
    shares = (inputs @ WEIGHT.t()).softmax(dim=1)
    assert value == pytest.approx(-(shares * shares.log()).sum(dim=1).mean().item())
    steps = 1e-2 * torch.eye(4).view(4, 2, 2)
    slopes = [(_value(first, step) - _value(first, -step)) / 2e-2 for step in steps]
    torch.testing.assert_close(
        gradient["weight"].flatten(), torch.tensor(slopes), rtol=1e-2, atol=1e-4
    )


def _value(entropy: object, step: Tensor) -> float:
    result: float = entropy({"weight": WEIGHT + step}, 1.0)[0]  # type: ignore[operator]  # as batches give it
    return result


def test_labels_count_for_no_entropy() -> None:
    wrong = Relabelled(0, ["near"], ["far"], sizes="41,4", closed="test")
    weights = {"weight": WEIGHT}

    ours, theirs = (
        ([entropy(weights, 1.0) for entropy in val.batches(1)], val.class_entropy(weights))
        for val in (_unlabelled(_toy()), _unlabelled(wrong))
    )

    assert [value for value, *_ in ours[0]] == [value for value, *_ in theirs[0]]
    torch.testing.assert_close(
        [g for _, g, _ in ours[0]], [g for _, g, _ in theirs[0]], rtol=0, atol=0
    )
    assert ours[1] == theirs[1]


def test_the_entropy_of_classes_is_zero_if_one_is_always_predicted() -> None:
    val = _unlabelled(_toy("400,4"))
    points, targets = _toy("400,4").dataset("val").tensors

    same, both = (
        val.class_entropy({"weight": weight}) for weight in (torch.zeros(2, 2), torch.eye(2))
    )

    share = targets.double().mean()
    expected = -(share * share.log() + (1 - share) * (1 - share).log())
    assert len(points) == 400
    assert same == 0
    assert both == pytest.approx(expected.item())


def test_every_pass_shows_every_input_once() -> None:
    batches = list(_unlabelled(_toy()).batches(3))

    assert len(batches) == 3  # 41 inputs in batches of 16
    values = [entropy({"weight": WEIGHT}, 1.0)[0] for entropy in batches]
    assert all(first != second for first, second in pairwise(values))


class OfTask(Toy):
    """The toy workload, called a language model."""

    task = "language_model"


@pytest.mark.parametrize("kind", [LabelledVal, UnlabelledVal])
def test_a_language_model_has_no_outputs_to_search_with(kind: type) -> None:
    with pytest.raises(InputError, match=r"got .*language.model.*; use search: optuna"):
        kind(OfTask(0, [], []), "cpu", batch_size=8, seed=0)
