from __future__ import annotations

from stockpot.diagnostics.registry import DIAGNOSTICS


def test_each_diagnostic_is_found_by_its_name_and_nothing_else_is() -> None:
    names = [*DIAGNOSTICS]

    assert (names[0], names[-1], len(names)) == ("barriers", "soup_size", 11)
    assert all(DIAGNOSTICS[name].__name__ == name for name in names)
