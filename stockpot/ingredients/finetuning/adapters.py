"""Adapters: few weights that change frozen layers, put in and merged by PEFT.

LoRA: Hu et al. 2021 (https://arxiv.org/abs/2106.09685). DoRA: Liu et al. 2024
(https://arxiv.org/abs/2402.09353). Bone: Kang 2024 (https://arxiv.org/abs/2409.15371), of which
PEFT has, as MiSS, the form that adds one block to all groups of a layer's inputs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.adapted_layers import Layers, layers_to_adapt
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.input_directions import main_directions
from stockpot.ingredients.finetuning.trained_parts import TrainedParts
from stockpot.seeding import derive_seed
from stockpot.workloads.protocol import Workload

_PREFIX = "base_model.model."  # PEFT's wrappers, before a module's name, in the files that it saves


@dataclass(frozen=True, slots=True)
class KeptAdapter:
    """An adapter as it is kept: LoRA factors, for every kind.

    Attributes:
        config: what PEFT's `adapter_config.json` says.
        tensors: by the names in PEFT's `adapter_model.safetensors`, on the CPU.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class TunedWeights(dict[str, Tensor]):
    """A model's state dict, on the CPU, and what it was made with.

    Attributes:
        adapter: None where the weights themselves were trained.
    """

    adapter: KeptAdapter | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in a model, whose adapted layers PEFT has wrapped.

    Attributes:
        model: with the adapter in it.
        config: PEFT's of the adapter as it is kept.
        names: those of the model's own tensors, by what they are called beside the adapter.
        trained: what is trained: the adapter alone. The head, biases and BatchNorm statistics
            stay as well, so that base and adapter are all of the result, and a head that a sweep
            shares goes on being shared.
    """

    model: nn.Module
    config: Any
    names: Mapping[str, str]
    trained: TrainedParts

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the model's own tensors after a state dict's adapter was merged into them."""
        net = copy.deepcopy(self.model)
        net.load_state_dict(weights)
        for layer in _wrapped(net).values():
            layer.merge()
        return {
            self.names[name]: tensor
            for name, tensor in net.state_dict().items()
            if name in self.names
        }

    def kept(self, weights: Mapping[str, Tensor]) -> KeptAdapter:
        """Return the adapter in a state dict, as PEFT saves it.

        That of Bone is written as the LoRA that it is: A stays a row of identities.
        """
        own = _peft().get_peft_model_state_dict(
            self.model, state_dict=dict(weights), save_embedding_layers=False
        )
        for name, layer in _wrapped(self.model).items():
            if (block := own.pop(f"{name}.miss_block", None)) is not None:  # (r, out)
                times = -(-layer.in_features // len(block))
                a = torch.eye(len(block)).repeat(1, times)[:, : layer.in_features]
                own |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": block.T}
        tensors = {_PREFIX + name: on_cpu(tensor) for name, tensor in own.items()}
        return KeptAdapter(self.config.to_dict() | {"inference_mode": True}, tensors)

    def result(self, weights: Mapping[str, Tensor]) -> TunedWeights:
        """Return what a run gives whose state dict this is."""
        tuned = TunedWeights((name, on_cpu(t)) for name, t in self.merged(weights).items())
        tuned.adapter = self.kept(weights)
        return tuned


def put_adapter_in(
    workload: Workload, model: nn.Module, data: Dataset[Any], how: Hyperparameters, device: str
) -> Adapter:
    """Put a new adapter into a model, which it changes nothing of yet.

    It draws from torch's global generator, after seeding it.

    Args:
        workload: runs the model, for EVA.
        model: on the device; its layers are wrapped in place.
        data: what it will be trained on.
        how: which adapter, and the seed.
        device: where the model is.

    Raises:
        InputError: PEFT is not installed, or the adapter does not fit the model.
    """
    peft = _peft()
    layers = layers_to_adapt(model, how)
    own_names = list(model.state_dict())
    starts: dict[str, Tensor] = {}
    if how.adapter_init == "eva":
        starts = main_directions(workload, model, data, device, how, layers)
        layers = {name: layer for name, layer in layers.items() if len(starts.get(name, ()))}
    lora = _lora_config(peft, how, layers, {name: len(starts[name]) for name in starts})
    torch.default_generator.manual_seed(derive_seed(how.seed, "adapter"))
    peft.inject_adapter_in_model(_bone_config(peft, lora) if how.adapter == "bone" else lora, model)
    with torch.no_grad():
        for name, layer in _wrapped(model).items():
            if name in starts:
                layer.lora_A["default"].weight.copy_(starts[name])
    names = {_beside(name, layers): name for name in own_names}
    new = frozenset(name for name, _ in model.named_parameters() if name not in names)
    return Adapter(model, lora, names, TrainedParts(frozenset(names), new, frozenset(), 0))


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise InputError(
            f"adapter: needs PEFT, which cannot be imported ({error}); "
            "run `pip install 'stockpot[text]'`"
        ) from error
    module: ModuleType = peft
    return module


def _lora_config(
    peft: ModuleType, how: Hyperparameters, layers: Layers, ranks: Mapping[str, int]
) -> Any:
    """Describe LoRA factors; those whose rank EVA has changed keep the scaling alpha / r."""
    rank = how.adapter_rank
    alpha = rank if how.adapter == "bone" else how.adapter_alpha
    own = {f"^{re.escape(n)}": r for n, r in ranks.items() if n in layers and r != rank}
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        rank_pattern=own,
        alpha_pattern={pattern: alpha * r / rank for pattern, r in own.items()},
        target_modules="|".join(re.escape(name) for name in layers),
        use_dora=how.adapter == "dora",
    )


def _bone_config(peft: ModuleType, lora: Any) -> Any:
    return peft.MissConfig(r=lora.r, target_modules=lora.target_modules)


def _beside(name: str, layers: Layers) -> str:
    """Return what a tensor of the model is called once its layer is wrapped."""
    module, _, kind = name.rpartition(".")
    return f"{module}.base_layer.{kind}" if module in layers else name


def _wrapped(model: nn.Module) -> dict[str, Any]:
    """Return the layers that PEFT has wrapped, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {
        name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }


def on_cpu(tensor: Tensor) -> Tensor:
    """Clone a tensor, since tied ones share storage, which a safetensors file may not."""
    return tensor.detach().cpu().clone()
