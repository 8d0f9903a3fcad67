"""The command that measures the intrinsic dimension of fine-tuning; it needs no Prefect server."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Overrides, Params
from flows.send_command import send_and_report
from flows.terminal import OUT
from stockpot.errors import StageFailed

if TYPE_CHECKING:
    from stockpot.experiment.intrinsic_dimension import IntrinsicDimension


def dimension(
    ingredient: Annotated[
        str | None,
        typer.Argument(help="Whose hyperparameters to use; by default the best one on val."),
    ] = None,
    gain: Annotated[
        bool,
        typer.Option(
            "--gain",
            help="Reach 90 % of the gain over the base, not of the score; for any metric.",
        ),
    ] = False,
    params: Params = None,
    overrides: Overrides = None,
) -> None:
    """Measure the intrinsic dimension of fine-tuning: each step of the search is a training run.

    It is the smallest number of random directions in which the base, fine-tuned along them alone,
    reaches 90 % of the val score of full fine-tuning. About 2 log2(log2(weights)) runs, each as
    long as that of an ingredient or longer; scores are kept, so an interrupted search continues.

    stockpot dimension ingredient-03 --gain
    """
    from stockpot.experiment.intrinsic_dimension import num_weights, runs_of, search, val_score
    from stockpot.experiment.opening import make_plan
    from stockpot.workers import WorkerPool, choose_devices

    plan = make_plan(params, overrides or [])
    runs, base = runs_of(plan, ingredient)
    devices = choose_devices(plan.experiment.run.devices, 1)
    with closing(WorkerPool(devices, runs.threads)) as pool:
        total = pool.run(num_weights, runs)

        def score_of(size: int) -> float:
            result = pool.run(val_score, runs, size, total)
            what = "all weights" if size == total else f"{size} dimensions"
            outcome = f"diverged, {result.diverged}" if result.diverged else None
            OUT.print(f"{what}: {outcome or f'val {result.score:.4f}'}", highlight=False)
            return result.score

        full = score_of(total)
        if full == -math.inf:
            raise StageFailed(
                "dimension: fine-tuning all weights diverged, so there is no score to reach; name "
                "an ingredient with a lower learning rate"
            )
        found = search(score_of, base.scores[plan.metric], full, total - 1, of_gain=gain)
    OUT.print(_sentence(found, total), highlight=False, soft_wrap=True)
    send_and_report(plan)


def _sentence(found: IntrinsicDimension, total: int) -> str:
    reached = f"90 % of full fine-tuning (val {found.target:.4f} of {found.full:.4f})"
    note = "" if found.is_monotone else " Scores do not rise with the dimension throughout."
    if found.diverged:
        note += f" Runs that diverged count as below it: {', '.join(map(str, found.diverged))}."
    if found.found == 0:
        return f"Intrinsic dimension 0: the base alone, {found.base:.4f}, is at {reached}."
    if found.found is None:
        return f"No subspace of less than all {total} weights reaches {reached}.{note}"
    return f"Intrinsic dimension {found.found} of {total} weights reaches {reached}.{note}"
