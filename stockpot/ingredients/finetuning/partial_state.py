"""The state of an unfinished fine-tuning run, on disk, from which a killed run resumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.name_prefixes import without_prefix
from stockpot.storage.checkpoints import load_tensors, read_metadata, save_checkpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an unfinished run.

    Attributes:
        step: number of steps done.
        first_loss: loss of the first step; None before that step, when nothing is saved.
    """

    step: int = 0
    first_loss: float | None = None


class Resumable(Protocol):
    """A part of a run that changes with each step, such as the model."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the state."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> object:
        """Restore the state, from which the run continues bit for bit."""
        ...


@dataclass(frozen=True, slots=True)
class PartialState:
    """The file that stores the state of an unfinished run.

    Attributes:
        path: a safetensors file for this run alone, written atomically.
        every_seconds: minimum time between two saves; 0 saves after every step.
    """

    path: Path
    every_seconds: float = 30.0

    def save(self, parts: Mapping[str, Resumable], progress: Progress, *, identity: str) -> None:
        """Save the parts and the progress of the run `identity`."""
        tensors = {
            f"{where}.{name}": tensor.detach().cpu().clone()
            for where, part in parts.items()
            for name, tensor in part.state_dict().items()
        }
        numbers = {name: repr(value) for name, value in asdict(progress).items()}
        save_checkpoint(self.path, tensors, {"identity": identity, **numbers})

    def restore(self, parts: Mapping[str, Resumable], *, identity: str) -> Progress:
        """Load the saved state if it belongs to the run `identity`; return its progress.

        If the file is missing, damaged or of another run, nothing is loaded and the run starts at
        step 0, which leads to the same weights.
        """
        if not self.path.exists():
            return Progress()
        try:
            metadata = read_metadata(self.path)
            tensors = load_tensors(self.path)
        except InputError as error:
            logger.warning("starting over: %s", error)
            return Progress()
        if metadata.get("identity") != identity:
            logger.warning("starting over: %s is of another run", self.path)
            return Progress()
        for where, part in parts.items():
            part.load_state_dict(without_prefix(f"{where}.", tensors))
        return Progress(int(metadata["step"]), float(metadata["first_loss"]))

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """The state of an optimizer as a resumable part of a run."""

    optimizer: Optimizer

    def state_dict(self) -> Mapping[str, Tensor]:
        """Name each tensor '<index of the parameter>.<key>'."""
        per_parameter = self.optimizer.state_dict()["state"]
        return {
            f"{index}.{key}": torch.as_tensor(value)
            for index, state in per_parameter.items()
            for key, value in state.items()
            if value is not None
        }

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state; learning rates are set at each step."""
        per_parameter: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state_dict.items():
            index, _, key = name.partition(".")
            per_parameter.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
