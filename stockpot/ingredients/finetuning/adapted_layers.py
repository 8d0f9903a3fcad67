"""The layers of a model that get an adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.input_directions import NEEDED_TIMES_RANK
from stockpot.ingredients.finetuning.trained_parts import TrainedParts, matching

Layers = Mapping[str, nn.Module]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layers_to_adapt(model: nn.Module, how: Hyperparameters) -> dict[str, nn.Module]:
    """Return the layers that get an adapter, by name, in the model's order.

    Without `adapter_targets` these are all linear layers and, for LoRA and DoRA, convolutions,
    except the head, layers that `frozen` names, and layers with tied weights.

    Raises:
        InputError: a pattern matches no layer that supports the adapter, no layer is left, or one
            has fewer inputs than the adapter needs; or other hyperparameters exclude adapters.
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
    if how.adapter == "bone" and how.adapter_init != "default":
        raise InputError(
            f"adapter_init: must be 'default' for bone, which starts from zeros, got "
            f"{how.adapter_init!r}"
        )


def _supports(layer: nn.Module, how: Hyperparameters) -> bool:
    """Whether PEFT can add the adapter to a layer, and merge it.

    It cannot for linear layers of nn.MultiheadAttention, which only reads their weights.
    """
    if isinstance(layer, nn.Linear):
        return not isinstance(layer, NonDynamicallyQuantizableLinear)
    has_factors = how.adapter != "bone" and how.adapter_init != "eva"
    return has_factors and isinstance(layer, _CONVOLUTIONS) and layer.groups == 1


def _all_but_head(model: nn.Module, possible: Layers, how: Hyperparameters) -> dict[str, nn.Module]:
    parts = TrainedParts.of(model, how)
    wanted = parts.trained - parts.head
    return {name: layer for name, layer in possible.items() if f"{name}.weight" in wanted}


def _check_rank(name: str, layer: nn.Module, how: Hyperparameters) -> None:
    """Refuse a rank for which a layer has too few inputs."""
    needed = {"eva": NEEDED_TIMES_RANK}.get(how.adapter_init, 1 if how.adapter == "bone" else 0)
    if isinstance(layer, nn.Linear) and needed * how.adapter_rank > layer.in_features:
        raise InputError(
            f"adapter_rank: must be at most {layer.in_features // needed} for layer {name!r}, "
            f"which has {layer.in_features} inputs, got {how.adapter_rank}; lower it, or name "
            "other adapter_targets"
        )
