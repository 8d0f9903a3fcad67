"""The documentation names everything there is, and is what the code would write."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli import app
from stockpot.config import json_schema, load_experiment
from stockpot.config.reference import reference_page
from stockpot.experiment.stages import STAGES, UPSTREAM
from stockpot.merging.registry import METHODS
from stockpot.soups.selection.registry import SELECTIONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
COMMANDS = get_command(app).commands


def test_schema_in_docs_is_that_of_the_code() -> None:
    assert (DOCS / "params.schema.json").read_text() == json_schema()


def test_reference_of_params_is_that_of_the_code() -> None:
    assert (DOCS / "reference" / "params.md").read_text() == reference_page()


def test_params_file_names_the_schema_and_is_valid() -> None:
    params = ROOT / "params.yaml"

    experiment = load_experiment(params)

    assert params.read_text().splitlines()[0].endswith("$schema=docs/params.schema.json")
    assert experiment.sweep.size == 16


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented_and_has_help_with_an_example(command: str) -> None:
    documented = (DOCS / "reference" / "commands.md").read_text()
    text = COMMANDS[command].help or ""

    assert f"`stockpot {command}`" in documented
    assert re.search(rf"^ *stockpot {command}", text, flags=re.MULTILINE)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_merge_method_is_documented(method: str) -> None:
    assert f"`{method}`" in (DOCS / "reference" / "methods.md").read_text()


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_is_documented(selection: str) -> None:
    assert f"| `{selection}` |" in (DOCS / "reference" / "methods.md").read_text()


@pytest.mark.parametrize("file", ["dvc.yaml", "flows/project_template/dvc_stages.yaml"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_dvc_stage_depends_on_the_key_of_its_code_and_on_the_manifests_it_reads(
    stage: str, file: str
) -> None:
    dependencies = yaml.safe_load((ROOT / file).read_text())["stages"][stage]["deps"]
    manifests = {"evaluate": "evaluation"}

    expected = {f"results/{manifests.get(name, name)}.json" for name in UPSTREAM[stage]}

    assert set(dependencies) == {f"results/code/{stage}.json", *expected}


@pytest.mark.parametrize("file", ["dvc.yaml", "flows/project_template/dvc_stages.yaml"])
def test_the_code_stage_of_dvc_reads_every_section_that_names_code(file: str) -> None:
    params = set(yaml.safe_load((ROOT / file).read_text())["stages"]["code"]["params"])

    assert params == {"workload", "base", "sweep", "soups", "tune", "diagnose", "evaluate"}


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    targets = [
        (page, page.parent / target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    ]

    assert [(str(page), str(path)) for page, path in targets if not path.exists()] == []
