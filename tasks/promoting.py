"""Test the experiment's best soup against the champion."""

from __future__ import annotations

from functools import partial

from stockpot.experiment.challenge import judge_challenge
from stockpot.experiment.promotion import (
    Promotion,
    challenger_of,
    promote,
    registered_name,
    write_promotion_file,
)
from stockpot.storage.dvc import describe_commit
from tasks.session import current_session
from tasks.task_kinds import local_task


@local_task("promote")
def challenge_champion() -> Promotion:
    """Make the best soup on val the champion if it wins; tag the MLflow run with the outcome."""
    session = current_session()
    registry = session.tracker.registry(registered_name(session.plan))
    challenger = challenger_of(session.plan, None, describe_commit(session.root))
    promotion = promote(registry, challenger, partial(session.workers.run, judge_challenge))
    write_promotion_file(session.root, promotion)
    session.tracker.log_parent_tags({"stockpot.promotion": promotion.sentence})
    session.console.print(promotion.sentence, highlight=False, markup=False)
    return promotion
