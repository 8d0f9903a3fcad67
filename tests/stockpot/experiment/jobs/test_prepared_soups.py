"""Soups by methods that take data: prepared from train once, whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.reproduction import rebuild
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.soups.preparation.cache import prepare
from stockpot.soups.preparation.fisher_information import FisherInformation
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

WORKLOAD = WorkloadSpec("toy_workload:Toy", seed=0, options=(("closed", "test"),))
WEIGHTS = [
    torch.tensor([[2.0, -1.0], [0.1, 1.0]]),
    torch.tensor([[1.0, 0.5], [-0.5, 2.0]]),
    torch.tensor([[1.0, 1.0], [-1.0, 1.5]]),
]


@pytest.fixture
def job(tmp_path: Path) -> SoupJob:
    """A uniform soup, by Fisher information, of three linear classifiers of the toy workload."""
    store, scorer = Store(tmp_path), ValScorer(WORKLOAD.build(), "cpu")
    models = [
        store.save("ingredient", f"k{number}", f"ingredient-0{number}", {"weight": weight}, {})
        for number, weight in enumerate(WEIGHTS)
    ]
    return SoupJob(
        root=tmp_path,
        workload=WORKLOAD,
        name="soup",
        select="uniform",
        method="fisher",
        options={},
        base=models[0],
        seed=0,
        ingredients=tuple(
            model.scored({"val/accuracy": scorer.val({"weight": weight})})
            for model, weight in zip(models, WEIGHTS, strict=True)
        ),
        metric="val/accuracy",
    )


def weight_of(job: SoupJob, soup: Model) -> Tensor:
    return load_tensors(job.root / soup.path)["weight"]


def kept(job: SoupJob) -> dict[str, int]:
    """Return the files of preparations, each with the time at which it was written."""
    folder = job.root / ".stockpot" / "preparations"
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*"))}


def information(weight: Tensor) -> Tensor:
    """Compute the Fisher information of a linear classifier by its formula."""
    points = WORKLOAD.build().dataset("train").tensors[0]
    probabilities = (points @ weight.mT).softmax(dim=-1)
    return (probabilities * (1 - probabilities)).mT @ points.square() / len(points)


def test_a_fisher_soup_is_the_mean_weighted_by_the_formula_of_the_information(
    job: SoupJob,
) -> None:
    shares = [information(weight) / information(weight).norm() for weight in WEIGHTS]
    weighted = sum(share * weight for share, weight in zip(shares, WEIGHTS, strict=True))

    soup = make_model(job, "cpu")

    torch.testing.assert_close(weight_of(job, soup), weighted / sum(shares))
    assert soup.details["recipe"]["method"] == "fisher"
    assert set(soup.details["coefficients"].values()) == {1 / 3}


def test_a_regmean_soup_of_models_with_equal_inputs_is_their_mean(job: SoupJob) -> None:
    # The only layer sees the data themselves, which are the same for every model.
    soup = make_model(replace(job, method="regmean"), "cpu")

    torch.testing.assert_close(weight_of(job, soup), torch.stack(WEIGHTS).mean(dim=0))


@pytest.mark.parametrize("method", ["fisher", "regmean"])
def test_each_greedy_step_has_the_score_of_the_soup_that_would_be_written(
    job: SoupJob, method: str
) -> None:
    greedy = make_model(replace(job, select="greedy", method=method), "cpu")
    by_name = {model.name: model for model in job.ingredients}
    scorer = ValScorer(WORKLOAD.build(), "cpu")
    members: list[Model] = []

    for number, step in enumerate(greedy.details["steps"]):
        candidate = (*members, by_name[step["ingredient"]])
        same = replace(job, name=f"{number}", method=method, ingredients=candidate)
        soup = make_model(same, "cpu")
        assert scorer.val({"weight": weight_of(job, soup)}) == step["score"]
        members = [*candidate] if step["accepted"] else members

    assert {model.name for model in members} == set(greedy.details["coefficients"])
    assert len(kept(job)) == 3


def test_a_model_is_prepared_once_for_all_soups(job: SoupJob) -> None:
    make_model(job, "cpu")
    first = kept(job)

    for select, options in {"greedy": {}, "top_k": {"k": 2}}.items():
        other = replace(job, name=select, select=select, select_options=options)
        make_model(replace(other, options={"floor": 0.1}), "cpu")

    assert len(first) == 3
    assert kept(job) == first


def test_only_what_goes_in_is_prepared(job: SoupJob) -> None:
    make_model(replace(job, select="top_k", select_options={"k": 2}), "cpu")

    assert len(kept(job)) == 2


def test_a_method_without_data_prepares_nothing(job: SoupJob) -> None:
    make_model(replace(job, method="linear"), "cpu")

    assert kept(job) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"n": 4}},
        {"options": {"estimator": "empirical"}},
        {"options": {"estimator": "sampled", "draws": 2}},
        {"method": "regmean"},
        {"seed": 1},
        {"workload": replace(WORKLOAD, options=(("sizes", "6,5"),))},
    ],
    ids=str,
)
def test_whatever_it_depends_on_makes_another_preparation_and_another_soup(
    job: SoupJob, change: Mapping[str, Any]
) -> None:
    make_model(job, "cpu")
    other = replace(job, **change)

    make_model(other, "cpu")

    assert len(kept(job)) == 6
    assert other.key != job.key


def test_what_is_kept_is_found_without_the_model(job: SoupJob) -> None:
    model, preparation = job.ingredients[0], FisherInformation()
    first = prepare(job.root, WORKLOAD, model, preparation, seed=0, device="cpu")
    (job.root / model.path).unlink()

    again = prepare(job.root, WORKLOAD, model, preparation, seed=0, device="cpu")

    assert torch.equal(again["weight"].diagonal, first["weight"].diagonal)
    assert again["weight"].norm == first["weight"].norm
    torch.testing.assert_close(again["weight"].diagonal, information(WEIGHTS[0]))


def test_a_preparation_that_could_not_be_written_is_made_by_the_next_run(
    job: SoupJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("safetensors.torch.save_file", full_disk)
        with pytest.raises(OSError, match="no space left"):
            make_model(job, "cpu")
    after_the_fault = kept(job)

    make_model(job, "cpu")

    assert after_the_fault == {}
    assert len(kept(job)) == 3


@pytest.mark.parametrize("method", ["cat", "localize_and_stitch", "regmean_plus_plus"])
def test_other_methods_that_take_data_are_prepared_once(job: SoupJob, method: str) -> None:
    job = replace(job, method=method, options={"n": 4})
    made = make_model(job, "cpu")
    assert isinstance(made, Model)
    before = kept(job)

    (job.root / made.path).unlink()
    again = make_model(job, "cpu")

    assert isinstance(again, Model)
    assert again.digest == made.digest
    assert kept(job) == before
    assert len(before) == (1 if method == "regmean_plus_plus" else 3)
    assert weight_of(job, again).isfinite().all()


def test_masks_depend_on_the_base_that_the_models_started_from(job: SoupJob) -> None:
    job = replace(job, method="localize_and_stitch", options={"n": 4}, select="top_k")
    job = replace(job, select_options={"k": 1})
    make_model(job, "cpu")

    make_model(replace(job, base=job.ingredients[2]), "cpu")

    assert len(kept(job)) == 2


# The first is best on class 1, the second on class 0, the third on none.
EXPERTS = [torch.diag(torch.tensor(each)) for each in ([1.0, 0.3], [2.0, 2.5], [0.5, -0.5])]


def _of_experts(job: SoupJob, method: str) -> SoupJob:
    """Return the soup of the best ingredients on the two classes of a larger val."""
    large = replace(WORKLOAD, options=(*WORKLOAD.options, ("sizes", "60,4")))
    store = Store(job.root)
    saved = [
        store.save("ingredient", f"e{number}", f"expert-{number}", {"weight": weight}, {})
        for number, weight in enumerate(EXPERTS)
    ]
    scored = tuple(score_on_val(job.root, large, model, "cpu") for model in saved)
    options = {"threshold": 1.0, "steps": 4}
    job = replace(job, workload=large, method=method, select="soce", select_options=options)
    return replace(job, ingredients=scored)


def test_a_soup_of_experts_has_the_weights_that_were_searched(job: SoupJob) -> None:
    job = _of_experts(job, "linear")

    soup = make_model(job, "cpu")

    assert isinstance(soup, Model)
    names, shares = zip(*soup.details["coefficients"].items(), strict=True)
    expected = sum(share * EXPERTS[int(n[-1])] for n, share in zip(names, shares, strict=True))
    torch.testing.assert_close(weight_of(job, soup), expected)
    assert all(share * 4 == int(share * 4) for share in shares)
    assert names == ("expert-0", "expert-1")
    assert soup.details["experts"] == {"class 0": "expert-1", "class 1": "expert-0"}
    place = job.root / "again"
    place.mkdir()
    assert rebuild(job.provenance(soup), job.root, place, (), "cpu").digest == soup.digest


def test_experts_are_not_for_a_method_without_coefficients(job: SoupJob) -> None:
    with pytest.raises(InputError, match="soce needs a merge method with coefficients"):
        make_model(_of_experts(job, "model_stock"), "cpu")
