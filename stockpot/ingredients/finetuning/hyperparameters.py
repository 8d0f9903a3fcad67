"""The hyperparameters of a fine-tuning run, each defined once; imports no torch.

The fields of `sweep.space` and `base` in params.yaml, their checks and their JSON schema are
derived from the fields of `Hyperparameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Annotated, Literal, TypeAlias, get_type_hints

from stockpot.ingredients.finetuning.field_rules import (
    AtLeast0,
    Base,
    BaseOnly,
    Count,
    PositiveCount,
    PositiveShare,
    Rules,
    Share,
    ShareBelow1,
)

Value: TypeAlias = float | str
"""The value of a hyperparameter: a number or a name."""

Compiler: TypeAlias = Literal["none", "inductor"]
Difficulty: TypeAlias = Literal["el2n", "grand"]
SubspaceKind: TypeAlias = Literal["fastfood", "dense", "sparse"]
AnchorLoss: TypeAlias = Literal["kl", "distil", "l2", "bandit", "dpo"]


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
        "decoupled from the gradient for adamw, adamp and sgdp",
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
            "initial model",
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
        Literal["adamw", "sgd", "adamp", "sgdp"], "algorithm that updates the weights", Base()
    ] = "adamw"
    momentum: Annotated[ShareBelow1, "of optimizer: sgd and sgdp", Base()] = 0.9
    nesterov: Annotated[
        int, Rules(ge=0, le=1), "1: steps of sgd, adamp and sgdp look ahead by the gradient", Base()
    ] = 0
    delta: Annotated[
        AtLeast0, "of adamp and sgdp: threshold of scale-invariance; 0: no weight is", Base()
    ] = 0.1
    wd_ratio: Annotated[
        Share, "of adamp and sgdp: factor on the weight decay of scale-invariant weights", Base()
    ] = 0.1
    schedule: Annotated[
        Literal["constant", "linear", "cosine", "one_cycle", "cosine_power"],
        "of the learning rate, after the warmup",
        Base(),
    ] = "constant"
    warmup: Annotated[
        ShareBelow1, "share of the steps during which the learning rate rises", Base()
    ] = 0.1
    schedule_power: Annotated[
        float, Rules(ge=1), "of schedule: cosine_power; 1 is the cosine, larger powers fall sooner"
    ] = 10.0
    min_lr: Annotated[AtLeast0, "learning rate at the end of schedule: cosine_power"] = 0.0
    clip_norm: Annotated[AtLeast0, "maximum norm of the gradient; 0: no limit", Base()] = 0.0
    accumulation: Annotated[
        PositiveCount, "parts that each batch is split into, to save memory"
    ] = 1
    precision: Annotated[Literal["float32", "bf16", "fp16"], "of the forward pass", Base()] = (
        "float32"
    )
    layer_decay: Annotated[
        PositiveShare, "factor on the learning rate from each layer to the one before it"
    ] = 1.0
    frozen: Annotated[
        str,
        "name patterns, separated by spaces, of tensors that are not trained, e.g. 'features.*'",
        Base(),
    ] = ""
    probe_epochs: Annotated[
        Count,
        "epochs before the others that train the head alone; all ingredients share it",
        BaseOnly(),
    ] = 0
    head: Annotated[str, "name patterns of the head's tensors; '': the last layer", BaseOnly()] = ""
    average: Annotated[
        Literal["none", "ema", "swa", "lawa"],
        "average of the weights along the run that becomes the ingredient",
    ] = "none"
    ema_momentum: Annotated[Share, "of average: ema"] = 0.999
    swa_start: Annotated[
        ShareBelow1, "share of the run before average: swa takes its first weights"
    ] = 0.75
    lawa_epochs: Annotated[
        PositiveCount,
        "latest epochs that average: lawa averages; as many copies of the weights are in memory",
    ] = 6
    average_start: Annotated[
        int,
        Rules(ge=0, le=1),
        "1: the initial weights are the first sample of average: ema or swa",
    ] = 0
    sam_radius: Annotated[
        AtLeast0, "rho of sharpness-aware minimisation, at twice the cost per step; 0: off"
    ] = 0.0
    patience: Annotated[
        Count,
        "epochs without a better val score after which the run ends with its best weights; 0: off",
    ] = 0
    cutmix: Annotated[AtLeast0, "alpha of the Beta distribution of CutMix, for images; 0: off"] = (
        0.0
    )
    adapter: Annotated[
        Literal["none", "lora", "dora", "bone", "miss", "tucker"],
        "trained in place of the weights, then merged into them; all but tucker need PEFT",
    ] = "none"
    adapter_rank: Annotated[
        PositiveCount, "rank of the adapter's factors, or size of the blocks of bone and miss"
    ] = 8
    adapter_alpha: Annotated[
        float,
        Rules(gt=0),
        "of lora, dora and tucker: the product of the factors is multiplied by alpha / rank",
    ] = 8.0
    adapter_init: Annotated[
        Literal["default", "eva"],
        "initial factors; eva: the principal directions of the layers' inputs",
    ] = "default"
    adapter_targets: Annotated[
        str, "name patterns of layers, e.g. '*.query *.value'; '': all layers except the head"
    ] = ""
    ghost_batch: Annotated[
        Count, "examples that BatchNorm normalises together; 0: the whole batch"
    ] = 0
    reference_batch: Annotated[
        Count,
        "batch size that learning_rate and epochs are meant for; both are rescaled for "
        "batch_size, so that the number of steps stays the same; 0: off",
    ] = 0
    sampler: Annotated[
        Literal["shuffle", "gradient_norm", "gradient_norm_biased"],
        "how an epoch draws its examples",
    ] = "shuffle"
    sampler_mix: Annotated[
        Share, "share of the draws by gradient norm; 0: rises from 0 to 1 along the run"
    ] = 0.0
    kept_data: Annotated[
        PositiveShare, "share of train to train on: the examples that are hardest for the base"
    ] = 1.0
    dropped_data: Annotated[
        ShareBelow1, "share of train, harder still, that is left out as probably mislabelled"
    ] = 0.0
    difficulty: Annotated[Difficulty, "score by which kept_data and dropped_data rank examples"] = (
        "el2n"
    )
    sparsity: Annotated[
        ShareBelow1, "share of the weights, the smallest of the base, that are 0 from the start"
    ] = 0.0
    sparsity_update_every: Annotated[
        Count, "steps between exchanges of weights that are 0 for others; 0: the same throughout"
    ] = 0
    sparsity_drop: Annotated[
        Share, "share of the remaining weights, the smallest, to exchange; falls to 0 by a cosine"
    ] = 0.3
    sparsity_grow: Annotated[
        Literal["gradient", "random"], "weights that replace them: by largest gradient, or any"
    ] = "gradient"
    shards: Annotated[PositiveCount, "parts of train, in its order; a run trains on one"] = 1
    shard: Annotated[PositiveCount, "number of the part to train on, from 1 to shards"] = 1
    subspace: Annotated[
        Count, "dimensions of a random subspace that the weights move in; 0: all of their own"
    ] = 0
    subspace_kind: Annotated[SubspaceKind, "how its directions are drawn; fastfood: any size"] = (
        "fastfood"
    )
    subspace_seed: Annotated[
        Count, "of the directions; ingredients with the same one share their subspace"
    ] = 0
    compander: Annotated[
        AtLeast0, "slope at 0 of the function that computes weights, such as 1.2; 0: off"
    ] = 0.0
    bag_size: Annotated[
        PositiveCount, "examples of which only the mean target is used; 1: each has its own"
    ] = 1
    rho: Annotated[Share, "of bag_size: weight of the loss of examples against that of bags"] = 0.0
    pretrain: Annotated[
        Literal["none", "barlow_twins"],
        "training of all but the head on the images of pretrain and train, without their labels",
        BaseOnly(),
    ] = "none"
    pretrain_epochs: Annotated[PositiveCount, "passes over these images", BaseOnly()] = 60
    pretrain_mix: Annotated[
        AtLeast0, "weight of mixed images; 0: plain Barlow Twins", BaseOnly()
    ] = 1.0
    pretrain_lambda: Annotated[
        float, Rules(gt=0), "weight of correlations between features", BaseOnly()
    ] = 0.005
    pretrain_width: Annotated[PositiveCount, "units of the projector's layers", BaseOnly()] = 64
    pretrain_augmentation: Annotated[
        PositiveShare, "strength of the augmentation that makes the views", BaseOnly()
    ] = 1.0
    compiler: Annotated[Compiler, "inductor: torch.compile, which pays off in long runs"] = "none"
    anchor: Annotated[
        Literal["none", "base", "soup"],
        "what the run is held near: the base, or the soup of sweep.reference",
    ] = "none"
    anchor_loss: Annotated[
        AnchorLoss,
        "kl and distil: divergence of outputs from the anchor's; l2: squared distance of weights; "
        "bandit: expected reward less kl, for a classifier; dpo: for pairs of responses",
    ] = "kl"
    anchor_weight: Annotated[
        AtLeast0, "factor on the divergence or distance from the anchor; of dpo: its beta"
    ] = 0.1
    anchor_temperature: Annotated[float, Rules(gt=0), "of anchor_loss: distil"] = 2.0
    anchor_data: Annotated[
        Literal["train", "pretrain", "reference"],
        "inputs on which outputs are compared: the batch itself, or others, whose targets are not "
        "used; reference: a further split of a workload of your own",
    ] = "train"
    start_l2: Annotated[
        AtLeast0, "weight of the squared distance from the weights that the run starts from"
    ] = 0.0
    average_every: Annotated[PositiveCount, "steps between samples of average: swa"] = 1
    templates: Annotated[
        Count,
        "templates of which layers with weights of one shape are mixtures; 0: layers share none",
        Base(),
    ] = 0
    corruption: Annotated[
        str, "corruption of the inputs of each batch, such as the shift noise; none: as they are"
    ] = "none"

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
