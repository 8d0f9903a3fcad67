"""A whole experiment evaluates no weights twice on any set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import pytest
from torch import Tensor, nn

from stockpot.experiment.plan import Plan
from stockpot.scoring import cached_passes
from stockpot.scoring.cached_passes import weights_digest
from stockpot.workloads.passes import Examples

PARAMS = """
base: {epochs: 1}
sweep:
  size: 3
  min_ingredients: 2
  space: {learning_rate: {log_uniform: [1.0e-3, 1.0e-2]}, epochs: 1}
soups:
  - {name: uniform, select: uniform}
  - {name: greedy, select: greedy}
  - {name: top 2, select: top_k, k: 2}
tune:
  - {name: tuned, trials: 3}
diagnose: [barriers, contributions, diversity]
evaluate: {bootstrap: 200, random_soups: 3}
"""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Return the number of passes by the digests of the weights and of the set."""
    passes: Counter[tuple[str, str]] = Counter()

    def count(run: Callable[..., object]) -> Callable[..., object]:
        def counting(examples: Examples, model: nn.Module, *others: object) -> object:
            inputs: Tensor = examples.map(lambda batch: batch[0])
            data = hashlib.sha256(inputs.contiguous().numpy().tobytes()).hexdigest()
            passes[weights_digest(model.state_dict()), data] += 1
            return run(examples, model, *others)

        return counting

    for name in ("outputs", "outputs_and_losses"):
        monkeypatch.setattr(Examples, name, count(getattr(Examples, name)))
    monkeypatch.setattr(cached_passes, "_WORTH_SECONDS", 0.0)
    return passes


@pytest.mark.full
def test_no_weights_are_evaluated_twice_on_a_set(
    counted: Counter[tuple[str, str]], finish_experiment: Callable[[str], Plan]
) -> None:
    finish_experiment(PARAMS)

    assert len(counted) > 40
    assert {passes: number for passes, number in counted.items() if number > 1} == {}
