"""Sampling examples by the norms of their gradients (PA&DA: Lu et al. 2023).

https://arxiv.org/abs/2302.14772, whose other half samples paths of a supernet. With a probability
proportional to its norm, a gradient's estimate has the least variance (Katharopoulos & Fleuret
2018, https://arxiv.org/abs/1803.00942).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.data_pruning import el2n
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.mixup import MixedBatch
from stockpot.workloads.protocol import Workload


class GradientNormSampler:
    """Draws the examples of an epoch, with replacement, by the norms that were seen last.

    A norm is that of the gradient at the logits, which is EL2N, from the forward pass of the
    training itself. The first epoch is the plain one, in which each norm becomes known; one that
    is not drawn later keeps its norm, where the authors' code makes it 0. Their code does not
    weight losses either, and so trains on another, harder distribution: `gradient_norm_biased`.
    """

    def __init__(self, num_examples: int, how: Hyperparameters, device: str) -> None:
        self._how, self._device = how, device
        self._epoch = -1
        self._norms = torch.ones(num_examples, device=device)  # (N,), as they are now
        self._at_start = self._norms.clone()  # of the epoch, which is drawn from these
        self._shares = torch.ones(num_examples, device=device)  # (N,), 1 / (N p)

    @classmethod
    def of(
        cls, workload: Workload, num_examples: int, how: Hyperparameters, device: str
    ) -> GradientNormSampler | None:
        """Return the sampler of a run's hyperparameters; None for a plain one.

        Raises:
            InputError: the workload is no classification, so that there is no EL2N.
        """
        if how.sampler == "shuffle":
            return None
        if workload.task != "classification":
            raise InputError(
                f"sampler: {how.sampler} needs a workload whose task is classification, "
                f"got {workload.task!r}; set it to shuffle"
            )
        return cls(num_examples, how, device)

    def draw(self, epoch: int, generator: Generator) -> Tensor | None:
        """Draw the examples of an epoch; (N,), or None for all, shuffled.

        p = t g / sum(g) + (1 - t) / N, with the share t of `mix`.
        """
        if epoch != self._epoch:
            self._epoch, self._at_start = epoch, self._norms.clone()
        mix = self._mix(epoch)
        if mix == 0:
            self._shares = torch.ones_like(self._norms)
            return None
        p = probabilities(self._at_start.cpu(), mix)
        if self._how.sampler == "gradient_norm":
            self._shares = (1 / (len(p) * p)).float().to(self._device)
        places = torch.rand(len(p), generator=generator, dtype=torch.float64)
        cumulative = p.cumsum(dim=0)
        drawn = torch.searchsorted(cumulative, places * cumulative[-1], right=True)
        return drawn.clamp(max=len(p) - 1)  # a place next to 1 may be rounded to it

    def weighted(self, losses: Tensor, outputs: Tensor, batch: MixedBatch) -> Tensor:
        """Return losses (N,) whose mean is an unbiased estimate, and keep the norms of outputs.

        Where inputs are mixed, weight and norm are of each example itself, not of its partner.
        """
        rows = batch.rows
        assert rows is not None
        norms = el2n(outputs.detach(), batch.first[-1])
        # An example that was drawn twice into a batch has the larger norm of the two, always.
        self._norms[rows] = 0
        self._norms.scatter_reduce_(0, rows, norms, "amax")
        return losses * self._shares[rows]

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the norms, and what the epoch is drawn from."""
        epoch = torch.tensor(self._epoch)
        return {"norms": self._norms, "at_start": self._at_start, "epoch": epoch}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with these."""
        self._epoch = int(tensors["epoch"])
        self._norms, self._at_start = (
            tensors[name].to(self._device) for name in ("norms", "at_start")
        )

    def _mix(self, epoch: int) -> float:
        """Return the share of draws by norm, which the authors let rise along the run."""
        if epoch == 0:
            return 0.0
        return self._how.sampler_mix or epoch / (self._how.probe_epochs + self._how.epochs)


def probabilities(norms: Tensor, mix: float) -> Tensor:
    """Return how likely each example is drawn; (N,), float64.

    Args:
        norms: (N,), at least 0.
        mix: share of draws by norm, in [0, 1]; the rest is uniform.
    """
    wide = norms.double()
    uniform = torch.full_like(wide, 1 / len(wide))
    total = wide.sum()
    return mix * wide / total + (1 - mix) * uniform if total > 0 else uniform
