"""The evaluation manifest: metrics of all models, and comparisons with the best ingredient."""

from __future__ import annotations

from typing import Any

from stockpot.judging.confidence import conformal_rows, is_finite
from stockpot.judging.effective_robustness import effective_robustness
from stockpot.judging.job import JudgingJob
from stockpot.judging.judgement import COMPARED, MEASURED, Judgement
from stockpot.judging.model_entries import model_entries
from stockpot.judging.relative_improvement import random_soup_rows
from stockpot.judging.scores import which_are_fractions
from stockpot.judging.wise_ft import wise_ft_path
from stockpot.scoring.metrics.calibration import reliability
from stockpot.scoring.metrics.classification import absent_classes
from stockpot.statistics.comparisons import compare_family
from stockpot.statistics.greedy_decisions import greedy_decisions
from stockpot.workloads.protocol import notes_of


def judge(job: JudgingJob) -> dict[str, Any]:
    """Judge all models by their cached predictions; no forward pass is made.

    Returns:
        The evaluation manifest, without its inputs.

    Raises:
        InputError: predictions are missing, or a metric of the user's cannot be computed.
    """
    judgement = Judgement(job)
    random_soups = _random_soups(judgement)
    return {
        "metric": judgement.metric,
        "higher_is_better": {n: m.higher_is_better for n, m in judgement.metrics.items()},
        "is_fraction": which_are_fractions(judgement.metrics, judgement.scores.values()),
        "best_ingredient": judgement.contestants.best,
        "best_soup": judgement.contestants.best_soup,
        "confidence": job.confidence,
        "bootstrap": job.bootstrap,
        "num_val": len(judgement.val.targets),
        "num_test": len(judgement.test.targets),
        "val_shifts": list(job.workload.val_shifts),
        "test_shifts": list(job.workload.test_shifts),
        "models": model_entries(judgement, random_soups["rows"]),
        "comparisons": _comparisons(judgement),
        "greedy": [
            {"soup": model.name, "steps": greedy_decisions(model.details["steps"], job.confidence)}
            for model in job.models
            if model.details.get("steps")
        ],
        "random_soups": random_soups,
        "wise_ft": _wise_ft(judgement),
        "effective_robustness": _effective_robustness(judgement),
        "reliability": _reliability(judgement),
        "conformal": _conformal(judgement),
        "notes": _notes(judgement),
    }


def _comparisons(judgement: Judgement) -> list[dict[str, Any]]:
    """Compare two families with the best ingredient: soups, and what takes several passes."""
    best, named = judgement.contestants.best, judgement.contestants.named
    return [
        comparison
        for family in (named("soup", "tuned"), named("ensemble", "repeats"))
        for comparison in compare_family(
            {name: judgement.values(name) for name in (best, *family)}, best, judgement.intervals
        )
    ]


def _random_soups(judgement: Judgement) -> dict[str, Any]:
    """Compare soups with random ones of the same ingredients."""
    pools = judgement.job.random_soups
    rows = random_soup_rows(
        [model for model in judgement.job.models if model.kind in ("soup", "tuned")],
        {name: judgement.values(name, MEASURED) for name in judgement.contestants.kinds},
        pools,
        judgement.intervals,
    )
    draws, seed = (pools[0].draws, pools[0].seed) if pools else (0, 0)
    return {"draws": draws, "seed": seed, "rows": rows}


def _wise_ft(judgement: Judgement) -> list[dict[str, Any]]:
    """Return the scores between the base and the best soup; [] without a soup."""
    path = judgement.job.wise_ft
    if path is None:
        return []
    ends = (path.base.name, path.soup.name)
    return [wise_ft_path(path, {name: judgement.values(name, MEASURED) for name in ends})]


def _effective_robustness(judgement: Judgement) -> dict[str, Any]:
    """Measure robustness beyond the ingredients' line; {} without shifts."""
    values = {name: judgement.values(name) for name in judgement.contestants.kinds}
    both = {name: places for name, places in values.items() if len(places) == len(COMPARED)}
    if not both:
        return {}
    test, shift = ({n: places[p] for n, places in both.items()} for p in ("test", "shift"))
    kinds = {name: judgement.contestants.kinds[name] for name in both}
    return effective_robustness(test, shift, kinds, judgement.intervals)


def _reliability(judgement: Judgement) -> dict[str, Any]:
    """Return reliability diagrams on test, without (`bins`) and with temperature (`scaled`)."""
    names = _calibrated(judgement, "soup", "tuned", "ensemble")
    outputs, targets = judgement.test.outputs, judgement.test.targets
    return {
        name: {
            "bins": reliability(outputs[name], targets),
            "scaled": reliability(outputs[name] / judgement.temperature_of[name], targets),
        }
        for name in names
        if judgement.contestants.kinds[name] != "ensemble" or name == "logit ensemble"
    }


def _conformal(judgement: Judgement) -> list[dict[str, Any]]:
    names = _calibrated(judgement, "base", "soup", "tuned", "ensemble")
    job = judgement.job
    return conformal_rows(judgement.val, judgement.test, names, job.alpha, job.confidence)


def _calibrated(judgement: Judgement, *kinds: str) -> list[str]:
    """Name the calibrated contestants among the best ingredient and those of these kinds."""
    contestants, outputs = judgement.contestants, judgement.test.outputs
    return [
        name
        for name, kind in contestants.kinds.items()
        if (name == contestants.best or kind in kinds)
        and name in judgement.temperature_of
        and is_finite(outputs[name])
    ]


def _notes(judgement: Judgement) -> list[str]:
    """Name the metrics that leave out classes or models, and add the workload's own notes."""
    contestants, notes = judgement.contestants, notes_of(judgement.job.workload.build())
    for place, on_set in (("val", judgement.val), ("test", judgement.test)):
        some = on_set.outputs[contestants.best]
        absent = absent_classes(some, on_set.targets) if contestants.are_classifiers else []
        if absent:
            notes.append(
                f"no example of {place} is of class {', '.join(map(str, absent))}: "
                "ap_macro and auroc leave them out"
            )
        not_finite = [name for name, outputs in on_set.outputs.items() if not is_finite(outputs)]
        if not_finite:
            notes.append(
                f"on {place}, outputs are not finite of {', '.join(not_finite)}: "
                "only the workload's own metrics are computed"
            )
    return notes
