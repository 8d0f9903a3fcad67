"""The state of an experiment: finished stages, and the inputs that their results depend on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from stockpot.diagnostics.registry import DIAGNOSTICS
from stockpot.errors import InputError
from stockpot.experiment.federation import rounds_modules
from stockpot.experiment.jobs.importing import IMPORTING_MODULES
from stockpot.experiment.jobs.prechecking import TRIALS
from stockpot.experiment.jobs.soups import soup_modules
from stockpot.experiment.jobs.training import TRAINING_MODULES
from stockpot.experiment.jobs.tuning import tuning_modules
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import STAGES, UPSTREAM, all_before
from stockpot.reporting.figures import plot_module
from stockpot.reporting.pages import template_digests
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.registry import REPAIR
from stockpot.storage.atomic_files import write_text
from stockpot.storage.code_keys import code_key, imported_code
from stockpot.storage.dvc import inside_dvc_stage
from stockpot.storage.keys import content_key
from stockpot.storage.manifests import manifest_path, outputs_exist, read_manifest

_JOBS = "stockpot.experiment.jobs"


def require_before(plan: Plan, stage: str) -> None:
    """Check that all stages before a stage are done.

    Raises:
        InputError: one is not up to date.
    """
    for name in all_before(stage):
        if not is_done(plan, name):
            raise InputError(
                f"stage {stage!r} needs {name!r}, which is not up to date; "
                f"run `stockpot {name}` first, or `stockpot run` for all"
            )


def is_done(plan: Plan, stage: str) -> bool:
    """Return whether a stage's manifest has the present inputs and all its outputs exist."""
    root = plan.project.root
    needed = (*UPSTREAM[stage], stage)
    if not all(manifest_path(root, name).is_file() for name in needed):
        return False
    manifest = read_manifest(root, stage)
    if any(not failure["final"] for failure in manifest.get("failed", [])):
        return False
    if stage in plan.imports and not plan.imports[stage].are_known():
        return False
    return manifest["inputs"] == inputs_key(plan, stage) and outputs_exist(root, manifest)


def inputs_key(plan: Plan, stage: str) -> str:
    """Return the content key of everything that a stage's results depend on.

    Raises:
        InputError: a stage before it has not run.
    """
    upstream = {name: read_manifest(plan.project.root, name) for name in UPSTREAM[stage]}
    for manifest in upstream.values():
        manifest.pop("inputs", None)  # results count, not what they were made from
    return content_key(
        params=_params(plan, stage),
        upstream=upstream,
        imports=plan.imports[stage].inputs() if stage in plan.imports else [],
        scoring=val_scores_key_parts(plan.workload),
        code=code_key(*stage_modules(plan, stage)),
        **({"templates": template_digests()} if stage == "report" else {}),
    )


def stage_modules(plan: Plan, stage: str) -> tuple[str, ...]:
    """Return the modules that compute a stage's results; their imports are found from them."""
    if stage == "report":
        plots = [module for name in plan.diagnostics if (module := plot_module(name))]
        return ("stockpot.reporting.html", "stockpot.reporting.model_card", *plots)
    is_aligned = plan.experiment.sweep.align is not None and stage != "base"
    repairing = (REPAIR.module_of("repair"),) if is_aligned else ()
    return (*_MODULES_OF[stage](plan), *repairing, *plan.workload.modules)


def write_code_keys(plan: Plan) -> None:
    """Write results/code/<stage>.json, on which DVC's stages depend.

    Each file lists the modules behind a stage's results with their digests. It changes only when
    their code does, not their comments. Inside `dvc repro`, only the stage `code` writes them.
    """
    # From a folder other than the project's, DVC names the stage `path/dvc.yaml:code`.
    if inside_dvc_stage() and os.environ["DVC_STAGE"].rpartition(":")[2] != "code":
        return
    for stage in STAGES:
        digests = imported_code(*stage_modules(plan, stage))
        digests |= template_digests() if stage == "report" else {}
        text = json.dumps(digests, indent=1, sort_keys=True)
        file = plan.project.results / "code" / f"{stage}.json"
        if not file.is_file() or file.read_text(encoding="utf-8") != text + "\n":
            write_text(file, text + "\n")


def _base_modules(plan: Plan) -> tuple[str, ...]:
    return IMPORTING_MODULES if plan.experiment.base.import_ else TRAINING_MODULES


def _sweep_modules(plan: Plan) -> tuple[str, ...]:
    sweep = plan.experiment.sweep
    trained = (*TRAINING_MODULES, "stockpot.ingredients.points") if sweep.size != 0 else ()
    imported = (*IMPORTING_MODULES, TRIALS.module_of("alignment")) if sweep.imports else ()
    proposed = (f"{_JOBS}.proposing",) if sweep.search == "soup" else ()
    soup = sweep.reference
    referred = soup_modules(soup.select, "linear") if soup else ()
    averaged = soup_modules("uniform", "linear") if len(sweep.phases) > 1 else ()
    in_rounds = tuple(module for one in sweep.rounds for module in rounds_modules(one.rule))
    before = (*referred, *averaged)
    return (f"{_JOBS}.prechecking", *trained, *imported, *proposed, *in_rounds, *before)


def _soup_modules(plan: Plan) -> tuple[str, ...]:
    recipes = plan.experiment.soups
    return tuple(
        module
        for each in recipes
        for module in soup_modules(
            each.select,
            each.merge_method,
            each.merge_exceptions["rules"],
            core_space=each.merge_exceptions["core_space"],
        )
    )


def _tuning_modules(plan: Plan) -> tuple[str, ...]:
    studies = plan.experiment.tune
    return tuple(m for study in studies for m in tuning_modules(study.build()))


def _diagnosing_modules(plan: Plan) -> tuple[str, ...]:
    return (f"{_JOBS}.diagnosing", *map(DIAGNOSTICS.module_of, plan.diagnostics))


def _judging_modules(plan: Plan) -> tuple[str, ...]:
    return (
        f"{_JOBS}.judging",
        "stockpot.judging.judge",
        "stockpot.judging.repeats",
        "stockpot.reporting.csv_files",
        *(name.partition(":")[0] for name in plan.experiment.evaluate.metrics),
    )


_MODULES_OF: dict[str, Callable[[Plan], tuple[str, ...]]] = {
    "base": _base_modules,
    "sweep": _sweep_modules,
    "soups": _soup_modules,
    "tune": _tuning_modules,
    "diagnose": _diagnosing_modules,
    "evaluate": _judging_modules,
}


def _params(plan: Plan, stage: str) -> Mapping[str, Any]:
    """Return the sections of params.yaml that a stage's results depend on."""
    content = plan.experiment.model_dump(mode="json")
    for field in ("retries", "timeout_seconds", "save_every_seconds"):
        del content["sweep"][field]
    del content["store"]  # where models are, which does not change what they are
    content["run"] = {"threads": content["run"]["threads"]}
    content["test_shifts"] = content["workload"]["test_shifts"]
    if files := plan.workload.shift_files("test"):
        content["test_shifts"] = [content["test_shifts"], files]
    sections = {
        "base": ("base", "run"),
        "sweep": ("sweep", "run"),
        "soups": ("soups",),
        "tune": ("tune",),
        "diagnose": ("diagnose",),
        "evaluate": ("evaluate", "test_shifts"),
        "report": tuple(content),
    }
    return {name: content[name] for name in ("seed", *sections[stage])}
