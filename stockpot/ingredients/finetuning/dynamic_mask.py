"""Dynamic sparse training: a mask that moves during a run, at a constant density.

Every few steps some of the remaining weights, the smallest, are set to 0, and as many others are
trained in their place, from 0: those with the largest gradients (RigL, Evci et al. 2020,
https://arxiv.org/abs/1911.11134) or random ones (SET, Mocanu et al. 2018,
https://arxiv.org/abs/1707.04780). Wang et al. 2024 (https://arxiv.org/abs/2402.02855) train
recommenders this way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.sparse_training import zero_smallest
from stockpot.merging.sparse_masks import Mask
from stockpot.seeding import seeded_generator

_END = 0.75  # share of a run after which the mask stays, as in RigL: new weights need some steps


class DynamicMask:
    """The masks of a model's trained weights, each with as many entries as at the start.

    It masks the gradients, so that a weight of 0 outside the mask stays exactly 0, also in the
    first pass of sharpness-aware minimisation.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, how: Hyperparameters, total: int
    ) -> None:
        """Set the model's smallest weights to 0, and mask the gradients of the trained ones.

        Args:
            model: on its device; weights that need no gradient keep their zeros throughout.
            optimizer: of the model.
            how: has the sparsity, how the mask moves, and the seed of random choices.
            total: number of steps of the run.

        Raises:
            InputError: as for `zero_smallest`.
        """
        self._optimizer, self._how, self._end = optimizer, how, _END * total
        mask = zero_smallest(model, how.sparsity)
        trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._weights = {name: one for name, one in trained.items() if name in mask}
        self._mask: Mask = {name: mask[name] for name in self._weights}
        self._dense: dict[str, Tensor] = {}  # gradients of the current step, without a mask
        for name, weight in self._weights.items():
            weight.register_hook(partial(self._masked, name))  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the mask after step `step` (from 0), if it is due.

        What leaves or enters the mask is 0, and so are its moments in the optimizer.
        """
        dense, self._dense = self._dense, {}
        share = self._share(step + 1)
        if not share:
            return
        draws = seeded_generator(self._how.seed, "mask", step)
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue  # in an epoch that trains the head alone
            if self._how.sparsity_grow == "random":
                scores = torch.rand(weight.shape, generator=draws).to(weight.device)
            else:  # which is infinite where fp16 overflows
                scores = dense[name].abs().nan_to_num(nan=0, posinf=0)
            before = self._mask[name]
            self._mask[name] = exchanged(before, weight, scores, share)
            outside = ~(before & self._mask[name])
            state = self._optimizer.state.get(weight, {})
            for tensor in (weight, *state.values()):
                if isinstance(tensor, Tensor) and tensor.shape == weight.shape:
                    tensor.masked_fill_(outside, 0)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the masks, by name of the weight."""
        return self._mask

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the masks."""
        self._mask = {n: state_dict[n].to(weight.device) for n, weight in self._weights.items()}

    def _share(self, steps_done: int) -> float:
        """Return the share of weights to exchange after some steps; 0 if no update is due.

        Source: RigL, section 3: f(t) = alpha / 2 (1 + cos(pi t / T)).
        """
        if steps_done % self._how.sparsity_update_every or steps_done >= self._end:
            return 0.0
        return self._how.sparsity_drop / 2 * (1 + math.cos(math.pi * steps_done / self._end))

    def _masked(self, name: str, gradient: Tensor) -> Tensor:
        """Return a gradient with 0 outside the mask; store all of it for the choice of weights."""
        if self._how.sparsity_grow == "gradient":
            # The gradient of a step may come in parts; the first one finds none in the weight.
            is_first = self._weights[name].grad is None or name not in self._dense
            self._dense[name] = gradient if is_first else self._dense[name] + gradient
        return gradient.where(self._mask[name], 0)


def build_dynamic_mask(
    model: nn.Module, optimizer: Optimizer, how: Hyperparameters, total: int
) -> DynamicMask | None:
    """Return the mask of a run, as for `DynamicMask`; None if it has none, or a fixed one."""
    if not (how.sparsity and how.sparsity_update_every):
        return None
    return DynamicMask(model, optimizer, how, total)


def exchanged(mask: Tensor, weight: Tensor, scores: Tensor, share: float) -> Tensor:
    """Return a mask in which the smallest weights are exchanged for others.

    Args:
        mask: of one tensor, bool; its number of entries is that of the result.
        weight: the tensor; outside the mask it is 0.
        scores: of at least 0, in the same shape; the largest outside the mask enter it.
        share: of the mask's entries, in [0, 1], rounded; at most as many as are outside.

    Of equal weights and scores, the lowest flat indices are chosen. An entry that leaves does not
    return at once, other than in RigL's code, so each update changes that share.
    """
    inside = mask.flatten()
    num_inside = int(inside.sum())
    count = min(round(share * num_inside), len(inside) - num_inside)
    magnitudes = weight.detach().abs().flatten().where(inside, torch.inf)
    result = inside.clone()
    result[magnitudes.argsort(stable=True)[:count]] = False
    outside = scores.flatten().where(~inside, -torch.inf)
    result[outside.argsort(descending=True, stable=True)[:count]] = True
    return result.view_as(mask)
