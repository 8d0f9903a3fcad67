"""The whole experiment, from base to report."""

from __future__ import annotations

from prefect import flow

from flows.base import pretrain_base
from flows.diagnose import diagnose_soups
from flows.evaluate import evaluate_models
from flows.promote import promote_best_soup
from flows.report import report_results
from flows.soups import make_soups
from flows.sweep import fine_tune_ingredients
from flows.tune import tune_coefficients
from tasks.outputs import adopt
from tasks.run_settings import flow_session, run_flow

STAGES = {
    "base": pretrain_base,
    "sweep": fine_tune_ingredients,
    "soups": make_soups,
    "tune": tune_coefficients,
    "diagnose": diagnose_soups,
    "evaluate": evaluate_models,
    "report": report_results,
}


@flow(name="experiment")
def run_experiment(params: str | None = None, overrides: tuple[str, ...] = ()) -> None:
    """Run every stage that is not up to date, and record its outputs in DVC.

    Args:
        params: the params file; by default params.yaml of the project.
        overrides: `field.subfield=value` each; they override the file.
    """
    with flow_session(params, overrides) as session:
        for stage, stage_flow in STAGES.items():
            run_flow(stage_flow, params, overrides)
            adopt(stage)

        if session.plan.experiment.promote.enabled:
            run_flow(promote_best_soup, params, overrides)
