"""Soups that are trained depend on the number of threads, as ingredients do; others do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.experiment.reproduction import rebuild
from stockpot.merging.sparse_masks import apply_mask, magnitude_mask
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.store import Store

SOUPS = [
    "{name: grown, select: top_k, k: 2, method: concat, options: {epochs: 1}}",
    "{name: boosted, select: top_k, k: 1, method: concat, options: {epochs: 1, stages: 1}}",
    "{name: wide, select: top_k, k: 2, method: concat}",
    "{name: plain, select: top_k, k: 2}",
]
STUDIES = ["{name: t, search: bilevel, epochs: 1}", "{name: u, search: optuna, trials: 3}"]


def test_the_keys_of_trained_soups_hold_the_number_of_threads(
    make_plan: Callable[..., Plan],
) -> None:
    lines = f"soups=[{', '.join(SOUPS)}]", f"tune=[{', '.join(STUDIES)}]"
    one, two = (make_plan(*lines, f"run.threads={threads}") for threads in (1, 2))

    soups = zip(one.soup_jobs(), two.soup_jobs(), strict=True)
    searches = zip(one.tuning_jobs(), two.tuning_jobs(), strict=True)

    changed = [a.name for a, b in (*soups, *searches) if a.key != b.key]
    assert changed == ["grown", "boosted", "t"]
    assert [job.threads for job in (*two.soup_jobs(), *two.tuning_jobs())] == [2] * 6


@pytest.mark.parametrize("soup", [SOUPS[0].replace("epochs: 1", "epochs: 1, templates: 2")])
def test_a_grown_soup_is_rebuilt_with_its_threads(
    make_plan: Callable[..., Plan], tmp_path: Path, soup: str
) -> None:
    job = make_plan(f"soups=[{soup}]", "run.threads=2").soup_jobs()[0]
    model = make_model(job, "cpu")
    (tmp_path / "again").mkdir()
    provenance = job.provenance(model)

    again = rebuild(provenance, job.root, tmp_path / "again", (), "cpu")

    assert provenance.threads == 2
    assert (again.digest, again.scores) == (model.digest, model.scores)


@pytest.mark.parametrize("soup", SOUPS[:2])
def test_nets_side_by_side_keep_the_zeros_of_pruned_ones_also_if_they_are_made_again(
    make_plan: Callable[..., Plan], tmp_path: Path, soup: str
) -> None:
    planned = make_plan(f"soups=[{soup}]").soup_jobs()[0]
    mask = magnitude_mask(load_tensors(planned.root / planned.base.path), 0.3)
    pruned = []
    for model in planned.ingredients:
        tensors = apply_mask(load_tensors(planned.root / model.path), mask)
        made = Store(planned.root).save("ingredient", f"cut-{model.key}", model.name, tensors, {})
        pruned.append(made.scored(model.scores))
    job = replace(planned, ingredients=tuple(pruned))

    model = make_model(job, "cpu")

    weight, own = load_tensors(job.root / model.path)["features.2.weight"], "features.2.weight"
    rows, columns = mask[own].shape[:2]
    for block in (weight[:rows, :columns], weight[rows:, columns:]):
        assert not block[~mask[own]].any()
    again = rebuild(job.provenance(model), job.root, tmp_path, (), "cpu")
    assert (again.digest, again.scores) == (model.digest, model.scores)
