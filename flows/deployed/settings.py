"""The parameters of deployed flows, with ranges and descriptions for the form in Prefect's UI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from stockpot.config import load_experiment
from stockpot.errors import InputError, unknown_name
from stockpot.experiment.opening import import_from
from stockpot.storage.project import find_project
from stockpot.yaml_files import read_yaml

_AS_IN_PARAMS = "empty: as in the params file"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    params: str = Field(
        "params.yaml",
        min_length=1,
        description="the params file, relative to the project's folder",
    )


class ExperimentSettings(_Settings):
    """Changes of the params file, for one deployed run of an experiment."""

    seed: int | None = Field(
        None, ge=0, lt=2**32, description=f"another seed is another experiment; {_AS_IN_PARAMS}"
    )
    size: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description=f"number of ingredients; finished ones are reused; {_AS_IN_PARAMS}"
    )
    soups: list[str] | None = Field(
        None, description="names of the soups in the params file to make; empty: all of them"
    )
    trials: int | None = Field(
        None, ge=1, le=1_000_000, description=f"trials of each search by Optuna; {_AS_IN_PARAMS}"
    )
    overrides: list[str] = Field(
        [], description="other fields, each as for `stockpot run --set`: evaluate.bootstrap=500"
    )

    def to_overrides(self) -> tuple[str, ...]:
        """Return the settings as `field.subfield=value` each, the form of `stockpot run --set`.

        Raises:
            InputError: the params file is not valid, or has no soup of a name.
        """
        given = {"seed": self.seed, "sweep.size": self.size}
        fields = [f"{name}={value}" for name, value in given.items() if value is not None]
        project = find_project(Path(self.params))
        params_file = project.params_file
        import_from(project)  # the file may name methods of the project's own
        if self.soups:
            fields.append(f"soups={json.dumps(_chosen_soups(params_file, self.soups))}")
        if self.trials is not None:
            searches = enumerate(load_experiment(params_file).tune)
            with_trials = [place for place, search in searches if "trials" in search.settings]
            if not with_trials:
                raise InputError(
                    f"trials: no search in {params_file.name} has trials, got {self.trials}; "
                    "leave the field empty"
                )
            fields += [f"tune.{place}.trials={self.trials}" for place in with_trials]
        return (*fields, *self.overrides)


def _chosen_soups(params_file: Path, names: list[str]) -> list[dict[str, Any]]:
    """Return the sections of soups, by their names, in the order of the file."""
    load_experiment(params_file)  # so that all of them have names
    sections = {section["name"]: section for section in read_yaml(params_file).get("soups", [])}
    for name in names:
        if name not in sections:
            raise unknown_name("soup", name, sections)
    return [section for name, section in sections.items() if name in names]


class ChampionSettings(_Settings):
    """On which data the champion is evaluated, and from which score on this is reported."""

    data: dict[str, str | int | float | bool] = Field(
        {},
        description="options of the workload that lead to the new data, e.g. "
        '{"path": "data/december"}; empty: those in the params file',
    )
    at_least: float | None = Field(
        None,
        description="the run fails, and so notifies you, if the champion's first metric on test is "
        "below this; in the metric's own unit, higher is better; empty: no limit",
    )

    def to_overrides(self) -> tuple[str, ...]:
        """Return the settings as `field.subfield=value` each."""
        return tuple(
            f"workload.options.{name}={json.dumps(value)}" for name, value in self.data.items()
        )


class GarbageSettings(_Settings):
    """Options of the collection of garbage."""

    dry_run: bool = Field(False, description="only list in the log what would be deleted")

    def to_overrides(self) -> tuple[str, ...]:
        """Return nothing: the params file stays as it is."""
        return ()
