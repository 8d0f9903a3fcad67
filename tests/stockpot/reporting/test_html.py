from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import judged_results
import yaml

from stockpot.reporting.figures import ReportFigures
from stockpot.reporting.html import render_report
from stockpot.reporting.results import Results

ATTACK = "<script>alert('x')</script>\"&"


class _Page(HTMLParser):
    """Collects the tags with their attributes, and the text by the tag it stands in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_verdict_comes_before_the_table(page: str) -> None:
    assert page.index("1 of 4 soups is worse (uniform)") < page.index("<table")
    assert page.index("uniform soup is worse") < page.index("greedy soup is better")


def test_every_model_setting_and_failure_is_in_the_page(results: Results, page: str) -> None:
    texts = _Page(page).texts

    names = [model["name"] for model in results.evaluation["models"]]
    assert {*names, "ingredient-02", "loss became nan at step 12 of 330"} <= set(texts)
    assert {"0.0025", "workload.test_shifts", "noise, occlude", "ab" * 32} <= set(texts)
    assert {"1.250", "\N{MINUS SIGN}0.250", "1 of 2 tried"} <= set(texts)


def test_differences_show_value_star_and_interval(page: str) -> None:
    assert "+4.1 * <small>+3.1 to +5.1, p &lt; 0.001</small>" in page
    assert (
        "\N{MINUS SIGN}3.0 * <small>\N{MINUS SIGN}4.0 to \N{MINUS SIGN}2.0, p &lt; 0.001</small>"
        in page
    )


def test_the_protocol_describes_the_use_of_each_split(page: str) -> None:
    texts = _Page(page).texts

    assert "blur; an objective of both" in texts
    assert "1,397 examples; reporting only, read after all choices were made" in texts
    assert "ingredient-01, the highest accuracy on val of 2" in texts
    assert any(text.startswith("95 %, bootstrap over examples, 2,000 resamples") for text in texts)


def test_what_a_search_has_found_is_printed_to_be_pasted(results: Results) -> None:
    study = {
        **results.tune["tuned"][0],
        "floor": {"values": {"val": 0.99}, "is_met": False},
        "merge": {
            "method": "ties",
            "members": ["ingredient-01", "ingredient-00"],
            "coefficients": [0.1, 0.9],
            "options": {"density": 1e-05},
            "uses_base": True,
            "needs_data": False,
            "is_random": False,
        },
    }
    with_merge = replace(results, tune={"tuned": [study]})

    html = render_report(with_merge, {}, figures=ReportFigures([], []))

    soup, merge_file = (
        yaml.safe_load(text) for text in _Page(html).texts if "method: ties" in text
    )
    assert soup[0]["select"] == "given"
    assert soup[0]["coefficients"] == [0.1, 0.9]
    assert merge_file["options"] == {"density": 1e-05}
    assert merge_file["base"] == results.base["base"]["path"]
    assert "No trial reached the floor (val 0.99); this one missed it least." in html


def test_nothing_is_fetched(page: str) -> None:
    addresses = [
        value
        for _, attributes in _Page(page).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    outside = [address for address in addresses if not str(address).startswith(("#", "data:"))]
    assert outside == []
    assert not re.search(r"@import|url\((?!#)", page)


def test_hostile_names_are_shown_not_run(
    results: Results, experiment: dict[str, Any], rename: Callable[[str, str], None]
) -> None:
    names = ["ingredient-00", "uniform", "greedy", "both", "logit ensemble"]
    for name in names:
        rename(name, f"{ATTACK}{name}")

    page = _Page(render_report(results, experiment))

    assert [tag for tag, _ in page.tags].count("script") == 1
    assert {f"{ATTACK}{name}" for name in names} <= set(page.texts)


def test_hostile_settings_reasons_and_commands_are_escaped(
    results: Results, experiment: dict[str, Any]
) -> None:
    results.sweep["failed"][0]["reason"] = ATTACK
    experiment["track"]["experiment"] = ATTACK
    experiment[ATTACK] = ATTACK
    figures = ReportFigures([], [])  # no setting, reason or command is in a plot

    page = _Page(render_report(results, experiment, figures=figures, commands=[ATTACK]))

    assert [tag for tag, _ in page.tags].count("script") == 1


def test_ids_are_unique(page: str) -> None:
    ids = [attributes["id"] for _, attributes in _Page(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_equal_runs_give_equal_pages(
    results: Results, experiment: dict[str, Any], page: str
) -> None:
    again = render_report(
        results,
        experiment,
        commands=["make install", "stockpot run"],
    )

    assert again == page


def test_a_page_with_everything_in_it_is_below_3_mb(judged_page: str) -> None:
    # The figures of all diagnostics take 0.5 MB more.
    assert len(judged_page.encode()) < 2_000_000


def test_alerts_are_shown_with_reasons_before_any_score(judged_page: str) -> None:
    assert "1 ingredient does not belong in a soup" in judged_page
    texts = "<strong>ingredient-03</strong> (excluded from all soups): was not fine-tuned from this"
    assert (
        judged_page.index('id="verdict"')
        < judged_page.index(texts)
        < judged_page.index('id="results"')
    )
    assert "a loss barrier of 2.31 nats to all others (barriers)" in judged_page


def test_without_alerts_the_page_lists_the_checks(
    judged: Results, experiment: dict[str, Any]
) -> None:
    judged.sweep["precheck"]["failed"] = []
    del judged.diagnostics["barriers"]  # type: ignore[attr-defined]  # a dict in this fixture

    html = render_report(judged, experiment, figures=ReportFigures([], []))

    assert "does not belong in a soup" not in html
    assert (
        "No ingredient was flagged by the check before merging or the diagnostics (soup size)."
        in html
    )


def test_the_table_has_p_values_and_calibration(judged_page: str) -> None:
    assert re.search(r"<td [^>]*better[^>]*>\+3\.\d \* <small>[^<]*, p=0\.002</small>", judged_page)
    assert re.search(r"<small>scaled 0\.0\d\d</small>", judged_page)
    assert "36.7k params, 1.25M FLOPs, 1.5 ms" in judged_page
    assert "587k params, 20M FLOPs, 24 ms" in judged_page
    assert "p &lt; 0.05 after Holm" in judged_page


def test_every_number_leads_to_a_run_and_a_digest(judged: Results, judged_page: str) -> None:
    runs = judged_results.run_ids(judged)

    texts = _Page(judged_page).texts

    assert {*runs.values()} <= {*texts}
    digests = {model["digest"] for model in judged.evaluation["models"] if model["digest"]}
    assert digests <= {*texts}


def test_the_best_soup_on_val_is_spelled_out(judged_page: str) -> None:
    assert "The best soup on val: greedy" in judged_page
    assert (
        "Ingredients selected by greedy (16 tried in order), merged with linear: 6 ingre"
        in judged_page
    )
    assert f"stockpot reproduce {'13':0>32}" in judged_page


def test_a_diagnostic_has_title_sentence_and_reading_help(judged_page: str) -> None:
    section = judged_page[judged_page.index('id="diagnostic-barriers"') :]
    barriers, _, soup_size = section.partition('id="diagnostic-soup_size"')
    assert "<h3>Loss barriers</h3>" in barriers
    assert "What barriers says: all but one ingredient lie in one basin." in barriers
    assert "How to read it" not in barriers  # there is nothing to read
    assert "How to read it: Mean score of averages of 1, 2, 3 and more ingredients" in soup_size
    assert "<svg" in soup_size


def test_without_diagnostics_the_page_says_so(page: str) -> None:
    assert "No diagnostics were run." in page


def test_data_access_is_a_table(judged_page: str) -> None:
    texts = _Page(judged_page).texts

    assert "selection, tuning, temperature" in texts
    assert "sign flips and mcnemar, paired; p after Holm" in "".join(texts)


def test_a_minimal_run_reports_what_is_left_out(
    plain_results: Results, experiment: dict[str, Any]
) -> None:
    html = render_report(plain_results, experiment)

    for sentence in (
        "the experiment has no test shifts",
        "no soup was selected greedily",
        "no study had two objectives",
        "No coefficients were tuned.",
        "No ingredient failed.",
        "No commands were recorded.",
        "says nothing about distribution shift",
        "no random soups were evaluated",
        "no interpolation from the base to a soup was evaluated",
        "the calibration of the models was not evaluated",
    ):
        assert sentence in html
    assert "mean shift" not in html


def test_a_run_without_soups_says_so(plain_results: Results, experiment: dict[str, Any]) -> None:
    plain_results.soups["soups"] = []
    plain_results.evaluation["models"].pop()

    html = render_report(plain_results, experiment)

    assert "No soup was made." in html
    assert "No soup was compared with the best ingredient." in html


def test_commands_are_shown_one_per_line(page: str) -> None:
    assert re.search(r"<pre[^>]*>make install\nstockpot run\n</pre>", page)


def test_lines_do_not_break_inside_a_p_value_or_before_a_percent_sign(page: str) -> None:
    space = "\N{NO-BREAK SPACE}"

    assert f"(95{space}% interval \N{MINUS SIGN}4.0 to" in page
    assert f"p{space}&lt;{space}0.001" in page
