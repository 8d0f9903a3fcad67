"""The search space of a sweep: a distribution, or a constant, per hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import Field, field_validator, model_validator

from stockpot.config.distributions import (
    AdapterField,
    AdapterInitField,
    AverageField,
    CompilerField,
    DifficultyField,
    HyperparameterField,
    OptimizerField,
    PatternsField,
    PrecisionField,
    SamplerField,
    ScheduleField,
    as_distribution,
)
from stockpot.errors import unknown_name
from stockpot.ingredients.finetuning.hyperparameters import (
    TECHNIQUES,
    Adapter,
    AdapterInit,
    Average,
    Compiler,
    Difficulty,
    Optimizer,
    Precision,
    Sampler,
    Schedule,
    Value,
)
from stockpot.ingredients.points import Choice, Constant, Distribution, Names, Numbers, Point
from stockpot.yaml_files import Section


class SpaceSection(Section):
    """What the sweep draws each ingredient's hyperparameters from."""

    learning_rate: HyperparameterField = 1e-3
    weight_decay: HyperparameterField = 0.0
    epochs: HyperparameterField = 10
    batch_size: HyperparameterField = 32
    label_smoothing: HyperparameterField = 0.0
    mixup: HyperparameterField = Field(0.0, description="alpha of the Beta distribution; 0 is off")
    augmentation: HyperparameterField = Field(0.0, description="strength in [0, 1]")
    seed: HyperparameterField | None = Field(
        None, description="null: the ingredient's own, from the experiment's seed and its number"
    )
    optimizer: OptimizerField = "adamw"
    momentum: HyperparameterField = Field(0.9, description="of sgd")
    schedule: ScheduleField = Field("constant", description="of the learning rate, after warmup")
    warmup: HyperparameterField = Field(
        0.1, description="share of the steps in which the learning rate rises"
    )
    schedule_power: HyperparameterField = Field(
        10.0, description="of cosine_power; 1 is the cosine, more falls sooner"
    )
    clip_norm: HyperparameterField = Field(0.0, description="longest gradient; 0 is any")
    accumulation: HyperparameterField = Field(
        1, description="parts that a batch is passed in, to save memory"
    )
    precision: PrecisionField = Field("float32", description="of the forward pass")
    layer_decay: HyperparameterField = Field(
        1.0, description="factor on the learning rate from each layer to the one before it"
    )
    frozen: PatternsField = Field(
        "",
        description="patterns of tensors' names that stay as the base has them, e.g. 'features.*'",
    )
    average: AverageField = Field(
        "none", description="of the weights along a run; the ingredient is that average"
    )
    ema_momentum: HyperparameterField = Field(0.999, description="of average: ema")
    swa_start: HyperparameterField = Field(
        0.75, description="share of the run before the first weights of average: swa"
    )
    lawa_epochs: HyperparameterField = Field(
        6, description="epochs' ends that average: lawa holds, as many copies of the weights"
    )
    sam_radius: HyperparameterField = Field(
        0.0, description="of sharpness-aware steps, at twice the cost; 0 is off"
    )
    patience: HyperparameterField = Field(
        0, description="epochs without a better val after which a run ends, with its best; 0 is off"
    )
    cutmix: HyperparameterField = Field(
        0.0, description="alpha of the Beta distribution, for images; 0 is off"
    )
    adapter: AdapterField = Field(
        "none", description="trained in place of the weights, then merged into them; by PEFT"
    )
    adapter_rank: HyperparameterField = Field(8, description="of an adapter's change of a layer")
    adapter_alpha: HyperparameterField = Field(
        8.0, description="of lora and dora; their factors' product is multiplied by alpha / rank"
    )
    adapter_init: AdapterInitField = Field(
        "default", description="eva: in the main directions of the layers' inputs"
    )
    adapter_targets: PatternsField = Field(
        "",
        description="patterns of layers' names, e.g. '*.query *.value'; '': all but the head",
    )
    ghost_batch: HyperparameterField = Field(
        0, description="examples that BatchNorm normalises together; 0 is the batch"
    )
    reference_batch: HyperparameterField = Field(
        0,
        description="batch size that learning_rate and epochs are meant for; both are changed for "
        "batch_size, so that there are as many steps; 0 changes nothing",
    )
    sampler: SamplerField = Field("shuffle", description="which examples an epoch draws")
    sampler_mix: HyperparameterField = Field(
        0.0, description="share of draws by gradient norm; 0 lets it rise from 0 to 1 along a run"
    )
    kept_data: HyperparameterField = Field(
        1.0, description="share of train that is trained on: the hardest for the base"
    )
    dropped_data: HyperparameterField = Field(
        0.0, description="share of train, harder still, that is left out as mislabelled"
    )
    difficulty: DifficultyField = Field(
        "el2n", description="what kept_data and dropped_data rank examples by"
    )
    sparsity: HyperparameterField = Field(
        0.0, description="share of the weights, the base's smallest, that are 0 throughout"
    )
    compiler: CompilerField = Field("none", description="inductor: torch.compile, for long runs")

    @model_validator(mode="before")
    @classmethod
    def _something_is_searched(cls, content: Any) -> Any:
        if content == {}:
            raise ValueError("is empty; name at least one hyperparameter")
        return content

    @field_validator("*")
    @classmethod
    def _values_are_possible(cls, field: Any, info: Any) -> Any:
        distribution = None if field is None else as_distribution(field)
        if distribution is not None and not isinstance(distribution, (Names, Constant)):
            _check_range(info.field_name, distribution)
        return field

    @staticmethod
    def checked_point(point: Mapping[str, Value]) -> Point:
        """Return hyperparameters as numbers and names, of which none has an impossible value."""
        return {name: _checked(name, value) for name, value in point.items()}

    def distributions(self) -> dict[str, Distribution]:
        """Return a plain distribution per hyperparameter.

        A constant number among those that every run has is a choice of one, a dimension of the
        search: where it becomes an interval, the others keep their values. A constant technique
        is none, so that a space that does not name it draws what it drew before there was one.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: Constant(value)
            if name in TECHNIQUES and isinstance(value, (int, float))
            else as_distribution(value)
            for name, value in fields.items()
            if value is not None
        }


# (bracket, lowest, highest, bracket, whole numbers only)
_RANGES: dict[str, tuple[str, float, float, str, bool]] = {
    "learning_rate": ("(", 0, math.inf, ")", False),
    "weight_decay": ("[", 0, math.inf, ")", False),
    "epochs": ("[", 1, math.inf, ")", True),
    "batch_size": ("[", 1, math.inf, ")", True),
    "label_smoothing": ("[", 0, 1, ")", False),
    "mixup": ("[", 0, math.inf, ")", False),
    "augmentation": ("[", 0, 1, "]", False),
    "seed": ("[", 0, 2**32, ")", True),
    "momentum": ("[", 0, 1, ")", False),
    "warmup": ("[", 0, 1, ")", False),
    "schedule_power": ("[", 1, math.inf, ")", False),
    "clip_norm": ("[", 0, math.inf, ")", False),
    "accumulation": ("[", 1, math.inf, ")", True),
    "layer_decay": ("(", 0, 1, "]", False),
    "ema_momentum": ("[", 0, 1, "]", False),
    "swa_start": ("[", 0, 1, ")", False),
    "lawa_epochs": ("[", 1, math.inf, ")", True),
    "sam_radius": ("[", 0, math.inf, ")", False),
    "patience": ("[", 0, math.inf, ")", True),
    "cutmix": ("[", 0, math.inf, ")", False),
    "adapter_rank": ("[", 1, math.inf, ")", True),
    "adapter_alpha": ("(", 0, math.inf, ")", False),
    "ghost_batch": ("[", 0, math.inf, ")", True),
    "reference_batch": ("[", 0, math.inf, ")", True),
    "sampler_mix": ("[", 0, 1, "]", False),
    "kept_data": ("(", 0, 1, "]", False),
    "dropped_data": ("[", 0, 1, ")", False),
    "sparsity": ("[", 0, 1, ")", False),
}
_NAMES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
    "average": get_args(Average),
    "adapter": get_args(Adapter),
    "adapter_init": get_args(AdapterInit),
    "sampler": get_args(Sampler),
    "difficulty": get_args(Difficulty),
    "compiler": get_args(Compiler),
}


def _checked(name: str, value: Value) -> Value:
    """Return a value as the kind that its hyperparameter has, if it is possible.

    Raises:
        ValueError: it is not.
    """
    if name in _NAMES and value not in _NAMES[name]:
        raise unknown_name(name, str(value), _NAMES[name])
    if name not in _RANGES:
        return value
    try:
        number = float(value)
        _check_range(name, Choice((number,)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return number


def _check_range(name: str, distribution: Numbers) -> None:
    """Refuse a distribution that holds a value the hyperparameter cannot have."""
    opening, lowest, highest, closing, whole = _RANGES[name]
    low, high = distribution.bounds()
    found = f"got {low:g}" if low == high else f"got {low:g} to {high:g}"
    above = low > lowest if opening == "(" else low >= lowest
    below = high < highest if closing == ")" else high <= highest
    if not (above and below):
        raise ValueError(f"must be in {opening}{lowest:g}, {highest:g}{closing}, {found}")
    if whole and not distribution.is_whole():
        raise ValueError(f"must be whole numbers, {found}; use integer or choice")
