from __future__ import annotations

import io

from judged_results import judged_results
from rich.console import Console

from flows.summary import show_findings
from stockpot.reporting.results import Results


def _shown(results: Results) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    show_findings(results, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_does_not_belong_is_said_before_the_table_and_what_to_do_after_it() -> None:
    text = _shown(judged_results(diagnostics=["barriers", "soup_size"]))

    order = [
        "! ingredient-03 (excluded from all soups): was not fine-tuned from this base",
        "\nbase ",
        "\nrandom soup of 6 ",
        "Against the best ingredient: under shift, 4 of 5 soups are better",
        "What soup_size says",
        "ingredient-16 failed: loss became nan",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "What barriers says" not in text


def test_brackets_in_names_and_reasons_are_no_markup() -> None:
    results = judged_results()
    results.sweep["precheck"]["failed"] = [{"name": "[red]hot[/red]", "reason": "[/] is odd"}]

    assert "! [red]hot[/red]: [/] is odd (check before merging)" in _shown(results)


def test_a_doubt_about_the_data_is_said() -> None:
    results = judged_results()
    results.sweep["precheck"]["checks"][-1]["passed"] = False

    assert "! The check that val is like train failed: feature 12" in _shown(results)
