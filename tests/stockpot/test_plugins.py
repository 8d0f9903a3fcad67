"""Errors of plugins that cannot be loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.soups.selection.registry import SELECTIONS


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        ("raises", "\nraise RuntimeError('no licence')", "raises.py, line 2: RuntimeError: no lic"),
        ("exits", "import sys\nsys.exit(3)", "exits.py, line 2: SystemExit: 3"),
        ("cut_off", "def rule(", "(SyntaxError: '(' was never closed (cut_off.py, line 1))"),
        ("", "", "module '' cannot be imported (ValueError: Empty module name)"),
        ("needs", "import not_there", "(No module named 'not_there'); put it in the project's"),
    ],
)
def test_any_error_of_a_plugins_module_names_the_plugin_and_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str, message: str
) -> None:
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"{module}:rule"

    with pytest.raises(InputError, match=re.escape(message)) as caught:
        SELECTIONS[name]

    assert f"selection {name!r}: module {module!r} cannot be imported" in str(caught.value)


@pytest.mark.parametrize("name", [":rule", ":", ".mine:rule", "no_such_module:rule"])
def test_a_module_that_does_not_exist_is_named(name: str) -> None:
    module = name.partition(":")[0]

    with pytest.raises(InputError, match=re.escape(f"module {module!r} cannot be imported")):
        SELECTIONS[name]


@pytest.mark.parametrize("attribute", ["", "a:b", "a.b"])
def test_a_name_that_the_module_does_not_have_is_named(attribute: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"in 'json': {attribute!r}, choose from")):
        SELECTIONS[f"json:{attribute}"]
