"""Test the experiment's best soup against the champion."""

from __future__ import annotations

from functools import partial

from stockpot.experiment.challenge import judge_challenge
from stockpot.experiment.promotion import challenge_champion
from tasks.session import current_session
from tasks.task_kinds import local_task


@local_task("promote")
def challenge_with_best_soup() -> None:
    """Make the best soup on val the champion if it wins; tag the MLflow run with the outcome."""
    session = current_session()
    judge = partial(session.workers.run, judge_challenge)
    promotion = challenge_champion(session.plan, session.tracker, None, judge)
    session.tracker.log_parent_tags({"stockpot.promotion": promotion.sentence})
    session.console.print(promotion.sentence, highlight=False, markup=False)
