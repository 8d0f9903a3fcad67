"""The command that uploads a model to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import OUT


def push(
    folder: Annotated[Path, typer.Argument(help="The folder of a model or an adapter.")],
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="name or organisation/name on the Hub.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository as a private one.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch; created if it does not exist.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Of the commit.")] = None,
) -> None:
    """Upload a model to the Hugging Face Hub, or to the server in HF_ENDPOINT.

    The repository is created if it does not exist. All files are uploaded in one commit, except
    hidden ones. Weights that the repository has under other names are deleted by that commit, and
    stay in its history. Data and checkpoints of a project have a command of their own: dvc push.

    stockpot push merged organisation/merged --private
    """
    from stockpot.storage.hub_upload import push_model

    commit = push_model(folder, repository, private=private, revision=revision, message=message)
    OUT.print(f"{folder}: uploaded. {commit}", soft_wrap=True)
