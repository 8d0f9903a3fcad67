"""Adapters: small trained weights that modify frozen layers, inserted and merged by PEFT.

LoRA: Hu et al. 2021 (https://arxiv.org/abs/2106.09685). DoRA: Liu et al. 2024
(https://arxiv.org/abs/2402.09353). Bone: Kang 2024 (https://arxiv.org/abs/2409.15371), the change
W B + B of each block of a weight W, which PEFT calls `bat`; and its cheaper form, MiSS, which adds
one block to all groups of a layer's inputs.
"""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Mapping, Sequence
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

_PREFIX = "base_model.model."  # PEFT's wrappers, before a module's name, in files that it saves


@dataclass(frozen=True, slots=True)
class SavedAdapter:
    """The tensors trained in place of weights, in the form in which they are saved.

    LoRA, DoRA and MiSS are saved as LoRA factors; Bone as PEFT's MiSS with `init_weights: bat`.

    Attributes:
        config: the content of `adapter_config.json`: PEFT's, except for Tucker and a subspace.
        tensors: by their names in PEFT's `adapter_model.safetensors`, on the CPU.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class TunedWeights(dict[str, Tensor]):
    """A model's state dict, on the CPU, and the adapter that was merged into it.

    Attributes:
        adapter: None if the weights themselves were trained.
        first_loss: the mean loss of the first step of the run; None if it had none.
        distances: numbers of steps, each with the distance from the start; see `DistanceRecord`.
    """

    adapter: SavedAdapter | None = None
    first_loss: float | None = None
    distances: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in a model whose adapted layers are wrapped by PEFT.

    Attributes:
        model: with the adapter in it.
        config: PEFT's config for the saved adapter.
        names: original names of the model's own tensors, by their names in the wrapped model.
        trained: the adapter alone. The head, biases and BatchNorm statistics stay frozen, so that
            base and adapter determine the result, and the ingredients of a sweep share the head.
    """

    model: nn.Module
    config: Any
    names: Mapping[str, str]
    trained: TrainedParts

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the model's own tensors with the adapter of a state dict merged into them."""
        net = copy.deepcopy(self.model)
        net.load_state_dict(weights)
        for layer in _wrapped_layers(net).values():
            layer.merge()
        state = net.state_dict()
        return {own: state[wrapped] for wrapped, own in self.names.items()}

    def saved(self, weights: Mapping[str, Tensor]) -> SavedAdapter:
        """Return the adapter in a state dict, as PEFT saves it.

        MiSS is written as the LoRA that it equals: A is a row of identity matrices. Bone's change
        depends on W and has no such form.
        """
        own = _peft().get_peft_model_state_dict(
            self.model, state_dict=dict(weights), save_embedding_layers=False
        )
        for name, layer in _wrapped_layers(self.model).items():
            block = own.get(f"{name}.miss_block")
            if block is not None and block.ndim == 2:  # (r, out); Bone's are (out / r, r, r)
                del own[f"{name}.miss_block"]
                times = -(-layer.in_features // len(block))
                a = torch.eye(len(block)).repeat(1, times)[:, : layer.in_features]
                own |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": block.T}
        tensors = {_PREFIX + name: on_cpu(tensor) for name, tensor in own.items()}
        return SavedAdapter(self.config.to_dict() | {"inference_mode": True}, tensors)


def insert_adapter(
    workload: Workload, model: nn.Module, data: Dataset[Any], how: Hyperparameters, device: str
) -> Adapter:
    """Insert a new adapter into a model; the outputs do not change yet.

    Seeds torch's global generator and draws from it.

    Args:
        workload: runs the model, for EVA.
        model: on the device; its layers are wrapped in place.
        data: the examples that it will be trained on.
        how: kind of adapter, and the seed.
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
    config = lora
    if how.adapter in ("bone", "miss"):
        start = "bat" if how.adapter == "bone" else True
        config = peft.MissConfig(r=lora.r, target_modules=lora.target_modules, init_weights=start)
    peft.inject_adapter_in_model(config, model)
    with torch.no_grad():
        for name, layer in _wrapped_layers(model).items():
            if name in starts:
                layer.lora_A["default"].weight.copy_(starts[name])
    names = {_wrapped_name(name, layers): name for name in own_names}
    new = frozenset(name for name, _ in model.named_parameters() if name not in names)
    saved = config if how.adapter == "bone" else lora
    return Adapter(model, saved, names, TrainedParts(frozenset(names), new, frozenset(), 0))


def _peft() -> ModuleType:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise InputError(
            f"adapter: needs PEFT, which cannot be imported ({error}); "
            "run `pip install 'stockpot[text]'`"
        ) from error


def _lora_config(
    peft: ModuleType, how: Hyperparameters, layers: Layers, ranks: Mapping[str, int]
) -> Any:
    """Return PEFT's config of LoRA; factors whose rank EVA has changed keep the scale alpha / r."""
    rank = how.adapter_rank
    alpha = rank if how.adapter == "miss" else how.adapter_alpha
    own = {f"^{re.escape(n)}": r for n, r in ranks.items() if n in layers and r != rank}
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        rank_pattern=own,
        alpha_pattern={pattern: alpha * r / rank for pattern, r in own.items()},
        target_modules="|".join(re.escape(name) for name in layers),
        use_dora=how.adapter == "dora",
    )


def _wrapped_name(name: str, layers: Layers) -> str:
    """Return the name of a model's tensor after its layer was wrapped."""
    module, _, kind = name.rpartition(".")
    return f"{module}.base_layer.{kind}" if module in layers else name


def _wrapped_layers(model: nn.Module) -> dict[str, Any]:
    """Return the layers that are wrapped by PEFT, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {
        name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }


def on_cpu(tensor: Tensor) -> Tensor:
    """Clone a tensor to the CPU; tied tensors share storage, which safetensors files forbid."""
    return tensor.detach().cpu().clone()
