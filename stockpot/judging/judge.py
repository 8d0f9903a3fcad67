"""The verdict on all models: every metric, its interval, and the comparisons with the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stockpot.judging.confidence import (
    SCALED,
    conformal_rows,
    ece_of_chance,
    is_finite,
    reliability_data,
    temperatures,
)
from stockpot.judging.contestants import OnSet, Panel
from stockpot.judging.effective_robustness import effective_robustness
from stockpot.judging.job import JudgingJob
from stockpot.judging.relative_improvement import random_soup_rows
from stockpot.judging.scores import Scores, shown, which_are_fractions
from stockpot.judging.test_sets import test_sets
from stockpot.judging.wise_ft import wise_ft_path
from stockpot.scoring.metrics import TaskMetric, metrics_of
from stockpot.scoring.metrics.classification import absent_classes
from stockpot.scoring.predictions import val_sets
from stockpot.scoring.shift_means import are_copies
from stockpot.statistics.comparisons import compare_family
from stockpot.statistics.estimates import Estimate
from stockpot.statistics.greedy_decisions import greedy_decisions
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats
from stockpot.workloads.protocol import noted_of

_SUMMARIES = ("val", "val_shift/mean", "test", "shift/mean")
"""Places where every mean over examples has an interval; elsewhere the first metric alone has."""

_COMPARED = {"shift": "shift/mean", "test": "test"}
"""Where models are compared: what a comparison calls it, and what a metric does."""


_MEASURED = {"val": "val", **_COMPARED}
"""Where random soups and paths are measured, called as in a comparison."""


@dataclass(frozen=True)
class _Judgement:
    """What all parts of the manifest are made of.

    Attributes:
        job: who is judged, and how.
        panel: their outputs.
        metrics: by name; the first one is what models are compared by.
        val: the panel on val, where everything is fitted.
        test: the panel on test.
        temperature_of: each classifier's, fitted on val; of finite outputs.
        scores: by model.
        intervals: how they are made.
    """

    job: JudgingJob
    panel: Panel
    metrics: Mapping[str, TaskMetric]
    val: OnSet
    test: OnSet
    temperature_of: Mapping[str, float]
    scores: Mapping[str, Scores]
    intervals: Intervals

    @property
    def metric(self) -> str:
        """The name of the first metric."""
        return next(iter(self.metrics))

    def values(self, name: str, places: Mapping[str, str] = _COMPARED) -> dict[str, Floats]:
        """Return a model's values of the first metric, by where it is compared; (N,) each."""
        per_example = self.scores[name].per_example
        names = {place: f"{where}/{self.metric}" for place, where in places.items()}
        return {place: per_example[n] for place, n in names.items() if n in per_example}


def judge(job: JudgingJob) -> dict[str, Any]:
    """Judge all models by their kept predictions; no set is passed through any model.

    Returns:
        The evaluation manifest, without its inputs.

    Raises:
        InputError: the predictions of a model on a set are not kept.
    """
    judgement = _judge(job)
    random_soups = _random_soups(judgement)
    return {
        "metric": judgement.metric,
        "higher_is_better": {n: m.higher_is_better for n, m in judgement.metrics.items()},
        "is_fraction": which_are_fractions(judgement.metrics, judgement.scores.values()),
        "best_ingredient": judgement.panel.best,
        "best_soup": judgement.panel.best_soup,
        "confidence": job.confidence,
        "bootstrap": job.bootstrap,
        "num_val": len(judgement.val.targets),
        "num_test": len(judgement.test.targets),
        "val_shifts": list(job.workload.val_shifts),
        "test_shifts": list(job.workload.test_shifts),
        "models": _models(judgement, random_soups["rows"]),
        "comparisons": _comparisons(judgement),
        "greedy": _greedy(job),
        "random_soups": random_soups,
        "wise_ft": _wise_ft(judgement),
        "effective_robustness": _effective_robustness(judgement),
        "reliability": _reliability(judgement),
        "conformal": _conformal(judgement),
        "notes": _notes(judgement),
    }


def _judge(job: JudgingJob) -> _Judgement:
    panel, metrics = Panel(job), metrics_of(job.workload.build())
    val, test = panel.on("val"), panel.on("test")
    temperature_of = temperatures(val) if panel.is_classification else {}
    return _Judgement(
        job=job,
        panel=panel,
        metrics=metrics,
        val=val,
        test=test,
        temperature_of=temperature_of,
        scores=_scores(job, panel, metrics, temperature_of),
        intervals=Intervals(job.bootstrap, job.confidence, job.workload.seed),
    )


def _scores(
    job: JudgingJob,
    panel: Panel,
    metrics: Mapping[str, TaskMetric],
    temperature_of: Mapping[str, float],
) -> dict[str, Scores]:
    """Compute all metrics of all models, one set after the other."""
    scores = {name: Scores() for name in panel.kinds}
    of_workload = [metrics[name] for name in job.workload.build().metrics]
    sets = (*val_sets(job.workload), *test_sets(job.workload))
    for set_name in sets:
        place, on_set = shown(set_name), panel.on(set_name)
        for name, outputs in on_set.outputs.items():
            # What to make of outputs that are not finite, the workload alone knows.
            is_sound = is_finite(outputs)
            defined = metrics.values() if is_sound else of_workload
            scores[name].add(place, defined, outputs, on_set.targets)
            if is_sound and name in temperature_of:
                scaled = outputs / temperature_of[name]
                scores[name].add(place, SCALED, scaled, on_set.targets)
    for prefix in ("val_shift", "shift"):
        shifts = _shifts(sets, prefix)
        copies = are_copies(job.workload, shifts)
        for of_model in scores.values():
            of_model.add_means(prefix, shifts, copies)
    return scores


def _shifts(sets: tuple[str, ...], prefix: str) -> list[str]:
    places = [shown(name) for name in sets]
    return [p.removeprefix(f"{prefix}/") for p in places if p.startswith(f"{prefix}/")]


def _models(
    judgement: _Judgement, random_soups: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return who was judged with all metrics; `ri/<place>` is of random soups of the same size."""
    return [
        identity
        | {
            "metrics": _metrics(judgement, name)
            | {
                f"ri/{row['place']}": row["ri"]
                for row in random_soups
                if (row["model"], row["pool"]) == (name, "matched")
            }
        }
        for name, identity in judgement.panel.identities.items()
    ]


def _metrics(judgement: _Judgement, name: str) -> dict[str, float]:
    """Return all metrics of one model, flat, with the ends of intervals."""
    job, scores = judgement.job, judgement.scores[name]
    metrics = dict(scores.values)
    for full_name, values in scores.per_example.items():
        place, _, metric = full_name.rpartition("/")
        if metric == judgement.metric or place in _SUMMARIES:
            metrics |= _flat(full_name, judgement.intervals.estimate(values))
    if name != judgement.panel.best:
        metrics |= _differences(judgement, name)
    if name in judgement.temperature_of:
        metrics["temperature"] = judgement.temperature_of[name]
    if "test/ece" in metrics:
        metrics["test/ece_chance"] = ece_of_chance(
            judgement.test.outputs[name],
            resamples=job.bootstrap,
            confidence=job.confidence,
            seed=job.workload.seed,
        )
    return metrics


def _differences(judgement: _Judgement, name: str) -> dict[str, float]:
    """Return by how much a model exceeds the best ingredient in the first metric."""
    reference = judgement.values(judgement.panel.best)
    metrics: dict[str, float] = {}
    for place, values in judgement.values(name).items():
        difference = judgement.intervals.difference(values, reference[place])
        metrics |= _flat(f"difference/{_COMPARED[place]}/{judgement.metric}", difference)
    return metrics


def _flat(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _comparisons(judgement: _Judgement) -> list[dict[str, Any]]:
    """Compare with the best ingredient: soups, and what takes several passes; two families."""
    best = judgement.panel.best
    panel = judgement.panel
    families = [panel.named("soup", "tuned"), panel.named("ensemble", "repeats")]
    return [
        comparison
        for family in families
        for comparison in compare_family(
            {name: judgement.values(name) for name in (best, *family)}, best, judgement.intervals
        )
    ]


def _greedy(job: JudgingJob) -> list[dict[str, Any]]:
    """Say of each greedy soup which decisions val's noise could have made."""
    return [
        {"soup": model.name, "steps": greedy_decisions(model.details["steps"], job.confidence)}
        for model in job.models
        if model.details.get("steps")
    ]


def _random_soups(judgement: _Judgement) -> dict[str, Any]:
    """Compare soups with random ones of the same ingredients."""
    job = judgement.job
    rows = random_soup_rows(
        [model for model in job.models if model.kind in ("soup", "tuned")],
        {name: judgement.values(name, _MEASURED) for name in judgement.panel.kinds},
        job.random_soups,
        resamples=job.bootstrap,
        confidence=job.confidence,
    )
    some = job.random_soups[0] if job.random_soups else None
    return {"draws": some.draws if some else 0, "seed": some.seed if some else 0, "rows": rows}


def _wise_ft(judgement: _Judgement) -> list[dict[str, Any]]:
    """Return the scores between the base and the best soup; [] without a soup."""
    path = judgement.job.wise_ft
    if path is None:
        return []
    ends = (path.base.name, path.soup.name)
    return [wise_ft_path(path, {name: judgement.values(name, _MEASURED) for name in ends})]


def _effective_robustness(judgement: _Judgement) -> dict[str, Any]:
    """Measure what models keep under shift beyond the ingredients' line; {} without shifts."""
    values = {name: judgement.values(name) for name in judgement.panel.kinds}
    both = {name: places for name, places in values.items() if len(places) == len(_COMPARED)}
    if not both:
        return {}
    test, shift = ({n: places[p] for n, places in both.items()} for p in ("test", "shift"))
    kinds = {name: judgement.panel.kinds[name] for name in both}
    return effective_robustness(test, shift, kinds, judgement.intervals)


def _reliability(judgement: _Judgement) -> dict[str, Any]:
    names = _calibrated(judgement, "soup", "tuned", "ensemble")
    shown_names = [name for name in names if judgement.panel.kinds[name] != "ensemble"]
    shown_names += [name for name in names if name == "logit ensemble"]
    return reliability_data(judgement.test, shown_names, judgement.temperature_of)


def _conformal(judgement: _Judgement) -> list[dict[str, Any]]:
    names = _calibrated(judgement, "base", "soup", "tuned", "ensemble")
    job = judgement.job
    return conformal_rows(judgement.val, judgement.test, names, job.alpha, job.confidence)


def _calibrated(judgement: _Judgement, *kinds: str) -> list[str]:
    """Name the best ingredient and those of these kinds that were calibrated on val."""
    panel, outputs = judgement.panel, judgement.test.outputs
    return [
        name
        for name in panel.kinds
        if (name == panel.best or name in panel.named(*kinds))
        and name in judgement.temperature_of
        and is_finite(outputs[name])
    ]


def _notes(judgement: _Judgement) -> list[str]:
    """Say which metrics are not of all that they seem to be of, and what the workload adds."""
    notes = noted_of(judgement.job.workload.build())
    for place, on_set in (("val", judgement.val), ("test", judgement.test)):
        some = on_set.outputs[judgement.panel.best]
        absent = absent_classes(some, on_set.targets) if judgement.panel.is_classification else []
        if absent:
            notes.append(
                f"no example of {place} is of class {', '.join(map(str, absent))}: "
                "ap_macro and auroc leave them out"
            )
        unsound = [name for name, outputs in on_set.outputs.items() if not is_finite(outputs)]
        if unsound:
            notes.append(
                f"on {place}, outputs are not finite of {', '.join(unsound)}: "
                "only the workload's own metrics are computed"
            )
    return notes
