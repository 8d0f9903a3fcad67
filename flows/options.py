"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Params = Annotated[
    str | None,
    typer.Option(
        "--params",
        "-p",
        help="The experiment; by default params.yaml in this folder or one above it.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. sweep.size=4."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace OUT if stockpot wrote it; the old one stays until then."),
]
