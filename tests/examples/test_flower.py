"""The example of Flower: its federations give the bits of `sweep.rounds`."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from projects import REPOSITORY

from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.storage.store import Store

EXAMPLE = REPOSITORY / "examples" / "flower"
SHORT = {
    "rounds": 3,
    "clients": 3,
    "local_steps": 2,
    "participation": [1.0, 0.6, 0.6],
    "client": {"learning_rate": 0.1, "batch_size": 8},
}
RULES = ("fedavg", "server_momentum", "scaffold_m", "fedau")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the part of the example that knows nothing of Flower."""
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("stockpot_flower.federation")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of short federations, in a project with a base."""
    entries = [{"name": rule, "rule": rule, **SHORT} for rule in RULES]
    entries.append({"name": "gossip", "rule": "gossip", **SHORT})
    sweep = {"size": 0, "min_ingredients": 1, "rounds": entries}
    path = tmp_path / "federation.yaml"
    soups = [{"name": "uniform", "select": "uniform"}]
    path.write_text(yaml.safe_dump({"sweep": sweep, "soups": soups}))
    return path


def _plan_after_base(file: Path, example: Any) -> Plan:
    federation = example.Federation.read(file, "fedavg")
    model = federation.workload.build_model(torch.Generator().manual_seed(0))
    base = Store(file.parent).save("base", "b" * 20, "base", model.state_dict(), {})
    write_manifest(file.parent, "base", {"inputs": "", "base": base.to_json(), "files": {}})
    return Plan(Project(file.parent, file), federation.experiment)


def _run(example: Any, federation: Any, project: Path) -> Any:
    """Do the rounds in this process, as the Flower apps do."""
    sent = example.Federation.from_settings(federation.settings)
    server = example.Server(federation, federation.first_model(project))
    for number in range(1, federation.recipe.rounds + 1):
        server.merge(
            number,
            {
                client: example.train(sent, number, client, server.model, server.correction(client))
                for client in reversed(server.participants(number))  # replies come in any order
            },
        )
    return server


def test_each_rule_gives_the_bits_of_sweep_rounds(example: Any, file: Path) -> None:
    plan = _plan_after_base(file, example)
    jobs = {job.federation.rule: job for job in plan.rounds_jobs()}
    for rule in RULES:
        made = make_model(jobs[rule], "cpu")
        assert isinstance(made, Model)
        wanted = load_tensors(file.parent / made.path)

        server = _run(example, example.Federation.read(file, rule), file.parent)

        assert server.model.keys() == wanted.keys()
        assert all(torch.equal(server.model[name], wanted[name]) for name in wanted), rule


def test_the_simulation_gives_the_bits_of_sweep_rounds() -> None:
    python = EXAMPLE / ".venv" / "bin" / "python"
    if not (python.parent / "flwr").is_file():
        pytest.skip("examples/flower/.venv has no Flower; see examples/flower/README.md")

    finished = subprocess.run(
        [python, EXAMPLE / "compare.py", "scaffold_m", "0", "1"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "seed 0: largest difference of a weight 0;" in finished.stdout


def test_a_client_with_own_data_trains_on_all_of_train(example: Any, file: Path) -> None:
    _plan_after_base(file, example)
    federation = example.Federation.read(file, "fedavg")
    model = federation.first_model(file.parent)

    own, shard = (
        example.train(federation, 1, 1, model, federation.rule.correction({}, {}), own_data=own)
        for own in (True, False)
    )

    assert own.num_examples == sum(len(rows) for rows in federation.shards)
    assert shard.num_examples == len(federation.shards[1])


def test_a_round_without_models_leaves_the_model(example: Any, file: Path) -> None:
    _plan_after_base(file, example)
    federation = example.Federation.read(file, "server_momentum")
    server = example.Server(federation, federation.first_model(file.parent))
    before = dict(server.model)

    server.merge(1, {})

    assert all(torch.equal(server.model[name], before[name]) for name in before)


def test_a_model_with_other_tensors_is_refused(example: Any, file: Path) -> None:
    _plan_after_base(file, example)
    federation = example.Federation.read(file, "fedavg")
    model = federation.first_model(file.parent)
    server = example.Server(federation, model)
    name = min(model)
    good = example.Update(model, 5, 1.0)
    other = replace(good, model={**model, name: torch.zeros(1, 2, 3)})

    with pytest.raises(ValueError, match=rf"client 2: must send .*'{name}'"):
        server.merge(1, {0: good, 2: other})
    broken = replace(good, model={**model, name: torch.full_like(model[name], torch.nan)})
    with pytest.raises(ValueError, match=f"round 1: weight '{name}' of the merge is not finite"):
        server.merge(1, {0: broken})
    assert server.model is model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fedagv", "unknown entry of sweep.rounds in federation.yaml 'fedagv'.*mean 'fedavg'"),
        ("gossip", "federation.yaml: sweep.rounds: rule must be one with a server, got 'gossip'"),
    ],
)
def test_an_entry_that_flower_cannot_run_is_named(
    example: Any, file: Path, name: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        example.Federation.read(file, name)


def test_the_entries_of_the_example_are_valid_and_share_their_base_with_the_merge(
    example: Any, tmp_path: Path
) -> None:
    entries = yaml.safe_load((EXAMPLE / "federation.yaml").read_text())["sweep"]["rounds"]
    federations = [example.Federation.read(EXAMPLE / "federation.yaml", e["name"]) for e in entries]
    assert len(federations) == 4

    bases = [
        Plan(Project(tmp_path, EXAMPLE / file), load_experiment(EXAMPLE / file)).base_job()
        for file in ("params.yaml", "federation.yaml")
    ]

    assert bases[0].key == bases[1].key


def test_a_saved_model_shows_its_rule_when_it_is_imported(example: Any, file: Path) -> None:
    from stockpot.ingredients.importing.hyperparameters import find_hyperparameters

    _plan_after_base(file, example)
    federation = example.Federation.read(file, "fedau")
    server = example.Server(federation, federation.first_model(file.parent))
    saved = file.parent / "federated" / "fedau.safetensors"

    server.save(saved, [{"round": 1, "val": 0.5}])

    assert all(torch.equal(t, server.model[n]) for n, t in load_tensors(saved).items())
    assert json.loads(saved.with_suffix(".json").read_text())["history"][0]["val"] == 0.5
    shown = find_hyperparameters(saved)
    assert (shown["rule"], shown["cutoff"], shown["learning_rate"]) == ("fedau", 50, 0.1)
