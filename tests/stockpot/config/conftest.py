from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockpot.config import Experiment, load_experiment
from stockpot.errors import InputError

SMALLEST = """
sweep:
  space: {learning_rate: 0.01}
soups:
  - {name: mean, select: uniform}
"""

Load = Callable[..., Experiment]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Read a params file with this text and these overrides."""

    def load_text(*overrides: str, text: str = SMALLEST) -> Experiment:
        path = tmp_path / "params.yaml"
        path.write_text(text)
        return load_experiment(path, overrides)

    return load_text


@pytest.fixture
def message(load: Load) -> Callable[..., str]:
    """Return the error message of a params file that is refused."""

    def message_of(*overrides: str, text: str = SMALLEST) -> str:
        with pytest.raises(InputError) as caught:
            load(*overrides, text=text)
        return str(caught.value)

    return message_of
