from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from judged_results import judged_results
from small_results import small_results

from stockpot.reporting.plots.calibration import calibration
from stockpot.reporting.plots.differences import differences
from stockpot.reporting.plots.greedy_path import greedy_path
from stockpot.reporting.plots.id_vs_shift import id_vs_shift
from stockpot.reporting.plots.pareto_front import pareto_front
from stockpot.reporting.plots.random_soups import random_soups
from stockpot.reporting.plots.reliability import reliability
from stockpot.reporting.plots.shifts import shifts
from stockpot.reporting.plots.tuning_history import tuning_history
from stockpot.reporting.plots.tuning_slices import tuning_slices
from stockpot.reporting.plots.wise_ft import wise_ft
from stockpot.reporting.results import Results

SVG = "{http://www.w3.org/2000/svg}"

PLOTS: dict[str, Callable[[Results], str | None]] = {
    "differences": lambda results: differences(results.evaluation),
    "id_vs_shift": lambda results: id_vs_shift(results.evaluation),
    "shifts": lambda results: shifts(results.evaluation),
    "greedy_path": lambda results: greedy_path(results.soups["soups"][1], results),
    "pareto_front": lambda results: pareto_front(results.tune["tuned"][1], results),
    "tuning_history": lambda results: tuning_history(results.tune["tuned"][0], results),
    "tuning_history_of_two": lambda results: tuning_history(results.tune["tuned"][1], results),
    "tuning_slices": lambda results: tuning_slices(STUDY, results),
}

# A search for a density, its scale and whether to normalise, by the loss.
STUDY: dict[str, Any] = {
    "name": "ties",
    "recipe": {"objectives": ["loss"]},
    "order": ["ingredient-01", "ingredient-00"],
    "chosen": 1,
    "importances": {"density": 0.75, "weight 1": 0.25},
    "trials": [
        {
            "number": number,
            "values": [loss],
            "source": "sampler",
            "parameters": {
                "density": density,
                "weight 1": 0.5 * number,
                "scale": 0.3 * 4**number,
                "normalize": number == 1,
            },
        }
        for number, (loss, density) in enumerate([(0.5, 0.2), (0.3, 0.4), (0.4, 0.9)])
    ],
}


@pytest.fixture(scope="module", params=PLOTS)
def svg(request: pytest.FixtureRequest) -> str:
    """Each plot, drawn once."""
    return _draw(PLOTS[request.param], small_results())


def _draw(plot: Callable[[Results], str | None], results: Results) -> str:
    svg = plot(results)
    assert svg is not None
    return svg


def _words(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [node.text or "" for node in root.iter() if node.tag == f"{SVG}text"]


def test_a_plot_is_one_valid_labelled_element(svg: str) -> None:
    root = ElementTree.fromstring(svg)

    title, description = root[0], root[1]
    assert (root.tag, root.get("role")) == (f"{SVG}svg", "img")
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text
    assert description.text


@pytest.mark.parametrize("plot", [PLOTS["shifts"], PLOTS["pareto_front"]])
def test_a_plot_is_the_same_each_time_whatever_the_users_settings(
    plot: Callable[[Results], str | None], results: Results
) -> None:
    first = _draw(plot, results)

    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9}):
        second = _draw(plot, results)

    assert first == second


def test_a_plot_brings_no_sheet_no_date_and_only_ids_in_use(svg: str) -> None:
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "DejaVu" not in svg
    ids = set(re.findall(r' id="([^"]+)"', svg))
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))
    labels = set(re.findall(r"[\w-]+-(?:title|description)", svg))
    assert ids == used | labels


def test_colours_follow_the_page(svg: str) -> None:
    assert "currentColor" in svg
    without_variables = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)
    assert re.findall(r"#[0-9a-f]{6}\b", without_variables) == []


def test_the_scatter_names_all_main_models_and_has_tips_for_ingredients(results: Results) -> None:
    svg = _draw(PLOTS["id_vs_shift"], results)

    names = {"best ingredient", "uniform", "greedy", "tuned", "both", "logit ensemble"}
    assert names | {"other ingredients"} <= set(_words(svg))
    assert "<title>ingredient-00: test 93.0, shift 76.0</title>" in svg


def test_a_base_far_below_is_labelled_as_outside(results: Results) -> None:
    assert "base (outside)" in _words(_draw(PLOTS["id_vs_shift"], results))


def test_there_are_bars_for_every_shift_and_their_mean(results: Results) -> None:
    svg = _draw(PLOTS["shifts"], results)

    assert {"noise", "occlude", "mean"} <= set(_words(svg))
    assert "<title>greedy: noise 94.1</title>" in svg


def test_the_greedy_path_tells_accepted_from_rejected(results: Results) -> None:
    svg = _draw(PLOTS["greedy_path"], results)

    assert "<title>ingredient-01: 96.0, accepted</title>" in svg
    assert "<title>ingredient-00: 95.5, rejected</title>" in svg


def test_the_greedy_path_says_how_much_of_a_stopped_candidate_is_known(results: Results) -> None:
    stopped = {"at_most": 0.9525, "examples": 96, "of": 400, "is_certain": True}
    results.soups["soups"][1]["steps"][1] |= {"score": None, "stopped": stopped}
    svg = _draw(PLOTS["greedy_path"], results)

    known = "at most 95.25, stopped after 96 of 400 examples"
    assert f"<title>ingredient-00: {known}, rejected</title>" in svg
    assert "rejected, at most" in _words(svg)


def test_the_history_marks_warm_starts_and_counts_what_lies_below(results: Results) -> None:
    step = {"number": 3, "values": [0.96], "source": "sampler"}
    results.tune["tuned"][0]["trials"] += [{**step, "number": n} for n in range(3, 20)]

    words = _words(_draw(PLOTS["tuning_history"], results))

    assert "start: uniform" in words
    assert "sampled (1 below)" in words


def test_plots_without_data_are_not_drawn(plain_results: Results) -> None:
    evaluation = plain_results.evaluation

    assert id_vs_shift(evaluation) is None
    assert shifts(evaluation) is None
    assert greedy_path(plain_results.soups["soups"][0], plain_results) is None


def test_a_study_with_one_objective_has_no_front(results: Results) -> None:
    assert pareto_front(results.tune["tuned"][0], results) is None


def test_any_name_can_be_drawn(results: Results, rename: Callable[[str, str], None]) -> None:
    names = {
        "ingredient-00": "<b>&\"'",
        "ingredient-01": "\x00\x1b[31m",
        "uniform": "n" * 200,
        "greedy": "$x^2$",
        "tuned": "汤",
        "both": "n" * 201 + "]]>",
    }
    for model, name in names.items():
        rename(model, name)

    for plot in PLOTS.values():
        ElementTree.fromstring(_draw(plot, results))


def test_twenty_soups_differ_in_colour_or_marker(results: Results) -> None:
    from stockpot.reporting.plots.series import main_series

    soup = results.evaluation["models"][3]
    results.evaluation["models"] += [{**soup, "name": f"soup-{n}"} for n in range(16)]

    looks = [series.look for series in main_series(results.evaluation)]

    assert len(set(looks[:18])) == 18


JUDGED = {
    "differences": differences,
    "id_vs_shift": id_vs_shift,
    "shifts": shifts,
    "random_soups": random_soups,
    "wise_ft": wise_ft,
    "reliability": reliability,
    "calibration": calibration,
}


@cache
def _of_judged(plot: Callable[[dict[str, Any]], str | None]) -> str:
    """Draw a plot of judged models once."""
    svg = plot(judged_results().evaluation)
    assert svg is not None
    return svg


every_judged_plot = pytest.mark.parametrize("plot", JUDGED.values(), ids=JUDGED.keys())


@every_judged_plot
def test_a_plot_of_judged_models_is_labelled_and_the_same_each_time(
    plot: Callable[[dict[str, Any]], str | None], judged: Results
) -> None:
    svg = _of_judged(plot)

    root = ElementTree.fromstring(svg)
    assert root.get("aria-labelledby") == f"{root[0].get('id')} {root[1].get('id')}"
    assert not re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg))
    assert plot(judged.evaluation) == svg


@pytest.mark.parametrize("plot", [random_soups, wise_ft, reliability, calibration])
def test_plots_of_missing_measurements_are_not_drawn(
    plot: Callable[[dict[str, Any]], str | None], results: Results
) -> None:
    assert plot(results.evaluation) is None


def test_marks_start_with_the_name_of_their_model(judged: Results) -> None:
    names = {model["name"] for model in judged.evaluation["models"]}

    for plot in JUDGED.values():
        tips = re.findall(r"<title>([^<]*)</title>", _of_judged(plot))
        linked = [tip for tip in tips if not tip.startswith("random soups")]
        assert {tip.split(": ")[0] for tip in linked} <= names
        assert linked


def test_a_difference_within_the_noise_is_hollow(judged: Results) -> None:
    svg = differences(judged.evaluation)

    assert svg is not None
    marks = {
        group.find(f"{SVG}title").text: ElementTree.tostring(group, encoding="unicode")  # type: ignore[union-attr]
        for group in ElementTree.fromstring(svg).iter(f"{SVG}g")
        if group.find(f"{SVG}title") is not None
    }
    filled = {str(tip) for tip, mark in marks.items() if "fill: var" in mark}
    assert {tip.split(": ")[0] for tip in filled if "p = 0.002" in tip} == {
        tip.split(": ")[0] for tip in filled
    }
    assert any(str(tip).startswith("top 5: +3") for tip in marks)


def test_the_point_of_a_line_that_is_best_on_val_is_ringed(judged: Results) -> None:
    svg = wise_ft(judged.evaluation)

    assert svg is not None
    ringed = re.findall(r"fill-opacity: 0[^<]*", svg)
    assert "<title>uniform: alpha 0.9, 97.9</title>" in svg
    assert len(ringed) >= 6 or "fill: none" in svg


def test_slices_name_ingredients_and_come_in_the_order_of_importance() -> None:
    words = _words(_draw(PLOTS["tuning_slices"], small_results()))

    titles = [word for word in words if word.endswith("%)") or word in ("scale", "normalize")]
    assert titles == ["density (75%)", "ingredient-00 (25%)", "scale", "normalize"]
    assert "loss on val" in words
