"""Parameters of mergekit's methods, converted to coefficients and options of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.disk_merging.mergekit.fields import Model
from stockpot.errors import InputError, nearest_hint
from stockpot.merging.registry import METHODS

# Defaults of mergekit that differ from ours, by method.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "breadcrumbs": {"density": 1.0},
    "breadcrumbs_ties": {"density": 1.0},
    "dare_linear": {"density": 1.0, "rescale": True},
    "dare_ties": {"density": 1.0, "rescale": True},
    "della": {"density": 1.0, "rescale": True},
    "della_linear": {"density": 1.0, "rescale": True},
    "ties": {"density": 1.0},
}
_RENAMED = {"lambda": "scale"}
# They affect mergekit's memory and rounding, not what is computed.
_WITHOUT_EFFECT = {"int8_mask", "eps", "nuslerp_flatten", "nuslerp_row_wise"}
# Parameters that have no counterpart here, with the value at which nothing is lost.
_LACKING: Mapping[str, Mapping[str, Any]] = {
    "breadcrumbs": {"rescale": False},
    "breadcrumbs_ties": {"rescale": False},
    "linear": {"normalize": True},
    "weighted_sum": {"normalize": False},
    "ties": {"rescale": False},
    "multislerp": {"normalize_weights": True},
}
_WITHOUT_WEIGHTS = {"karcher"}  # takes coefficients here, but not in mergekit


@dataclass(frozen=True)
class Settings:
    """How the models of a file or of a slice are merged.

    Attributes:
        weights: the coefficient of each model.
        of_models: the options of each model, where models differ.
        options: the options of all models.
        notes: what was ignored.
    """

    weights: list[Any]
    of_models: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def method_of(name: str, parameters: Mapping[str, Any]) -> str:
    """Return our name of a merge method of mergekit.

    Raises:
        InputError: its parameters make it a method that does not exist here.
    """
    if name == "ramplus_tl":
        return "ram_plus"
    if name == "linear" and parameters.get("normalize", True) is False:
        return "weighted_sum"
    if name == "nuslerp" and not parameters.get("nuslerp_flatten", True):
        if parameters.get("nuslerp_row_wise", False):
            raise InputError(
                "parameters.nuslerp_row_wise must be false where nuslerp_flatten is, got true: "
                "output units are interpolated here, not input units"
            )
        return "nuslerp_rows"
    return name


def settings_of(
    method: str, models: Sequence[Model], outer: Sequence[Mapping[str, Any]]
) -> Settings:
    """Convert the parameters of some models.

    Args:
        method: our name of the method.
        models: with their own parameters; without the base, if the method takes one.
        outer: parameters of all models, the innermost first.

    Raises:
        InputError: a parameter has an effect that does not exist here.
    """
    made = Settings([], [{} for _ in models])
    levels = [*outer, _DEFAULTS.get(method, {})]
    made.weights.extend(
        _first_that_applies(_given("weight", [model.parameters, *levels]), 1.0) for model in models
    )
    known = METHODS[method].options
    names = dict.fromkeys(n for level in reversed(levels) for n in level)
    names |= dict.fromkeys(name for model in models for name in model.parameters)
    for name in names:
        option = _RENAMED.get(name, name)
        if name == "weight":
            _note_unused_weights(method, made)
        elif option in known:
            _add_option(made, method, option, models, levels, name)
        elif name in _LACKING.get(method, {}):
            levels_of_all = [*(model.parameters for model in models), *levels]
            _check_nothing_is_lost(method, name, _given(name, levels_of_all))
        elif name not in _WITHOUT_EFFECT:
            made.notes.append(
                f"parameter {name!r} is ignored: {method} has none, as in mergekit"
                + nearest_hint(name, known)
            )
    return made


def _add_option(
    made: Settings,
    method: str,
    option: str,
    models: Sequence[Model],
    levels: Sequence[Mapping[str, Any]],
    name: str,
) -> None:
    """Add an option of all models, or of each if it may differ and does."""
    default = METHODS[method].options[option]
    may_differ = option in METHODS[method].per_model or METHODS[method].num_models == (1, 1)
    if not may_differ:
        if any(name in model.parameters for model in models):
            made.notes.append(
                f"parameter {name!r} of single models is ignored, as in mergekit: {method} takes "
                "one value for all"
            )
        if found := _given(name, levels):
            made.options[option] = _converted(option, _first_that_applies(found, default))
        return
    values = [
        _first_that_applies(_given(name, [model.parameters, *levels]), default) for model in models
    ]
    if all(value == values[0] for value in values):
        made.options[option] = values[0]
        return
    for own, value in zip(made.of_models, values, strict=True):
        own[option] = value


def _note_unused_weights(method: str, made: Settings) -> None:
    takes_them = METHODS[method].takes_coefficients and method not in _WITHOUT_WEIGHTS
    if not takes_them:
        made.weights[:] = [1.0] * len(made.weights)
        made.notes.append(f"parameter 'weight' is ignored: {method} has none, as in mergekit")


def _check_nothing_is_lost(method: str, name: str, given: Sequence[Any]) -> None:
    harmless = _LACKING[method][name]
    if any(value != harmless for value in given):
        raise InputError(
            f"parameters.{name} must be {str(harmless).lower()} for {method}, got "
            f"{given[0]!r}: the other variant does not exist here"
        )


def _given(name: str, levels: Sequence[Mapping[str, Any]]) -> list[Any]:
    """List the values of a parameter, the innermost first."""
    return [level[name] for level in levels if name in level]


def _first_that_applies(values: Sequence[Any], default: Any) -> Any:
    """Return one value that stands for several, of which the first applies that has a filter.

    Args:
        values: the innermost first. A list of filters that match no tensor leaves it to the next.
        default: the value where none applies; `...` for none.
    """
    rules: list[Any] = []
    for value in [*values, *([] if default is ... else [default])]:
        if not (isinstance(value, list) and value and isinstance(value[0], dict)):
            return [*rules, {"value": value}] if rules else value
        converted = [_rule(rule) for rule in value]
        rules += converted
        if any("filter" not in rule for rule in converted if isinstance(rule, dict)):
            return rules
    return rules


def _rule(rule: Any) -> Any:
    """Convert a filter: in mergekit only a `*` alone is a wildcard."""
    if not isinstance(rule, dict):
        return rule
    wanted = rule.get("filter")
    others = {name: value for name, value in rule.items() if name != "filter"}
    if wanted in (None, "*"):
        return others
    exact = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(wanted))
    return {"filter": exact} | others


def _converted(option: str, value: Any) -> Any:
    """Convert a truth value of `rescale`, which is the name of a way to rescale here."""
    if option == "rescale" and isinstance(value, bool | int):
        return "l1" if value else "none"
    return value
