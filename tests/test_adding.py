"""Adding a thing of each kind touches few source files: a toy is added to a copy of the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_copy import copy_code

pytestmark = pytest.mark.full

ROOT = Path(__file__).parent.parent


class Copy:
    """A copy of the source code that counts the files it changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.touched: set[str] = set()
        root.mkdir()
        copy_code(ROOT, root)

    def write(self, path: str, text: str) -> None:
        """Add a file."""
        assert not (self.root / path).exists(), path
        (self.root / path).write_text(text, encoding="utf-8")
        self.touched.add(path)

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a place of a file."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(path)

    def add_line(self, path: str, line: str) -> None:
        """Add a line to the table of a registry."""
        text = (self.root / path).read_text(encoding="utf-8")
        (self.root / path).write_text(text.replace("    {\n", f"    {{\n{line}\n", 1), "utf-8")
        self.touched.add(path)

    def python(self, code: str) -> None:
        """Run code with the copy instead of the code under test."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.root,
            env=outside | {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """Return a copy of the source code."""
    return Copy(tmp_path / "copy")


def test_a_merge_method_is_a_file_and_a_line(copy: Copy) -> None:
    copy.write(
        "stockpot/merging/methods/toy.py",
        "from stockpot.merging.method import method\n\n"
        '@method("toy")\ndef toy(tensors, *, scale: float = 2.0):\n'
        '    """Scale the first model."""\n    return scale * tensors[0]\n',
    )
    copy.add_line(
        "stockpot/merging/registry.py", '        "toy": "stockpot.merging.methods.toy:toy",'
    )

    copy.python(
        "import torch, stockpot\n"
        "assert stockpot.merge([{'w': torch.ones(2)}], 'toy')['w'].tolist() == [2.0, 2.0]\n"
    )
    assert len(copy.touched) == 2


def test_a_selection_is_a_file_and_a_line(copy: Copy) -> None:
    copy.write(
        "stockpot/soups/selection/toy.py",
        "from typing import Annotated\nfrom pydantic import Field\n"
        "from stockpot.soups.selection.candidates import Candidates, Selection\n\n"
        "def toy(candidates: Candidates, *, skip: Annotated[int, Field(ge=0)] = 1) -> Selection:\n"
        '    """Leave out the best."""\n    return Selection(candidates.order[skip:])\n',
    )
    copy.add_line(
        "stockpot/soups/selection/registry.py",
        '        "toy": "stockpot.soups.selection.toy:toy",',
    )

    copy.python(
        "from pydantic import TypeAdapter\nfrom stockpot.config import json_schema\n"
        "from stockpot.config.soups import SoupSection\n"
        "recipe = TypeAdapter(SoupSection).validate_python("
        "{'name': 'a', 'select': 'toy', 'skip': 2})\n"
        "assert recipe.settings == {'skip': 2}\nassert '\"toy\"' in json_schema()\n"
    )
    assert len(copy.touched) == 2


def test_a_diagnostic_is_a_file_and_its_plot(copy: Copy) -> None:
    copy.write(
        "stockpot/diagnostics/toy.py",
        "from stockpot.diagnostics.finding import Finding\n\n"
        'def toy(context):\n    """Count."""\n    return Finding("one", data={"n": 1})\n',
    )
    copy.write(
        "stockpot/reporting/plots/toy.py",
        "from matplotlib.figure import Figure\nfrom stockpot.reporting.plots.plot import plot\n\n"
        '@plot(title="Toy", caption="A toy.", description="Nothing.")\n'
        'def toy(data):\n    """Draw."""\n    return Figure() if data else None\n',
    )

    copy.python(
        "from stockpot.config import json_schema\n"
        "from stockpot.diagnostics.registry import DIAGNOSTICS\n"
        "assert [*DIAGNOSTICS][-1] == 'toy'\n"
        "finding = DIAGNOSTICS['toy'](None)\nassert '\"toy\"' in json_schema()\n"
        "from stockpot.reporting.figures import diagnostic_sections\n"
        "from stockpot.reporting.results import Results\n"
        "results = Results({}, {}, {}, {}, {}, {'toy': finding.to_json()})\n"
        "[section] = diagnostic_sections(results)\n"
        "assert section.figure.title == 'Toy'\nassert section.figure.svg\n"
    )
    assert len(copy.touched) == 2


def test_a_workload_is_a_file_and_a_line(copy: Copy) -> None:
    copy.write(
        "stockpot/workloads/toy.py",
        "from stockpot.workloads.digits import Digits\n\nclass Toy(Digits):\n    pass\n",
    )
    copy.add_line("stockpot/workloads/registry.py", '        "toy": "stockpot.workloads.toy:Toy",')

    copy.python(
        "from stockpot.workloads import build_workload\n"
        "assert type(build_workload('toy', seed=0)).__name__ == 'Toy'\n"
    )
    assert len(copy.touched) == 2


def test_a_metric_is_one_file(copy: Copy) -> None:
    copy.replace(
        "stockpot/scoring/metrics/regression.py",
        "REGRESSION = (",
        'def toy(outputs, targets):\n    """Return 1."""\n    return 1.0\n\n\n'
        'REGRESSION = (\n    TaskMetric("toy", True, toy),',
    )

    copy.python(
        "from stockpot.scoring.metrics.by_task import TASK_METRICS\n"
        "assert TASK_METRICS['regression'][0].name == 'toy'\n"
    )
    assert len(copy.touched) == 1


def test_a_sampler_is_a_function_and_its_name_in_a_list(copy: Copy) -> None:
    copy.replace(
        "stockpot/soups/tuning/samplers.py",
        "def _users(",
        "def partial(seed: int, **_unused: Any) -> samplers.BaseSampler:\n"
        '    """Return random sampling with a constant."""\n'
        "    return samplers.PartialFixedSampler({}, samplers.RandomSampler(seed))\n\n\n"
        "def _users(",
    )
    copy.replace("stockpot/soups/tuning/sampler_names.py", '"qmc")\n', '"qmc", "partial")\n')

    copy.python(
        "from stockpot.config import json_schema\nassert '\"partial\"' in json_schema()\n"
        "from stockpot.soups.tuning.samplers import make_sampler\nmake_sampler('partial', 0)\n"
    )
    assert len(copy.touched) == 2


def test_a_fine_tuning_technique_is_its_file_its_hook_and_its_field(copy: Copy) -> None:
    copy.write(
        "stockpot/ingredients/finetuning/toy.py",
        'def shrunk(gradients, toy):\n    """Scale gradients."""\n'
        "    return gradients if toy == 1 else None\n",
    )
    copy.replace(
        "stockpot/ingredients/finetuning/loop.py",
        "from stockpot.ingredients.finetuning.sam import",
        "from stockpot.ingredients.finetuning.toy import shrunk  # the hook\n"
        "from stockpot.ingredients.finetuning.sam import",
    )
    copy.replace(
        "stockpot/ingredients/finetuning/hyperparameters.py",
        "    sam_radius:",
        '    toy: Annotated[PositiveShare, "factor on gradients"] = 1.0\n    sam_radius:',
    )

    copy.python(
        "from stockpot.config import json_schema\nfrom stockpot.config.space import SpaceSection\n"
        "space = SpaceSection.model_validate({'toy': {'uniform': [0.5, 1]}})\n"
        "assert 'toy' in space.distributions()\nassert 'factor on gradients' in json_schema()\n"
        "from stockpot.storage.code_keys import imported_code\n"
        "assert 'stockpot.ingredients.finetuning.toy' in imported_code("
        "'stockpot.ingredients.finetuning.loop')\n"
    )
    assert len(copy.touched) == 3


def test_a_stage_is_its_job_task_and_flow_and_its_entries(copy: Copy) -> None:
    copy.write(
        "stockpot/experiment/jobs/counting.py",
        '"""Count."""\n\n\ndef count(models):\n    """Count."""\n    return len(models)\n',
    )
    copy.write(
        "tasks/counting.py",
        "from stockpot.experiment.jobs.counting import count\n"
        "from tasks.task_kinds import local_task\n\n\n"
        '@local_task("count")\ndef count_models(models):\n    """Count."""\n'
        "    return count(models)\n",
    )
    copy.write(
        "flows/counted.py",
        "from flows.stage import stage\nfrom tasks.counting import count_models\n"
        "from tasks.outputs import record_stage\n\n\n"
        '@stage("counted")\ndef count_soups(session):\n    """Count."""\n'
        '    record_stage("counted", {"count": count_models(session.plan.models())})\n',
    )
    copy.replace(
        "stockpot/experiment/stages.py",
        '    "report": Stage(',
        '    "counted": Stage(("soups",), "Count.", "stockpot counted"),\n    "report": Stage(',
    )
    copy.replace(
        "stockpot/experiment/state.py",
        '    "evaluate": _judging_modules,',
        '    "evaluate": _judging_modules,\n'
        '    "counted": lambda _plan: ("stockpot.experiment.jobs.counting",),',
    )
    copy.replace(
        "stockpot/experiment/state.py",
        '        "report": tuple(content),',
        '        "report": tuple(content),\n        "counted": (),',
    )
    stage = "  counted:\n    cmd: stockpot counted\n    deps: [results/code/counted.json]\n"
    shutil.copy(ROOT / "dvc.yaml", copy.root)
    shutil.copy(ROOT / "params.yaml", copy.root)
    copy.replace("dvc.yaml", "\nplots:", f"\n{stage}plots:")

    copy.python(
        "from flows.stage import flow_of\nassert flow_of('counted').name == 'counted'\n"
        "from pathlib import Path\nfrom typer.main import get_command\n"
        "from flows.cli import app\nassert 'counted' in get_command(app).commands\n"
        "from stockpot.config import load_experiment\nfrom stockpot.experiment.plan import Plan\n"
        "from stockpot.experiment.state import is_done, stage_modules\n"
        "from stockpot.storage.project import Project\nparams = Path('params.yaml').absolute()\n"
        "plan = Plan(Project(params.parent, params), load_experiment(params))\n"
        "assert 'stockpot.experiment.jobs.counting' in stage_modules(plan, 'counted')\n"
        "assert not is_done(plan, 'counted')\n"
    )
    assert len(copy.touched) == 6
