"""What one fine-tuning run can be told; importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

Value: TypeAlias = float | str
"""A hyperparameter's: a number, or a name."""

Optimizer: TypeAlias = Literal["adamw", "sgd", "adamp"]
Schedule: TypeAlias = Literal["constant", "linear", "cosine", "one_cycle", "cosine_power"]
Precision: TypeAlias = Literal["float32", "bf16", "fp16"]
Average: TypeAlias = Literal["none", "ema", "swa", "lawa"]
Sampler: TypeAlias = Literal["shuffle", "gradient_norm", "gradient_norm_biased"]
Difficulty: TypeAlias = Literal["el2n", "grand"]
Compiler: TypeAlias = Literal["none", "inductor"]
Adapter: TypeAlias = Literal["none", "lora", "dora", "bone"]
AdapterInit: TypeAlias = Literal["default", "eva"]

_KINDS = {"int": int, "float": float}


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The hyperparameters of one run; their ranges are checked where they are read.

    Those with a default are techniques, which the default leaves out.

    Attributes:
        learning_rate: the highest of the run, above 0.
        weight_decay: decoupled for `adamw` and `adamp`, at least 0.
        epochs: passes over the split with all weights, at least 0.
        batch_size: examples a step, at least 1; an epoch's last batch may be smaller.
        label_smoothing: share of each target spread over all classes, in [0, 1).
        mixup: parameter of the Beta distribution of mixup, at least 0; 0 is no mixup.
        augmentation: strength of the workload's augmentation, in [0, 1]; 0 is none.
        seed: fixes the order of examples, augmentation, mixup and any first weights.
        optimizer: what turns gradients into steps.
        momentum: of `sgd`, in [0, 1).
        schedule: how the learning rate goes on after the warmup.
        warmup: share of the steps in which the learning rate rises, in [0, 1).
        schedule_power: p of `cosine_power`, at least 1.
        clip_norm: gradients longer than this are made as long, at least 0; 0 leaves all.
        accumulation: parts that a batch is passed in, at least 1.
        precision: of the forward pass; weights and steps are of the weights' own.
        layer_decay: factor on the learning rate from a layer to the one before, in (0, 1].
        frozen: patterns of names of tensors that stay as they are, with spaces between.
        probe_epochs: passes before the others, of the head alone, at least 0.
        head: patterns of the names of the head's tensors; none is the last layer.
        average: which average of the weights along the run is its result.
        ema_momentum: of `ema`, in [0, 1].
        swa_start: share of the run before the first weights of `swa`, in [0, 1).
        lawa_epochs: how many of the latest epochs' ends `lawa` averages, at least 1.
        sam_radius: distance at which sharpness-aware steps look, at least 0; 0 is plain.
        patience: epochs without a better score on val after which the run ends with the best
            weights; 0 never looks.
        cutmix: parameter of the Beta distribution of CutMix, at least 0; 0 is no CutMix.
        ghost_batch: examples that BatchNorm normalises together, at least 0; 0 is the batch.
        reference_batch: batch size that the learning rate and the epochs are meant for, at least
            0; 0 is `batch_size`.
        sampler: which examples an epoch draws.
        sampler_mix: share of draws by gradient norm, in [0, 1]; 0 lets it rise along the run.
        kept_data: share of the split that is trained on, the hardest, in (0, 1].
        dropped_data: share of the split that is left out as too hard, in [0, 1).
        difficulty: what `kept_data` and `dropped_data` rank examples by.
        sparsity: share of the weights that are 0 throughout, in [0, 1).
        compiler: what the model is compiled by.
        adapter: what is trained in place of the weights, and merged into them at the end.
        adapter_rank: r of its factors, or of Bone's block, at least 1.
        adapter_alpha: of LoRA and DoRA, above 0; the factors' product counts alpha / r times.
        adapter_init: what the factor A starts as; `eva` is the inputs' main directions.
        adapter_targets: patterns of names of layers; none is all that can have it but the head.
    """

    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    label_smoothing: float
    mixup: float
    augmentation: float
    seed: int
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    schedule: Schedule = "constant"
    warmup: float = 0.1
    schedule_power: float = 10.0
    clip_norm: float = 0.0
    accumulation: int = 1
    precision: Precision = "float32"
    layer_decay: float = 1.0
    frozen: str = ""
    probe_epochs: int = 0
    head: str = ""
    average: Average = "none"
    ema_momentum: float = 0.999
    swa_start: float = 0.75
    lawa_epochs: int = 6
    sam_radius: float = 0.0
    patience: int = 0
    cutmix: float = 0.0
    ghost_batch: int = 0
    reference_batch: int = 0
    sampler: Sampler = "shuffle"
    sampler_mix: float = 0.0
    kept_data: float = 1.0
    dropped_data: float = 0.0
    difficulty: Difficulty = "el2n"
    sparsity: float = 0.0
    compiler: Compiler = "none"
    adapter: Adapter = "none"
    adapter_rank: int = 8
    adapter_alpha: float = 8.0
    adapter_init: AdapterInit = "default"
    adapter_targets: str = ""

    @classmethod
    def from_point(cls, point: Mapping[str, Value]) -> Hyperparameters:
        """Make them from values by name, of which YAML does not tell 10 from 10.0."""
        kinds = {field.name: _KINDS.get(str(field.type), str) for field in fields(cls)}
        values: dict[str, Any] = {name: kinds[name](value) for name, value in point.items()}
        return cls(**values)

    @property
    def prunes_data(self) -> bool:
        """Whether a run leaves out some of the split's examples."""
        return self.kept_data < 1 or self.dropped_data > 0

    def described(self) -> dict[str, Value]:
        """Return what is recorded and hashed: all, but for techniques that are left out."""
        everything: dict[str, Value] = asdict(self)
        return {
            name: value
            for name, value in everything.items()
            if name not in TECHNIQUES or value != TECHNIQUES[name]
        }


TECHNIQUES: Mapping[str, Value] = {
    field.name: field.default for field in fields(Hyperparameters) if field.default is not MISSING
}
"""The hyperparameters that a run need not be told, with what they are then."""


def alike(described: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """Give each of several runs' descriptions the names that any of them has, for a table."""
    names = dict.fromkeys(name for one in described for name in one)
    used = {name: TECHNIQUES[name] for name in names if name in TECHNIQUES}
    return [
        {name: one.get(name, used.get(name, "")) for name in names if name in used or name in one}
        for one in described
    ]
