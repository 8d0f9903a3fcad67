from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from made_context import initial_state, make_context
from poisoned_sweep import NextDigits, State, hyperparameters, make_digits, quick_sweep
from torch import Tensor, nn

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.gradient_groups import describe, gradient_groups
from stockpot.diagnostics.similarity import cluster
from stockpot.diagnostics.states import mean_state
from stockpot.ingredients.finetuning.data_pruning import difficulty_scores
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.own_gradients import OwnGradients, Training, training_of
from stockpot.merging.methods.inner_products import cosines_of, gram, task_vector_gram
from stockpot.merging.sparse_masks import magnitude_mask
from stockpot.statistics.minimum_cuts import split_into_groups
from stockpot.storage.checkpoints import Checkpoint
from stockpot.workloads.digits import Digits
from stockpot.workloads.passes import empty_model, put_weights

CONVENTIONS = (Digits, Digits, NextDigits, Digits, NextDigits, NextDigits)
PARTITION = [[0, 1, 3], [2, 4, 5]]


def _gradients(base: State, kind: type[Digits] = Digits) -> OwnGradients:
    digits = make_digits(kind)

    def scores(how: Hyperparameters, start: Checkpoint | None) -> Tensor:
        weights = load(start) if start else base
        return difficulty_scores(digits, weights, how, split="train", device="cpu")

    def load(checkpoint: Checkpoint) -> State:
        return quick_sweep().good[int(checkpoint.path)]

    return OwnGradients(digits, base, load, scores, 0, "cpu")


def make_digits_parameters() -> list[tuple[str, nn.Parameter]]:
    return [*make_digits().build_model(torch.Generator()).named_parameters()]


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(torch.cosine_similarity(first, second, dim=0))


@pytest.mark.parametrize("seed", range(2))
def test_two_label_conventions_are_told_apart_by_gradients_and_by_task_vectors(seed: int) -> None:
    base = quick_sweep().base
    tuned = [
        fine_tune(make_digits(kind), base, hyperparameters(seed=6 * seed + place), split="train")
        for place, kind in enumerate(CONVENTIONS)
    ]
    everyone = mean_state(tuned)
    vectors = [
        _gradients(base, kind).gradient(everyone, Training(hyperparameters(seed=6 * seed + place)))
        for place, kind in enumerate(CONVENTIONS)
    ]

    cosines = cosines_of(gram(vectors)).numpy()
    by_vectors = cluster(cosines_of(task_vector_gram(tuned, base)).numpy())["labels"]

    assert split_into_groups(cosines) == PARTITION
    assert by_vectors == [0, 0, 1, 0, 1, 1]
    np.testing.assert_array_equal(cosines, cosines.T)
    assert np.diag(cosines).tolist() == [1.0] * 6
    assert np.abs(cosines).max() <= 1


def test_a_gradient_is_that_of_the_mean_loss_on_all_examples() -> None:
    base = quick_sweep().base
    digits = make_digits()
    images, labels = (tensor[100:500] for tensor in digits.dataset("train").tensors)
    net = empty_model(digits, "cpu")
    put_weights(net, base)
    loss = digits.loss(digits.forward(net, (images, labels)), (images, labels)).mean()
    slopes = torch.autograd.grad(loss, [*net.parameters()])

    part = Training(hyperparameters(batch_size=7), rows=slice(100, 500))
    vector = _gradients(base).gradient(base, part)

    expected = torch.cat([slope.flatten() for slope in slopes])
    torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-6)


def test_other_data_give_other_gradients_and_equal_ones_the_same() -> None:
    base = quick_sweep().base
    gradients = _gradients(base)
    whole = gradients.gradient(base, Training(hyperparameters(seed=1)))

    again = gradients.gradient(base, Training(hyperparameters(seed=2, batch_size=9)))
    hard = gradients.gradient(base, Training(hyperparameters(kept_data=0.3)))
    unbiased = gradients.gradient(base, Training(hyperparameters(sampler="gradient_norm")))
    biased = gradients.gradient(
        base, Training(hyperparameters(sampler="gradient_norm_biased", sampler_mix=1.0, epochs=2))
    )

    assert torch.equal(again, whole)
    torch.testing.assert_close(unbiased, whole)
    assert _cosine(hard, whole) < 0.995
    assert _cosine(biased, whole) < 0.9999
    assert biased.norm() > 1.1 * whole.norm()  # harder examples have larger gradients


def test_distances_and_scores_are_from_a_runs_own_start_and_anchor() -> None:
    sweep, gradients = quick_sweep(), _gradients(quick_sweep().base)
    weights, there = sweep.good[0], Checkpoint("3", "", "")
    names = [name for name, _ in make_digits_parameters()]

    def gap(other: State) -> Tensor:
        return torch.cat([(weights[name] - other[name]).flatten() for name in names])

    plain = gradients.gradient(weights, Training(hyperparameters()))
    pulled = Training(hyperparameters(start_l2=0.5), start=there)
    held = hyperparameters(anchor="soup", anchor_loss="l2", anchor_weight=2.0)  # type: ignore[arg-type]
    pruned = hyperparameters(kept_data=0.3, difficulty="el2n")  # type: ignore[arg-type]

    found = gradients.gradient(weights, pulled)
    torch.testing.assert_close(found - plain, gap(sweep.good[3]), rtol=1e-3, atol=1e-5)
    found = gradients.gradient(weights, Training(held, anchor=there))
    torch.testing.assert_close(found - plain, 4 * gap(sweep.good[3]), rtol=1e-3, atol=1e-5)
    scored = (gradients.gradient(weights, Training(pruned, start=at)) for at in (None, there))
    assert not torch.equal(*scored)


def test_the_record_of_a_training_has_its_start_and_its_anchor() -> None:
    how, there = hyperparameters(anchor="soup"), Checkpoint("a", "b", "c")  # type: ignore[arg-type]
    plain, given = hyperparameters().described(), asdict(there)

    known = training_of({"hyperparameters": plain, "start": given})
    held = training_of({"hyperparameters": how.described(), "start": given, "anchor": given})

    assert known == Training(hyperparameters(), start=there)
    assert held == Training(how, start=there, anchor=there)
    assert training_of({"hyperparameters": how.described()}) is None


def test_what_is_frozen_has_no_gradient_and_an_adapter_moves_its_layers_alone() -> None:
    pytest.importorskip("peft")
    base = quick_sweep().base
    gradients = _gradients(base)
    sizes = {name: base[name].numel() for name, _ in make_digits_parameters()}

    def moved(**how: float | str) -> set[str]:
        vector = gradients.gradient(base, Training(hyperparameters(**how)))  # type: ignore[arg-type]
        parts = zip(sizes, vector.split([*sizes.values()]), strict=True)
        return {name for name, part in parts if part.abs().max() > 0}

    assert moved() == {*sizes}
    assert moved(frozen="features.*") == {name for name in sizes if name.startswith("head")}
    adapted = moved(adapter="lora", adapter_rank=2)
    assert adapted
    assert all(name.startswith("features") and name.endswith("weight") for name in adapted)


def test_a_fixed_mask_is_one_of_gradients_at_weights_that_have_none() -> None:
    sweep = quick_sweep()
    gradients, weights = _gradients(sweep.base), sweep.good[0]
    plain = gradients.gradient(weights, Training(hyperparameters()))

    found = gradients.gradient(weights, Training(hyperparameters(sparsity=0.8)))

    mask = magnitude_mask(sweep.base, 1 - 0.8)
    parts = (mask.get(name, torch.ones_like(one)) for name, one in make_digits_parameters())
    kept = torch.cat([part.flatten() for part in parts])
    assert torch.equal(found, plain * kept)


def test_the_gradient_through_a_lora_is_its_projection() -> None:
    pytest.importorskip("peft")
    base = quick_sweep().base
    gradients = _gradients(base)
    targets = {"adapter_targets": "features.5", "adapter_rank": 1, "adapter_alpha": 1.0}
    how = hyperparameters(adapter="lora", **targets)  # type: ignore[arg-type]
    place, sizes = 0, {}
    for name, parameter in make_digits_parameters():
        sizes[name] = (place, place + parameter.numel(), parameter.shape)
        place += parameter.numel()
    first, last, shape = sizes["features.5.weight"]

    whole = gradients.gradient(base, Training(hyperparameters()))[first:last].view(shape)
    through = gradients.gradient(base, Training(how))[first:last].view(shape)

    # B is 0, so W changes by (G A^T) A: every row is along A, which has one row.
    direction = through[through.norm(dim=1).argmax()]
    projected = torch.outer(whole @ direction, direction)
    scale = (through * projected).sum() / projected.square().sum()
    size = float(through.abs().max())
    torch.testing.assert_close(through, scale * projected, rtol=0, atol=1e-3 * size)


def _trained(context: DiagnosticContext, *strengths: float) -> DiagnosticContext:
    """Say of each ingredient that it was trained with some augmentation."""
    trained = []
    for one, strength in zip(context.ingredients, strengths, strict=True):
        with_ = asdict(hyperparameters(augmentation=strength, mixup=strength, seed=3))
        details = MappingProxyType({"hyperparameters": with_})
        trained.append(replace(one, model=replace(one.model, details=details)))
    return replace(context, ingredients=tuple(trained))


def test_ingredients_of_one_objective_belong_in_one_soup(tmp_path: Path) -> None:
    sweep = quick_sweep()
    context = _trained(make_context(tmp_path, sweep.base, sweep.good[:3]), 0.0, 0.0, 0.5)

    finding = gradient_groups(context)

    assert "They belong in one soup" in finding.sentence
    assert finding.metrics["num_groups"] == 1
    assert finding.data["cosines"][0][1] == 1  # the same examples, and nothing drawn
    assert -1 <= finding.data["cosines"][0][2] < 0.99  # augmented and mixed
    assert finding.data["groups"][0]["metric"] == finding.data["all"]["metric"]


def test_the_sentence_for_groups_that_oppose_each_other_says_what_a_split_is_worth() -> None:
    def told(best: float) -> str:
        groups = [
            {"ingredients": ["a", "b"], "metric": best, "loss": 0.1},
            {"ingredients": ["c"], "metric": 0.5, "loss": 0.9},
        ]
        cut = {"mean": -0.3, "part": ["c"]}
        return describe(
            {"ingredients": ["a", "b", "c"], "groups": groups, "cut": cut, "all": {"metric": 0.8}}
        )

    assert "2 groups (of 2, 1)" in told(0.9)
    assert told(0.9).endswith(
        "+10.0 points relative to the soup of all: make a soup of each group."
    )
    assert "there is no need to split" in told(0.7)


def test_options_say_when_and_into_how_many_groups_is_split(tmp_path: Path) -> None:
    sweep = quick_sweep()
    context = _trained(make_context(tmp_path, sweep.base, sweep.good[:3]), 0.0, 0.5, 0.9)

    halves = gradient_groups(context, threshold=0.9999, max_groups=2).data
    alone = gradient_groups(context, threshold=0.9999, max_groups=3).data

    assert (halves["threshold"], len(halves["groups"]), len(alone["groups"])) == (0.9999, 2, 3)


def test_imported_ingredients_take_part_if_their_data_are_named(tmp_path: Path) -> None:
    sweep = quick_sweep()
    context = _trained(make_context(tmp_path, sweep.base, sweep.good[:4]), 0.0, 0.0, 0.0, 0.0)
    own = [{"data": "train"}, {"data": "train[0:300]"}, {"data": "elsewhere.csv"}]
    imported = [
        replace(one, model=replace(one.model, details={"imported": {}, "hyperparameters": known}))
        for one, known in zip(context.ingredients[1:], own, strict=True)
    ]

    finding = gradient_groups(replace(context, ingredients=(context.ingredients[0], *imported)))

    names = ["ingredient-00", "ingredient-01", "ingredient-02"]
    assert finding.data["ingredients"] == names
    assert finding.data["cosines"][0][1] == 1
    assert finding.data["cosines"][0][2] < 0.9999
    assert finding.sentence.endswith("training data or objectives of ingredient-03.")


def test_one_ingredient_or_an_unknown_training_is_said_in_words(tmp_path: Path) -> None:
    state: State = initial_state(make_digits())

    alone = gradient_groups(make_context(tmp_path / "one", state, [state]))
    unknown = gradient_groups(make_context(tmp_path / "two", state, [state, state]))

    assert alone.sentence.startswith("There is only one ingredient")
    assert "some ingredients are unknown" in unknown.sentence
