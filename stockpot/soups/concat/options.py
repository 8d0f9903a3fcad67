"""The options of `method: concat`; importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpot.errors import InputError
from stockpot.plugins import Option, check_options

CONCAT = "concat"
"""The merge method that puts nets side by side: of whole nets, not tensor by tensor."""

_REDUCTIONS = ("mean", "sum")

CONCAT_OPTIONS = {
    "reduce": Option(str, "mean"),
    "epochs": Option(int, 0),
    "stages": Option(int, 0),
    "eta": Option(float, 1.0),
    "learning_rate": Option(float, 3e-4),
    "batch_size": Option(int, 32),
    "augmentation": Option(float, 0.0),
    "templates": Option(int, 0),
}
"""The options with their defaults: `epochs` trains the wide net, or each of `stages` nets.

With `templates` the weights between the nets start as mixtures of those within them, not at 0.
"""

_LEAST = {"epochs": 0, "stages": 0, "batch_size": 1, "templates": 0}


def check_concat(options: Mapping[str, Any]) -> None:
    """Check the options of `concat`.

    Raises:
        InputError: an option is unknown, or its value is.
    """
    check_options(CONCAT, CONCAT_OPTIONS, options)
    reduce = options.get("reduce", "mean")
    if reduce not in _REDUCTIONS:
        raise InputError(f"concat: reduce must be one of {[*_REDUCTIONS]}, got {reduce!r}")
    _check_training(options)


def _check_training(options: Mapping[str, Any]) -> None:
    """Check the options of the training."""
    for name, least in _LEAST.items():
        value = options.get(name, least)
        if int(value) != value or value < least:
            raise InputError(f"concat: {name} must be a whole number from {least}, got {value!r}")
    if not 0 < options.get("eta", 1.0) <= 1:
        raise InputError(f"concat: eta must be in (0, 1], got {options['eta']!r}")
    if not options.get("learning_rate", 1.0) > 0:
        rate = options["learning_rate"]
        raise InputError(f"concat: learning_rate must be above 0, got {rate!r}")
    if not 0 <= options.get("augmentation", 0.0) <= 1:
        raise InputError(f"concat: augmentation must be in [0, 1], got {options['augmentation']!r}")
    if options.get("stages") and not options.get("epochs"):
        raise InputError("concat: stages are trained, set epochs to the length of each")
    if options.get("templates") and (not options.get("epochs") or options.get("stages")):
        raise InputError(
            "concat: templates are for a wide net that is trained as a whole: set epochs, and no "
            "stages"
        )


def is_trained(options: Mapping[str, Any]) -> bool:
    """Whether the wide net, or nets added to it, are trained."""
    return bool(options.get("epochs"))


def coefficients_of(num_nets: int, options: Mapping[str, Any]) -> list[float]:
    """Return the factor of each net's outputs: 1 / M, or 1 with `reduce: sum`."""
    return [1.0 if options.get("reduce") == "sum" else 1 / num_nets] * num_nets
