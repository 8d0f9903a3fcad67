"""EVA: adapters initialised with the principal directions of their layers' inputs.

Paischer et al. 2024, https://arxiv.org/abs/2410.07170; as PEFT computes it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import TokenDataset, num_examples, take
from stockpot.workloads.protocol import Batch, Workload

# PEFT lets ranks grow to twice the rank, and computes them by a random projection of twice that.
NEEDED_TIMES_RANK = 4
_BATCH_SIZE = 64
_MOST_BATCHES = 1000  # PEFT iterates until directions converge; those without variance never do


def main_directions(
    workload: Workload,
    model: nn.Module,
    data: Dataset[Any],
    device: str,
    how: Hyperparameters,
    layers: Collection[str],
) -> dict[str, Tensor]:
    """Return the first factor A of each adapted layer; (rank, inputs), of orthonormal rows.

    Rows are the leading right-singular vectors of the layer's centred inputs, in eval mode and
    without padding. Batches are added until the directions converge (cosine 0.99). Ranks are
    redistributed: among the directions of all layers, those that explain the largest share of
    their layer's variance remain, as many as all ranks together. A layer may get none; one that is
    never called is left out.

    Args:
        workload: runs the model.
        model: without an adapter; it is left in eval mode.
        data: the training split, not augmented.
        device: of the model.
        how: has the rank, and the seed of the order of examples.
        layers: names of the adapted layers, all linear.

    Raises:
        InputError: the examples are too few, or the directions do not converge.
    """
    from peft import EvaConfig, LoraConfig, get_eva_state_dict

    batches = _full_batches(num_examples(data), how)
    passes = itertools.count(1)

    def examples(indices: Tensor) -> Batch:
        return tuple(tensor.to(device) for tensor in take(data, indices))

    def forward(net: nn.Module, indices: Tensor) -> None:
        if next(passes) > _MOST_BATCHES:
            raise _not_converged(how.adapter_rank)
        workload.forward(net, examples(indices))

    def mask(indices: Tensor, _config: Any) -> Tensor | None:
        return examples(indices)[1] if isinstance(data, TokenDataset) else None

    called = _called(model.eval(), layers, partial(forward, model, batches[0]))
    config = LoraConfig(
        r=how.adapter_rank,
        target_modules="|".join(re.escape(name) for name in called),
        init_lora_weights="eva",
        eva_config=EvaConfig(),
    )
    directions: dict[str, Tensor] = get_eva_state_dict(
        model,
        batches,
        config,
        forward_fn=forward,
        prepare_model_inputs_fn=mask,
        prepare_layer_inputs_fn=_rows,
        show_progress_bar=False,
    )
    return {name: directions[name].float() for name in called}


def _not_converged(rank: int) -> InputError:
    return InputError(
        f"adapter_rank: the inputs' principal directions have not converged after "
        f"{_MOST_BATCHES} batches, got {rank}; lower it"
    )


def _full_batches(count: int, how: Hyperparameters) -> list[Tensor]:
    """Return the rows of batches of equal size, in random order; the remaining rows are left out.

    Raises:
        InputError: there are too few rows for one batch.
    """
    least = NEEDED_TIMES_RANK * how.adapter_rank
    size = min(count, max(_BATCH_SIZE, least))
    if size < least:
        raise InputError(
            f"adapter_rank: EVA needs {NEEDED_TIMES_RANK} times as many examples, got {size} for "
            f"{how.adapter_rank}"
        )
    order = torch.randperm(count, generator=seeded_generator(how.seed, "EVA"))
    return [part for part in torch.split(order, size) if len(part) == size]


def _called(model: nn.Module, layers: Collection[str], run: Callable[[], None]) -> list[str]:
    """Return the layers that a forward pass calls; an unused pooler, for example, is not."""
    called: set[str] = set()
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name in layers
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return [name for name in layers if name in called]


def _rows(inputs: Any, mask: Tensor | None, _layer: str) -> Tensor:
    """Return a layer's inputs as rows, (rows, inputs); padding of texts is left out."""
    tensor: Tensor = inputs if isinstance(inputs, Tensor) else inputs[0]
    if mask is not None and tensor.ndim == 3:  # (N, T, inputs), with T as long as the batch needs
        tensor = tensor[mask[:, : tensor.shape[1]].bool()]
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()
