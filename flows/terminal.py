"""The terminal of the commands: standard output for results, standard error for the rest."""

from __future__ import annotations

from rich.console import Console

# No markup unless a call asks for it: in "pip install 'stockpot[text]'", in a path, or in a line of
# YAML that is quoted, rich would take the part in brackets for a style.
OUT = Console(highlight=False, markup=False)
ERR = Console(stderr=True, highlight=False, markup=False)
