"""The command that promotes a model to champion; it needs no Prefect server."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flows.options import Overrides, Params
from flows.terminal import ERR, OUT


def promote(
    model: Annotated[
        str | None, typer.Argument(help="The challenger; by default the best soup on val.")
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Restore the previous champion.")
    ] = False,
    params: Params = None,
    overrides: Overrides = None,
) -> None:
    """Make a model the champion in MLflow's registry if it wins the paired test on test.

    The model is registered with the alias `challenger`. The alias `champion` moves to it only if p
    is below promote.level; otherwise the command prints why not. The first champion needs no test.

    stockpot promote greedy --set promote.level=0.01

    stockpot promote --rollback
    """
    from stockpot.experiment.challenge import judge_challenge
    from stockpot.experiment.opening import hold_run_lock, make_plan, open_tracker
    from stockpot.experiment.promotion import challenge_champion, registered_name, roll_back
    from stockpot.workers import choose_devices

    plan = make_plan(params, overrides or [])
    with hold_run_lock(plan.project, ERR):
        tracker = open_tracker(plan)
        if rollback:
            OUT.print(roll_back(tracker.registry(registered_name(plan))))
            return
        device = choose_devices(plan.experiment.run.devices, plan.experiment.run.workers)[0]
        judge = partial(judge_challenge, device=device)
        made = challenge_champion(plan, tracker, model, judge)
        OUT.print(made.sentence)
