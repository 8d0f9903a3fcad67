"""Training of nets side by side: growth, and boosting on what is left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.growing import Growth
from stockpot.merging.sparse_masks import apply_mask, magnitude_mask
from stockpot.seeding import seeded_generator
from stockpot.soups.concat.concatenate import concatenate
from stockpot.workloads.digits import Digits
from stockpot.workloads.passes import Examples, empty_model, put_weights

WORKLOAD = Digits(0, [], [])
MakeGrowth = Callable[..., Growth]


def net(seed: int) -> dict[str, Tensor]:
    built = WORKLOAD.build_model(seeded_generator(seed, "net"))
    return {name: tensor.detach() for name, tensor in built.state_dict().items()}


def train_loss(weights: Mapping[str, Tensor]) -> float:
    examples = Examples(WORKLOAD, WORKLOAD.dataset("train"), "cpu")
    model = empty_model(WORKLOAD, "cpu")
    put_weights(model, weights)
    return examples.loss(examples.outputs(model))


@pytest.fixture
def growth(tmp_path: Path) -> MakeGrowth:
    def make(folder: str = "one", **options: Any) -> Growth:
        options = {"epochs": 1, "learning_rate": 0.003, **options}
        return Growth(WORKLOAD, tmp_path / folder, "key", 0, "cpu", options, 60)

    return make


def test_growth_starts_at_the_ensemble_and_uses_the_weights_between(growth):
    wide = concatenate(WORKLOAD, [net(0), net(1)], [0.5, 0.5])
    grown = growth().grow([net(0), net(1)], [0.5, 0.5])
    assert train_loss(grown.weights) < train_loss(wide.weights)
    between = grown.weights["features.2.weight"][:80, 32:]
    assert not wide.weights["features.2.weight"][:80, 32:].any()
    assert between.count_nonzero() > 0.9 * between.numel()
    again = growth("two").grow([net(0), net(1)], [0.5, 0.5])
    assert all(torch.equal(again.weights[n], t) for n, t in grown.weights.items())


def block_ranks(weights: Mapping[str, Tensor]) -> list[int]:
    """Return the rank of the two blocks of each row of blocks, as vectors."""
    blocks = weights["features.2.weight"].unflatten(1, (2, 32)).unflatten(0, (2, 80))
    rows = blocks.transpose(1, 2).double().flatten(2)
    return [int(torch.linalg.matrix_rank(row, rtol=1e-5)) for row in rows]


def test_with_templates_the_blocks_of_a_row_stay_mixtures_of_its_nets(growth):
    setting = ([net(0), net(1)], [0.5, 0.5])
    wide = concatenate(WORKLOAD, *setting)
    grown = growth(templates=1).grow(*setting)
    assert block_ranks(grown.weights) == [1, 1]
    assert block_ranks(growth("zeros").grow(*setting).weights) == [2, 2]
    assert train_loss(grown.weights) < train_loss(wide.weights)
    again = growth("again", templates=1).grow(*setting)
    assert all(torch.equal(again.weights[n], t) for n, t in grown.weights.items())


def test_boosting_never_raises_the_loss_on_train(growth):
    boosted = growth(stages=2).boost([net(0)], [1.0], net(0))
    losses = [train_loss(net(0))]
    for step in boosted.steps:
        assert step["loss_before"] == pytest.approx(losses[-1], rel=1e-4)
        losses.append(step["loss_after"])
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert train_loss(boosted.wide.weights) == pytest.approx(losses[-1], rel=1e-4)
    assert boosted.wide.num_nets == 3


def test_zeros_of_pruned_nets_stay_and_weights_between_them_are_trained(growth):
    pruned = apply_mask(net(0), magnitude_mask(net(0), 0.3))
    make = replace(growth(), pruned=["ingredient-00"])
    grown = make.grow([pruned, net(1)], [0.5, 0.5]).weights
    for name in ("features.0.weight", "features.2.weight"):
        rows, columns = pruned[name].shape[:2]
        assert torch.equal(grown[name][:rows, :columns] != 0, pruned[name] != 0)
    weight = grown["features.2.weight"]
    assert (weight[: len(weight) // 2, weight.shape[1] // 2 :] != 0).double().mean() > 0.9
    boosted = replace(growth("more", stages=1), pruned=["ingredient-00"])
    wide = boosted.boost([pruned], [1.0], net(2)).wide.weights
    blocks = concatenate(WORKLOAD, [pruned, pruned], [1.0, 1.0]).weights
    for name in ("features.0.weight", "features.2.weight", "features.5.weight", "head.weight"):
        outside = blocks[name] == 0
        assert not wide[name][outside].any()
        assert wide[name][~outside].count_nonzero() > 0.9 * (~outside).sum()
    with pytest.raises(InputError, match=r"templates are for nets that are not pruned, got \['in"):
        replace(growth("t", templates=1), pruned=["ingredient-00"]).grow([pruned], [1.0])


def test_the_first_stages_are_a_prefix(growth):
    one, two = (growth(f"{n}", stages=n).boost([net(0)], [1.0], net(0)) for n in (1, 2))
    assert two.steps[:1] == one.steps
    assert torch.equal(two.wide.weights["head.weight"][:, :80], one.wide.weights["head.weight"])


def test_an_interrupted_run_continues_with_the_next_stage(growth, monkeypatch):
    whole = growth("whole", stages=2).boost([net(0)], [1.0], net(0))
    growth("cut", stages=1).boost([net(0)], [1.0], net(0))
    trained: list[str] = []
    trains = Growth._trained

    def record(self: Growth, workload: Any, start: Any, name: str, mask: Any) -> Any:
        known = {path.name for path in self.folder.glob("*.safetensors")}
        trained.extend([] if f"key-{name}.safetensors" in known else [name])
        return trains(self, workload, start, name, mask)

    monkeypatch.setattr(Growth, "_trained", record)
    rest = growth("cut", stages=2).boost([net(0)], [1.0], net(0))
    assert trained == ["stage-2"]
    assert rest.steps == whole.steps
    assert all(torch.equal(rest.wide.weights[n], t) for n, t in whole.wide.weights.items())


def test_smaller_eta_takes_smaller_steps(growth):
    full, half = (
        growth(str(eta), stages=1, eta=eta).boost([net(0)], [1.0], net(0)).steps[0]["factor"]
        for eta in (1.0, 0.5)
    )
    assert half == pytest.approx(full / 2)


PARAMS = """
sweep: {{space: {{}}}}
soups:
  - {{name: wide, select: top_k, k: 1, method: concat, options: {options}}}
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{stages: 2}", "set epochs"),
        ("{epochs: 1.5}", "epochs must be a whole number"),
        ("{epochs: 1, eta: 0}", "eta must be in"),
        ("{epochs: 1, learning_rate: 0}", "learning_rate must be above 0"),
        ("{epochs: 1, augmentation: 2}", "augmentation must be in"),
        ("{epochs: 1, templates: -1}", "templates must be a whole number from 0"),
        ("{templates: 2}", "templates are for a wide net that is trained as a whole: set epochs"),
        ("{epochs: 1, stages: 1, templates: 2}", "set epochs, and no stages"),
    ],
)
def test_wrong_options_are_refused_in_words(tmp_path, options, words):
    (tmp_path / "params.yaml").write_text(PARAMS.format(options=options))
    with pytest.raises(InputError, match=words):
        load_experiment(tmp_path / "params.yaml", ())


def test_templates_of_pruned_ingredients_are_refused_before_any_is_trained(tmp_path):
    text = PARAMS.format(options="{epochs: 1, templates: 2}").replace("{}}", "{sparsity: 0.5}}")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match="grows by templates, which fill the zeros of pruned"):
        load_experiment(tmp_path / "params.yaml", ())
