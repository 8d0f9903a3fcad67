"""The settings in the documentation are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from stockpot.config import load_experiment
from stockpot.errors import InputError

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "methods.md"
_SETTINGS = re.findall(r"^```yaml\n(.*?)^```", _PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


# Sections that an example does not show.
_OTHERS = {
    "sweep": {"space": {"learning_rate": 0.001, "epochs": 1}},
    "soups": [{"name": "uniform", "select": "uniform"}],
}


def _load(folder: Path, settings: str) -> None:
    path = folder / "params.yaml"
    path.write_text(settings)
    load_experiment(path)


@pytest.mark.parametrize("settings", _SETTINGS)
def test_settings_in_the_docs_are_valid(tmp_path: Path, settings: str) -> None:
    given = yaml.safe_load(settings)
    sweep = {"sweep": _OTHERS["sweep"] | given.get("sweep", {})}  # type: ignore[operator]

    _load(tmp_path, yaml.safe_dump(_OTHERS | given | sweep))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("kept_data: 0", r"kept_data: must be in \(0, 1\], got 0"),
        ("dropped_data: 1", r"dropped_data: must be in \[0, 1\), got 1"),
        ("sparsity: {uniform: [0.5, 1]}", r"sparsity: must be in \[0, 1\), got 0.5 to 1"),
        ("sampler_mix: -0.1", r"sampler_mix: must be in \[0, 1\], got -0.1"),
        ("ghost_batch: 1.5", "ghost_batch: must be whole numbers, got 1.5"),
        ("reference_batch: -1", r"reference_batch: must be in \[0, inf\), got -1"),
        ("sampler: shuffled", "sampler"),
        ("difficulty: {choice: [el2n, loss]}", "difficulty"),
        ("compiler: gcc", "compiler"),
    ],
)
def test_techniques_have_ranges_and_names(tmp_path: Path, space: str, expected: str) -> None:
    settings = f"sweep: {{space: {{{space}}}}}\nsoups: [{{name: a, select: uniform}}]\n"

    with pytest.raises(InputError, match=expected):
        _load(tmp_path, settings)
