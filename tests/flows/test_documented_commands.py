"""The commands and Python of README and the documentation run as they are written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from code_blocks import Block, blocks
from projects import ProjectFolder
from safetensors.torch import save_file

pytestmark = pytest.mark.full

MERGE = """
method: ties
models: [fine-tuned-a, {path: fine-tuned-b, coefficient: 0.5}]
base: pretrained
options: {density: 0.2}
"""


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, prefect_url: str
) -> Callable[[str], ProjectFolder]:
    """Return what prepares the folder that blocks of a context start in."""

    def empty() -> ProjectFolder:
        project = ProjectFolder.around(tmp_path)
        project.root.mkdir()
        return project

    def finished() -> ProjectFolder:
        project: ProjectFolder = request.getfixturevalue("served_project")
        (project.root.parent / "other").symlink_to(project.root)
        return project

    def models() -> ProjectFolder:
        project = empty()
        torch.manual_seed(0)
        base = {"layer.weight": torch.randn(8, 8), "layer.bias": torch.randn(8)}
        for name, size in (("pretrained", 0.0), ("fine-tuned-a", 0.1), ("fine-tuned-b", 0.1)):
            (project.root / name).mkdir()
            tuned = {key: value + size * torch.randn_like(value) for key, value in base.items()}
            save_file(tuned, project.root / name / "model.safetensors")
        (project.root / "merge.yaml").write_text(MERGE, encoding="utf-8")
        return project

    def make(context: str) -> ProjectFolder:
        project = {"empty": empty, "finished": finished, "models": models}[context]()
        project.environment["PREFECT_API_URL"] = prefect_url
        return project

    return make


@pytest.mark.parametrize("block", [block for block in blocks() if block.context], ids=str)
def test_a_block_runs_as_it_is_written(block: Block, place: Callable[[str], ProjectFolder]) -> None:
    project = place(block.context)
    if block.language == "python":
        (project.root / "example.py").write_text(block.text, encoding="utf-8")
        done = project.finish(sys.executable, "example.py")
    else:
        done = project.finish("bash", "-e", "-c", block.text)

    assert done.code == 0, done.output
