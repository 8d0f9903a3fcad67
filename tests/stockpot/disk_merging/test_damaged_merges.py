"""Damaged merge files and models end in errors for users, never in other ones.

`benchmarks/fuzz_merges.py` runs many more cases; each kind that it has found has a test next to
the code that was mended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from damaged_merges import CASES, MERGES, Bench, Case
from hypothesis import HealthCheck, given, settings

# They import transformers, which takes seconds.
_WITH_TOKENIZERS = [name for name, text in MERGES.items() if "tokenizer" in text]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setenv("HF_HUB_OFFLINE", "1")
        folder = tmp_path_factory.mktemp("models")
        patch.chdir(folder)
        yield Bench(folder)


@pytest.mark.parametrize(
    "merge",
    [pytest.param(m, marks=[pytest.mark.full] * (m in _WITH_TOKENIZERS)) for m in MERGES],
)
def test_undamaged_files_are_merged(bench: Bench, merge: str) -> None:
    assert bench.run(Case("merge", merge, ())) == ""


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")  # patterns of adapters
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=CASES.filter(lambda case: case.merge not in _WITH_TOKENIZERS))
def test_damaged_files_are_refused_or_merged(bench: Bench, case: Case) -> None:
    bench.run(case)  # raises what a user should not see
