"""All models' metrics on all sets, which every part of the evaluation manifest reads."""

from __future__ import annotations

from collections.abc import Mapping

from stockpot.judging.confidence import SCALED, is_finite, temperatures
from stockpot.judging.contestants import Contestants
from stockpot.judging.job import JudgingJob
from stockpot.judging.scores import Scores, shown
from stockpot.judging.test_sets import test_sets
from stockpot.scoring.metrics import metrics_of
from stockpot.scoring.predictions import val_sets
from stockpot.scoring.shift_means import are_copies
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats

COMPARED = {"shift": "shift/mean", "test": "test"}
"""Where models are compared: place in a comparison -> place in the names of metrics."""

MEASURED = {"val": "val", **COMPARED}
"""Where random soups and WiSE-FT paths are measured, in the same form."""


class Judgement:
    """The outputs and scores of all contestants, from cached predictions.

    Attributes:
        job: the models, and the settings of the evaluation.
        contestants: the models and ensembles that are judged.
        metrics: by name; models are compared by the first one.
        val: outputs on val, on which everything is fitted.
        test: outputs on test.
        temperature_of: the temperature of each classifier with finite outputs, fitted on val.
        intervals: computes the confidence intervals.
        scores: by model.
    """

    def __init__(self, job: JudgingJob) -> None:
        """Compute all metrics.

        Raises:
            InputError: predictions are missing, or a metric of the user's cannot be computed.
        """
        self.job = job
        self.contestants = Contestants(job)
        self.metrics = metrics_of(job.workload.build(), job.metrics)
        self.val, self.test = self.contestants.on("val"), self.contestants.on("test")
        self.temperature_of = temperatures(self.val) if self.contestants.are_classifiers else {}
        self.intervals = Intervals(job.bootstrap, job.confidence, job.workload.seed)
        self.scores = self._scores()

    @property
    def metric(self) -> str:
        """The name of the first metric."""
        return next(iter(self.metrics))

    def values(self, name: str, places: Mapping[str, str] = COMPARED) -> dict[str, Floats]:
        """Return a model's per-example values of the first metric by place; (N,) each."""
        per_example = self.scores[name].per_example
        names = {place: f"{where}/{self.metric}" for place, where in places.items()}
        return {place: per_example[n] for place, n in names.items() if n in per_example}

    def _scores(self) -> dict[str, Scores]:
        """Compute all metrics of all contestants, one set after the other."""
        workload = self.job.workload
        scores = {name: Scores() for name in self.contestants.kinds}
        of_workload = [self.metrics[name] for name in workload.build().metrics]
        sets = (*val_sets(workload), *test_sets(workload))
        for set_name in sets:
            place, on_set = shown(set_name), self.contestants.on(set_name)
            for name, outputs in on_set.outputs.items():
                # Only the workload's own metrics have to cope with outputs that are not finite.
                finite = is_finite(outputs)
                defined = self.metrics.values() if finite else of_workload
                scores[name].add(place, defined, outputs, on_set.targets)
                if finite and name in self.temperature_of:
                    scaled = outputs / self.temperature_of[name]
                    scores[name].add(place, SCALED, scaled, on_set.targets)
        places = [shown(name) for name in sets]
        for prefix in ("val_shift", "shift"):
            shifts = [p.removeprefix(f"{prefix}/") for p in places if p.startswith(f"{prefix}/")]
            copies = are_copies(workload, shifts)
            for of_model in scores.values():
                of_model.add_means(prefix, shifts, copies)
        return scores
