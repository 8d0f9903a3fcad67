"""A sweep that looks at its soup, round by round."""

from __future__ import annotations

import pytest
from projects import ProjectFolder


@pytest.mark.full
def test_a_sweep_in_rounds_is_whole(served_project: ProjectFolder) -> None:
    served_project.change_params(sweep={"search": "soup", "size": 10})

    run = served_project.stockpot("sweep")

    assert run.code == 0, run.output
    ingredients = served_project.manifest("sweep")["ingredients"]
    assert [model["name"] for model in ingredients] == [f"ingredient-{n:02d}" for n in range(10)]
    assert len({model["digest"] for model in ingredients}) == 10
