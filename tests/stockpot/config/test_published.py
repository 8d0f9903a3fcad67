"""params.yaml, its schema for editors and its reference page agree."""

from __future__ import annotations

from pathlib import Path

import yaml

from stockpot.config import Experiment, json_schema, load_experiment
from stockpot.config.reference import reference_page

REPOSITORY = Path(__file__).parents[3]


def test_the_published_schema_is_the_one_that_is_validated() -> None:
    written = (REPOSITORY / "docs" / "params.schema.json").read_text()

    assert written == json_schema(), "run `make schema`"


def test_the_reference_page_is_generated_from_the_schema() -> None:
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
