from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_context import make_context_of, mean_state
from torch import Tensor

from stockpot.diagnostics import context as context_module
from stockpot.diagnostics import subset_scores
from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.subset_scores import Survey, about_sample, places, survey
from stockpot.workloads.samples import sample_indices
from stockpot.workloads.spec import WorkloadSpec

SPEC = WorkloadSpec("toy_workload:Toy", 0, ("near", "further"), (), (("sizes", "60,4"),))


def _weights(number: int) -> list[dict[str, Tensor]]:
    """Return the identity, which is right everywhere, disturbed ever more."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(number, 2, 2, generator=generator)
    return [{"weight": torch.eye(2) + 0.3 * n * noise[n]} for n in range(number)]


def _subjects(root: Path, number: int, spec: WorkloadSpec = SPEC) -> DiagnosticContext:
    return make_context_of(spec, root, {"weight": torch.ones(2, 2)}, _weights(number))


def _by_name(context: DiagnosticContext, surveyed: Survey) -> dict[frozenset[str], list[float]]:
    names = [member.name for member in context.ingredients]
    return {
        frozenset(names[member] for member in subset): list(scores)
        for subset, scores in surveyed.scores.items()
    }


def _scores_of(context: DiagnosticContext, members: Sequence[int]) -> list[float]:
    """Score a soup as every soup is: merged by the engine, then passed over the data."""
    chosen = [context.ingredients[member].weights for member in members]
    net = context.net(mean_state(chosen) if chosen else context.base.weights)
    metric = context.workload.metrics[context.metric]
    sets = [context.val, *context.val_shifts.values()]
    val, *shifts = (metric(one.outputs(net), one.targets).double().mean().item() for one in sets)
    return [val, sum(shifts) / len(shifts)]


def test_a_subset_scores_what_the_soup_of_it_scores_and_none_what_the_base_does(
    tmp_path: Path,
) -> None:
    context = _subjects(tmp_path, 4)

    surveyed = survey(context, context.ingredients)

    assert len(surveyed.scores) == 16
    for subset, scores in surveyed.scores.items():
        assert scores == pytest.approx(_scores_of(context, subset)), subset


def test_what_is_read_of_the_scores_is_their_mean_over_examples(tmp_path: Path) -> None:
    context = _subjects(tmp_path, 3)

    surveyed = survey(context, context.ingredients)

    scores = surveyed.scores
    for place in range(2):
        pairs = [scores[pair][place] for pair in [(0, 1), (0, 2), (1, 2)]]
        without = [
            scores[pair][place] - scores[0, 1, 2][place] for pair in [(1, 2), (0, 2), (0, 1)]
        ]
        total = scores[0, 1, 2][place] - scores[()][place]
        assert surveyed.by_size[place].shape == (3, 60)
        assert surveyed.by_size[place].mean(axis=1)[1] == pytest.approx(np.mean(pairs))
        assert surveyed.without[place].mean(axis=1) == pytest.approx(without)
        assert surveyed.shapley[place].mean() * 3 == pytest.approx(total)
    assert (surveyed.order_errors == 0).all()


@pytest.mark.parametrize("number", [9, 18])
def test_of_many_members_some_subsets_are_scored_and_values_still_add_up(
    tmp_path: Path, number: int
) -> None:
    context = _subjects(tmp_path, number)
    everyone = tuple(range(number))

    surveyed = survey(context, context.ingredients)

    assert len(surveyed.scores) < 700
    singles = [surveyed.scores[member,][0] for member in everyone]
    assert surveyed.by_size[0].mean(axis=1)[0] == pytest.approx(np.mean(singles))
    gained = surveyed.scores[everyone] - surveyed.scores[()]
    assert [one.mean(axis=1).sum() for one in surveyed.shapley] == pytest.approx(gained)
    for member in everyone:
        rest = everyone[:member] + everyone[member + 1 :]
        change = surveyed.scores[rest] - surveyed.scores[everyone]
        assert [one[member].mean() for one in surveyed.without] == pytest.approx(change)


@pytest.mark.parametrize("number", [4, 9])
def test_the_order_of_the_ingredients_is_without_effect(tmp_path: Path, number: int) -> None:
    context = _subjects(tmp_path, number)
    turned = replace(context, ingredients=context.ingredients[::-1])

    first = survey(context, context.ingredients)
    second = survey(turned, turned.ingredients)

    assert _by_name(context, first) == _by_name(turned, second)
    np.testing.assert_allclose(first.shapley[0], second.shapley[0][::-1], atol=1e-12)


@pytest.mark.parametrize("workload", ["Toy", "Elsewhere"])
def test_another_diagnostic_reads_what_the_first_one_kept(tmp_path: Path, workload: str) -> None:
    spec = replace(SPEC, name=f"toy_workload:{workload}")
    context = replace(_subjects(tmp_path, 9, spec), shared=tmp_path / "shared")
    first = survey(context, context.ingredients)
    closed = replace(context, ingredients=_without_files(context))

    second = survey(closed, closed.ingredients)

    assert first.scores.keys() == second.scores.keys()
    assert all((first.scores[subset] == own).all() for subset, own in second.scores.items())
    for name in ("by_size", "shapley", "without"):
        for one, other in zip(getattr(first, name), getattr(second, name), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.order_errors, second.order_errors)


def _without_files(context: DiagnosticContext) -> tuple[object, ...]:
    """Return the ingredients as another process sees them, with their weights gone."""
    for member in context.ingredients:
        (member.root / member.model.path).unlink()
    return tuple(replace(member) for member in context.ingredients)


def test_other_members_are_kept_apart(tmp_path: Path) -> None:
    context = replace(_subjects(tmp_path, 4), shared=tmp_path / "shared")
    survey(context, context.ingredients)

    fewer = survey(context, context.ingredients[:2])

    assert fewer.scores.keys() == {(), (0,), (1,), (0, 1)}


def test_without_val_shifts_val_alone_is_scored(tmp_path: Path) -> None:
    context = _subjects(tmp_path, 3, replace(SPEC, val_shifts=()))

    surveyed = survey(context, context.ingredients)

    assert places(context) == ("val",)
    assert surveyed.scores[0, 1].shape == (1,)
    assert len(surveyed.shapley) == 1


def _allow(monkeypatch: pytest.MonkeyPatch, work: float) -> None:
    for module in (context_module, subset_scores):
        monkeypatch.setattr(module, "MOST_WORK", work)


def test_of_large_models_few_orders_are_scored_and_values_still_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _allow(monkeypatch, 4 * 180 * 40)  # of 40 subsets
    context = _subjects(tmp_path, 6)

    surveyed = survey(context, context.ingredients)

    assert 20 < len(surveyed.scores) < 64
    everyone = surveyed.scores[0, 1, 2, 3, 4, 5]
    for place in range(2):
        gained = everyone[place] - surveyed.scores[()][place]
        assert surveyed.shapley[place].mean(axis=1).sum() == pytest.approx(gained)
    assert (surveyed.order_errors > 0).any()


def test_few_subsets_are_all_scored_however_large_the_models_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _allow(monkeypatch, 1.0)
    context = _subjects(tmp_path, 4)

    assert len(survey(context, context.ingredients).scores) == 16


def test_large_models_are_scored_on_equal_samples_of_val_and_its_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = _subjects(tmp_path, 3)
    whole = survey(context, context.ingredients)
    monkeypatch.setattr(context_module, "_LEAST_SAMPLE", 10)
    _allow(monkeypatch, 4 * 8 * 3 * 20)  # 8 subsets of 3 sets of 20 examples

    sampled = survey(context, context.ingredients)

    examples = sample_indices(60, 20).numpy()
    assert (whole.sample, sampled.sample) == (None, 20)
    assert whole.sampled == {}
    for place in range(2):
        np.testing.assert_allclose(sampled.shapley[place], whole.shapley[place][:, examples])
        np.testing.assert_allclose(sampled.by_size[place], whole.by_size[place][:, examples])
    assert "20 random examples of each set" in about_sample(sampled.sampled)
