from __future__ import annotations

from stockpot.reporting import Results, alerts
from stockpot.reporting.alerts import looked_for


def test_all_that_speaks_against_a_model_is_one_alert(judged: Results) -> None:
    [alert] = alerts(judged)

    assert alert.sentence == (
        "ingredient-03 (kept out of all soups): was not fine-tuned from this base: cosine 0.01 to "
        "it (check before merging); a loss barrier of 2.31 nats to all others (barriers)"
    )


def test_a_model_that_only_a_diagnostic_names_was_not_kept_out(judged: Results) -> None:
    judged.sweep["precheck"]["excluded"] = []

    [alert] = alerts(judged)

    assert (alert.model, alert.excluded) == ("ingredient-03", False)
    assert "kept out" not in alert.sentence


def test_a_run_that_looked_at_nothing_has_no_alerts(results: Results) -> None:
    assert alerts(results) == []
    assert looked_for(results) == ""
