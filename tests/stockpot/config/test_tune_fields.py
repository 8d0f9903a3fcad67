"""The section `tune` of params.yaml: what is wrong is said when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.config import Experiment, load_experiment
from stockpot.errors import InputError


def _load(folder: Path, study: str) -> Experiment:
    path = folder / "params.yaml"
    path.write_text(
        "sweep: {space: {learning_rate: 0.001}}\n"
        "soups: [{name: a, select: uniform}]\n"
        f"tune: [{{name: t, {study}}}]\n"
    )
    return load_experiment(path)


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("method: tiess", r"unknown merge method 'tiess'.*did you mean 'ties'"),
        ("method: concat", "method 'concat' cannot be tuned"),
        ("method: wsm", "method 'wsm' cannot be tuned"),
        ("method: [ties, ties]", "method must name each method once"),
        (
            "method: ties, space: {densty: {uniform: [0.1, 1]}}",
            r"space: unknown option 'densty'.*did you mean 'density'",
        ),
        (
            "method: ties, space: {density: {uniform: [0.1, 1.5]}}",
            r"space: ties: density must be in \[0, 1\], got 1.5",
        ),
        ("method: ties, space: {density: {uniform: [1]}}", "space.density.uniform.1: is required"),
        ("method: ties, space: {density: 0.2}", "space: names nothing to search"),
        ("method: ties, space: {weight: {uniform: [-1, 1]}}", "space: weight must be >= 0"),
        ("method: ties, space: {weight: 0.5}", "weight must be simplex or a distribution"),
        (
            "method: ties, space: {normalize: {uniform: [0, 1]}}",
            r"space: normalize must be a choice of true and false",
        ),
        (
            "method: consensus_ta, space: {min_models: {uniform: [1, 2]}}",
            "space: min_models must be whole numbers",
        ),
        (
            "method: della, space: {density: {uniform: [0.1, 0.5]}, epsilon: {uniform: [0, 0.3]}}",
            "epsilon must be in .* with density 0.1",
        ),
        ("method: slerp, top_k: 2, space: {scope: {choice: [model]}}", "t of slerp has no default"),
        ("method: slerp", "top_k: must be 2 for a method that merges 2"),
        ("method: slerp, top_k: 3", "top_k: must be 2, got 3"),
        ("method: [wise_ft, slerp]", "method: must be methods of equal numbers of models"),
        ("top_k: 1", "top_k: must be at least 2, got 1"),
        ("per: {layer_group: 1}", "layer_group: must be greater than or equal to 2"),
        ("method: fisher, per: ['*.bias']", "per must be model for 'fisher'"),
        (
            "method: ties, per: {layer_group: 2}, space: {scope: model, weight: simplex}",
            "per must be model where scope is that of 'ties'",
        ),
        ("sampler: tpee", "unknown sampler 'tpee'.*did you mean 'tpe'"),
        ("sampler: 'collections:Counter'", "must be a subclass of optuna.samplers.BaseSampler"),
        ("sampler: cmaes, objectives: [val, loss]", "sampler 'cmaes' takes one objective"),
        ("sampler: cmaes, method: slerp, top_k: 2", "sampler 'cmaes' searches at least two"),
        ("sampler: gp, method: [linear, ties]", "sampler 'gp' cannot choose among methods"),
        ("trials: 5, seconds: 3", r"must have one of .* got \['trials', 'seconds'\]"),
        ("batch: 0", "batch: must be greater than or equal to 1"),
        ("floor: {val: high}", "floor.val: must be a valid number"),
        ("objectives: [val, val]", "objectives must differ"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, study: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"(?s)tune.0.*{expected}"):
        _load(tmp_path, study)


def test_a_floor_on_val_shifts_needs_some(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "workload: {val_shifts: []}\nsweep: {space: {learning_rate: 0.001}}\n"
        "soups: [{name: a, select: uniform}]\n"
        "tune: [{name: t, floor: {val_shift: best_ingredient}}]\n"
    )

    with pytest.raises(InputError, match=r"tune 't' needs workload\.val_shifts"):
        load_experiment(path)


@pytest.mark.parametrize(
    "study",
    [
        "method: ties, space: {density: {uniform: [0.1, 1]}, scale: {log_uniform: [0.3, 3]}, "
        "weight: simplex}, per: {layer_group: 3}, sampler: nsga3, evaluations: 9",
        "method: [linear, ties], space: {density: {uniform: [0.1, 1]}}",
        "method: [linear, ties, dare_ties], sampler: random, seconds: 2.5",
        "method: wise_ft, top_k: 1, sampler: 'optuna.samplers:RandomSampler'",
        "objectives: [sparsity, val], floor: {val: best_ingredient, loss: 0.4}, batch: 4",
        "method: ties, space: {normalize: {choice: [true, false]}, weight: {uniform: [0, 1]}}",
    ],
)
def test_what_fits_is_read_and_has_a_recipe_of_plain_values(tmp_path: Path, study: str) -> None:
    import json

    search = _load(tmp_path, study).tune[0].build()

    assert json.loads(json.dumps(search.recipe)) == search.recipe
    assert json.loads(json.dumps(search.study)) == search.study


def test_the_budget_is_no_part_of_a_study(tmp_path: Path) -> None:
    studies = [
        _load(tmp_path, f"method: ties, {budget}").tune[0].build().study
        for budget in ("trials: 5", "seconds: 5", "evaluations: 5")
    ]

    assert studies[0] == studies[1] == studies[2]


def test_a_default_search_is_recorded_as_before(tmp_path: Path) -> None:
    search = _load(tmp_path, "objectives: [val]").tune[0].build()

    assert search.study == {"objectives": ["val"], "sampler": "tpe"}
    assert search.recipe == {
        "search": "optuna",
        "method": "linear",
        "objectives": ["val"],
        "sampler": "tpe",
        "trials": 60,
    }
