from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_text_workloads import bert_workload, llama_workload
from torch import Generator, Tensor, nn
from torch.utils.data import TensorDataset
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.soups.preparation.fisher_information import FisherInformation
from stockpot.soups.preparation.squared_gradients import sample_labels
from stockpot.workloads import example_gradients
from stockpot.workloads.batches import take
from stockpot.workloads.passes import empty_model
from stockpot.workloads.protocol import Batch, Task, Workload


class Built(Toy):
    """The toy workload with another model, and perhaps other labels in train."""

    def __init__(self, build: Callable[[], nn.Module], label: int | None = None) -> None:
        super().__init__(seed=0, val_shifts=[], test_shifts=[])
        self._build, self._label = build, label

    def build_model(self, generator: Generator) -> nn.Module:  # noqa: ARG002 (the protocol's)
        return self._build()

    def dataset(self, split: str) -> TensorDataset:
        data = super().dataset(split)
        if self._label is None:
            return data
        points, targets = data.tensors
        return TensorDataset(points, torch.full_like(targets, self._label))


class OneWeight(nn.Module):
    """Logistic regression of the first coordinate: logits 0 and w x."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.3))

    def forward(self, points: Tensor) -> Tensor:
        logit = self.w * points[:, 0]
        return torch.stack([torch.zeros_like(logit), logit], dim=-1)


def three_classes() -> nn.Module:
    model = nn.Linear(2, 3, bias=False)
    model.weight.data = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.8]])
    return model


def deep() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


def estimate(
    build: Callable[[], nn.Module] = three_classes,
    *,
    label: int | None = None,
    seed: int = 0,
    estimator: str = "exact",
    n: int = 8,
    draws: int = 1,
) -> dict[str, Tensor]:
    preparation = FisherInformation(estimator, n, draws)
    workload = Built(build, label)
    return preparation.compute(workload, build().state_dict(), seed=seed, device="cpu")


def points() -> Tensor:
    return Built(three_classes).dataset("train").tensors[0]


def test_exact_of_a_linear_softmax_is_its_formula() -> None:
    probabilities = three_classes()(points()).softmax(dim=-1)

    found = estimate()["weight"]

    variance = probabilities * (1 - probabilities)  # (N, C)
    torch.testing.assert_close(found, variance.mT @ points().square() / 8)


def test_exact_of_a_logistic_regression_with_one_weight_is_its_formula() -> None:
    p = torch.sigmoid(1.3 * points()[:, 0])

    found = estimate(OneWeight)["w"]

    torch.testing.assert_close(found, (p * (1 - p) * points()[:, 0] ** 2).mean())


def test_exact_is_the_sum_over_examples_and_classes_one_by_one() -> None:
    model = deep().eval()
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for point in points():
        log_probabilities = model(point.unsqueeze(0)).log_softmax(dim=-1)[0]
        for log_probability in log_probabilities:
            gradients = torch.autograd.grad(
                log_probability, list(model.parameters()), retain_graph=True
            )
            for name, gradient in zip(expected, gradients, strict=True):
                expected[name] += log_probability.exp().detach() * gradient**2 / 8

    found = estimate(deep)

    torch.testing.assert_close(found, expected)


def test_empirical_squares_the_gradients_of_the_true_labels() -> None:
    probabilities = three_classes()(points()).softmax(dim=-1)
    is_true = torch.tensor([0.0, 1.0, 0.0])

    found = estimate(estimator="empirical", label=1)["weight"]

    squares = (is_true - probabilities).square()
    torch.testing.assert_close(found, squares.mT @ points().square() / 8)


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_labels_are_read_by_empirical_alone(estimator: str) -> None:
    first, second = (estimate(estimator=estimator, label=label) for label in (0, 1))
    empirical = [estimate(estimator="empirical", label=label)["weight"] for label in (0, 1)]

    assert torch.equal(first["weight"], second["weight"])
    assert not torch.allclose(*empirical)


def test_sampled_comes_near_to_exact_with_many_draws() -> None:
    torch.testing.assert_close(
        estimate(estimator="sampled", draws=4000)["weight"],
        estimate()["weight"],
        rtol=0.05,
        atol=0.005,
    )


@pytest.mark.parametrize(("num_classes", "same"), [(64, "exact"), (65, "sampled")])
def test_auto_samples_from_the_model_where_classes_are_many(num_classes: int, same: str) -> None:
    def build() -> nn.Module:
        torch.manual_seed(3)
        return nn.Linear(2, num_classes)

    found, others = (estimate(build, estimator=e) for e in ("auto", same))

    assert all(torch.equal(found[name], others[name]) for name in others)


def test_sampled_depends_on_the_seed_alone() -> None:
    first, again, other = (estimate(estimator="sampled", seed=seed) for seed in (0, 0, 1))

    assert torch.equal(first["weight"], again["weight"])
    assert not torch.equal(first["weight"], other["weight"])


def test_sampled_labels_are_as_frequent_as_the_model_says() -> None:
    probabilities = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])

    labels, shares = sample_labels(probabilities, 20_000, torch.Generator().manual_seed(3))

    frequency = torch.nn.functional.one_hot(labels, 3).float().mean(dim=1)
    torch.testing.assert_close(frequency, probabilities, rtol=0, atol=0.02)
    assert (frequency[probabilities == 0] == 0).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("num_numbers", [1, 70, 10**6])
@pytest.mark.parametrize("estimator", ["exact", "sampled", "empirical"])
def test_how_many_gradients_are_in_memory_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, estimator: str, num_numbers: int
) -> None:
    expected = estimate(deep, estimator=estimator, draws=3)
    monkeypatch.setattr(example_gradients, "_AT_ONCE", num_numbers)

    found = estimate(deep, estimator=estimator, draws=3)

    torch.testing.assert_close(found, expected)


def test_an_input_that_is_always_0_gives_no_information() -> None:
    class Blind(nn.Linear):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points * torch.tensor([1.0, 0.0]))

    found = estimate(lambda: Blind(2, 3))["weight"]

    assert (found[:, 1] == 0).all()
    assert (found[:, 0] > 0).all()


def test_dropout_is_off() -> None:
    def with_dropout() -> nn.Module:
        model = nn.Sequential(nn.Dropout(0.9), nn.Linear(2, 3, bias=False))
        model[1].load_state_dict(three_classes().state_dict())
        return model

    assert torch.equal(estimate(with_dropout)["1.weight"], estimate()["weight"])


def test_buffers_have_no_information_and_stay() -> None:
    model = deep()

    found = estimate(lambda: model)

    assert found.keys() == dict(model.named_parameters()).keys()
    assert torch.equal(model.state_dict()["1.running_mean"], torch.zeros(5))
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


def test_some_examples_are_drawn_by_the_seed() -> None:
    first, again, other = (estimate(n=3, seed=seed)["weight"] for seed in (0, 0, 1))
    of_all, more_than_all = estimate(n=8)["weight"], estimate(n=100)["weight"]

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(of_all, more_than_all)


def test_the_norm_is_that_of_all_tensors_together() -> None:
    kept = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}

    side = FisherInformation().side_information(kept)

    assert {name: information.norm for name, information in side.items()} == {"a": 5.0, "b": 5.0}
    assert all(torch.equal(side[name].diagonal, kept[name]) for name in kept)


def test_outputs_of_one_number_are_no_classes() -> None:
    with pytest.raises(InputError, match=r"logits \(N, C\) of two classes or more, got .*\(8, 1\)"):
        estimate(lambda: nn.Linear(2, 1))


class Measured(Built):
    """The toy workload with numbers of any shape as targets."""

    task: Task = "regression"

    def __init__(
        self, build: Callable[[], nn.Module], points: Tensor, targets: Tensor | None = None
    ) -> None:
        super().__init__(build)
        self._points = points
        self._targets = torch.zeros(len(points), 2) if targets is None else targets

    def dataset(self, split: str) -> TensorDataset:  # noqa: ARG002 (all splits are the same)
        return TensorDataset(self._points, self._targets)


def linear(num_outputs: int = 2) -> nn.Module:
    model = nn.Linear(3, num_outputs)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


def of_numbers(
    build: Callable[[], nn.Module] = linear,
    targets: Tensor | None = None,
    num_points: int = 64,
    **options: int | str,
) -> dict[str, Tensor]:
    """Estimate the information of a regression on 64 points of a normal distribution."""
    drawn = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))[:num_points]
    workload = Measured(build, drawn, targets)
    preparation = FisherInformation(**options)  # type: ignore[arg-type]  # a test's options
    return preparation.compute(workload, build().state_dict(), seed=0, device="cpu")


@pytest.mark.parametrize("num_outputs", [1, 2, 5])
def test_a_regression_of_any_number_of_outputs_is_gaussian(num_outputs: int) -> None:
    found = of_numbers(lambda: linear(num_outputs))

    # The mean of x^2, for each output; a softmax would have p (1 - p) x^2.
    by_hand = torch.tensor([0.795, 0.843, 1.158]).expand(num_outputs, 3)
    torch.testing.assert_close(found["weight"], by_hand, rtol=0, atol=5e-4)
    torch.testing.assert_close(found["bias"], torch.ones(num_outputs))


def test_outputs_without_a_second_dimension_are_one_number_each() -> None:
    class Flat(nn.Linear):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points).squeeze(1)

    def flat() -> nn.Module:
        model = Flat(3, 1)
        model.load_state_dict(linear(1).state_dict())
        return model

    assert torch.equal(of_numbers(flat)["weight"], of_numbers(lambda: linear(1))["weight"])


def test_empirical_of_a_regression_squares_the_gradient_at_the_true_numbers() -> None:
    targets = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    drawn = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    errors = (targets - linear()(drawn)).detach()

    found = of_numbers(targets=targets, estimator="empirical")

    torch.testing.assert_close(found["weight"], errors.square().mT @ drawn.square() / 64)


def test_sampled_of_a_regression_comes_near_to_exact() -> None:
    exact, sampled = (
        of_numbers(estimator=name, draws=3000, num_points=8) for name in ("exact", "sampled")
    )

    torch.testing.assert_close(sampled, exact, rtol=0.1, atol=0.02)


def texts(workload: Workload, count: int) -> Batch:
    """Return the first examples, cut to the longest."""
    return take(workload.dataset("train"), torch.arange(count))


def test_a_bert_has_the_information_of_its_classes(tmp_path: Path) -> None:
    workload = bert_workload(tmp_path)
    net = empty_model(workload, "cpu")
    data = workload.dataset("train")

    found = FisherInformation(n=12).compute(workload, net.state_dict(), seed=0, device="cpu")

    own = dict(net.named_parameters())
    expected = {name: torch.zeros_like(each) for name, each in own.items()}
    for row in range(12):
        log_shares = workload.forward(net, take(data, torch.tensor([row]))).log_softmax(dim=-1)[0]
        for log_share in log_shares:
            slopes = torch.autograd.grad(log_share, [*own.values()], retain_graph=True)
            for name, slope in zip(own, slopes, strict=True):
                expected[name] += log_share.exp().detach() * slope**2 / 12
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_empirical_of_a_language_model_squares_the_gradient_of_each_token(tmp_path: Path) -> None:
    workload = llama_workload(tmp_path)
    net = empty_model(workload, "cpu")

    found = FisherInformation("empirical").compute(workload, net.state_dict(), seed=0, device="cpu")

    own = dict(net.named_parameters())
    expected, count = {name: torch.zeros_like(each) for name, each in own.items()}, 0
    batch = texts(workload, 12)
    for row in range(12):
        example = tuple(tensor[row : row + 1] for tensor in batch)
        losses = workload.forward(net, example)[example[-1] != -100]
        count += len(losses)
        for loss in losses:
            slopes = torch.autograd.grad(loss, [*own.values()], retain_graph=True)
            for name, slope in zip(own, slopes, strict=True):
                expected[name] += slope**2
    expected = {name: each / count for name, each in expected.items()}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_a_language_model_has_the_information_of_tokens_that_it_would_write(
    tmp_path: Path,
) -> None:
    workload = llama_workload(tmp_path)
    net = empty_model(workload, "cpu")
    batch = texts(workload, 12)

    found = FisherInformation(draws=40).compute(workload, net.state_dict(), seed=0, device="cpu")

    with torch.no_grad():
        hidden = net.model(batch[0], attention_mask=batch[1]).last_hidden_state
        shares = workload.logits(net, batch).softmax(dim=-1)
    used = batch[-1][:, : shares.shape[1]] != -100
    # The final norm's scale g multiplies x: logits = W (g x), and dlog p_v = (W_v - E W) * x.
    scale = net.model.norm.weight.detach()
    head = net.lm_head.weight.detach()
    total = torch.zeros_like(scale)
    for x, p in zip((hidden / scale)[used], shares[used], strict=True):
        slopes = (head - p @ head) * x  # (V, D)
        total += p @ slopes.square()
    torch.testing.assert_close(found["model.norm.weight"], total / used.sum(), rtol=0.3, atol=1e-4)
    assert all(tensor.isfinite().all() for tensor in found.values())


def test_what_is_no_estimator_of_a_language_model_is_refused_in_words(tmp_path: Path) -> None:
    class WithoutLogits(Toy):
        task: Task = "language_model"

    workload = WithoutLogits(0, [], [])

    with pytest.raises(InputError, match="estimator must be sampled or empirical"):
        FisherInformation("exact").check(llama_workload(tmp_path))
    with pytest.raises(InputError, match=r"method logits.*or set estimator: empirical"):
        FisherInformation().check(workload)
    FisherInformation("empirical").check(workload)
