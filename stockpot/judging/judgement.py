"""All models' metrics on all sets, which every part of the evaluation manifest reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stockpot.judging.confidence import SCALED, is_finite, temperatures
from stockpot.judging.contestants import Contestants, OutputsOnSet
from stockpot.judging.job import JudgingJob
from stockpot.judging.scores import Scores, shown
from stockpot.judging.test_sets import test_sets
from stockpot.scoring.metrics import TaskMetric, metrics_of
from stockpot.scoring.predictions import val_sets
from stockpot.scoring.shift_means import are_copies
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats

COMPARED = {"shift": "shift/mean", "test": "test"}
"""Where models are compared: place in a comparison -> place in the names of metrics."""

MEASURED = {"val": "val", **COMPARED}
"""Where random soups and WiSE-FT paths are measured, in the same form."""


@dataclass(frozen=True)
class Judgement:
    """The outputs and scores of all contestants.

    Attributes:
        job: the models, and the settings of the evaluation.
        contestants: the models and ensembles that are judged.
        metrics: by name; models are compared by the first one.
        val: outputs on val, on which everything is fitted.
        test: outputs on test.
        temperature_of: the temperature of each classifier with finite outputs, fitted on val.
        scores: by model.
        intervals: computes the confidence intervals.
    """

    job: JudgingJob
    contestants: Contestants
    metrics: Mapping[str, TaskMetric]
    val: OutputsOnSet
    test: OutputsOnSet
    temperature_of: Mapping[str, float]
    scores: Mapping[str, Scores]
    intervals: Intervals

    @property
    def metric(self) -> str:
        """The name of the first metric."""
        return next(iter(self.metrics))

    def values(self, name: str, places: Mapping[str, str] = COMPARED) -> dict[str, Floats]:
        """Return a model's per-example values of the first metric by place; (N,) each."""
        per_example = self.scores[name].per_example
        names = {place: f"{where}/{self.metric}" for place, where in places.items()}
        return {place: per_example[n] for place, n in names.items() if n in per_example}


def judgement_of(job: JudgingJob) -> Judgement:
    """Compute all metrics from cached predictions.

    Raises:
        InputError: predictions are missing, or a metric of the user's cannot be computed.
    """
    contestants, metrics = Contestants(job), metrics_of(job.workload.build(), job.metrics)
    val, test = contestants.on("val"), contestants.on("test")
    temperature_of = temperatures(val) if contestants.are_classifiers else {}
    return Judgement(
        job=job,
        contestants=contestants,
        metrics=metrics,
        val=val,
        test=test,
        temperature_of=temperature_of,
        scores=_scores(job, contestants, metrics, temperature_of),
        intervals=Intervals(job.bootstrap, job.confidence, job.workload.seed),
    )


def _scores(
    job: JudgingJob,
    contestants: Contestants,
    metrics: Mapping[str, TaskMetric],
    temperature_of: Mapping[str, float],
) -> dict[str, Scores]:
    """Compute all metrics of all contestants, one set after the other."""
    scores = {name: Scores() for name in contestants.kinds}
    of_workload = [metrics[name] for name in job.workload.build().metrics]
    sets = (*val_sets(job.workload), *test_sets(job.workload))
    for set_name in sets:
        place, on_set = shown(set_name), contestants.on(set_name)
        for name, outputs in on_set.outputs.items():
            # Only the workload's own metrics have to cope with outputs that are not finite.
            finite = is_finite(outputs)
            defined = metrics.values() if finite else of_workload
            scores[name].add(place, defined, outputs, on_set.targets)
            if finite and name in temperature_of:
                scaled = outputs / temperature_of[name]
                scores[name].add(place, SCALED, scaled, on_set.targets)
    places = [shown(name) for name in sets]
    for prefix in ("val_shift", "shift"):
        shifts = [p.removeprefix(f"{prefix}/") for p in places if p.startswith(f"{prefix}/")]
        copies = are_copies(job.workload, shifts)
        for of_model in scores.values():
            of_model.add_means(prefix, shifts, copies)
    return scores
