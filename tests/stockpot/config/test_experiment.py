from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockpot.config import Experiment, load_experiment
from stockpot.config.hyperparameter_fields import offered_fields
from stockpot.distributions.values import Choice, Constant
from stockpot.errors import InputError
from stockpot.ingredients.points import plan_points

PARAMS = """
sweep:
  size: 4
  space: {learning_rate: 0.01}
soups:
  - {name: mean, select: uniform}
"""

Load = Callable[..., Experiment]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Read the params with these overrides."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    return lambda *overrides: load_experiment(tmp_path / "params.yaml", overrides)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["workload.val_shifts=[noise, blur]"],
            "workload: a shift is for val or for test, never both, got ['noise'] in val_shifts "
            "and test_shifts; remove it from one of them",
        ),
        (
            ["workload.val_shifts=[]", "tune=[{name: t, objectives: [val_shift]}]"],
            "tune 't' needs workload.val_shifts, got none; mark a shift as val or drop "
            "the objective",
        ),
        (
            ["sweep.min_ingredients=5"],
            "sweep: min_ingredients must be at most size (4), got 5",
        ),
        (
            ["sweep.size=null"],
            "sweep: size must be a number for search 'sobol', got null",
        ),
        (
            ["sweep.search=grid", "sweep.space.epochs={integer: [1, 3]}"],
            "sweep: size must be at most 3, which is all that this grid holds, got 4",
        ),
        (
            ["sweep.search=grid", "sweep.space.epochs={integer: [1, 3]}", "sweep.size=null"],
            "sweep: min_ingredients must be at most size (3), got 4",
        ),
        (
            ["sweep.search=grid", "sweep.space.mixup={uniform: [0, 1]}"],
            "sweep: space: a grid needs choice or integer, got an interval for ['mixup']",
        ),
        (
            ["sweep.space.min_lr=0.02"],
            "sweep.space: min_lr: must be at most the lowest learning_rate, 0.01, got 0.02",
        ),
        (
            ["sweep.search=list"],
            "sweep: list: must name at least one ingredient's hyperparameters, got none",
        ),
        (
            ["sweep.list=[{epochs: 3}]"],
            "sweep: list: is only for search 'list', got search 'sobol'",
        ),
        (
            ["sweep.search=list", "sweep.size=null", "sweep.list=[{epoch: 3}]"],
            "sweep: list: unknown hyperparameters ['epoch']; choose from "
            f"{[name for name in offered_fields('space') if name != 'seed']}",
        ),
        (
            ["sweep.search=list", "sweep.size=null", "sweep.list=[{optimizer: sdg}]"],
            "sweep.list: unknown optimizer 'sdg', choose from ['adamp', 'adamw', 'sgd', 'sgdp']; "
            "did you mean 'sgd'?",
        ),
        (
            ["sweep.search=list", "sweep.size=null", "sweep.list=[{epochs: 2.5}]"],
            "sweep.list: epochs: must be whole numbers, got 2.5; use integer or choice",
        ),
        (
            ["sweep.search=list", "sweep.size=null", "sweep.list=[{learning_rate: -1}]"],
            "sweep.list: learning_rate: must be in (0, inf), got -1",
        ),
        (
            ["tune=[{name: t, objectives: [val, val]}]"],
            "tune.0: objectives must differ, got ['val', 'val']",
        ),
        (
            ["tune=[{name: t, objectives: [val, val_shift], sampler: cmaes}]"],
            "tune.0: sampler 'cmaes' takes one objective, got two; use 'nsga2' or 'tpe'",
        ),
        (
            ["tune=[{name: t, search: gradiend}]"],
            "tune.0: unknown search 'gradiend', choose from ['bilevel', 'entropy', 'gradient', "
            "'optuna']; did you mean 'gradient'?",
        ),
        (
            ["tune=[{name: t, search: gradient, per: row}]"],
            "tune.0.per: must be 'model', 'layer' or 'tensor', got 'row'",
        ),
        (
            ["tune=[{name: t, search: entropy, init: 1.5}]"],
            "tune.0.init: must be less than or equal to 1, got 1.5",
        ),
        (
            ["tune=[{trials: 3}]"],
            "tune.0.name: is required, got nothing",
        ),
        (
            ["soups.0.method=fisher", "soups.0.options={n: 2.5}"],
            "soups.0: fisher: n must be a whole number of at least 1, got 2.5",
        ),
        (
            ["soups.0.method=fisher", "soups.0.options={floor: -1}"],
            "soups.0: fisher: floor must be finite and at least 0, got -1",
        ),
        (
            ["soups.0.method=regmean", "soups.0.options={n: 10, reduce: 2}"],
            "soups.0: regmean: reduce must be in [0, 1], got 2",
        ),
        (
            ["soups.0.method=regmean", "soups.0.options={estimator: exact}"],
            "soups.0: regmean: unknown option 'estimator', choose from ['max_in', 'n', 'reduce', "
            "'ridge']",
        ),
        (
            ["diagnose=[barrier]"],
            "diagnose: unknown diagnostic 'barrier', choose from ['barriers', 'contributions', "
            "'diversity', 'geometry', 'gradient_groups', 'log_distance', 'loss_plane', "
            "'mask_overlap', 'regime', 'similarity', 'soup_size']; did you mean 'barriers'?",
        ),
        (
            ["diagnose=[textwrap:indnt]"],
            "diagnose: unknown diagnostic in 'textwrap': 'indnt', choose from ['TextWrapper', "
            "'dedent', 'fill', 'indent', 'shorten', 'wrap']; did you mean 'indent'?",
        ),
        (
            ["diagnose=most"],
            "diagnose: must be 'all', got 'most'",
        ),
        (
            ["evaluate.metrics=[accuracy]"],
            "evaluate.metrics.0: must be module:function, got 'accuracy'",
        ),
        (
            ["tune=[{name: mean}]"],
            "names of soups and tune must differ from each other, got ['mean']",
        ),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(
    load: Load, overrides: list[str], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(*overrides)

    assert str(caught.value) == f"params.yaml: {expected}"


@pytest.mark.parametrize(
    "name", ["base", "ingredient-00", "best ingredient", "logit ensemble", "stacked ensemble"]
)
def test_a_soup_cannot_have_the_name_of_another_model(load: Load, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(f"soups.0.name={name}")

    assert str(caught.value) == (
        f"params.yaml: names of soups and tune must not be those of other models, got [{name!r}]"
    )


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("learning_rate=0", "learning_rate: must be in (0, inf), got 0"),
        ("learning_rate={uniform: [0, 1]}", "learning_rate: must be in (0, inf), got 0 to 1"),
        ("weight_decay=-1", "weight_decay: must be in [0, inf), got -1"),
        ("epochs=0", "epochs: must be in [1, inf), got 0"),
        ("epochs=2.5", "epochs: must be whole numbers, got 2.5; use integer or choice"),
        (
            "epochs={uniform: [1, 3]}",
            "epochs: must be whole numbers, got 1 to 3; use integer or choice",
        ),
        (
            "epochs={choice: [1, 2.5]}",
            "epochs: must be whole numbers, got 1 to 2.5; use integer or choice",
        ),
        ("batch_size={integer: [0, 8]}", "batch_size: must be in [1, inf), got 0 to 8"),
        ("label_smoothing=1", "label_smoothing: must be in [0, 1), got 1"),
        ("mixup={choice: [0, -0.5]}", "mixup: must be in [0, inf), got -0.5 to 0"),
        ("augmentation={uniform: [0, 1.5]}", "augmentation: must be in [0, 1], got 0 to 1.5"),
        ("seed=4294967296", "seed: must be in [0, 4.29497e+09), got 4.29497e+09"),
        (
            "learning_rate={log_uniform: [2, 1]}",
            "learning_rate: log_uniform: low must be < high, got 2.0 and 1.0",
        ),
        (
            "learning_rate={log_uniform: [0, 1]}",
            "learning_rate: log_uniform: both ends must be > 0, got 0.0",
        ),
        (
            "epochs={integer: [3, 1]}",
            "epochs: integer: low must be <= high, got 3 and 1",
        ),
        (
            "epochs={integer: [1, 3], choice: [1]}",
            "epochs: must name one distribution, got ['integer', 'choice']",
        ),
        (
            "epochs={}",
            "epochs: unknown distribution '(empty)', choose from ['choice', 'integer', "
            "'log_uniform', 'uniform']",
        ),
        (
            "epochs={choice: []}",
            "epochs.choice: must have at least 1 item, got []",
        ),
    ],
)
def test_a_space_with_values_out_of_range_is_refused(load: Load, field: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load(f"sweep.space.{field}")

    assert str(caught.value) == f"params.yaml: sweep.space.{expected}"


def test_an_empty_space_is_refused(load: Load) -> None:
    with pytest.raises(InputError) as caught:
        load("sweep.space={}")

    assert str(caught.value) == (
        "params.yaml: sweep.space: is empty; name at least one hyperparameter"
    )


def test_the_ends_of_a_range_that_belong_to_it_are_accepted(load: Load) -> None:
    space = load(
        "sweep.space={weight_decay: 0, label_smoothing: 0, augmentation: {choice: [0, 1]}, "
        "epochs: 1, batch_size: {integer: [1, 8]}, seed: {choice: [0, 4294967295]}}"
    ).sweep.space

    assert space.distributions()["augmentation"].bounds() == (0.0, 1.0)
    assert space.distributions()["seed"].bounds() == (0.0, 4294967295.0)


def test_omitted_hyperparameters_are_constants(load: Load) -> None:
    distributions = load("sweep.space={epochs: {integer: [2, 3]}}").sweep.space.distributions()

    assert distributions["batch_size"].bounds() == (32, 32)
    assert "seed" not in distributions


def test_names_are_constants_or_choices(load: Load) -> None:
    space = load("sweep.space={optimizer: {choice: [sgd, adamp]}, schedule: cosine}").sweep.space

    assert space.distributions()["optimizer"] == Choice(("sgd", "adamp"))
    assert space.distributions()["schedule"] == Constant("cosine")


def test_a_constant_technique_is_no_dimension_of_the_search(load: Load) -> None:
    plain, with_sgd = (
        plan_points("sobol", load(f"sweep.space={space}").sweep.space.distributions(), [], 4, 0)
        for space in (
            "{learning_rate: {uniform: [1, 2]}}",
            "{learning_rate: {uniform: [1, 2]}, optimizer: sgd, clip_norm: 1}",
        )
    )

    assert [p["learning_rate"] for p in plain] == [p["learning_rate"] for p in with_sgd]
    assert {p["optimizer"] for p in with_sgd} == {"sgd"}


def test_a_users_workload_may_have_any_shifts(load: Load) -> None:
    workload = load(
        "workload.name=my_module:Mine", "workload.val_shifts=[fog]", "workload.test_shifts=[snow]"
    ).workload

    assert workload.val_shifts == ["fog"]


def test_no_shift_is_called_as_a_sample_of_a_set_is(load: Load) -> None:
    with pytest.raises(InputError, match=r"^params\.yaml: workload: .* got 'turned\[30\]'"):
        load("workload.name=my_module:Mine", "workload.val_shifts=['turned[30]']")


def test_options_of_a_preparation_are_given_with_those_of_the_method(load: Load) -> None:
    recipe = load(
        "soups.0.method=fisher", "soups.0.options={n: 64, estimator: sampled, floor: 0.1}"
    ).soups[0]

    assert recipe.options == {"n": 64, "estimator": "sampled", "floor": 0.1}
    assert isinstance(recipe.options["n"], int)


def test_a_list_replaces_values_of_the_space(load: Load) -> None:
    sweep = load(
        "sweep.search=list",
        "sweep.size=null",
        "sweep.min_ingredients=1",
        "sweep.list=[{epochs: 3}, {learning_rate: 0.1, seed: 5}]",
    ).sweep

    assert list(sweep.list) == [{"epochs": 3.0}, {"learning_rate": 0.1, "seed": 5.0}]


def test_the_default_search_is_optuna(load: Load) -> None:
    first, second, third = load(
        "tune=[{name: a}, {name: b, search: gradient}, {name: c, search: entropy}]"
    ).tune

    assert (first.search, first.build().recipe["trials"]) == ("optuna", 60)
    assert (second.search, second.per, second.epochs) == ("gradient", "layer", 5)
    assert (third.search, third.init, third.steps) == ("entropy", 0.3, 500)


def test_diagnostics_are_built_in_or_functions_of_the_user(load: Load) -> None:
    experiment = load("diagnose=[similarity, textwrap:dedent]")

    assert experiment.diagnose == ["similarity", "textwrap:dedent"]


def test_metrics_are_functions_of_the_user(load: Load) -> None:
    assert load().evaluate.metrics == []
    assert load("evaluate.metrics=[textwrap:indent]").evaluate.metrics == ["textwrap:indent"]
