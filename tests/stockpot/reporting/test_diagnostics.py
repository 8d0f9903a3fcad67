from __future__ import annotations

from dataclasses import replace

from stockpot.config.experiment import DIAGNOSTIC_NAMES
from stockpot.reporting.diagnostics import DIAGNOSTICS, explained
from stockpot.reporting.plots import DIAGNOSTIC_PLOTS
from stockpot.reporting.results import Results


def test_every_diagnostic_is_explained_and_drawn_in_one_order() -> None:
    assert tuple(DIAGNOSTICS) == DIAGNOSTIC_NAMES
    assert tuple(DIAGNOSTIC_PLOTS) == DIAGNOSTIC_NAMES


def test_findings_come_in_the_order_of_the_report(judged: Results) -> None:
    turned = replace(judged, diagnostics=dict(reversed(judged.diagnostics.items())))

    assert [one.name for one in explained(turned)] == ["barriers", "soup_size"]


def test_a_finding_with_nothing_to_see_has_a_sentence_and_no_figure(judged: Results) -> None:
    first, _ = explained(judged)

    assert first.sentence == "What barriers says: all but one ingredient lie in one basin."
    assert first.plot.svg is None
    assert first.alerts == ("ingredient-03: a loss barrier of 2.31 nats to all others",)
