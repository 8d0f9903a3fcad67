"""Models whose tensors are computed from other tensors, which are trained in their place.

The tensors of a model are computed by torch's parametrizations. At the end the computed tensors
become those of the plain model, so an ingredient is merged and loaded as usual.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.utils import parametrize

from stockpot.ingredients.finetuning.adapters import SavedAdapter, on_cpu
from stockpot.ingredients.finetuning.trained_parts import TrainedParts


class Reparametrisation(Protocol):
    """A model whose trained tensors are not its own, such as one with an adapter."""

    @property
    def trained(self) -> TrainedParts:
        """The tensors that are trained, by their names in the changed model."""
        ...

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the plain model's tensors for a state dict of the changed model."""
        ...

    def saved(self, weights: Mapping[str, Tensor]) -> SavedAdapter | None:
        """Return what is saved next to the plain model's tensors."""
        ...


@dataclass(frozen=True, slots=True)
class ComputedTensors:
    """A model some of whose tensors are computed by torch's parametrizations.

    Attributes:
        model: the changed model.
        names: names in the plain model, in its order, by the names in the changed one.
        trained: the tensors that are trained, by their names in the changed model.
        config: describes what is saved next to the plain tensors; empty to save nothing.
        kept: names of the tensors that are saved, in the changed model, by the names to save.
    """

    model: nn.Module
    names: Mapping[str, str]
    trained: TrainedParts
    config: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the plain model's tensors for a state dict of the changed model."""
        net = copy.deepcopy(self.model)
        net.load_state_dict(weights)
        return {own: _value(net, own, weights, name).detach() for name, own in self.names.items()}

    def saved(self, weights: Mapping[str, Tensor]) -> SavedAdapter | None:
        """Return the trained tensors themselves, if they are saved."""
        if not self.config:
            return None
        tensors = {name: on_cpu(weights[changed]) for name, changed in self.kept.items()}
        return SavedAdapter(self.config, tensors)


def compute(
    model: nn.Module, wanted: Mapping[str, Callable[[Tensor], nn.Module]]
) -> dict[str, str]:
    """Register parametrizations of parameters, in place.

    Args:
        model: its tied parameters stay tied.
        wanted: builds the parametrization of a parameter, by the parameter's name.

    Returns:
        The names of the plain model's tensors by their names in the changed model, in the plain
        model's order.
    """
    own_names = list(model.state_dict())
    parameters = dict(model.named_parameters())
    built = {id(parameters[name]): build(parameters[name]) for name, build in wanted.items()}
    for module, name, parameter in list(_owned(model)):
        if id(parameter) in built:
            parametrize.register_parametrization(module, name, built[id(parameter)])
    return {_changed_name(model, name): name for name in own_names}


def computed(model: nn.Module, names: Mapping[str, str], parts: TrainedParts) -> ComputedTensors:
    """Return a model after `compute`, in which its new parameters are trained too.

    Args:
        model: the changed model.
        names: as returned by `compute`.
        parts: the plain model's.
    """
    changed = {own: name for name, own in names.items()}
    new = {name for name, _ in model.named_parameters() if name not in names}
    frozen, trained, head = (
        frozenset(changed[name] for name in own)
        for own in (parts.frozen, parts.trained, parts.head)
    )
    trained_now = TrainedParts(frozen, trained | new, head, parts.probe_epochs)
    return ComputedTensors(model, names, trained_now)


def _owned(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Yield each module with each of its own parameters; a tied one comes once per module."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield module, name, parameter


def _changed_name(model: nn.Module, name: str) -> str:
    """Return the name of a plain model's tensor in the model with parametrizations."""
    path, _, tensor = name.rpartition(".")
    module = model.get_submodule(path)
    if not parametrize.is_parametrized(module, tensor):
        return name
    return f"{path}.parametrizations.{tensor}.original".lstrip(".")


def _value(net: nn.Module, own: str, weights: Mapping[str, Tensor], changed: str) -> Tensor:
    """Return the computed value of a plain model's tensor."""
    path, _, tensor = own.rpartition(".")
    if changed == own:
        return weights[own]
    value: Tensor = getattr(net.get_submodule(path), tensor)
    return value
