"""Two nets of the digits that share no base: imported, aligned, repaired, merged and rebuilt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_nets import export_nets, trained_net
from safetensors.torch import save_file

from stockpot.config import load_experiment
from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.errors import InputError, StageFailed
from stockpot.experiment.garbage import find_garbage
from stockpot.experiment.jobs.aligning import AlignJob, align_jobs, check_alignment
from stockpot.experiment.jobs.importing import check_headers
from stockpot.experiment.jobs.job import ModelJob, make_model
from stockpot.experiment.jobs.judging import measure_baseline
from stockpot.experiment.jobs.prechecking import check_ingredients, require_enough
from stockpot.experiment.plan import Plan
from stockpot.experiment.provenance import Provenance
from stockpot.experiment.reproduction import rebuild
from stockpot.experiment.state import inputs_key, is_done
from stockpot.judging.merged_values import load_values
from stockpot.judging.random_soups import RandomSoupsJob
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.workloads.passes import Examples
from stockpot.workloads.spec import WorkloadSpec

PARAMS = """
base: {epochs: 1}
sweep: {import: "runs/*.safetensors", size: 0, min_ingredients: 2, precheck: {on_fail: warn}}
soups:
  - {name: uniform, select: uniform}
  - {name: greedy, select: greedy}
  - {name: ties, select: uniform, method: ties}
tune:
  - {name: mixture, trials: 3}
diagnose: []
"""


class Sweep:
    """An experiment whose sweep has run, with or without alignment."""

    def __init__(self, root: Path, *overrides: str) -> None:
        params = root / "params.yaml"
        params.write_text(PARAMS)
        self.root = root
        self.plan = Plan(Project(root, params), load_experiment(params, overrides))
        by = self.plan.experiment.sweep.align
        self._record("base", base=made(self.plan.base_job()).to_json())
        imports = self.plan.imports["sweep"]
        headers = check_headers(self.plan.workload, imports.sources, "cpu")
        self.imported = [made(job) for job in imports.jobs(headers, self.plan.base().checkpoint)]
        jobs = align_jobs(root, self.plan.workload, by, self.imported) if by else []
        self.jobs: list[AlignJob] = jobs
        self.ingredients = [self.imported[0], *map(made, jobs)] if by else self.imported
        self.precheck_job = self.plan.precheck_job(self.ingredients)
        self.precheck = check_ingredients(self.precheck_job, "cpu")
        originals = {"imported": [m.to_json() for m in self.imported[1:]]} if by else {}
        listed = [model.to_json() for model in self.ingredients]
        self._record("sweep", ingredients=listed, failed=[], precheck=self.precheck, **originals)

    def soup(self, name: str) -> Model:
        [job] = [job for job in self.plan.soup_jobs() if job.name == name]
        return made(job)

    def _record(self, stage: str, **entries: Any) -> None:
        manifest = {"inputs": inputs_key(self.plan, stage), "files": {}, **entries}
        write_manifest(self.root, stage, manifest)


def made(job: ModelJob) -> Model:
    model = make_model(job, "cpu")
    assert isinstance(model, Model), model
    return model


SweepBy = Callable[[str], Sweep]


@pytest.fixture(scope="module")
def sweep_by(tmp_path_factory: pytest.TempPathFactory) -> SweepBy:
    """Return what runs the sweep with an alignment, once."""

    @cache
    def run(by: str) -> Sweep:
        root = tmp_path_factory.mktemp("aligned")
        export_nets(root / "runs")
        return Sweep(root, f"sweep.align={by}")

    return run


@pytest.fixture
def apart(sweep_by: SweepBy) -> Sweep:
    """The sweep without alignment."""
    return sweep_by("null")


@pytest.fixture
def aligned(sweep_by: SweepBy) -> Sweep:
    return sweep_by("activations")


def test_an_aligned_soup_is_better_by_what_the_check_without_alignment_has_proposed(
    apart: Sweep, sweep_by: SweepBy
) -> None:
    proposal = apart.precheck["proposal"]
    aligned = sweep_by(proposal["align"])

    before, after = (sweep.soup("uniform").scores["val/accuracy"] for sweep in (apart, aligned))

    assert [entry["name"] for entry in apart.precheck["failed"]] == ["imported-b"]
    assert aligned.precheck["failed"] == []
    assert "proposal" not in aligned.precheck
    assert after > before + 0.2
    assert proposal["before"] == pytest.approx(before, abs=1e-6)
    assert proposal["after"] == pytest.approx(after, abs=1e-6)
    assert f"the soup of imported-a and imported-b then scores {after:.4g}" in proposal["advice"]


def test_a_run_with_too_few_ingredients_says_what_to_set(apart: Sweep) -> None:
    failed = {**apart.precheck, "excluded": apart.precheck["failed"]}

    with pytest.raises(StageFailed, match=r"set sweep\.align: "):
        require_enough(apart.precheck_job, failed, 2)


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_aligned_ingredients_compute_what_they_did(sweep_by: SweepBy, by: str) -> None:
    sweep = sweep_by(by)
    workload = sweep.plan.workload.build()
    net = workload.build_model(torch.Generator().manual_seed(0)).eval()
    val = Examples(workload, workload.dataset("val"), "cpu")

    outputs = []
    for model in (sweep.imported[1], sweep.ingredients[1]):
        net.load_state_dict(load_tensors(sweep.root / model.path))
        outputs.append(val.outputs(net))

    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-4, rtol=1e-5)
    assert sweep.ingredients[1].scores["val/accuracy"] == sweep.imported[1].scores["val/accuracy"]
    assert sweep.ingredients[1].digest != sweep.imported[1].digest


def test_an_aligned_ingredient_records_how_and_from_what_it_was_made(aligned: Sweep) -> None:
    first, second = aligned.ingredients

    assert "aligned" not in first.details
    assert second.details["aligned"] == {
        "by": "activations",
        "first": first.digest,
        "imported": aligned.imported[1].digest,
    }
    assert second.details["source"] == "runs/b.safetensors"
    assert second.details["imported"] == aligned.imported[1].details["imported"]
    assert second.name == "imported-b"


def test_alignment_is_done_once_and_anew_for_other_weights_data_or_code(
    aligned: Sweep, edit: Callable[[str], None]
) -> None:
    [job] = aligned.jobs
    other = replace(aligned.imported[0], digest="other")
    key, seed = job.key, replace(job.workload, seed=1)

    assert made(job) == aligned.ingredients[1]
    keys = [
        replace(job, by="weights").key,
        replace(job, first=other).key,
        replace(job, imported=other).key,
        replace(job, workload=seed).key,
    ]
    edit("stockpot.soups.alignment.activation_matching")
    assert len({key, *keys, job.key}) == 6


def test_lost_weights_come_back_bit_for_bit(aligned: Sweep, tmp_path: Path) -> None:
    soup = aligned.soup("uniform")
    kept = tmp_path / "kept"
    shutil.copytree(aligned.root / "checkpoints", kept)
    for model in (aligned.ingredients[1], soup):
        (aligned.root / model.path).unlink()

    again = [made(aligned.jobs[0]), aligned.soup("uniform")]

    assert again == [aligned.ingredients[1], soup]
    for model in again:
        before = kept / Path(model.path).relative_to("checkpoints")
        assert (aligned.root / model.path).read_bytes() == before.read_bytes()


def test_nothing_of_a_finished_sweep_is_garbage_and_all_of_it_is_needed(aligned: Sweep) -> None:
    assert is_done(aligned.plan, "sweep")
    weights = [path for path in find_garbage(aligned.plan.project) if path.suffix != ".json"]
    original = aligned.root / aligned.imported[1].path

    assert original not in weights
    original.rename(original.with_suffix(".away"))
    try:
        assert not is_done(aligned.plan, "sweep")
    finally:
        original.with_suffix(".away").rename(original)


@pytest.mark.parametrize("kind", ["ingredient", "uniform", "greedy", "ties", "mixture"])
def test_what_is_recorded_is_rebuilt(aligned: Sweep, tmp_path: Path, kind: str) -> None:
    jobs: dict[str, ModelJob] = {job.name: job for job in aligned.plan.soup_jobs()}
    jobs |= {job.name: job for job in aligned.plan.tuning_jobs()} | {"ingredient": aligned.jobs[0]}
    model = made(jobs[kind])
    recorded = Provenance.from_text(jobs[kind].provenance(model).to_text())

    again = rebuild(recorded, aligned.root, tmp_path, (), "cpu")

    assert again.digest == model.digest
    assert again.scores == pytest.approx(dict(model.scores))


def test_soups_are_repaired_where_they_are_averages(aligned: Sweep, apart: Sweep) -> None:
    repaired = {name: aligned.soup(name).details["repaired"] for name in ("uniform", "ties")}

    assert repaired == {"uniform": True, "ties": False}
    assert "repaired" not in apart.soup("uniform").details


def test_a_search_random_soups_and_diagnostics_measure_soups_as_they_are_saved(
    aligned: Sweep,
) -> None:
    plan, soup = aligned.plan, aligned.soup("uniform")
    expected = soup.scores["val/accuracy"]
    [study] = plan.tuning_jobs()
    pool = RandomSoupsJob(
        aligned.root, plan.workload, tuple(aligned.ingredients), "matched", 2, 2, 0
    )
    measure_baseline(pool, "cpu")
    context = DiagnosticContext(
        workload=plan.workload.build(),
        device="cpu",
        seed=0,
        metric="accuracy",
        base=LoadedModel(aligned.root, plan.base()),
        ingredients=tuple(LoadedModel(aligned.root, model) for model in aligned.ingredients),
        soups=(LoadedModel(aligned.root, soup),),
    )
    mean = context.mean_of([one.weights for one in context.ingredients])

    tuned = made(study)
    assert tuned.details["repaired"] == (len(tuned.details["inputs"]) > 1)
    best = max(trial["values"][0] for trial in tuned.details["trials"])
    assert tuned.scores["val/accuracy"] == pytest.approx(best, abs=3 / 400)
    values = load_values(aligned.root, plan.workload, pool.merges)["val"]
    np.testing.assert_allclose(values.mean(axis=1), expected, atol=1e-6)
    assert context.val_scores(mean)[0] == pytest.approx(expected)


def test_nets_that_cannot_be_aligned_are_refused_before_anything_is_trained() -> None:
    toy = WorkloadSpec("toy_workload:Toy", seed=0)

    with pytest.raises(
        InputError,
        match=r"^sweep.align: workload 'toy_workload:Toy': its nets cannot be aligned: spec: .*; "
        r"remove align, and merge only models that share a base$",
    ):
        check_alignment(toy, "weights", "cpu")


def test_a_permuted_copy_becomes_a_duplicate(tmp_path: Path) -> None:
    state = trained_net(0)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = dict(state)
    for name in ("features.5.weight", "features.5.bias"):
        shuffled[name] = state[name][order].contiguous()
    shuffled["head.weight"] = state["head.weight"][:, order].contiguous()
    export_nets(tmp_path / "runs")
    save_file(shuffled, tmp_path / "runs" / "b.safetensors")

    sweep = Sweep(tmp_path, "sweep.align=weights")

    [failed] = sweep.precheck["failed"]
    assert failed == {"name": "imported-b", "reason": "it is equal to imported-a"}
