"""How many examples pass through a model while soups are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from torch import Tensor, nn

from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.tuning import TuningJob, _OnVal
from stockpot.experiment.plan import Plan
from stockpot.soups.selection.greedy import greedy, greedy_steps
from stockpot.workloads.passes import Examples, MapParts


class Killed(Exception):
    """Ends a job in the middle."""


@dataclass
class Passes:
    """The number of examples evaluated in blocks, and how many there are before a job is killed."""

    examples: int = 0
    most: float = math.inf


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    counted, evaluate = Passes(), Examples.outputs_of

    def outputs_of(
        examples: Examples, model: nn.Module, indices: Tensor, map_parts: MapParts | None = None
    ) -> Tensor:
        if counted.examples >= counted.most:
            raise Killed
        counted.examples += len(indices)
        return evaluate(examples, model, indices, map_parts)

    monkeypatch.setattr(Examples, "outputs_of", outputs_of)
    return counted


def _greedy_job(plan: Plan, name: str) -> SoupJob:
    return replace(plan.soup_jobs()[1], name=name)


def test_a_killed_choice_is_repeated_with_as_many_examples_and_ends_the_same(
    plan: Plan, passes: Passes
) -> None:
    undisturbed = _greedy_job(plan, "undisturbed").work("cpu")
    examples, size = passes.examples, len(plan.workload.build().dataset("val"))

    passes.examples, passes.most = 0, examples // 2
    job = _greedy_job(plan, "killed")
    with pytest.raises(Killed):
        job.work("cpu")
    passes.examples, passes.most = 0, math.inf
    resumed = job.work("cpu")

    assert passes.examples == examples
    assert examples <= size * len(job.ingredients)
    steps = resumed.details["steps"]
    stopped = [step["stopped"]["examples"] for step in steps if "stopped" in step]
    assert examples == sum(stopped) + size * (len(job.ingredients) - len(stopped))
    assert steps == undisturbed.details["steps"]
    assert resumed.details["inputs"] == undisturbed.details["inputs"]


def test_the_greedy_start_of_a_search_stops_as_early_as_the_soup(
    plan: Plan, passes: Passes
) -> None:
    _greedy_job(plan, "greedy").work("cpu")
    of_soup, passes.examples = passes.examples, 0
    job: TuningJob = plan.tuning_jobs()[0]
    context = _OnVal(job, "cpu")

    chosen = greedy(context.candidates).members

    assert passes.examples == of_soup
    whole = greedy_steps(context.order, context.score_members)
    assert [*chosen] == [step.ingredient for step in whole if step.accepted]
