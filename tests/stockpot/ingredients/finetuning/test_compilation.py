"""Compiled steps: equal to eager ones up to rounding, deterministic, or an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import train_killed
from torch import Generator, Tensor, nn
from torch.nn.functional import dropout

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.compilation import compiled, compiling
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.workloads.digits import Digits

HOW = Hyperparameters(
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=2,
    batch_size=100,
    label_smoothing=0.0,
    mixup=0.0,
    augmentation=0.0,
    seed=7,
)
# torch's own, of what it imports to compile.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class DroppingNet(nn.Module):
    """One layer with dropout before it; counts the calls of its Python code."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.calls += 1
        outputs: Tensor = self.head(dropout(images.flatten(1), 0.2, self.training))
        return outputs


class DroppingDigits(Digits):
    """The digits, for that model; stores the latest."""

    net: DroppingNet

    def build_model(self, generator: Generator) -> nn.Module:
        self.net = DroppingNet()
        nn.init.normal_(self.net.head.weight, std=0.2, generator=generator)
        nn.init.zeros_(self.net.head.bias)
        return self.net


DIGITS = DroppingDigits(0, [], [])


def _train(**how: Any) -> dict[str, Tensor]:
    return dict(fine_tune(DIGITS, None, replace(HOW, **how), split="pretrain"))


# The tracing and differentiation of every backend, without the C++ compiler of `inductor`.
QUICK: Any = "aot_eager"


def test_a_compiled_run_has_the_weights_of_the_plain_one_and_runs_none_of_its_code() -> None:
    plain = _train(batch_size=64)
    calls = DIGITS.net.calls

    compiled_weights = _train(batch_size=64, compiler=QUICK)

    torch.testing.assert_close(compiled_weights, plain)
    assert (calls, DIGITS.net.calls) == (10, 0)


def test_a_killed_compiled_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    how = {"batch_size": 64, "compiler": QUICK, "probe_epochs": 1}

    resumed = train_killed(DIGITS, replace(HOW, **how), tmp_path)

    torch.testing.assert_close(resumed, _train(**how), rtol=0, atol=0)


def test_batches_of_many_shapes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockpot.ingredients.finetuning.compilation._MOST_GRAPHS", 3)

    class ManyShapes(DroppingDigits):
        """A workload with a different size of every batch."""

        size = 0

        def forward(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
            self.size += 1
            outputs: Tensor = model(batch[0][: self.size])
            return outputs.mean(dim=0).expand(len(batch[1]), -1)

    with pytest.raises(InputError, match="compiler: batches must have few shapes, got more than"):
        fine_tune(
            ManyShapes(0, [], []),
            None,
            replace(HOW, batch_size=10, compiler=QUICK),
            split="pretrain",
        )


def test_a_backend_that_fails_is_an_error_and_no_plain_run() -> None:
    def fails(*_: object) -> Any:
        raise OSError("no space")

    model = torch.compile(DroppingNet(), backend=fails)

    expected = "compiler: inductor must be able to compile the model, got .*no space"
    with pytest.raises(InputError, match=expected), compiling("inductor"):
        model(torch.zeros(2, 64))


def test_a_plain_model_is_called_as_it_is() -> None:
    model = nn.Linear(1, 1)

    assert compiled(model, "none") is model


@pytest.mark.slow
def test_the_c_compiler_gives_the_same_weights_and_bits_that_do_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    how = {"batch_size": 64, "compiler": "inductor"}

    first = _train(**how)

    torch.testing.assert_close(first, _train(batch_size=64))
    resumed = train_killed(DIGITS, replace(HOW, **how), tmp_path)  # type: ignore[arg-type]
    torch.testing.assert_close(resumed, first, rtol=0, atol=0)
