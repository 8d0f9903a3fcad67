"""The evaluation: the one stage that opens the test split and the test shifts."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from stockpot.experiment.state import is_done, require_before
from tasks.fan_out import all_results, side_by_side
from tasks.judging import judge, log_metrics, measure, predict, time_a_prediction
from tasks.manifests import record_stage
from tasks.reporting import write_plots
from tasks.run_settings import flow_session


@flow(name="evaluate")
def evaluate_models(
    params: str | None = None, overrides: tuple[str, ...] = ()
) -> State[None] | None:
    """Judge base, ingredients, soups and their ensemble on test and the test shifts."""
    with flow_session(params, overrides) as session:
        require_before(session.plan, "evaluate")
        if is_done(session.plan, "evaluate"):
            return Completed(name="Skipped", message="up to date")

        all_results(side_by_side(predict, session.plan.judged().prediction_jobs(), "evaluate"))
        all_results(side_by_side(measure, session.plan.judged().baseline_jobs(), "baselines"))
        evaluation = judge(session.plan.judged().judging_job())
        time_a_prediction()

        log_metrics(evaluation)
        plots = write_plots(evaluation)
        record_stage("evaluate", evaluation, plots)
    return None
