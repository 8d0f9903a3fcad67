"""The diagnostics by name, in the order of the report.

A diagnostic is a file of this package with a function of its own name, whose argument is `context`;
keyword-only arguments are its options. Its plot is the file of the same name in
`stockpot/reporting/plots`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.diagnostics.finding import diagnostic_of
from stockpot.plugins import Registry

if TYPE_CHECKING:
    from stockpot.diagnostics.finding import Finding

# Those that are not listed here come after them, by name.
_ORDER = (
    "barriers",
    "similarity",
    "mask_overlap",
    "gradient_groups",
    "loss_plane",
    "geometry",
    "regime",
    "log_distance",
    "diversity",
    "contributions",
    "soup_size",
)


def _places() -> dict[str, str]:
    """Find the diagnostics by their sources: none is imported before it is used."""
    found = sorted(
        file.stem
        for file in Path(__file__).parent.glob("*.py")
        if re.search(rf"^def {file.stem}\(\s*context\b", file.read_text("utf-8"), re.MULTILINE)
    )
    ordered = dict.fromkeys([*_ORDER, *found])
    return {name: f"stockpot.diagnostics.{name}:{name}" for name in ordered}


DIAGNOSTICS: Registry[Callable[..., Finding]] = Registry("diagnostic", _places(), diagnostic_of)
