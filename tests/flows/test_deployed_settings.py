"""The forms of deployments, and prefect.yaml."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from projects import PARAMS, REPOSITORY
from pydantic import ValidationError

from flows.deployed.settings import ChampionSettings, ExperimentSettings
from flows.deploying.description import read_description
from flows.new_project import write_project
from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "params.yaml"
    tune = [*PARAMS["tune"], {"name": "learned", "search": "gradient"}]
    file.write_text(yaml.safe_dump(PARAMS | {"tune": tune}))
    monkeypatch.chdir(tmp_path)
    return file


def test_fields_of_the_form_override_those_of_the_params_file(params: Path) -> None:
    settings = ExperimentSettings(
        seed=3, size=6, soups=["greedy"], trials=5, overrides=["evaluate.bootstrap=150"]
    )

    experiment = load_experiment(params, settings.to_overrides())

    assert (experiment.seed, experiment.sweep.size) == (3, 6)
    assert [soup.name for soup in experiment.soups] == ["greedy"]
    assert experiment.tune[0].settings["trials"] == 5
    assert experiment.evaluate.bootstrap == 150


@pytest.mark.usefixtures("params")
def test_an_empty_form_overrides_nothing() -> None:
    assert ExperimentSettings().to_overrides() == ()


OWN_METHOD = """
from collections.abc import Sequence

from torch import Tensor

from stockpot.merging.method import method


@method("first", is_elementwise=True)
def first(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0]
"""


def test_the_params_file_may_name_methods_of_the_project(
    params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (params.parent / "own_method_of_a_form.py").write_text(OWN_METHOD)
    own = {"method": "own_method_of_a_form:first", "name": "first", "select": "uniform"}
    params.write_text(yaml.safe_dump(PARAMS | {"soups": [*PARAMS["soups"], own]}))
    monkeypatch.setattr(sys, "path", [*sys.path])

    overrides = ExperimentSettings(soups=["first"], trials=5).to_overrides()

    assert overrides == (f"soups={json.dumps([own])}", "tune.0.trials=5")


@pytest.mark.usefixtures("params")
def test_a_soup_that_is_not_in_the_params_file_is_named() -> None:
    with pytest.raises(InputError, match=r"unknown soup 'greddy'.*did you mean 'greedy'"):
        ExperimentSettings(soups=["greddy"]).to_overrides()


@pytest.mark.parametrize("soups", [[{"method": "mean"}], ["greedy"], None])
def test_soups_of_a_params_file_that_is_not_valid_are_errors_of_their_fields(
    params: Path, soups: Any
) -> None:
    params.write_text(yaml.safe_dump(PARAMS | {"soups": soups}))

    with pytest.raises(InputError, match=r"^params\.yaml: soups"):
        ExperimentSettings(soups=["greedy"]).to_overrides()


def test_trials_are_refused_if_no_search_has_any(params: Path) -> None:
    params.write_text(yaml.safe_dump(PARAMS | {"tune": []}))

    with pytest.raises(InputError, match=r"trials: no search in params.yaml has trials, got 5"):
        ExperimentSettings(trials=5).to_overrides()


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"seed": -1}, {"seed": 2**32}, {"trials": 0}, {"sizes": 3}, {"params": ""}],
)
def test_values_out_of_range_are_refused_by_the_form(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExperimentSettings(**wrong)


def test_new_data_for_the_champion_are_options_of_the_workload(params: Path) -> None:
    settings = ChampionSettings(data={"path": "data/december", "fold": 2})

    options = load_experiment(params, settings.to_overrides()).workload.options

    assert options == {"path": "data/december", "fold": 2}


def test_the_form_has_a_description_and_a_range_for_each_number() -> None:
    flow = load_flow_from_entrypoint("flows.deployed.experiment.run_deployed_experiment")

    schema = parameter_schema(flow.fn).model_dump()

    fields = schema["definitions"]["ExperimentSettings"]["properties"]
    assert set(fields) == {"params", "seed", "size", "soups", "trials", "overrides"}
    assert all(field["description"] for field in fields.values())
    numbers = [fields[name]["anyOf"][0] for name in ("seed", "size", "trials")]
    assert all("minimum" in number for number in numbers)


def test_a_new_project_has_the_deployments_of_the_repository(tmp_path: Path) -> None:
    write_project(tmp_path / "spirals")

    own, ours = read_description(tmp_path / "spirals"), read_description(REPOSITORY)

    assert [each.name for each in own.deployments] == [
        f"spirals-{each.name}" for each in ours.deployments
    ]
    for one, other in zip(own.deployments, ours.deployments, strict=True):
        assert one.model_dump(exclude={"name"}) == other.model_dump(exclude={"name"})
    assert own.pools == ["local"]
    assert {own.root_of(each) for each in own.deployments} == {str(tmp_path / "spirals")}
    assert own.seconds_to_start <= 120
    for entrypoint in {each.entrypoint for each in own.deployments}:
        load_flow_from_entrypoint(entrypoint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deployments: []", "deployments: must have at least 1 item"),
        (
            "deployments: [{entrypoint: a.b, work_pool: {name: x}}]",
            "deployments.0.name: is required",
        ),
        ("name: x", "deployments: is required"),
    ],
)
def test_a_file_of_deployments_that_lacks_something_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "prefect.yaml").write_text(text)

    with pytest.raises(InputError, match=message):
        read_description(tmp_path)


@pytest.mark.parametrize("command", ["deploy", "worker"])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "needs a Prefect server that stays; start one with `prefect server start`"),
        ("http://127.0.0.1:9/api", "no Prefect server answers at 'http://127.0.0.1:9/api'"),
    ],
)
@pytest.mark.usefixtures("params")
def test_without_a_server_that_stays_nothing_is_deployed_and_no_worker_started(
    stockpot: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    address: str | None,
    message: str,
) -> None:
    write_text(Path("prefect.yaml"), (REPOSITORY / "prefect.yaml").read_text())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if address is not None:
        monkeypatch.setenv("PREFECT_API_URL", address)

    code, output = stockpot(command)

    assert code == 2
    assert f"PREFECT_API_URL: {'' if address else command + ' '}{message}" in output
