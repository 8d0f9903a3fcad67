"""The page of papers: the lines of each paper run, and its tests and figures exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from exported_nets import export_nets
from projects import REPOSITORY
from safetensors.torch import load_file, save_file

from stockpot.config import load_experiment
from stockpot.disk_merging.job import MergeJob
from stockpot.experiment.jobs.aligning import align_jobs
from stockpot.experiment.jobs.diagnosing import diagnose_models
from stockpot.experiment.jobs.importing import check_headers
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.judging import judge_models, measure_baseline, predict_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.phases import Phases
from stockpot.experiment.plan import Plan
from stockpot.experiment.reference import made_reference, reference_jobs, reference_soup_job
from stockpot.experiment.state import inputs_key
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project

PAGE = REPOSITORY / "docs" / "reference" / "papers.md"
BENCHMARKS = REPOSITORY / "benchmarks"
FIGURES = yaml.safe_load((BENCHMARKS / "papers.yaml").read_text(encoding="utf-8"))
COMMAND = re.compile(r"`(?:PYTHONPATH=\S+ )?python benchmarks/(\w+)\.py((?: [\w.-]+)*)`")
WITHOUT_FIGURE = {
    29: "no workload has a net of covariances",
    32: "no workload has a net of binary weights",
}
SMALL: dict[str, Any] = {
    "base": {"epochs": 1},
    "sweep": {
        "size": 3,
        "min_ingredients": 2,
        "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 1},
        "precheck": {"on_fail": "warn"},
    },
    "soups": [{"name": "uniform", "select": "uniform"}],
    "diagnose": [],
    "evaluate": {"bootstrap": 100, "random_soups": 2, "repeats": {"m": 0}},
}


@dataclass(frozen=True)
class Paper:
    """A paper of the page: its number and title, its lines, its test and figure."""

    title: str
    lines: str
    test: str
    figure: str

    def __str__(self) -> str:
        return self.title

    @property
    def is_merge_file(self) -> bool:
        """Whether the lines are a file for `stockpot merge`."""
        return re.search("^models:", self.lines, re.MULTILINE) is not None

    @property
    def number(self) -> int:
        return int(self.title.split(".")[0])


def read_papers() -> list[Paper]:
    """Return the papers of the page, in its order."""
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    papers = []
    for section in sections:
        blocks = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
        test = re.search(r"^- Identity: `([^`]+)`", section, re.MULTILINE)
        figure = re.search(r"^- Figure: (.*?)^- ", section, re.MULTILINE | re.DOTALL)
        parts = [found.group(1) if found else "" for found in (test, figure)]
        papers.append(Paper(section.splitlines()[0], "".join(blocks), *parts))
    return papers


PAPERS = read_papers()


def merged(small: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace fields, and those of sections one by one."""
    result = dict(small)
    for name, value in changes.items():
        inner = result.get(name)
        both = isinstance(value, dict) and isinstance(inner, dict)
        result[name] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return result


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_the_test_that_is_named_exists(paper: Paper) -> None:
    path, _, name = paper.test.partition("::")
    text = (REPOSITORY / path).read_text(encoding="utf-8")

    assert not name or f"def {name}(" in text


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_there_is_a_figure_with_its_command(paper: Paper) -> None:
    if paper.number in WITHOUT_FIGURE:
        assert not paper.figure, "it has a figure: remove it from WITHOUT_FIGURE"
        return
    command = COMMAND.match(paper.figure)
    assert command, "add a figure and its command, or a reason to WITHOUT_FIGURE"
    script, arguments = command.groups()

    assert (BENCHMARKS / f"{script}.py").is_file()
    assert re.search(r"\d", paper.figure[command.end() :]), "the figure has no number"
    if script == "papers":
        assert arguments.split()[0] == str(paper.number)
        assert paper.number in FIGURES["rows"]


def test_the_experiments_of_figures_are_valid(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(FIGURES["common"]))
    for row in FIGURES["rows"].values():
        for fields in row["runs"].values():
            changes = [f"{name}={yaml.safe_dump(value)}" for name, value in fields.items()]
            load_experiment(params, changes)


def test_every_number_is_of_one_paper() -> None:
    numbers = [paper.number for paper in PAPERS]

    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(1, 51))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that all papers share: equal models are made once."""
    return tmp_path_factory.mktemp("papers")


def make(jobs: Sequence[Any]) -> list[Model]:
    models = [make_model(job, "cpu") for job in jobs]
    assert all(isinstance(model, Model) for model in models), models
    return models  # type: ignore[return-value]


def aligned_imports(plan: Plan) -> list[Model]:
    """Import two nets and align the second, if the experiment does so."""
    by, imports, root = plan.experiment.sweep.align, plan.imports["sweep"], plan.project.root
    if by is None:
        return []
    export_nets(root / "runs")
    headers = check_headers(plan.workload, imports.sources, "cpu")
    first, *others = make(imports.jobs(headers, plan.base().checkpoint))
    return [first, *make(align_jobs(root, plan.workload, by, [first, *others]))]


def after_phases(plan: Plan, jobs: list[TrainingJob]) -> list[TrainingJob]:
    """Do all phases but the last one, from which these jobs start."""
    phases = Phases(plan)
    while first := phases.next_jobs():
        models = make(first)
        phases = phases.after(models, *make([phases.average_job(models)]))
    return phases.from_average(jobs)


def write_model(path: Path, seed: int) -> None:
    """Write a model with what papers about weights on disk merge: covariances and binary fields."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(2, 3, 3, generator=generator)
    covariance = root @ root.mT + torch.eye(3)
    field = torch.randn(4, generator=generator)
    save_file({"left.covariance": covariance, "layer.field": field}, path)


@pytest.mark.parametrize("paper", PAPERS, ids=str)
def test_there_are_lines(paper: Paper) -> None:
    assert yaml.safe_load(paper.lines)


@pytest.mark.parametrize("paper", [paper for paper in PAPERS if paper.is_merge_file], ids=str)
def test_the_merge_file_merges(tmp_path: Path, paper: Paper) -> None:
    (tmp_path / "merge.yaml").write_text(paper.lines, encoding="utf-8")
    content = yaml.safe_load(paper.lines)
    paths = [*content["models"], *([content["base"]] if "base" in content else [])]
    for seed, path in enumerate(paths):
        write_model(tmp_path / path, seed)

    job = MergeJob.read(tmp_path / "merge.yaml", tmp_path / "merged.safetensors")
    job.check()
    job.run(lambda _: None)

    merged = load_file(tmp_path / "merged.safetensors")
    assert all(tensor.isfinite().all() for tensor in merged.values())


@pytest.mark.full
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("paper", [paper for paper in PAPERS if not paper.is_merge_file], ids=str)
def test_the_lines_run(root: Path, paper: Paper) -> None:
    changes = yaml.safe_load(paper.lines)
    params = root / "params.yaml"
    params.write_text(yaml.safe_dump(merged(SMALL, changes), sort_keys=False))
    plan = Plan(Project(root, params), load_experiment(params, []))

    def record(stage: str, **made: Any) -> None:
        content = {"inputs": inputs_key(plan, stage), "files": {}, **made}
        write_manifest(root, stage, content)

    record("base", base=make([plan.base_job()])[0].to_json())
    jobs = plan.ingredient_jobs()
    if reference := make(reference_jobs(plan)):
        (soup,) = make([reference_soup_job(plan, reference)])
        jobs = made_reference(plan, reference, soup).near(jobs)
    ingredients = [*aligned_imports(plan), *make([*after_phases(plan, jobs), *plan.rounds_jobs()])]
    precheck = check_ingredients(plan.precheck_job(ingredients), "cpu")
    listed = [model.to_json() for model in ingredients]
    record("sweep", ingredients=listed, failed=[], precheck=precheck)
    record("soups", soups=[model.to_json() for model in make(plan.soup_jobs())])
    record("tune", tuned=[model.to_json() for model in make(plan.tuning_jobs())])
    for job in plan.diagnostic_jobs():
        assert diagnose_models(job, "cpu").to_json()
    if "evaluate" in changes:
        record("diagnose")
        evaluation = plan.evaluation()
        for prediction in evaluation.prediction_jobs():
            predict_model(prediction, "cpu")
        for baseline in evaluation.baseline_jobs():
            measure_baseline(baseline, "cpu")
        assert judge_models(evaluation.judging_job(), "cpu")["models"]
