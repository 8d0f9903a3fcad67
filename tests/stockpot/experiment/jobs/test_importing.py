"""Checkpoints of one experiment, imported by another."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_folders import factors, randn, save_adapter
from safetensors.torch import save_file

from stockpot.config import load_experiment
from stockpot.errors import InputError, StageFailed
from stockpot.experiment.jobs.diagnosing import diagnose_models
from stockpot.experiment.jobs.importing import Headers, ImportJob, check_headers
from stockpot.experiment.jobs.imports import Imports
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.experiment.provenance import Provenance
from stockpot.experiment.reproduction import rebuild
from stockpot.experiment.state import inputs_key, is_done
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Failure, Model
from stockpot.storage.project import Project

PARAMS = """
base: {import: given/base.safetensors}
sweep: {import: "given/ingredient-*", size: 0}
soups: [{name: greedy, select: greedy}, {name: uniform, select: uniform}]
diagnose: [gradient_groups]
"""

MakeOther = Callable[..., Plan]


@pytest.fixture
def other(finished: Plan, tmp_path: Path) -> MakeOther:
    """Plan a project that imports the checkpoints of a finished one."""
    root = tmp_path / "other"
    (root / "given").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    for model in (finished.base(), *finished.ingredients()):
        shutil.copy(finished.project.root / model.path, root / f"given/{model.name}.safetensors")

    def make(*overrides: str) -> Plan:
        return Plan(
            Project(root, root / "params.yaml"), load_experiment(root / "params.yaml", overrides)
        )

    return make


def imported(plan: Plan, stage: str) -> list[Model | Failure]:
    """Run all imports of a stage in this process, and record them."""
    imports = plan.imports[stage]
    headers = check_headers(plan.workload, imports.sources, "cpu")
    imports.refuse(headers.problems)
    start = None if stage == "base" else plan.base().checkpoint
    return [make_model(job, "cpu") for job in imports.jobs(headers, start)]


def record(plan: Plan, stage: str, **made: Any) -> None:
    write_manifest(
        plan.project.root, stage, {"inputs": inputs_key(plan, stage), "files": {}, **made}
    )


def record_base(plan: Plan) -> Model:
    [base] = imported(plan, "base")
    assert isinstance(base, Model)
    record(plan, "base", base=base.to_json())
    return base


def record_sweep(plan: Plan, outcomes: list[Model | Failure]) -> list[Model]:
    models = [outcome for outcome in outcomes if isinstance(outcome, Model)]
    failed = [outcome.to_json() for outcome in outcomes if isinstance(outcome, Failure)]
    precheck = check_ingredients(plan.precheck_job(models), "cpu")
    listed = [model.to_json() for model in models]
    record(plan, "sweep", ingredients=listed, failed=failed, precheck=precheck)
    return models


def reasons(outcomes: list[Model | Failure]) -> dict[str, str]:
    return {out.name: out.reason for out in outcomes if isinstance(out, Failure)}


def tensors_of(path: Path) -> bytes:
    """Return the bytes of a safetensors file's tensors, without its header."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_soups_of_imported_ingredients_are_those_of_trained_ones_bit_for_bit(
    finished: Plan, other: MakeOther
) -> None:
    plan = other()
    base = record_base(plan)
    models = record_sweep(plan, imported(plan, "sweep"))
    trained = {model.name: model for model in finished.models()}
    for model in (base, *models):
        source = trained[model.name.removeprefix("imported-")]
        assert model.scores == source.scores
        assert tensors_of(plan.project.root / model.path) == tensors_of(
            finished.project.root / source.path
        )

    soups = [make_model(job, "cpu") for job in plan.soup_jobs()]

    for soup in soups:
        same = trained[soup.name]
        assert tensors_of(plan.project.root / soup.path) == tensors_of(
            finished.project.root / same.path
        )
        assert soup.scores == same.scores


def test_imported_and_trained_ingredients_form_one_sweep(other: MakeOther) -> None:
    space = "sweep.space={learning_rate: {log_uniform: [1.0e-3, 1.0e-2]}, epochs: 1}"
    plan = other("sweep.size=1", space, "sweep.import=given/ingredient-01.safetensors")
    record_base(plan)

    [one] = imported(plan, "sweep")
    [job] = plan.ingredient_jobs()
    other_one = make_model(job, "cpu")
    models = record_sweep(plan, [one, other_one])

    assert [model.name for model in models] == ["imported-ingredient-01", "ingredient-00"]
    assert make_model(plan.soup_jobs()[1], "cpu").details["coefficients"] == {
        "imported-ingredient-01": 0.5,
        "ingredient-00": 0.5,
    }


def test_the_users_files_stay_as_they_were_and_are_not_needed_again(other: MakeOther) -> None:
    plan = other()
    record_base(plan)
    given = plan.project.root / "given"
    before = {path.name: path.stat().st_mtime_ns for path in given.iterdir()}
    first = imported(plan, "sweep")
    assert {path.name: path.stat().st_mtime_ns for path in given.iterdir()} == before
    assert all(path.stat().st_nlink == 1 for path in given.iterdir())
    headers = check_headers(plan.workload, plan.imports["sweep"].sources, "cpu")
    jobs = plan.imports["sweep"].jobs(headers, plan.base().checkpoint)
    shutil.rmtree(given)

    again = [make_model(job, "cpu") for job in jobs]

    assert again == first


def test_an_imported_model_records_its_source(other: MakeOther) -> None:
    plan = other()
    given = plan.project.root / "given"
    (given / "ingredient-00.json").write_text(json.dumps({"lr": 0.5}))
    state = load_tensors(given / "ingredient-00.safetensors")
    prefixed = {f"net.{name}": tensor for name, tensor in state.items()}
    save_file(prefixed, given / "ingredient-00.safetensors")
    record_base(plan)

    model, *_ = imported(plan, "sweep")

    assert isinstance(model, Model)
    assert model.details["hyperparameters"] == {"lr": 0.5}
    assert model.details["source"] == "given/ingredient-00.safetensors"
    assert model.details["imported"]["notes"] == ["prefix 'net.' removed from the names"]
    assert len(model.details["imported"]["digest"]) == 64


def test_an_equal_file_elsewhere_is_found_in_the_store(other: MakeOther) -> None:
    plan = other()
    record_base(plan)
    first, *_ = imported(plan, "sweep")
    root = plan.project.root
    (root / "given/ingredient-00.safetensors").rename(root / "moved.safetensors")
    moved = other("sweep.import=moved.safetensors")

    [again] = imported(moved, "sweep")

    assert isinstance(first, Model)
    assert isinstance(again, Model)
    assert (again.path, again.digest) == (first.path, first.digest)
    assert (again.name, again.details["source"]) == ("imported-moved", "moved.safetensors")


def spoil(plan: Plan) -> dict[str, str]:
    """Add unusable checkpoints to good ones; return the reason for each."""
    given = plan.project.root / "given"
    state = load_tensors(given / "ingredient-00.safetensors")
    head = next(name for name in reversed(state) if name.endswith("weight"))
    other_head = torch.zeros(7, *state[head].shape[1:])
    save_file(state | {head: other_head}, given / "ingredient-head.safetensors")
    save_file(state | {head: state[head] * float("nan")}, given / "ingredient-nan.safetensors")
    save_file({"x": torch.ones(2)}, given / "ingredient-x.safetensors")
    (given / "ingredient-cut.safetensors").write_bytes(b"1234")
    shutil.copy(given / "ingredient-01.safetensors", given / "ingredient-twin.safetensors")
    (given / "ingredient-evil.pt").write_bytes(pickle.dumps(_Evil(given / "was-here")))
    (given / "ingredient-empty").mkdir()
    return {
        "head": f"tensor {head!r} has shape (7, ",
        "nan": f"tensor {head!r}: ",
        "x": "lacks ",
        "cut": "not a whole safetensors file",
        "twin": "equal to imported-ingredient-01, which is used once",
        "evil": "not a file of weights alone",
        "empty": "expected model.safetensors",
    }


class _Evil:
    """Creates a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


def test_unusable_checkpoints_are_left_out_and_reported_with_the_reason(other: MakeOther) -> None:
    plan = other()
    expected = spoil(plan)
    record_base(plan)

    outcomes = imported(plan, "sweep")
    models = record_sweep(plan, outcomes)

    told = reasons(outcomes)
    assert {*told} == {f"imported-ingredient-{name}" for name in expected}
    for name, reason in expected.items():
        assert reason in told[f"imported-ingredient-{name}"]
        assert told[f"imported-ingredient-{name}"].startswith(f"given/ingredient-{name}")
    assert len(models) == 4
    assert not (plan.project.root / "given/was-here").exists()
    assert [model.name for model in plan.ingredients()] == [model.name for model in models]
    assert all(out.final for out in outcomes if isinstance(out, Failure))


def test_headers_of_another_model_stop_the_run_before_any_weights_are_read(
    other: MakeOther,
) -> None:
    plan = other("sweep.on_foreign=stop")
    spoil(plan)
    imports = plan.imports["sweep"]
    headers = check_headers(plan.workload, imports.sources, "cpu")

    with pytest.raises(InputError) as caught:
        imports.refuse(headers.problems)

    head, *lines = str(caught.value).splitlines()
    assert head == (
        "sweep.import: all must be models of the workload (sweep.on_foreign is stop), got 5 of 11 "
        "that are not"
    )
    assert [line.split(":")[0] for line in lines] == [
        f"  imported-ingredient-{name}" for name in ("cut", "empty", "evil", "head", "x")
    ]
    assert not (plan.project.root / ".stockpot/digests.json").exists()


def test_a_foreign_base_always_stops_the_run(other: MakeOther) -> None:
    plan = other("base.import=given/ingredient-x.safetensors")
    spoil(plan)

    with pytest.raises(
        InputError, match=r"^base.import: must be a model of the workload\n  base: "
    ):
        imported(plan, "base")


def test_a_failure_is_known_the_next_time(other: MakeOther) -> None:
    plan = other()
    spoil(plan)
    record_base(plan)
    first = imported(plan, "sweep")
    record_sweep(plan, first)

    assert is_done(plan, "sweep")
    assert imported(other(), "sweep") == first


def test_headers_alone_are_read_of_a_hundred_checkpoints(other: MakeOther) -> None:
    plan = other("sweep.import=many/*.safetensors")
    template = (plan.project.root / "given/ingredient-00.safetensors").read_bytes()
    many = plan.project.root / "many"
    many.mkdir()
    for number in range(100):
        _write_large(many / f"{number:02d}.safetensors", template)

    before = _read()
    done = is_done(plan, "sweep")
    listed = plan.imports["sweep"].listed()
    planned = _read()
    headers = check_headers(plan.workload, plan.imports["sweep"].sources, "cpu")
    checked = _read()

    assert (done, len(listed)) == (False, 100)
    assert planned.called - before.called < 200_000
    assert checked.called - planned.called < 100 * 20_000  # of 100 files of 64 MiB
    assert checked.mapped - before.mapped < 100 * 2**26 / 20
    assert all("has tensors that the model lacks: 'padding'" in p for p in headers.problems)


def _write_large(path: Path, template: bytes) -> None:
    """Write a checkpoint with 64 MiB more, as a hole that takes no space on the disk."""
    length = int.from_bytes(template[:8], "little")
    header, data = json.loads(template[8 : 8 + length]), len(template) - 8 - length
    header["padding"] = {"dtype": "U8", "shape": [2**26], "data_offsets": [data, data + 2**26]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + template[8 + length :])
        file.truncate(file.tell() + 2**26)


@dataclass(frozen=True)
class _Read:
    """Bytes that this process has read by calls, and at most through memory maps."""

    called: int
    mapped: int


def _read() -> _Read:
    calls = Path("/proc/self/io").read_text(encoding="utf-8").split()[1]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return _Read(int(calls), (usage.ru_minflt + usage.ru_majflt) * 2**16)  # a fault maps 16 pages


def test_planning_again_reads_no_checkpoint(other: MakeOther) -> None:
    plan = other()
    record_base(plan)
    record_sweep(plan, imported(plan, "sweep"))
    for path in (plan.project.root / "given").iterdir():
        path.chmod(0o000)  # who is no superuser could not read them
        time = path.stat().st_mtime_ns
        path.write_bytes(bytes(path.stat().st_size)) if os.geteuid() == 0 else None
        os.utime(path, ns=(time, time))

    assert is_done(other(), "base")
    assert is_done(other(), "sweep")


@pytest.mark.parametrize("change", ["content", "more", "hyperparameters", "gone"])
def test_a_change_of_the_imports_makes_the_sweep_stale(other: MakeOther, change: str) -> None:
    plan = other()
    record_base(plan)
    record_sweep(plan, imported(plan, "sweep"))
    given = plan.project.root / "given"
    assert is_done(other(), "sweep")
    state = load_tensors(given / "ingredient-00.safetensors")
    changes: dict[str, Callable[[], Any]] = {
        "content": lambda: save_file(state, given / "ingredient-01.safetensors"),
        "more": lambda: save_file(state, given / "ingredient-09.safetensors"),
        "hyperparameters": lambda: (given / "hyperparameters.json").write_text('{"lr": 1}'),
        "gone": lambda: shutil.rmtree(given),
    }

    changes[change]()

    assert not is_done(other(), "sweep")


def test_a_file_changed_during_a_run_is_imported_by_the_next(other: MakeOther) -> None:
    plan = other()
    record_base(plan)
    outcomes = imported(plan, "sweep")
    given = plan.project.root / "given"
    shutil.copy(given / "ingredient-00.safetensors", given / "ingredient-01.safetensors")
    record_sweep(plan, outcomes)

    assert not is_done(other(), "sweep")


def test_a_file_that_changes_while_it_is_imported_is_an_error(other: MakeOther) -> None:
    plan = other()
    record_base(plan)
    job, *_ = _jobs(plan)
    given = plan.project.root / "given"
    shutil.copy(given / "ingredient-01.safetensors", given / "ingredient-00.safetensors")

    with pytest.raises(StageFailed, match=r"^given/ingredient-00.safetensors: was changed while"):
        make_model(job, "cpu")


def test_an_adapter_is_merged_onto_the_base_of_the_experiment(other: MakeOther) -> None:
    plan = other("sweep.import=lora")
    base = load_tensors(plan.project.root / "given/base.safetensors")
    module, weight = next(
        (name.removesuffix(".weight"), tensor)
        for name, tensor in base.items()
        if tensor.ndim == 2 and name.endswith(".weight")
    )
    a, b = randn(2, weight.shape[1]), randn(weight.shape[0], 2, seed=1)
    save_adapter(plan.project.root / "lora", factors(module, a, b))
    first = record_base(plan)

    [model] = imported(plan, "sweep")

    assert isinstance(model, Model)
    weights = load_tensors(plan.project.root / model.path)
    expected = base | {f"{module}.weight": weight + 2 * b @ a}
    torch.testing.assert_close(weights, expected)
    [job] = _jobs(plan)
    assert replace(job, start=replace(first.checkpoint, digest="other")).key != job.key


def test_an_imported_model_is_rebuilt_from_its_source(other: MakeOther, tmp_path: Path) -> None:
    plan = other()
    record_base(plan)
    job, *_ = _jobs(plan)
    making = _making(job)
    source = plan.project.root / job.source.shown
    places = [tmp_path / name for name in ("same", "changed", "gone")]
    for place in places:
        place.mkdir()

    again = rebuild(making, plan.project.root, places[0], (), "cpu")
    shutil.copy(plan.project.root / "given/ingredient-02.safetensors", source)
    with pytest.raises(StageFailed, match=r"was imported from .* whose digest is .*recorded"):
        rebuild(making, plan.project.root, places[1], (), "cpu")
    source.unlink()
    with pytest.raises(InputError, match=r"was imported from .*, which does not exist"):
        rebuild(making, plan.project.root, places[2], (), "cpu")

    assert (again.digest, again.scores) == (making.model.digest, making.model.scores)


def test_soups_of_imported_ingredients_are_rebuilt_without_their_sources(
    other: MakeOther, tmp_path: Path
) -> None:
    plan = other()
    record_base(plan)
    record_sweep(plan, imported(plan, "sweep"))
    job = plan.soup_jobs()[0]
    soup = make_model(job, "cpu")
    shutil.rmtree(plan.project.root / "given")
    (tmp_path / "again").mkdir()

    again = rebuild(job.provenance(soup), plan.project.root, tmp_path / "again", (), "cpu")

    assert (again.digest, again.scores) == (soup.digest, soup.scores)


def test_gradients_are_not_compared_where_objectives_are_not_certain(other: MakeOther) -> None:
    plan = other()
    record_base(plan)
    record_sweep(plan, imported(plan, "sweep"))
    record(plan, "soups", soups=[])
    record(plan, "tune", tuned=[])

    [job] = plan.diagnostic_jobs()

    assert diagnose_models(job, "cpu").sentence.startswith("The training data or the obj")


@pytest.mark.parametrize(("on_foreign", "stops"), [("exclude", False), ("stop", True)])
def test_unusable_weights_stop_the_run_if_on_foreign_is_stop(
    other: MakeOther, on_foreign: str, stops: bool
) -> None:
    imports = other(f"sweep.on_foreign={on_foreign}").imports["sweep"]
    third = imports.sources[2].name
    expected = pytest.raises(InputError, match=rf"got 1 of 4 that are not\n  {third}: NaN$")

    with expected if stops else nullcontext():
        imports.refuse(["", "", "NaN", ""])


def test_without_patterns_nothing_is_imported(plan: Plan) -> None:
    assert [imports.listed() for imports in plan.imports.values()] == [[], []]
    assert isinstance(plan.imports["sweep"], Imports)


def test_the_list_of_imports_reports_missing_files(other: MakeOther) -> None:
    plan = other("sweep.import=none/*.pt")

    [line] = plan.imports["sweep"].listed()

    assert line.startswith("sweep.import: must be paths or patterns of checkpoints, got ")


def _jobs(plan: Plan) -> list[ImportJob]:
    headers: Headers = check_headers(plan.workload, plan.imports["sweep"].sources, "cpu")
    return plan.imports["sweep"].jobs(headers, plan.base().checkpoint)


def _making(job: ImportJob) -> Provenance:
    model = make_model(job, "cpu")
    assert isinstance(model, Model)
    return Provenance.from_text(job.provenance(model).to_text())
