from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stockpot.config import Experiment, load_experiment
from stockpot.errors import InputError

Load = Callable[[str], Experiment]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(sweep: str) -> Experiment:
        path = tmp_path / "params.yaml"
        path.write_text(f"sweep: {sweep}\nsoups: [{{name: u, select: uniform}}]\n")
        return load_experiment(path)

    return load


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("runs/*/model.safetensors", ("runs/*/model.safetensors",)),
        ("[a.pt, /data/*.ckpt]", ("a.pt", "/data/*.ckpt")),
    ],
)
def test_import_is_a_pattern_or_a_list_of_patterns(
    load: Load, text: str, patterns: tuple[str, ...]
) -> None:
    sweep = load(f"{{import: {text}, size: 0}}").sweep

    assert (sweep.imports, sweep.on_foreign, sweep.align) == (patterns, "exclude", None)


def test_sections_are_written_and_read_with_the_same_names(load: Load) -> None:
    content = load("{import: a.pt, size: 0}").model_dump(mode="json")

    assert content["sweep"]["import"] == "a.pt"
    assert content["base"]["import"] is None
    assert Experiment.model_validate(content).sweep.imports == ("a.pt",)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            "{size: 0, space: {epochs: 1}}",
            "sweep: size must be at least 1 without import or rounds, got 0",
        ),
        ("{import: a.pt}", "sweep: space is required where size is not 0, got nothing"),
        (
            "{import: ../a.pt, size: 0}",
            "sweep.import: must be in the project's folder or absolute, got '../a.pt'",
        ),
        (
            "{import: [a.pt, ''], size: 0}",
            "sweep.import: must be in the project's folder or absolute, got ''",
        ),
        (
            "{import: a.pt, size: 0, on_foreign: warn}",
            "sweep.on_foreign: must be 'exclude' or 'stop', got 'warn'",
        ),
        ("{import: true, size: 0}", "sweep.import: must be a valid string or "),
        (
            "{import: a.pt, size: 0, align: units}",
            "sweep.align: must be 'weights' or 'activations', got 'units'",
        ),
        (
            "{align: weights, space: {epochs: 1}}",
            "align is for imported ingredients, got 'weights' and no import",
        ),
        (
            "{import: a.pt, align: weights, size: 2, space: {epochs: 1}}",
            "align must be null unless all ingredients are imported, got size 2",
        ),
    ],
)
def test_invalid_imports_are_refused(load: Load, sweep: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(sweep)

    assert message in str(caught.value)


def test_unknown_fields_are_compared_with_the_names_in_the_file(load: Load) -> None:
    with pytest.raises(InputError, match=r"unknown field 'imports', .*did you mean 'import'"):
        load("{imports: a.pt, size: 0}")


def test_a_base_is_imported_from_the_project_or_an_absolute_path(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    rest = "sweep: {space: {epochs: 1}}\nsoups: [{name: u, select: uniform}]\n"
    path.write_text("base: {import: base.pt}\n" + rest)
    assert load_experiment(path).base.import_ == "base.pt"

    path.write_text("base: {import: ../base.pt}\n" + rest)
    with pytest.raises(InputError, match=r"base.import: must be in the project's folder or absol"):
        load_experiment(path)


def test_soups_may_not_have_names_of_imported_models(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("sweep: {space: {epochs: 1}}\nsoups: [{name: imported-a, select: uniform}]\n")

    with pytest.raises(
        InputError, match=r"must not be those of other models, got \['imported-a'\]"
    ):
        load_experiment(path)
