"""The hyperparameters of a fine-tuning run, each defined once; imports no torch.

The fields of `sweep.space` and `base` in params.yaml, their checks and their JSON schema are
derived from the fields of `Hyperparameters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

Value: TypeAlias = float | str
"""The value of a hyperparameter: a number or a name."""

Compiler: TypeAlias = Literal["none", "inductor"]
Difficulty: TypeAlias = Literal["el2n", "grand"]


class Rules(dict[str, Any]):
    """Annotation: the range in params.yaml (`ge`, `gt`, `le`, `lt`) and the `default` there."""


class Base(Rules):
    """Annotation: `base` has this hyperparameter too, and what differs there."""


class BaseOnly(Base):
    """Annotation: `base` has this hyperparameter, `sweep.space` has not."""


_AtLeast0: TypeAlias = Annotated[float, Rules(ge=0)]
_Share: TypeAlias = Annotated[float, Rules(ge=0, le=1)]
_ShareBelow1: TypeAlias = Annotated[float, Rules(ge=0, lt=1)]
_PositiveShare: TypeAlias = Annotated[float, Rules(gt=0, le=1)]
_Count: TypeAlias = Annotated[int, Rules(ge=0)]
_PositiveCount: TypeAlias = Annotated[int, Rules(ge=1)]


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The hyperparameters of one run; ranges are checked where params.yaml is read.

    A field's annotation has its type, the range of numbers, and a description for the user. A field
    with a default is a technique: with its default, the technique is not used. A search draws in
    the order of the fields.
    """

    learning_rate: Annotated[
        float, Rules(gt=0, default=1e-3), "peak learning rate", Base(default=3e-3)
    ]
    weight_decay: Annotated[
        float,
        Rules(ge=0, default=0.0),
        "decoupled from the gradient for adamw and adamp",
        Base(default=0.01),
    ]
    epochs: Annotated[
        int,
        Rules(ge=1, default=10),
        "passes over the training examples",
        Base(
            ge=0,
            default=30,
            description="passes that train all weights; 0, with probe_epochs 0: the workload's "
            "model as it is built",
        ),
    ]
    batch_size: Annotated[int, Rules(ge=1, default=32), "examples per step", Base()]
    label_smoothing: Annotated[
        float,
        Rules(ge=0, lt=1, default=0.0),
        "share of each target that is spread evenly over all classes",
        Base(),
    ]
    mixup: Annotated[
        float, Rules(ge=0, default=0.0), "alpha of the Beta distribution of mixup; 0: off", Base()
    ]
    augmentation: Annotated[
        float,
        Rules(ge=0, le=1, default=0.0),
        "strength of the workload's augmentation; 0: off",
        Base(),
    ]
    seed: Annotated[
        int,
        Rules(ge=0, lt=2**32, default=None),
        "of the order of examples, augmentation, mixup and initial weights; null: one per "
        "ingredient, from the experiment's seed and the ingredient's number",
    ]
    optimizer: Annotated[
        Literal["adamw", "sgd", "adamp"], "algorithm that updates the weights", Base()
    ] = "adamw"
    momentum: Annotated[_ShareBelow1, "of optimizer: sgd", Base()] = 0.9
    schedule: Annotated[
        Literal["constant", "linear", "cosine", "one_cycle", "cosine_power"],
        "of the learning rate, after the warmup",
        Base(),
    ] = "constant"
    warmup: Annotated[
        _ShareBelow1, "share of the steps during which the learning rate rises", Base()
    ] = 0.1
    schedule_power: Annotated[
        float, Rules(ge=1), "of schedule: cosine_power; 1 is the cosine, larger powers fall sooner"
    ] = 10.0
    clip_norm: Annotated[_AtLeast0, "maximum norm of the gradient; 0: no limit", Base()] = 0.0
    accumulation: Annotated[
        _PositiveCount, "parts that each batch is split into, to save memory"
    ] = 1
    precision: Annotated[Literal["float32", "bf16", "fp16"], "of the forward pass", Base()] = (
        "float32"
    )
    layer_decay: Annotated[
        _PositiveShare, "factor on the learning rate from each layer to the one before it"
    ] = 1.0
    frozen: Annotated[
        str,
        "name patterns, separated by spaces, of tensors that are not trained, e.g. 'features.*'",
        Base(),
    ] = ""
    probe_epochs: Annotated[
        _Count,
        "epochs before the others that train the head alone; all ingredients share it",
        BaseOnly(),
    ] = 0
    head: Annotated[str, "name patterns of the head's tensors; '': the last layer", BaseOnly()] = ""
    average: Annotated[
        Literal["none", "ema", "swa", "lawa"],
        "average of the weights along the run that becomes the ingredient",
    ] = "none"
    ema_momentum: Annotated[_Share, "of average: ema"] = 0.999
    swa_start: Annotated[
        _ShareBelow1, "share of the run before average: swa takes its first weights"
    ] = 0.75
    lawa_epochs: Annotated[
        _PositiveCount,
        "latest epochs that average: lawa averages; as many copies of the weights are in memory",
    ] = 6
    sam_radius: Annotated[
        _AtLeast0, "rho of sharpness-aware minimisation, at twice the cost per step; 0: off"
    ] = 0.0
    patience: Annotated[
        _Count,
        "epochs without a better val score after which the run ends with its best weights; 0: off",
    ] = 0
    cutmix: Annotated[_AtLeast0, "alpha of the Beta distribution of CutMix, for images; 0: off"] = (
        0.0
    )
    adapter: Annotated[
        Literal["none", "lora", "dora", "bone"],
        "trained in place of the weights, then merged into them; needs PEFT",
    ] = "none"
    adapter_rank: Annotated[
        _PositiveCount, "rank of the adapter's factors, or size of Bone's blocks"
    ] = 8
    adapter_alpha: Annotated[
        float,
        Rules(gt=0),
        "of lora and dora: the product of the factors is multiplied by alpha / rank",
    ] = 8.0
    adapter_init: Annotated[
        Literal["default", "eva"],
        "initial factors; eva: the principal directions of the layers' inputs",
    ] = "default"
    adapter_targets: Annotated[
        str, "name patterns of layers, e.g. '*.query *.value'; '': all layers except the head"
    ] = ""
    ghost_batch: Annotated[
        _Count, "examples that BatchNorm normalises together; 0: the whole batch"
    ] = 0
    reference_batch: Annotated[
        _Count,
        "batch size that learning_rate and epochs are meant for; both are rescaled for "
        "batch_size, so that the number of steps stays the same; 0: off",
    ] = 0
    sampler: Annotated[
        Literal["shuffle", "gradient_norm", "gradient_norm_biased"],
        "how an epoch draws its examples",
    ] = "shuffle"
    sampler_mix: Annotated[
        _Share, "share of the draws by gradient norm; 0: rises from 0 to 1 along the run"
    ] = 0.0
    kept_data: Annotated[
        _PositiveShare, "share of train to train on: the examples that are hardest for the base"
    ] = 1.0
    dropped_data: Annotated[
        _ShareBelow1, "share of train, harder still, that is left out as probably mislabelled"
    ] = 0.0
    difficulty: Annotated[Difficulty, "score by which kept_data and dropped_data rank examples"] = (
        "el2n"
    )
    sparsity: Annotated[
        _ShareBelow1, "share of the weights, the smallest of the base, that stay 0 throughout"
    ] = 0.0
    compiler: Annotated[Compiler, "inductor: torch.compile, which pays off in long runs"] = "none"

    @classmethod
    def from_point(cls, point: Mapping[str, Value]) -> Hyperparameters:
        """Build them from values by name; in YAML, 10 and 10.0 are the same number."""
        kinds = {name: kind for name, kind in get_type_hints(cls).items() if kind in (int, float)}
        return cls(**{name: kinds.get(name, str)(value) for name, value in point.items()})

    @property
    def prunes_data(self) -> bool:
        """Whether a run leaves out some of the split's examples."""
        return self.kept_data < 1 or self.dropped_data > 0

    def described(self) -> dict[str, Value]:
        """Return the values that are recorded and hashed: all except those of unused techniques."""
        values = asdict(self).items()
        return {name: value for name, value in values if TECHNIQUES.get(name) != value}


TECHNIQUES: Mapping[str, Value] = {
    field.name: field.default for field in fields(Hyperparameters) if field.default is not MISSING
}
"""The hyperparameters that have a default, with that default."""


def with_common_names(described: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """Add to each run's description the techniques that any of the runs uses, for a table."""
    names = dict.fromkeys(name for one in described for name in one)
    used = {name: TECHNIQUES[name] for name in names if name in TECHNIQUES}
    return [
        {name: one.get(name, used.get(name, "")) for name in names if name in used or name in one}
        for one in described
    ]
