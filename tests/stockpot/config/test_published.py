"""What is published of the params: the file itself, its schema for editors and its reference."""

from __future__ import annotations

from pathlib import Path

import yaml

from stockpot.config import Experiment, json_schema, load_experiment
from stockpot.config.reference import reference_page

REPOSITORY = Path(__file__).parents[3]


def test_the_schema_for_editors_is_the_one_that_is_checked() -> None:
    written = (REPOSITORY / "docs" / "params.schema.json").read_text()

    assert written == json_schema(), "run `make schema`"


def test_the_reference_page_is_the_one_that_the_schema_gives() -> None:
    written = (REPOSITORY / "docs" / "reference" / "params.md").read_text()

    assert written == reference_page(), "run `make schema`"


def test_params_yaml_is_valid_and_names_its_schema() -> None:
    path = REPOSITORY / "params.yaml"

    first_line = path.read_text().splitlines()[0]
    experiment = load_experiment(path)

    assert first_line == "# yaml-language-server: $schema=docs/params.schema.json"
    assert experiment.workload.name == "digits"


def test_params_yaml_holds_every_section() -> None:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())

    assert content.keys() == Experiment.model_fields.keys()
