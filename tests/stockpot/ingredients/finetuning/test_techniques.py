"""The effect of each technique on a run on the digits, or on a model computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import relu

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.cutmix import cut_and_paste
from stockpot.ingredients.finetuning.gradients import BatchGradient, LossScale, clip
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.objective import training_batch
from stockpot.ingredients.finetuning.optimizers import build_optimizer
from stockpot.ingredients.finetuning.run_average import build_average
from stockpot.ingredients.finetuning.used_techniques import with_common_names
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import take
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Batch, Workload

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=2,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
    warmup=0.0,  # with a constant rate, a shorter run is then the beginning of a longer one
)
STEPS_PER_EPOCH = 3


class NormedNet(nn.Module):
    """A layer, BatchNorm and a head; keeps the dtype of its latest outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.head(relu(self.norm(self.body(images.flatten(1)))))
        self.dtype = outputs.dtype
        return outputs


class NormedDigits(Digits):
    """The digits, for a model with BatchNorm."""

    def build_model(self, generator: Generator) -> nn.Module:
        net = NormedNet()
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)
        return net


DIGITS, NORMED = Digits(0, [], []), NormedDigits(0, [], [])


def _train(workload: Workload = DIGITS, **how: float | str) -> dict[str, Tensor]:
    return fine_tune(workload, None, replace(HOW, **how), split="pretrain")  # type: ignore[arg-type]


def _start(workload: Workload = DIGITS) -> dict[str, Tensor]:
    state: dict[str, Tensor] = workload.build_model(seeded_generator(7, "weights")).state_dict()
    return state


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def _gradient(
    workload: Workload, *, clip_norm: float = 0.0, **how: float | str
) -> tuple[nn.Module, Tensor, float]:
    """Compute one gradient; return the model, the gradient as one vector, and the loss."""
    hyperparameters = replace(HOW, **how)  # type: ignore[arg-type]
    net = workload.build_model(seeded_generator(7, "weights"))
    optimizer = build_optimizer(net, hyperparameters)
    scale = LossScale(hyperparameters.precision, "cpu")
    batch = take(workload.dataset("train"), torch.arange(50))
    mixed = training_batch(workload, batch, hyperparameters, 0)
    loss = BatchGradient(workload, net, optimizer, scale, hyperparameters)(mixed, 0)
    scale.unscale_(optimizer)
    clip(optimizer, clip_norm)
    slopes = [one.grad.flatten() for one in net.parameters() if one.grad is not None]
    return net, torch.cat(slopes), float(loss)


@pytest.mark.parametrize("parts", [2, 3, 7, 50, 60])
@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.4}, {"cutmix": 1.0}])
def test_an_accumulated_gradient_is_that_of_the_whole_batch(
    parts: int, mixing: dict[str, float]
) -> None:
    _, whole, loss = _gradient(DIGITS, **mixing)

    _, summed, summed_loss = _gradient(DIGITS, accumulation=parts, **mixing)

    torch.testing.assert_close(summed, whole, rtol=1e-4, atol=1e-6)
    assert summed_loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_in_half_precision_the_net_runs_in_it_and_weights_and_slopes_do_not(
    precision: str, dtype: torch.dtype
) -> None:
    _, full, loss = _gradient(NORMED)

    net, half, half_loss = _gradient(NORMED, precision=precision)

    assert net.dtype == dtype
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert half_loss == pytest.approx(loss, rel=0.02)
    assert (half - full).norm() < 0.05 * full.norm()


def test_a_long_gradient_is_cut_and_keeps_its_direction() -> None:
    _, free, _ = _gradient(DIGITS)

    _, cut, _ = _gradient(DIGITS, clip_norm=0.01)
    _, short_enough, _ = _gradient(DIGITS, clip_norm=1e6)

    assert free.norm() > 0.01
    torch.testing.assert_close(cut, 0.01 * free / free.norm(), rtol=1e-3, atol=1e-8)
    assert torch.equal(short_enough, free)


def test_frozen_tensors_stay_and_all_others_move() -> None:
    before, after = _start(NORMED), _train(NORMED, frozen="body.* norm.*")

    assert _changed(before, after) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("average", ["none", "ema"])
def test_frozen_weights_of_a_batch_norm_do_not_freeze_its_statistics(average: str) -> None:
    after = _train(NORMED, frozen="body.* norm.weight norm.bias", average=average)

    assert _changed(_start(NORMED), after) == {
        *("head.weight", "head.bias"),
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    }


def test_a_probe_trains_the_head_alone() -> None:
    before, after = _start(NORMED), _train(NORMED, probe_epochs=2, epochs=0)

    assert _changed(before, after) == {"head.weight", "head.bias"}


def test_after_the_probe_all_weights_are_trained_from_the_probed_head() -> None:
    probed = _train(NORMED, probe_epochs=2, epochs=0)

    barely = _train(NORMED, probe_epochs=2, epochs=1, schedule="cosine_power", schedule_power=1e30)

    assert _changed(_start(NORMED), barely) == {*probed}
    assert (barely["head.weight"] - probed["head.weight"]).abs().max() < 0.05


def test_a_named_head_is_probed() -> None:
    after = _train(probe_epochs=1, epochs=0, head="features.5.* head.bias")

    changed = {"features.5.weight", "features.5.bias", "head.bias"}
    assert _changed(_start(), after) == changed


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (
            {"frozen": "features.9.*"},
            "each pattern must match the name of a tensor, got 'features.9",
        ),
        ({"frozen": "*"}, "frozen: must leave weights to train, got '*'"),
        ({"frozen": "head.*", "probe_epochs": 1}, "frozen: must not hold the head that is probed"),
        ({"head": "top", "probe_epochs": 1}, "head: each pattern must match .* got 'top'"),
    ],
)
def test_patterns_that_match_nothing_are_refused(
    how: dict[str, float | str], expected: str
) -> None:
    with pytest.raises(InputError, match=expected.replace("*'", r"\*'")):
        _train(**how)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"average": "ema", "ema_momentum": 0.0}, 8.0),
        ({"average": "ema", "ema_momentum": 1.0}, None),  # the warmup decides
        ({"average": "swa", "swa_start": 0.5}, (4 + 5 + 6 + 7 + 8) / 5),
        ({"average": "swa", "swa_start": 0.99}, 8.0),
        ({"average": "ema", "ema_momentum": 1.0, "average_start": 1}, None),
        ({"average": "swa", "swa_start": 0.5, "average_start": 1}, (-1 + 4 + 5 + 6 + 7 + 8) / 6),
        ({"average": "swa", "swa_start": 0.0, "average_start": 1}, (-1 + sum(range(9))) / 10),
        ({"average": "lawa", "lawa_epochs": 2}, (5 + 8) / 2),
        ({"average": "lawa", "lawa_epochs": 9}, (2 + 5 + 8) / 3),
    ],
)
def test_each_average_is_of_the_weights_that_define_it(
    how: dict[str, float | str], expected: float | None
) -> None:
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, -1)
    average = build_average(net, replace(HOW, epochs=3, **how), STEPS_PER_EPOCH)  # type: ignore[arg-type]
    assert average is not None
    for step in range(3 * STEPS_PER_EPOCH):
        nn.init.constant_(net.weight, step)
        average.update(step)

    weights = average.after(3 * STEPS_PER_EPOCH)
    assert weights is not None
    found = weights["weight"].item()
    first = -1 if how.get("average_start") else 0
    assert found == pytest.approx(_warmed_up(first) if expected is None else expected)


def test_before_an_average_begins_its_start_alone_is_no_result() -> None:
    how = replace(HOW, epochs=3, average="swa", swa_start=0.5, average_start=1)

    average = build_average(nn.Linear(1, 1), how, STEPS_PER_EPOCH)

    assert average is not None
    assert average.after(4) is None


def _warmed_up(first: float) -> float:
    kept, *others = [float(value) for value in range(int(first), 3 * STEPS_PER_EPOCH)]
    for update, weight in enumerate(others, start=1):
        momentum = (1 + update) / (10 + update)
        kept = momentum * kept + (1 - momentum) * weight
    return kept


def test_the_average_of_a_net_without_batch_norm_is_that_of_its_checkpoints() -> None:
    ends = [_train(epochs=epochs) for epochs in (1, 2)]

    averaged = _train(average="lawa", lawa_epochs=2)

    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, (ends[0][name] + ends[1][name]) / 2)


def test_an_average_has_batch_norm_statistics_of_its_own() -> None:
    averaged = _train(NORMED, average="lawa", lawa_epochs=2)

    order = torch.randperm(300, generator=seeded_generator(7, "order", 2))
    images = take(NORMED.dataset("pretrain"), order[:100])[0].flatten(1)
    seen = images @ averaged["body.weight"].T + averaged["body.bias"]
    torch.testing.assert_close(averaged["norm.running_mean"], seen.mean(dim=0))
    torch.testing.assert_close(averaged["norm.running_var"], seen.var(dim=0))


class ScriptedDigits(Digits):
    """The digits, with a given val score per epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__(0, [], [])
        self.metrics = {"scripted": self._metric}
        self._scores, self._seen = scores, 0

    def _metric(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        self._seen += len(targets)
        return torch.full((len(targets),), self._scores[(self._seen - 1) // 400])


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.2, 0.5, 0.4, 0.9], 2), ([0.2, 0.2, 0.2], 1), ([0.1, 0.2, 0.3, 0.4], 4)],
)
def test_a_stopped_run_gives_the_weights_of_the_first_best_epoch(
    scores: list[float], best: int
) -> None:
    patience = 1 if best == 2 else 2
    stopped = _train(ScriptedDigits(scores), epochs=4, patience=patience)

    assert _changed(_train(epochs=best), stopped) == set()


def test_the_loss_of_a_smoothed_label_mixes_target_and_mean() -> None:
    outputs = torch.tensor([[2.0, 0.0, -1.0]])
    batch = (torch.zeros(1), torch.tensor([0]))

    loss = DIGITS.loss(outputs, batch, label_smoothing=0.3)

    costs = -outputs.log_softmax(dim=1)[0]
    torch.testing.assert_close(loss[0], 0.7 * costs[0] + 0.3 * costs.mean())


def test_cutmix_pastes_a_box_of_the_partner_and_returns_the_share_that_stays() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
    targets = torch.arange(4)

    cut = cut_and_paste((images, targets), 0.75, seeded_generator(0, "box"))

    own, partners = cut.first[1], cut.second[1]
    pasted, _ = cut.first
    for image, mine, theirs in zip(pasted, own, partners, strict=True):
        assert {*image.flatten().tolist()} <= {float(mine), float(theirs)}
    moved = own != partners
    shares = (pasted == own.view(4, 1, 1, 1)).float().mean(dim=(1, 2, 3))
    assert moved.any()
    assert shares[moved].tolist() == [cut.share] * int(moved.sum())
    assert 0.75 <= cut.share < 1


def test_cutmix_needs_images() -> None:
    with pytest.raises(InputError, match=r"cutmix: inputs must be images"):
        cut_and_paste((torch.zeros(2, 3), torch.zeros(2)), 0.5, torch.Generator())


def test_with_mixup_and_cutmix_each_step_uses_one() -> None:
    how = replace(HOW, mixup=1.0, cutmix=1.0)
    images, targets = torch.eye(2).view(2, 1, 1, 2), torch.arange(2)
    batch: Batch = (images.repeat(4, 1, 8, 4), targets.repeat(4))

    mixed = [training_batch(DIGITS, batch, how, step).first[0] for step in range(12)]

    is_pasted = [bool(((one == 0) | (one == 1)).all()) for one in mixed]
    assert {*is_pasted} == {True, False}


def test_a_description_names_the_techniques_that_are_used() -> None:
    plain = replace(HOW, warmup=0.1).described()
    used = replace(HOW, optimizer="sgd").described()

    assert [*plain] == [
        *("learning_rate", "weight_decay", "epochs", "batch_size"),
        *("label_smoothing", "mixup", "augmentation", "seed"),
    ]
    assert used == plain | {"optimizer": "sgd", "warmup": 0.0}
    assert Hyperparameters.from_point(used) == replace(HOW, optimizer="sgd")
    assert with_common_names([plain, used]) == [plain | {"optimizer": "adamw", "warmup": 0.1}, used]
