"""The tensors that a run trains: freezing by name, and the head before the rest (LP-FT).

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
    """Names of the tensors that are trained.

    Attributes:
        frozen: parameters and buffers that never change.
        trained: the other parameters.
        head: the subset of `trained` that the first epochs train alone.
        probe_epochs: number of these epochs.
    """

    frozen: frozenset[str]
    trained: frozenset[str]
    head: frozenset[str]
    probe_epochs: int

    @classmethod
    def of(cls, model: nn.Module, how: Hyperparameters) -> TrainedParts:
        """Select the tensors of a model.

        Raises:
            InputError: a pattern matches no tensor, or nothing is left to train.
        """
        frozen = matching("frozen", how.frozen, model.state_dict())
        wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        trained = frozenset(wanted - frozen)
        head = trained & (matching("head", how.head, wanted) or _last_layer(model))
        if not trained:
            raise InputError(f"frozen: must leave weights to train, got {how.frozen!r}")
        if how.probe_epochs and not head:
            raise InputError(f"frozen: must not hold the head that is probed, got {how.frozen!r}")
        return cls(frozen, trained, head, how.probe_epochs)

    def begin_epoch(self, model: nn.Module, epoch: int) -> None:
        """Set which parameters need a gradient, and the model's mode, for an epoch.

        While the head is probed, the model is in eval mode, so that its features stay the same. A
        BatchNorm layer with frozen statistics is always in eval mode.
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


def matching(
    where: str, patterns: str, names: Iterable[str], what: str = "a tensor"
) -> frozenset[str]:
    """Return the names that match one of the patterns, as for files: `*`, `?`, `[0-3]`.

    Args:
        where: the hyperparameter with the patterns.
        patterns: separated by spaces.
        names: of tensors or layers of the model.
        what: what has these names, for the message.

    Raises:
        InputError: a pattern matches none.
    """
    for pattern in patterns.split():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"{where}: each pattern must match the name of {what}, got {pattern!r}; "
                f"some of the model's names: {sorted(names)[:3]}"
            )
    return frozenset(
        name for name in names if any(fnmatchcase(name, one) for one in patterns.split())
    )


def _last_layer(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters of the last module that has parameters itself."""
    named = [name for name, _ in model.named_parameters()]
    layer = named[-1].rpartition(".")[0]
    return frozenset(name for name in named if name.rpartition(".")[0] == layer)
