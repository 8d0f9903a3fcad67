"""The paths of models that files name."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.storage.local_paths import located


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/a", "a\0b", "\ud800"])
def test_a_name_that_no_path_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^'.{,110}': cannot be a path \("):
        located(tmp_path, name)
