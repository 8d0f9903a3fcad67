"""The example of two merged language models, on a twentieth of their texts."""

import shutil
from pathlib import Path

from projects import REPOSITORY, ProjectFolder


def test_all_models_are_scored_on_both_texts(tmp_path: Path) -> None:
    project = ProjectFolder.around(tmp_path)
    example = project.root / "causal_lm_merge"
    shutil.copytree(
        REPOSITORY / "examples" / "causal_lm_merge",
        example,
        ignore=shutil.ignore_patterns("texts", "models"),
    )

    finished = project.finish("sh", "run.sh", "0.05", at=example)

    assert finished.code == 0, finished.output
    table = [line.split() for line in finished.output.splitlines()[-6:]]
    assert [row[0] for row in table] == ["perplexity", "base", "code", "prose", "linear", "ties"]
    scores = {row[0]: [float(cell) for cell in row[1:]] for row in table[1:]}
    assert scores["code"][0] < scores["prose"][0]
    assert scores["prose"][1] < scores["code"][1]
    assert 1 < scores["linear"][2] < scores["base"][2] < 1024  # tokens there are to guess from
