"""The contract suites of plugins, by the kind of plugin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from stockpot.errors import InputError, unknown_name

if TYPE_CHECKING:
    from stockpot.plugins import CheckResult

Kind = Literal["workload", "method", "selection", "search", "diagnostic", "metric"]


def kind_of(name: str) -> str:
    """Recognise workloads and merge methods.

    Raises:
        InputError: it is neither.
    """
    from stockpot.merging.registry import METHODS
    from stockpot.workloads.registry import WORKLOADS

    if ":" not in name:
        return "method" if name in METHODS and name not in WORKLOADS else "workload"
    if isinstance(WORKLOADS[name], type):
        return "workload"
    try:
        METHODS[name]
    except InputError as error:
        raise InputError(
            f"check {name!r}: must be a workload's class, a merge method, or have --kind, one of "
            f"{list(get_args(Kind))}"
        ) from error
    return "method"


def parsed_options(options: Sequence[str]) -> dict[str, Any]:
    """Return options given as NAME=VALUE by name, with values read as YAML.

    Raises:
        InputError: one has no name, or its value is not YAML.
    """
    # Not above: `--help` and merges do without the configuration, which takes 0.5 s.
    from stockpot.config.reading import yaml_value

    values: dict[str, Any] = {}
    for option in options:
        field, equals, text = option.partition("=")
        if not equals or not field:
            raise InputError(f"--option: must look like NAME=VALUE, got {option!r}")
        values[field] = yaml_value("--option", field, text)
    return values


def check_plugin(kind: str, name: str, options: dict[str, Any]) -> Iterator[CheckResult]:
    """Look up a plugin other than a workload, and check it.

    Raises:
        InputError: there is no such kind or plugin, or it takes no options.
    """
    if kind == "method":
        from stockpot.merging.checks import check_method
        from stockpot.merging.registry import METHODS

        return check_method(METHODS[name], options)
    if kind == "selection":
        from stockpot.soups.selection.checks import check_selection
        from stockpot.soups.selection.registry import SELECTIONS

        return check_selection(SELECTIONS[name], options)
    if kind == "search":
        from stockpot.soups.tuning.checks import check_search
        from stockpot.soups.tuning.registry import SEARCHES

        return check_search(SEARCHES[name], options)
    if kind == "metric":
        from stockpot.scoring.metrics.checks import check_metric
        from stockpot.scoring.metrics.registry import METRICS
        from stockpot.workloads.protocol import TASKS

        task = options.pop("task", "classification")
        if options or task not in TASKS:
            raise InputError(
                f"check: the option of a metric must be task, one of {list(TASKS)}, got "
                f"{options or task!r}"
            )
        return check_metric(METRICS[name], task)
    if kind == "diagnostic":
        from stockpot.diagnostics.checks import check_diagnostic
        from stockpot.diagnostics.registry import DIAGNOSTICS

        if options:
            raise InputError(f"check: a diagnostic must have no options, got {sorted(options)}")
        return check_diagnostic(DIAGNOSTICS[name])
    raise unknown_name("kind of --kind", kind, get_args(Kind))
