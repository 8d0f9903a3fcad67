from __future__ import annotations

import pytest
from judged_results import judged_results

from stockpot.errors import InputError
from stockpot.reporting.results import best_soup


def test_a_manifest_that_does_not_name_its_best_soup_is_refused() -> None:
    evaluation = dict(judged_results().evaluation)
    del evaluation["best_soup"]

    with pytest.raises(InputError, match="got a manifest of an older version"):
        best_soup(evaluation)
