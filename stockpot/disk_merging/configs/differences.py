"""The differences between the config.json of models that are to be merged, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stockpot.disk_merging.configs.labels import compare_labels
from stockpot.disk_merging.configs.meanings import Difference, Effect, meaning_of
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.model_config import CONFIG, read_config

if TYPE_CHECKING:
    from stockpot.storage.weights.sources import Source

Config = Mapping[str, Any]

_QUANTIZATION = ("quantization_config", "compression_config")
_LABELS = ("id2label", "label2id")  # compared as a whole
_MAX_VALUE = 60  # characters of a value that is shown


def compare_models(models: Sequence[Source]) -> list[Difference]:
    """List all differences between the models' config.json; as `compare_configs`.

    Configurations of components are compared as well; their differences begin with the folder.

    Raises:
        InputError: a config.json is not readable.
    """
    named = {str(model.path): shown_name(model.path) for model in models}
    count = Counter(named.values())
    found: list[Difference] = []
    for component in dict.fromkeys(own for model in models for own in model.components):
        configs = {
            name if count[name := named[path]] == 1 else path: config
            for path, model in {str(model.path): model for model in models}.items()
            if model.folder is not None and (config := read_config(model.folder / component))
        }
        path = f"{component}/{CONFIG}" if component else CONFIG
        for one in compare_configs(configs):
            found.append(replace(one, text=one.text.replace(CONFIG, path, 1)))
    return sorted(found, key=lambda difference: difference.effect)


def compare_configs(configs: Mapping[str, Config]) -> list[Difference]:
    """List all differences between configurations, those that may make a merge meaningless first.

    A field that is null is not set. Forms of other versions of transformers are equal to those of
    today: `torch_dtype` is `dtype`, and `rope_parameters` is `rope_theta` and `rope_scaling`.

    Args:
        configs: by the models' names.
    """
    differing = _differing(
        {model: flattened(config, _of_today) for model, config in configs.items()}
    )
    harmless = [field for field in differing if meaning_of(field).effect is Effect.NONE]
    partly = [f for f, v in differing.items() if f not in harmless and _is_set_in_some(f, v)]
    found = [
        _different(field, values)
        for field, values in differing.items()
        if field not in harmless and field not in partly
    ]
    found += compare_labels(configs)
    found += _set_in_some({field: differing[field] for field in partly})
    if harmless:
        text = f"config.json: without effect on the merge, other values of {', '.join(harmless)}"
        found.append(Difference(Effect.NONE, text))
    return sorted(found, key=lambda difference: difference.effect)


def _differing(configs: Mapping[str, Config]) -> dict[str, dict[str, Any]]:
    """Return the values by model of each field that differs; None where it is not set."""
    values_of = {
        field: {model: config.get(field) for model, config in configs.items()}
        for field in sorted({field for config in configs.values() for field in config})
    }
    return {f: values for f, values in values_of.items() if len(_distinct(values.values())) > 1}


def _distinct(values: Iterable[Any]) -> list[Any]:
    distinct: list[Any] = []
    for value in values:  # lists cannot be hashed
        if not any(_are_equal(value, other) for other in distinct):
            distinct.append(value)
    return distinct


def _are_equal(value: Any, other: Any) -> bool:
    return value is other or (value == other and type(value) is type(other))  # NaN is not NaN


def _is_set_in_some(field: str, values: Mapping[str, Any]) -> bool:
    """Whether the models that set a field agree, and the others may have the same by default."""
    present = _distinct(value for value in values.values() if value is not None)
    is_missing = None in values.values()
    effect = meaning_of(field).effect
    return is_missing and len(present) == 1 and (effect is Effect.RELEVANT or not present[0])


def _different(field: str, values: Mapping[str, Any]) -> Difference:
    models_of: dict[str, list[str]] = {}
    for model, value in values.items():
        models_of.setdefault(shown(value), []).append(model)
    values_in = ", ".join(f"{value} in {_listed(models)}" for value, models in models_of.items())
    meaning = meaning_of(field)
    reason = f": {meaning.words}" if meaning.words else ""
    may_be_equal = None in values.values() and len(models_of) == 2
    unless = ", unless that is the architecture's default" if reason and may_be_equal else ""
    return Difference(meaning.effect, f"config.json: {field} is {values_in}{reason}{unless}")


def _set_in_some(differing: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """Join the fields that only the same models set."""
    fields_of: dict[str, list[str]] = {}
    for field, values in differing.items():
        setting = {model: value for model, value in values.items() if value is not None}
        one = next(iter(setting.values()))
        fields_of.setdefault(_listed([*setting]), []).append(f"{field} ({shown(one)})")
    for models, fields in fields_of.items():
        text = (
            f"config.json: set in {models} alone, so that the others have the architecture's "
            f"defaults: {', '.join(fields)}"
        )
        yield Difference(Effect.RELEVANT, text)


def _listed(models: Sequence[str]) -> str:
    return " and ".join([", ".join(models[:-1]), models[-1]] if len(models) > 1 else models)


def shown(value: Any) -> str:
    """Return a value as config.json has it, the beginning of it if it is long."""
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 3]}..."


def flattened(config: Config, form: Callable[[dict[str, Any]], Config] = dict) -> dict[str, Any]:
    """Flatten a configuration; names of nested fields are joined by dots, null is not set.

    Args:
        config: the content of config.json.
        form: changes the form of each mapping before it is flattened.
    """
    flat: dict[str, Any] = {}
    for field, value in form(dict(config)).items():
        if isinstance(value, Mapping):
            flat |= {f"{field}.{inner}": each for inner, each in flattened(value, form).items()}
        elif value is not None:
            flat[field] = value
    return flat


def _of_today(config: dict[str, Any]) -> dict[str, Any]:
    """Give fields that several versions write differently one form, and derived ones a value."""
    # Labels are compared as a whole; the fields of a quantisation say nothing one by one.
    config = {f: str(v) if f in _QUANTIZATION else v for f, v in config.items() if f not in _LABELS}
    if (dtype := config.pop("torch_dtype", None)) is not None:
        config.setdefault("dtype", dtype)
    if isinstance(config.get("dtype"), str):
        config["dtype"] = config["dtype"].removeprefix("torch.")
    if isinstance(rope := config.pop("rope_parameters", None), Mapping):
        config |= _rope_of_one_type(rope)
    if isinstance(scaling := config.get("rope_scaling"), Mapping):
        renamed = {"rope_type" if k == "type" else k: value for k, value in scaling.items()}
        is_default = renamed.get("rope_type", "default") == "default"
        config["rope_scaling"] = renamed if len(renamed) > 1 or not is_default else None
    heads, size = config.get("num_attention_heads"), config.get("hidden_size")
    if isinstance(heads, int) and config.get("num_key_value_heads") == heads:
        config["num_key_value_heads"] = None  # the default
    if isinstance(heads, int) and isinstance(size, int) and heads > 0:
        config["head_dim"] = config.get("head_dim") or size // heads
    return config


def _rope_of_one_type(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return `rope_theta`, `rope_local_base_freq` and `rope_scaling` for `rope_parameters`."""
    full = rope.get("full_attention")
    whole = full if isinstance(full, Mapping) else rope
    scaling = {name: value for name, value in whole.items() if name != "rope_theta"}
    former = {"rope_theta": whole.get("rope_theta"), "rope_scaling": scaling}
    if isinstance(local := rope.get("sliding_attention"), Mapping):
        former["rope_local_base_freq"] = local.get("rope_theta")
    return former
