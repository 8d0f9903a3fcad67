"""The field `sweep.rounds` of params.yaml: clients train in rounds, and how they are merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from stockpot.config.custom_choices import accept_options, section_by_name
from stockpot.config.hyperparameter_fields import offered_fields, with_fields
from stockpot.ingredients.finetuning.hyperparameters import TECHNIQUES, Value
from stockpot.soups.rounds.registry import ROUND_RULES
from stockpot.soups.rounds.rule import RoundRule
from stockpot.yaml_files import Name, Section

_DEFAULT = next(iter(ROUND_RULES))
_OFFERED = offered_fields("space")
# Techniques along a whole run (averages, stopping, schedules) do not fit a few local steps.
_OF_CLIENTS = (
    "learning_rate",
    "weight_decay",
    "batch_size",
    "label_smoothing",
    "mixup",
    "cutmix",
    "augmentation",
    "optimizer",
    "momentum",
    "clip_norm",
    "accumulation",
    "precision",
    "frozen",
    "sam_radius",
    "ghost_batch",
)
_DEFAULTS: Mapping[str, Value] = {"learning_rate": 0.1, "optimizer": "sgd", "momentum": 0.0}
# Plain SGD, whose steps are the learning rate times the corrected gradient.
_PLAIN: Mapping[str, Value] = {
    "optimizer": "sgd",
    "momentum": 0,
    "weight_decay": 0,
    "clip_norm": 0,
    "sam_radius": 0,
    "precision": "float32",  # fp16 skips steps
}


@with_fields(
    {n: replace(_OFFERED[n], default=_DEFAULTS.get(n, _OFFERED[n].default)) for n in _OF_CLIENTS},
    lambda field: field.value_type,
)
class ClientSection(Section):
    """Hyperparameters of the clients' local steps; the learning rate is constant."""


class RoundsRecipe(Section):
    """An ingredient that is made in rounds: clients train, their models are merged, repeat."""

    name: Name = Field(description="the ingredient is called rounds-<name>")
    rule: str
    rounds: int = Field(20, ge=1, description="number of merges")
    clients: int = Field(8, ge=1, description="shards of train, one per client")
    shards: Literal["dirichlet", "iid"] = Field(
        "dirichlet",
        description="dirichlet: each class is divided unevenly; iid, and for every task without "
        "classes: at random, in equal sizes",
    )
    concentration: float = Field(
        0.5, gt=0, description="of shards: dirichlet; with small values a client has few classes"
    )
    participation: (
        Annotated[float, Field(ge=0, le=1)] | list[Annotated[float, Field(ge=0, le=1)]]
    ) = Field(1.0, description="probability that a client takes part in a round, or one per client")
    local_steps: int = Field(5, ge=1, description="steps of each participant per round")
    start: Literal["base", "random"] = Field(
        "base", description="random: new initial weights; for gossip, others for each client"
    )
    client: ClientSection = ClientSection()

    @property
    def settings(self) -> dict[str, Any]:
        """The rule's options."""
        return {name: getattr(self, name) for name in ROUND_RULES[self.rule].options}

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of each client."""
        given = self.participation
        return tuple(given) if isinstance(given, list) else (given,) * self.clients

    def build(self) -> RoundRule:
        """Return the rule.

        Raises:
            ValueError: an option is out of its range.
        """
        return ROUND_RULES[self.rule].build(**self.settings)

    def point(self) -> dict[str, Value]:
        """Return the hyperparameters of the clients, except for the seed."""
        values: dict[str, Value] = self.client.model_dump()
        plain = {"epochs": 1, "warmup": 0.0}
        return {**{n: v for n, v in values.items() if TECHNIQUES.get(n) != v}, **plain}

    def check(self) -> None:
        """Check what no field alone can show.

        Raises:
            ValueError: fields do not fit together.
        """
        if len(self.probabilities) != self.clients:
            raise ValueError(
                f"participation must be one number, or one per client ({self.clients}), "
                f"got {len(self.probabilities)}"
            )
        if not any(self.probabilities):
            raise ValueError("participation must be above 0 for a client, got 0 for all")
        if not self.build().needs_sgd:
            return
        for name, needed in _PLAIN.items():
            if getattr(self.client, name) != needed:
                raise ValueError(
                    f"client.{name} must be {needed} for rule {self.rule!r}, which needs plain "
                    f"SGD, got {getattr(self.client, name)}"
                )


class _BuiltInRounds(RoundsRecipe):
    @model_validator(mode="after")
    def _fields_fit_together(self) -> _BuiltInRounds:
        self.check()
        return self


class CustomRounds(RoundsRecipe, extra="allow"):
    """Rounds with a rule of your own; its options are further fields."""

    rule: str = Field(pattern=r"^[\w.]+:\w+$", description="module:name of a class")

    @model_validator(mode="after")
    def _rule_accepts_the_options(self) -> CustomRounds:
        accept_options(self, ROUND_RULES[self.rule].options)
        self.check()
        return self


def _with_rule(content: Any) -> Any:
    """Add the default rule to a section that names none."""
    return {"rule": _DEFAULT, **content} if isinstance(content, dict) else content


if TYPE_CHECKING:
    RoundsSection = RoundsRecipe
else:
    _ByName = section_by_name("rule", ROUND_RULES, lambda _: _BuiltInRounds, CustomRounds, _DEFAULT)
    RoundsSection = Annotated[_ByName, BeforeValidator(_with_rule)]
