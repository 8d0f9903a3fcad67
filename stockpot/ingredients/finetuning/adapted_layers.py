"""The layers of a model that get an adapter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.input_directions import NEEDED_TIMES_RANK
from stockpot.ingredients.finetuning.trained_parts import TrainedParts, matching

Layers = Mapping[str, nn.Module]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layers_to_adapt(model: nn.Module, how: Hyperparameters) -> dict[str, nn.Module]:
    """Return the layers that get an adapter, by name, in the model's order.

    Without `adapter_targets` these are all linear layers and, for LoRA, DoRA and Tucker,
    convolutions, except the head, layers that `frozen` names, and layers with tied weights.

    Raises:
        InputError: a pattern matches no layer that supports the adapter, no layer is left, or the
            size of one does not fit the rank; or other hyperparameters exclude adapters.
    """
    _check_compatible(how)
    possible = {name: one for name, one in model.named_modules() if name and _supports(one, how)}
    uses = Counter(id(one) for _, one in model.named_parameters(remove_duplicate=False))
    possible = {name: one for name, one in possible.items() if uses[id(one.weight)] == 1}
    what = "a layer that supports the adapter"
    named = matching("adapter_targets", how.adapter_targets, possible, what)
    chosen = {name: layer for name, layer in possible.items() if name in named}
    chosen = chosen or _all_but_head(model, possible, how)
    if not chosen:
        raise InputError(
            f"adapter: {how.adapter!r} needs a layer that supports it, besides the head, got "
            f"{type(model).__name__} with none"
        )
    for name, layer in chosen.items():
        _check_rank(name, layer, how)
    return chosen


def _check_compatible(how: Hyperparameters) -> None:
    if how.probe_epochs:
        raise InputError(
            f"adapter: trains no head, got probe_epochs {how.probe_epochs}; probe in the base"
        )
    if how.ghost_batch:
        raise InputError(
            f"ghost_batch: must be 0 with an adapter, which leaves BatchNorm in eval mode, got "
            f"{how.ghost_batch}"
        )


def _supports(layer: nn.Module, how: Hyperparameters) -> bool:
    """Whether the adapter can be added to a layer, and merged.

    PEFT cannot for linear layers of nn.MultiheadAttention, which only reads their weights.
    """
    if isinstance(layer, nn.Linear):
        return not isinstance(layer, NonDynamicallyQuantizableLinear)
    if how.adapter == "tucker":
        return isinstance(layer, _ConvNd)
    has_factors = how.adapter not in ("bone", "miss") and how.adapter_init != "eva"
    return has_factors and isinstance(layer, _CONVOLUTIONS) and layer.groups == 1


def _all_but_head(model: nn.Module, possible: Layers, how: Hyperparameters) -> dict[str, nn.Module]:
    parts = TrainedParts.of(model, how)
    wanted = parts.trained - parts.head
    return {name: layer for name, layer in possible.items() if f"{name}.weight" in wanted}


def _check_rank(name: str, layer: nn.Module, how: Hyperparameters) -> None:
    """Refuse a rank for which a layer has too few inputs, or which does not divide its size."""
    if how.adapter == "bone" and isinstance(layer, nn.Linear):
        _check_divides(name, layer, how.adapter_rank)
    needed = {"eva": NEEDED_TIMES_RANK}.get(how.adapter_init, 1 if how.adapter == "miss" else 0)
    if not isinstance(layer, nn.Linear) or needed * how.adapter_rank <= layer.in_features:
        return
    if layer.in_features < needed:
        raise InputError(
            f"adapter_init: eva needs layers of at least {needed} inputs, got layer {name!r} of "
            f"{layer.in_features}; take default, or name other adapter_targets"
        )
    raise InputError(
        f"adapter_rank: must be at most {layer.in_features // needed} for layer {name!r}, which "
        f"has {layer.in_features} inputs, got {how.adapter_rank}; lower it, or name other "
        "adapter_targets"
    )


def _check_divides(name: str, layer: nn.Linear, rank: int) -> None:
    """Refuse a block size that does not divide a layer's inputs and outputs."""
    common = math.gcd(layer.in_features, layer.out_features)
    if common % rank:
        largest = max(size for size in range(1, rank + 1) if common % size == 0)
        raise InputError(
            f"adapter_rank: must divide inputs and outputs for bone, got {rank} for layer "
            f"{name!r} of {layer.in_features} inputs and {layer.out_features} outputs; take "
            f"{largest}, name other adapter_targets, or take adapter miss"
        )
