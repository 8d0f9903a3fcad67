"""Reading params.yaml, with overrides from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stockpot.config.experiment import Experiment
from stockpot.errors import InputError
from stockpot.yaml_files import parsed, read_yaml, validated


def load_experiment(params_file: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment.

    Args:
        params_file: a YAML file of the form that `docs/params.schema.json` describes.
        overrides: each `field.subfield=value`, with a YAML value; `soups.0.k=3` indexes a list.

    Raises:
        InputError: lists all errors of the file, one per line.
    """
    content = read_yaml(params_file)
    for override in overrides:
        _override(content, override)
    return validated(Experiment, content, params_file.name)


def json_schema() -> str:
    """Return the JSON schema of params.yaml, the content of docs/params.schema.json."""
    return json.dumps(Experiment.model_json_schema(), indent=2) + "\n"


def yaml_value(option: str, field: str, text: str) -> Any:
    """Return the value that an option of a command gives a field.

    Raises:
        InputError: it is not YAML.
    """
    try:
        return parsed(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no such date
        raise InputError(f"{option} {field}: the value is not YAML, got {text!r}") from error


def _override(content: dict[str, Any], override: str) -> None:
    """Set one field of the parsed file in place."""
    field, equals, text = override.partition("=")
    if not equals or not field:
        raise InputError(f"--set: must look like sweep.size=4, got {override!r}")
    *parents, last = (int(part) if part.isdigit() else part for part in field.split("."))
    place: Any = content
    value = yaml_value("--set", field, text)
    try:
        for part in parents:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
        place[last] = value
    except (IndexError, TypeError, KeyError) as error:
        raise InputError(f"--set: no field {field!r} in the file ({error})") from error
