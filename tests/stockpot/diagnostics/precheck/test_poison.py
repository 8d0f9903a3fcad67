"""One poisoned ingredient among sixteen good ones is named with the reason, and nobody else is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from poisoned_sweep import State, Sweep, make_digits, quick_sweep

from stockpot.diagnostics.barriers import apart, midpoints
from stockpot.diagnostics.precheck.check import Check
from stockpot.diagnostics.precheck.checks import Candidates, run_checks
from stockpot.diagnostics.similarity import foreign
from stockpot.diagnostics.states import mean_state
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram
from stockpot.metric_units import Unit
from stockpot.scoring.val_scores import ValScorer
from stockpot.soups.alignment import permute, random_permutations, trace_spec
from stockpot.soups.alignment.permutations import check_spec
from stockpot.workloads.passes import Examples, empty_model, put_weights

SCORER = ValScorer(make_digits(), "cpu")


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return quick_sweep()


@pytest.fixture(scope="module")
def permuted(sweep: Sweep) -> State:
    """The first ingredient with its units in another order: the same function."""
    net = empty_model(make_digits(), "cpu")
    spec = trace_spec(net, torch.zeros(2, 1, 8, 8))
    sizes = check_spec(spec, sweep.good[0])
    generator = torch.Generator().manual_seed(0)
    return permute(sweep.good[0], spec, random_permutations(sizes, generator))


def _value(state: State) -> float:
    return float(SCORER.val_values(state).mean())


def _good(sweep: Sweep) -> dict[str, State]:
    return {f"good {number}": state for number, state in enumerate(sweep.good)}


def _candidates(sweep: Sweep, states: Mapping[str, State]) -> Candidates:
    scores = {name: _value(state) for name, state in states.items()}
    order = sorted(states, key=lambda name: -scores[name])
    return Candidates(states, scores, order, sweep.base, _value(sweep.base), mean_state)


def _failed(sweep: Sweep, place: int, odd: State) -> list[Check]:
    """Put an odd ingredient at a place among the good ones and return what did not pass."""
    named = [*_good(sweep).items()]
    named.insert(place, ("odd", odd))
    checks, _ = run_checks(_candidates(sweep, dict(named)), SCORER.val_values, 0.05, 0.01)
    return [check for check in checks if not check.passed]


def test_good_ingredients_all_pass_and_their_mean_has_an_error_bound(sweep: Sweep) -> None:
    candidates = _candidates(sweep, _good(sweep))

    checks, bound = run_checks(candidates, SCORER.val_values, 0.05, 0.01)

    assert [check for check in checks if not check.passed] == []
    assert {check.name for check in checks} == {
        *("tensors", "finite", "buffers", "start", "duplicate", "score", "path")
    }
    assert bound is not None
    assert bound["num_wrong"] / 400 < bound["error_below"] < 0.15


@pytest.mark.parametrize("place", [0, 16])
def test_another_start_is_named_for_its_weights_and_for_its_path(sweep: Sweep, place: int) -> None:
    failed = _failed(sweep, place, sweep.other_start)

    assert {check.ingredient for check in failed} == {"odd"}
    assert {check.name for check in failed} == {"start", "path"}
    assert "another start, or far from it" in failed[0].detail


def test_another_start_is_named_even_if_it_is_the_best_on_val(sweep: Sweep) -> None:
    measured = _candidates(sweep, {"odd": sweep.other_start} | _good(sweep))
    scores = {**measured.scores, "odd": max(measured.scores.values()) + 0.01}
    first = replace(measured, scores=scores, order=[*measured.states], base_score=0.9)

    checks, _ = run_checks(first, SCORER.val_values, 0.05, 0.01)

    assert {check.ingredient for check in checks if not check.passed} == {"odd"}


@pytest.mark.parametrize("place", [0, 16])
def test_shuffled_labels_are_named_for_the_score(sweep: Sweep, place: int) -> None:
    failed = _failed(sweep, place, sweep.shuffled)

    assert {check.ingredient for check in failed} == {"odd"}
    assert "score" in {check.name for check in failed}
    assert "on val, the base" in failed[0].detail


def test_a_permuted_copy_of_an_ingredient_fails_the_barrier(sweep: Sweep, permuted: State) -> None:
    failed = _failed(sweep, 3, permuted)

    assert _value(permuted) == _value(sweep.good[0])
    assert {check.ingredient for check in failed} == {"odd"}
    path = next(check for check in failed if check.name == "path")
    assert path.value is not None
    assert path.value > 0.05


def test_a_head_of_another_initialisation_is_named(sweep: Sweep) -> None:
    heads = {name: sweep.other_start[name] for name in ("head.weight", "head.bias")}

    failed = _failed(sweep, 5, dict(sweep.good[0]) | heads)

    assert {check.ingredient for check in failed} == {"odd"}
    assert any("'head.weight' has a cosine of" in check.detail for check in failed)


@pytest.mark.parametrize("poison", ["other_start", "shuffled"])
def test_the_diagnostics_name_the_poison_too(sweep: Sweep, poison: str) -> None:
    states = [*sweep.good, getattr(sweep, poison)]
    names = [*(f"good {number}" for number in range(16)), "odd"]
    workload = make_digits()
    val, net = Examples(workload, workload.dataset("val"), "cpu"), empty_model(workload, "cpu")

    def score(state: State) -> tuple[float, float]:
        put_weights(net, state)
        outputs = val.outputs(net)
        hits = (outputs.argmax(dim=1) == val.targets).double()
        return float(hits.mean()), val.loss(outputs)

    gram = task_vector_gram(states, sweep.base)
    by_barrier = apart(names, midpoints(states, score, mean_state)[0], Unit("accuracy"))
    by_direction = foreign(names, cosines_of(gram).numpy(), gram.diagonal().sqrt().tolist())

    assert [alert.model for alert in by_barrier] == ["odd"]
    assert [alert.model for alert in by_direction] == ["odd"]
