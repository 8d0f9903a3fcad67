"""The evaluation: the one stage that opens the test split and the test shifts."""

from __future__ import annotations

from flows.stage import stage
from tasks.fan_out import all_results, side_by_side
from tasks.judging import judge, log_metrics, measure, predict, time_a_prediction
from tasks.outputs import record_stage
from tasks.reporting import write_plots
from tasks.session import Session


@stage("evaluate")
def evaluate_models(session: Session) -> None:
    """Score base, ingredients, soups and their ensemble on test and the test shifts."""
    all_results(side_by_side(predict, session.plan.evaluation().prediction_jobs(), "evaluate"))
    all_results(side_by_side(measure, session.plan.evaluation().baseline_jobs(), "baselines"))
    evaluation = judge(session.plan.evaluation().judging_job())
    time_a_prediction()

    log_metrics(evaluation)
    plots = write_plots(evaluation)
    record_stage("evaluate", evaluation, plots)
