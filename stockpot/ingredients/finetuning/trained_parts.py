"""Which tensors a run trains when: freezing by name, and the head before the rest (LP-FT).

LP-FT: Kumar et al. 2022, https://arxiv.org/abs/2202.10054.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters


@dataclass(frozen=True, slots=True)
class TrainedParts:
    """The tensors that are trained, by name.

    Attributes:
        frozen: parameters and buffers that stay as they are.
        trained: parameters that do not.
        head: those of `trained` that are trained in the first epochs, alone.
        probe_epochs: how many epochs these are.
    """

    frozen: frozenset[str]
    trained: frozenset[str]
    head: frozenset[str]
    probe_epochs: int

    @classmethod
    def of(cls, model: nn.Module, how: Hyperparameters) -> TrainedParts:
        """Find them in a model.

        Raises:
            InputError: a pattern fits no tensor, or nothing is left to train.
        """
        frozen = _fitting("frozen", how.frozen, model.state_dict())
        wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        trained = frozenset(wanted - frozen)
        head = trained & (_fitting("head", how.head, wanted) or _last_layer(model))
        if not trained:
            raise InputError(f"frozen: must leave weights to train, got {how.frozen!r}")
        if how.probe_epochs and not head:
            raise InputError(f"frozen: must not hold the head that is probed, got {how.frozen!r}")
        return cls(frozen, trained, head, how.probe_epochs)

    def begin_epoch(self, model: nn.Module, epoch: int) -> None:
        """Say to the model which of its parameters need a gradient, and set its mode.

        While the head is probed the net is in eval mode: its features are to stay the same. A
        BatchNorm layer of frozen statistics is in eval mode always.
        """
        is_probe = epoch < self.probe_epochs
        now = self.head if is_probe else self.trained
        for name, parameter in model.named_parameters():
            if name in self.trained or name in self.frozen:
                parameter.requires_grad_(name in now)
        model.train(not is_probe)
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm) and f"{name}.running_mean" in self.frozen:
                module.eval()


def _fitting(where: str, patterns: str, names: Iterable[str]) -> frozenset[str]:
    """Return the names that one of several patterns fits, as for files: `*`, `?`, `[0-3]`."""
    fitting: set[str] = set()
    for pattern in patterns.split():
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise InputError(
                f"{where}: each pattern must fit the name of a tensor, got {pattern!r}; "
                f"the model's are such as {sorted(names)[:3]}"
            )
        fitting |= found
    return frozenset(fitting)


def _last_layer(model: nn.Module) -> frozenset[str]:
    """Name the parameters of the last module that has some of its own."""
    named = [name for name, _ in model.named_parameters()]
    layer = named[-1].rpartition(".")[0]
    return frozenset(name for name in named if name.rpartition(".")[0] == layer)
