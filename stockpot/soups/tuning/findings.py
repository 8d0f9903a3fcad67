"""The results of an Optuna study, in the form of manifests."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from stockpot.soups.tuning.merge import Merge
from stockpot.soups.tuning.search import trial_json
from stockpot.soups.tuning.study import StudyPlan, Trial, stored_trials

_FEWEST_TRIALS = 10
"""Importances of fewer trials would be noise."""


def trial_details(trial: Trial[Merge], names: Sequence[str] = ()) -> dict[str, Any]:
    """Return a trial; with the names of the ingredients, also its merge."""
    content = trial_json(trial.number, trial.scored.values, trial.source)
    if not names:
        missed = {"misses_floor": True} if trial.scored.missed else {}
        return content | {"parameters": dict(trial.parameters)} | missed
    del content["source"]
    shares = zip(names, trial.candidate.shares, strict=True)
    content["coefficients"] = {name: share for name, share in shares if share > 0}
    merge = trial.candidate
    return content if merge.is_average else content | {"merge": merge.to_json(names)}


def importances(plan: StudyPlan[Merge], trials: Sequence[Trial[Merge]]) -> dict[str, Any]:
    """Return the share of each parameter in the variance of the first objective, by fANOVA.

    Empty for a study whose parameters depend on the method, with too few trials, or whose trials
    all have one value.

    Source: Hutter et al. 2014, http://proceedings.mlr.press/v32/hutter14.html, as in Optuna.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = {trial.scored.values[0] for trial in trials}
    if plan.is_conditional or len(trials) < _FEWEST_TRIALS or len(values) < 2:
        return {}
    study = optuna.create_study(directions=plan.directions)
    study.add_trials(stored_trials(plan)[: len(trials)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = get_param_importances(
            study,
            evaluator=FanovaImportanceEvaluator(seed=plan.seed),
            target=None if len(plan.directions) == 1 else lambda trial: trial.values[0],
        )
    return {"importances": {name: round(share, 6) for name, share in found.items()}}
