"""The terminal of the commands: standard output for results, standard error for the rest."""

from __future__ import annotations

from rich.console import Console

OUT, ERR = Console(highlight=False), Console(stderr=True, highlight=False)
