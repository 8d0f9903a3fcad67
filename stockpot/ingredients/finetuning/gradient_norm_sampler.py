"""Sampling examples by the norms of their gradients (PA&DA: Lu et al. 2023).

https://arxiv.org/abs/2302.14772, without its sampling of paths in a supernet. Probabilities that
are proportional to the norms minimise the variance of the gradient's estimate (Katharopoulos &
Fleuret 2018, https://arxiv.org/abs/1803.00942).
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
    """Draws the examples of an epoch, with replacement, by their latest gradient norms.

    The norm is that of the gradient at the logits, which is EL2N, from the training's own forward
    passes. The first epoch is shuffled and yields each example's norm. We differ from the authors'
    code in two points: an example that is not drawn keeps its norm (theirs sets it to 0), and
    losses are weighted, without which the training distribution is another, harder one; that
    variant is `gradient_norm_biased`.
    """

    def __init__(
        self, workload: Workload, num_examples: int, how: Hyperparameters, device: str
    ) -> None:
        """Start with equal norms for N examples.

        Raises:
            InputError: the workload is no classification, for which EL2N is defined.
        """
        if workload.task != "classification":
            raise InputError(
                f"sampler: {how.sampler} needs a workload whose task is classification, "
                f"got {workload.task!r}; set it to shuffle"
            )
        self._how, self._device = how, device
        self._epoch = -1
        self._norms = torch.ones(num_examples, device=device)  # (N,), latest
        self._at_start = self._norms.clone()  # (N,), at the start of the epoch, drawn from
        self._shares = torch.ones(num_examples, device=device)  # (N,), 1 / (N p)

    def draw(self, epoch: int, generator: Generator) -> Tensor | None:
        """Draw the examples of an epoch; (N,), or None for all, shuffled.

        p = t g / sum(g) + (1 - t) / N, where t is the share of draws by norm.
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
        return drawn.clamp(max=len(p) - 1)  # a place close to 1 may be rounded up

    def weighted(self, losses: Tensor, outputs: Tensor, batch: MixedBatch) -> Tensor:
        """Return losses (N,) whose mean is an unbiased estimate, and store the outputs' norms.

        For mixed inputs, weight and norm belong to each example itself, not to its partner.
        """
        rows = batch.rows
        assert rows is not None
        norms = el2n(outputs.detach(), batch.first[-1])
        # For an example that a batch has twice, always the larger norm.
        self._norms[rows] = 0
        self._norms.scatter_reduce_(0, rows, norms, "amax")
        return losses * self._shares[rows]

    def weigh(self, rows: Tensor) -> None:
        """Weigh some examples as draws of the last epoch do on average, by their latest norms.

        Without bias the weights of losses make up for the draws, so all examples count alike.
        """
        if self._how.sampler == "gradient_norm_biased":
            p = probabilities(self._norms[rows].cpu(), self._mix(self._how.epochs - 1))
            self._shares[rows] = (len(p) * p).float().to(self._device)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the state: the latest norms, and those that the epoch is drawn from."""
        epoch = torch.tensor(self._epoch)
        return {"norms": self._norms, "at_start": self._at_start, "epoch": epoch}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state."""
        self._epoch = int(state_dict["epoch"])
        self._norms = state_dict["norms"].to(self._device)
        self._at_start = state_dict["at_start"].to(self._device)

    def _mix(self, epoch: int) -> float:
        """Return the share of draws by norm; in the paper it rises along the run."""
        if epoch == 0:
            return 0.0
        return self._how.sampler_mix or epoch / (self._how.probe_epochs + self._how.epochs)


def build_sampler(
    workload: Workload, num_examples: int, how: Hyperparameters, device: str
) -> GradientNormSampler | None:
    """Return the sampler of a run, as for `GradientNormSampler`; None if each epoch is shuffled."""
    if how.sampler == "shuffle":
        return None
    return GradientNormSampler(workload, num_examples, how, device)


def probabilities(norms: Tensor, mix: float) -> Tensor:
    """Return the probability of drawing each example; (N,), float64.

    Args:
        norms: (N,), at least 0.
        mix: share of draws by norm, in [0, 1]; the rest is uniform.
    """
    wide = norms.double()
    uniform = torch.full_like(wide, 1 / len(wide))
    total = wide.sum()
    return mix * wide / total + (1 - mix) * uniform if total > 0 else uniform
