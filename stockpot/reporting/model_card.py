"""The model card of the best soup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, ModelEntry, Results, evaluated, unit_of
from stockpot.reporting.tables.results_table import Row, results_table
from stockpot.reporting.tables.terminal import difference_cell
from stockpot.reporting.words.alerts import alerts
from stockpot.reporting.words.comparisons import star_note
from stockpot.reporting.words.estimates import Estimate, interval_name, short_text
from stockpot.reporting.words.recipes import recipe_sentence, reproduce_command, used
from stockpot.reporting.words.verdict import headline
from stockpot.storage.model_cards import markdown_list, markdown_table, render_card

# Kinds of rows in the table of results, next to the soup itself.
_COMPARED = ("base", "ingredient", "baseline", "ensemble")


def model_card(
    results: Results,
    experiment: Mapping[str, Any],
    *,
    runs: Mapping[str, str],
    base_model: str | None = None,
) -> str:
    """Write the card of the soup with the best val score; equal arguments give equal text.

    Args:
        results: the manifests of the run.
        experiment: params.yaml as a plain mapping.
        runs: MLflow's run id by model.
        base_model: name of the base on the Hugging Face Hub, if it is from there.

    Raises:
        ValueError: the run has no soup.

    Source: https://huggingface.co/docs/hub/model-cards, with a `model-index` of results.
    """
    soup = results.best_soup
    if soup is None:
        raise ValueError("a model card describes a soup, but the run has none")
    title = f"{experiment.get('track', {}).get('experiment', 'stockpot')}: {soup['name']}"
    parts = [
        _about(results, soup),
        "## Recipe",
        *_recipe(results, soup),
        *_warnings(results),
        "## Intended use",
        _INTENDED,
        "## Evaluation",
        *_evaluation(results, soup),
        "## How to reproduce",
        *_reproduce(soup, runs),
    ]
    return render_card(_front_matter(results, experiment, soup, base_model), title, parts)


def _front_matter(
    results: Results, experiment: Mapping[str, Any], soup: ModelEntry, base_model: str | None
) -> dict[str, Any]:
    """Return the metadata that the Hub reads."""
    index = {"name": soup["name"], "results": _index(results.evaluation, experiment, soup)}
    return {
        "library_name": "pytorch",
        "tags": ["model-soup", "merge", "stockpot"],
        **({} if base_model is None else {"base_model": base_model}),
        "metrics": [results.evaluation["metric"]],
        "model-index": [index],
    }


def _index(
    evaluation: Manifest, experiment: Mapping[str, Any], soup: ModelEntry
) -> list[dict[str, Any]]:
    """Return the soup's scores on test and under each shift."""
    name = experiment.get("workload", {}).get("name", "data")
    judged = evaluated(evaluation, soup["name"])["metrics"]
    places = {"test": name, **{f"shift/{s}": f"{name}, {s}" for s in evaluation["test_shifts"]}}
    metric = evaluation["metric"]
    return [
        {
            "task": {"type": "other"},
            "dataset": {"type": name, "name": shown, "split": "test"},
            "metrics": [
                {"type": metric, "name": metric, "value": round(judged[f"{place}/{metric}"], 4)}
            ],
        }
        for place, shown in places.items()
    ]


def _about(results: Results, soup: ModelEntry) -> str:
    return (
        f"A model soup: one model of {soup['num_params']:,} parameters whose weights are merged "
        f"from fine-tuned ingredients. Of {len(results.merged)} soups it has the highest "
        f"{results.evaluation['metric']} on val. {headline(results.evaluation)}"
    )


def _recipe(results: Results, soup: ModelEntry) -> Iterator[str]:
    yield recipe_sentence(soup, results.unit)
    known = {model["name"]: model for model in results.sweep["ingredients"]}
    rows = [
        (
            name,
            f"{value:.4f}",
            short_text(known[name]["hyperparameters"]) if name in known else "-",
            f"`{known[name]['digest'][:16]}`" if name in known else "-",
        )
        for name, value in used(soup).items()
    ]
    yield markdown_table(
        ("ingredient", "coefficient", "hyperparameters", "SHA-256, first digits"), rows
    )


def _warnings(results: Results) -> Iterator[str]:
    found = alerts(results)
    if found:
        yield "Ingredients that do not belong in a soup:"
        yield markdown_list(alert.sentence for alert in found)


def _evaluation(results: Results, soup: ModelEntry) -> Iterator[str]:
    evaluation, unit = results.evaluation, results.unit
    shifts = evaluation["test_shifts"]
    points = ", in points" if unit.is_fraction else ""
    under = f"; mean shift is over {', '.join(shifts)}" if shifts else ""
    yield (
        f"{unit.scores}, on {evaluation['num_test']:,} test examples that were used for no "
        f"choice, with {interval_name(evaluation['confidence'])}s{under}. Differences are to the "
        f"best ingredient on val ({evaluation['best_ingredient']}){points}; "
        f"{star_note(evaluation)}."
    )
    shown = [r for r in results_table(evaluation) if r.kind in _COMPARED or r.model == soup["name"]]
    columns = ["model", "test", *(["mean shift", "shift - best"] if shifts else []), "test - best"]
    rows = [_row(row, unit, has_shift=bool(shifts)) for row in shown]
    yield markdown_table([*columns, "models run"], rows)
    metrics = evaluated(evaluation, soup["name"])["metrics"]
    other = [
        f"{name.replace('_', ' ')} {unit_of(evaluation, name).score(metrics[f'test/{name}'])}"
        for name in ("nll", "ece", "nll_scaled", "ece_scaled")
        if f"test/{name}" in metrics
    ]
    if other:
        note = "(scaled: after temperature scaling on val)"
        yield f"Further metrics on test: {', '.join(other)} {note}."


def _row(row: Row, unit: Unit, *, has_shift: bool) -> list[str]:
    under_shift = [_score(row.shift, unit), difference_cell(row.against_shift, unit)]
    shift = under_shift if has_shift else []
    scores = [_score(row.test, unit), *shift, difference_cell(row.against_test, unit)]
    return [row.name, *scores, f"{row.num_models}"]


def _score(estimate: Estimate | None, unit: Unit) -> str:
    if estimate is None:
        return "-"
    return estimate.with_bounds(unit.score(estimate.value), unit.score)


def _reproduce(soup: ModelEntry, runs: Mapping[str, str]) -> Iterator[str]:
    yield f"```\n{reproduce_command(soup, runs)}\n```"
    run = f" MLflow run `{runs[soup['name']]}`." if soup["name"] in runs else ""
    yield f"The weights are `{soup['path']}`, SHA-256 `{soup['digest']}`.{run}"


_INTENDED = (
    "Data like those of the evaluation below, and research on merging. The model was not evaluated "
    "on other data or other shifts, nor for harmful behaviour: test it before use. A soup inherits "
    "the errors and the licences of its base and its training data."
)
