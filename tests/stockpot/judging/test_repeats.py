from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.experiment.jobs.judging import predict_repeats
from stockpot.judging.job import Repeats, RepeatsJob, RepeatSource
from stockpot.judging.repeats import predict_with_dropout, repeated_outputs
from stockpot.scoring.predictions import load_losses, load_outputs, predictions_path
from stockpot.storage.models import Model
from stockpot.workloads import build_workload
from stockpot.workloads.passes import Examples
from stockpot.workloads.spec import WorkloadSpec

WORKLOAD = build_workload("digits", seed=0, val_shifts=[], test_shifts=[], options={})


def _examples(num_examples: int = 24) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(num_examples, 1, 8, 8, generator=generator)
    return Examples(WORKLOAD, TensorDataset(images, torch.arange(num_examples) % 10), "cpu")


def _net(dropout: float = 0.5) -> nn.Module:
    torch_net = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(1)
    torch_net[2].weight.data = torch.randn(10, 64, generator=generator) / 8
    torch_net[2].bias.data.zero_()
    return torch_net.eval()


def _outputs(net: nn.Module, repeats: Repeats, stream: int = 0) -> Tensor:
    return repeated_outputs(WORKLOAD, net, _examples(), repeats, (stream,))[0]


every_source = pytest.mark.parametrize("source", ["tta", "noise", "mc_dropout"])


@every_source
@pytest.mark.parametrize("m", [1, 3, 8])
def test_repeating_a_deterministic_model_changes_no_bit(source: RepeatSource, m: int) -> None:
    net = _net(dropout=0.0)

    outputs = _outputs(net, Repeats(m, source, 0.0, "logits"))

    assert torch.equal(outputs, _examples().outputs(net))


@every_source
def test_the_variance_of_the_average_falls_as_the_number_of_repeats_grows(
    source: RepeatSource,
) -> None:
    counts = (1, 4, 16)
    variances = [
        torch.stack([_outputs(_net(), Repeats(m, source, 0.5, "logits"), n) for n in range(60)])
        .var(dim=0)
        .mean()
        for m in counts
    ]

    slope = np.polyfit(np.log(counts), np.log(variances), 1)[0]

    assert -1.1 <= slope <= -0.9


@every_source
def test_the_net_and_the_random_state_are_left_as_they_were(source: RepeatSource) -> None:
    net = _net()
    net[2].train()  # a mode that somebody chose
    modes = [module.training for module in net.modules()]
    state = torch.get_rng_state()

    _outputs(net, Repeats(2, source, 0.5, "logits"))

    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not module._forward_hooks for module in net.modules())


@every_source
def test_the_same_stream_gives_the_same_repeats(source: RepeatSource) -> None:
    once, twice, other = (
        _outputs(_net(), Repeats(2, source, 0.5, "probs"), stream) for stream in (0, 0, 1)
    )

    assert torch.equal(once, twice)
    assert not torch.equal(once, other)


def test_averages_of_outputs_and_of_probabilities_by_hand() -> None:
    single = [_outputs(_net(), Repeats(m, "noise", 0.5, "logits")).double() for m in (1, 2)]
    first, second = single[0], 2 * single[1] - single[0]

    probabilities = _outputs(_net(), Repeats(2, "noise", 0.5, "probs")).double().exp()

    expected = (first.softmax(dim=1) + second.softmax(dim=1)) / 2
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-6)


def test_losses_are_those_of_the_averaged_outputs() -> None:
    outputs, losses = repeated_outputs(
        WORKLOAD, _net(), _examples(), Repeats(3, "noise", 0.5, "logits"), (0,)
    )

    expected = nn.functional.cross_entropy(outputs, torch.arange(24) % 10, reduction="none")
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize(
    ("layer", "shape", "kept"),
    [(nn.Dropout(0.25), (400, 50), 0.75), (nn.Dropout2d(0.5), (200, 100, 2, 2), 0.5)],
)
def test_dropout_keeps_the_mean_and_drops_at_its_rate(
    layer: nn.Module, shape: tuple[int, ...], kept: float
) -> None:
    net, generator = nn.Sequential(layer).eval(), torch.Generator().manual_seed(0)

    dropped = predict_with_dropout(WORKLOAD, net, (torch.ones(shape),), 0.0, generator)

    assert dropped.unique().tolist() == pytest.approx([0, 1 / kept])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    if len(shape) > 2:  # whole channels
        assert torch.equal(dropped.amin(dim=(2, 3)), dropped.amax(dim=(2, 3)))


def test_a_net_without_dropout_has_no_dropout_passes() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()

    with pytest.raises(InputError, match="needs a net with dropout layers"):
        _outputs(net, Repeats(2, "mc_dropout", 0.5, "logits"))


@pytest.fixture
def job(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> RepeatsJob:
    spec = make_spec()
    model = save_model(torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    sets = ("val", "test", "test_shift/a")
    return RepeatsJob(tmp_path, spec, model, sets, Repeats(4, "noise", 0.3, "logits"), seed=0)


def test_a_job_keeps_outputs_as_those_of_one_more_model(job: RepeatsJob) -> None:
    entry = predict_repeats(job, "cpu")

    assert (entry.name, entry.kind) == ("best ingredient, 4 noisy copies", "repeats")
    assert entry.num_params == job.model.num_params
    assert entry.details["of"] == "ingredient-00"
    for name in job.sets:
        outputs = load_outputs(job.root, job.workload, entry.digest, name)
        assert outputs.shape == (6 if name == "val" else 4, 2)
        assert load_losses(job.root, job.workload, entry.digest, name).shape == outputs.shape[:1]


def test_kept_outputs_are_not_made_again(job: RepeatsJob) -> None:
    entry = predict_repeats(job, "cpu")
    path = predictions_path(job.root, job.workload, entry.digest, "test")
    written = path.stat().st_mtime_ns
    (job.root / job.model.path).unlink()

    again = predict_repeats(job, "cpu")

    assert again == entry
    assert path.stat().st_mtime_ns == written


def test_other_repeats_are_another_entry(job: RepeatsJob) -> None:
    from dataclasses import replace

    more = replace(job, repeats=replace(job.repeats, m=5))

    assert more.entry.digest != job.entry.digest
    assert replace(job, seed=1).entry.digest != job.entry.digest
