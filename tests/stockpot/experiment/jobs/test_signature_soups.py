"""Soups of clean ingredients with the signatures of corrupted ones, through params.yaml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_context import DIGITS
from torch import Tensor

from stockpot.errors import InputError
from stockpot.experiment.corruption_checks import check_corruptions
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.signature_soups import merge_by_corruption
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.merging.masks import Masks
from stockpot.merging.methods.weight_signatures import weight_signatures
from stockpot.storage.checkpoints import load_tensors

MakePlan = Callable[..., Plan]

RECIPE = "name: s, select: uniform, method: weight_signatures"


@pytest.fixture
def job(make_plan: MakePlan) -> Callable[..., SoupJob]:
    """Return the job of a soup whose first two ingredients are clean, as if others were not."""

    def make(
        options: str, corruptions: tuple[str, ...] = ("none", "none", "noise", "blur")
    ) -> SoupJob:
        planned = make_plan(f"soups=[{{{RECIPE}, options: {{{options}}}}}]").soup_jobs()[0]
        trained = [
            replace(
                model,
                details={
                    **model.details,
                    "hyperparameters": model.details["hyperparameters"] | {"corruption": name},
                },
            )
            for model, name in zip(planned.ingredients, corruptions, strict=True)
        ]
        return replace(planned, ingredients=tuple(trained))

    return make


def _expected(job: SoupJob, name: str, **options: float) -> Tensor:
    first, second, noise, blur = (
        load_tensors(job.root / model.path)[name] for model in job.ingredients
    )
    base = load_tensors(job.root / job.base.path)[name]
    clean = (first + second) / 2
    return weight_signatures([clean, clean, noise, blur], [1, 1, 0.5, 0.5], base, **options)


def _mean(job: SoupJob, name: str) -> Tensor:
    states = [load_tensors(job.root / model.path) for model in job.ingredients[:2]]
    return (states[0][name] + states[1][name]) / 2


def test_the_clean_soup_gets_the_signatures_of_the_others(job: Callable[..., SoupJob]) -> None:
    planned = job("num_layers: 1, scale: 0.5")

    soup = make_model(planned, "cpu")

    weights = load_tensors(planned.root / soup.path)
    assert soup.details["signatures"] == ["features.0.weight"]
    for name, tensor in weights.items():
        signed = name == "features.0.weight"
        own = _expected(planned, name, scale=0.5) if signed else _mean(planned, name)
        torch.testing.assert_close(tensor, own)
    assert [*soup.details["coefficients"].values()] == [0.5, 0.5, 0.25, 0.25]
    assert [*soup.details["corruptions"].values()] == ["none", "none", "noise", "blur"]


def test_all_layers_in_the_order_of_the_model(job: Callable[..., SoupJob]) -> None:
    planned = job("num_layers: all")

    soup = make_model(planned, "cpu")

    assert soup.details["signatures"] == [
        *(f"features.{n}.{kind}" for n in (0, 2, 5) for kind in ("weight", "bias")),
        "head.weight",
        "head.bias",
    ]


def test_a_soup_of_signatures_is_made_again(job: Callable[..., SoupJob], tmp_path: Path) -> None:
    planned = job("num_layers: auto")
    soup = make_model(planned, "cpu")

    again = rebuild(planned.provenance(soup), planned.root, tmp_path / "again", (), "cpu")

    assert again.digest == soup.digest


def test_the_key_depends_on_what_the_ingredients_were_trained_on(
    job: Callable[..., SoupJob],
) -> None:
    first, second = job("scale: 1"), job("scale: 1", ("none", "noise", "none", "blur"))

    assert first.key != second.key
    assert first.key == job("scale: 1").key


def test_the_merge_by_corruption_is_part_of_the_keys_of_its_soups_alone(
    job: Callable[..., SoupJob], make_plan: MakePlan, edit: Callable[[str], None]
) -> None:
    uniform = make_plan("soups=[{name: u, select: uniform}]").soup_jobs()[0]
    before = job("scale: 1").key, uniform.key

    edit("stockpot.experiment.jobs.signature_soups")

    assert job("scale: 1").key != before[0]
    assert uniform.key == before[1]


@pytest.mark.parametrize("corruptions", [("none",) * 4, ("noise",) * 4])
def test_ingredients_of_one_kind_alone_have_no_signature(
    job: Callable[..., SoupJob], corruptions: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match="needs ingredients trained on clean and on corrupted"):
        make_model(job("scale: 1", corruptions), "cpu")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"select: uniform": "select: greedy"}, "select must be uniform for method weight_sig"),
        ({RECIPE: f"{RECIPE}, rules: [{{match: '*', metric: riemann}}]"}, "rules are not for"),
        ({RECIPE: f"{RECIPE}, options: {{num_layers: few}}"}, "num_layers must be a whole number"),
        ({RECIPE: f"{RECIPE}, options: {{density: 1}}"}, "unknown option 'density'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(
    make_plan: MakePlan, changes: Mapping[str, str], expected: str
) -> None:
    recipe = RECIPE
    for before, after in changes.items():
        recipe = recipe.replace(before, after)

    with pytest.raises(InputError, match=expected):
        make_plan(f"soups=[{{{recipe}}}]")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([f"soups=[{{{RECIPE}}}]"], r"soups: 's': weight_signatures needs .*\['none'\]"),
        (
            [f"soups=[{{{RECIPE}}}]", "sweep.space.corruption=noise"],
            r"got the corruptions \['noise'\]",
        ),
        (["sweep.space.corruption=nose"], "sweep.space: unknown corruption 'nose'.*noise"),
    ],
)
def test_corruptions_are_checked_before_any_work(
    make_plan: MakePlan, overrides: list[str], expected: str
) -> None:
    plan = make_plan(*overrides)

    with pytest.raises(InputError, match=expected):
        check_corruptions(plan.experiment, plan.workload.build())


def test_a_workload_without_corruptions_is_refused(make_plan: MakePlan) -> None:
    plan = make_plan("sweep.space.corruption={choice: [none, noise]}")

    class Plain:
        pass

    check_corruptions(plan.experiment, plan.workload.build())
    with pytest.raises(
        InputError, match=r"sweep\.space: corruption: needs a workload with a method"
    ):
        check_corruptions(plan.experiment, Plain())  # type: ignore[arg-type]


@pytest.mark.parametrize("masks", ["union", "intersection"])
def test_masks_are_joined_over_the_ingredients_of_one_corruption_too(masks: Masks) -> None:
    workload = DIGITS.build()
    base = workload.build_model(torch.Generator().manual_seed(0)).state_dict()
    generator = torch.Generator().manual_seed(1)
    nets = [{n: torch.randn(t.shape, generator=generator) for n, t in base.items()} for _ in "abcd"]
    kept = [torch.rand(base["head.weight"].shape, generator=generator) < 0.5 for _ in nets]
    for net, own in zip(nets, kept, strict=True):
        net["head.weight"] *= own

    merged, _ = merge_by_corruption(
        workload, nets, ("none", "none", "fog", "fog"), base, {"num_layers": "all"}, masks
    )

    joined = torch.stack(kept)
    wanted = joined.any(dim=0) if masks == "union" else joined.all(dim=0)
    assert torch.equal(merged["head.weight"] != 0, wanted)
