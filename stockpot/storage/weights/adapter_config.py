"""`adapter_config.json` of a LoRA adapter, checked before any weight is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from re import Pattern
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from stockpot.errors import InputError
from stockpot.storage.weights.model_config import read_json_mapping

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

CONFIG = "adapter_config.json"

# With one of these fields, the change is not scaling * B A of modules of the base.
_UNSUPPORTED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
# Initialisations that subtract the initial B A from the base's weights.
_CHANGES_BASE = ("corda", "loftq", "lora_ga", "olora", "pissa")


class AdapterConfig(BaseModel):
    """The fields of a LoRA adapter's configuration that determine the meaning of its weights.

    Attributes:
        r: rank of modules that match no pattern.
        lora_alpha: alpha of modules that match no pattern.
        use_rslora: whether alpha is divided by the square root of the rank instead of the rank.
        fan_in_fan_out: whether the base stores weights as (in, out).
        use_dora: whether rows are rescaled to learnt norms.
        rank_pattern: ranks by regular expression, matched at the end of a module's name.
        alpha_pattern: alphas by the same kind of expression.
        modules_to_save: name suffixes of modules that are replaced whole.
        base: `base_model_name_or_path`; empty if not given.
        revision: of the base on the Hugging Face Hub; empty if not given.
        task_type: PEFT's task type.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    r: PositiveInt = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    use_dora: bool = False
    rank_pattern: dict[Pattern[str], PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[Pattern[str], float] = Field(default_factory=dict)
    modules_to_save: list[str] = Field(default_factory=list)
    base: str = Field("", alias="base_model_name_or_path")
    revision: str = ""
    task_type: str | None = None

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's factors."""
        return _first_match(self.rank_pattern, module, self.r)

    def scaling_of(self, module: str) -> float:
        """Return the factor on B A: alpha / r, with rsLoRA alpha / sqrt(r).

        Source: Hu et al. 2021, section 4.1; Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
        """
        alpha = _first_match(self.alpha_pattern, module, self.lora_alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def saves(self, module: str) -> bool:
        """Return whether a module is replaced whole."""
        return any(f".{name}." in f".{module}." for name in self.modules_to_save)


def _first_match(patterns: Mapping[Pattern[str], T], module: str, default: T) -> T:
    """Return the value of the first pattern that matches a module, by PEFT's rules."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern.pattern})$", module):
            return value
    return default


def read_config(path: Path) -> AdapterConfig:
    """Read an adapter's configuration, as PEFT writes it.

    Raises:
        InputError: it is not readable, of another kind than LoRA, or of a variant whose merged
            weights are not base + scaling * B A.
    """
    content = read_json_mapping(path)
    _check_supported(path, content)
    given = {field: value for field, value in content.items() if value is not None}
    try:
        return AdapterConfig.model_validate(given)
    except ValidationError as error:
        raise InputError("\n".join(_described(path, found) for found in error.errors())) from error


def _described(path: Path, found: ErrorDetails) -> str:
    field = ".".join(str(part) for part in found["loc"] if part != "[key]")
    rule = found["msg"].replace("Input should", "must").replace("dictionary", "mapping")
    return f"{path}: {field}: {rule}, got {found['input']!r}"


def config_for_peft(first: AdapterConfig, ranks: Mapping[str, int]) -> dict[str, Any]:
    """Return a configuration for PEFT with which all factors have scaling 1.

    Args:
        first: of one of the merged adapters, for the fields that describe the model.
        ranks: of the factors, by module.
    """
    rank = max(ranks.values())
    # Anchored, since PEFT matches patterns at the end of names.
    patterns = {f"^{re.escape(m)}": own for m, own in ranks.items() if own != rank}
    return {
        "alpha_pattern": patterns,
        "base_model_name_or_path": first.base or None,
        "bias": "none",
        "fan_in_fan_out": first.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": patterns,
        "revision": first.revision or None,
        "target_modules": sorted(ranks),
        "task_type": first.task_type,
        "use_dora": False,
        "use_rslora": False,
    }


def _check_supported(path: Path, content: Mapping[str, Any]) -> None:
    kind = content.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"{path}: peft_type must be 'LORA', got {kind!r}; use the full weights of the model"
        )
    used = [field for field in _UNSUPPORTED if content.get(field)]
    if used:
        raise InputError(f"{path}: {', '.join(used)}: not supported; merge it with PEFT")
    start = content.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGES_BASE):
        raise InputError(
            f"{path}: init_lora_weights is {start!r}, which has changed the base's weights; save "
            "it with PEFT's path_initial_model_for_weight_conversion, as plain LoRA"
        )
