from __future__ import annotations

import pytest

from stockpot.experiment.doctor.environment import check_environment, installed_version
from stockpot.experiment.doctor.outcome import Outcome, outcomes_of


def test_this_environment_is_fine() -> None:
    outcomes = [*check_environment()]

    assert [(each.level, each.name) for each in outcomes] == [("ok", "python"), ("ok", "packages")]


@pytest.mark.parametrize(
    ("package", "version", "found", "advice"),
    [
        (
            "SQLAlchemy",
            "2.1.9",
            "SQLAlchemy 2.1.9 with prefect 3.8",
            "pip install 'SQLAlchemy<2.1'",
        ),
        ("SQLAlchemy", "2.2.0rc1", "no schedule fires", "restart the server"),
        ("fastapi", "0.165.0", "stockpot requires fastapi<0.160", "pip install"),
        ("torch", None, "torch is not installed", "pip install 'torch>=2.6'"),
        ("mlflow", "4.0.0", "mlflow 4.0.0, stockpot requires mlflow<4,>=3.17", "pip install"),
    ],
)
def test_versions_that_do_not_work_are_problems_with_what_to_install(
    package: str, version: str | None, found: str, advice: str
) -> None:
    def version_of(name: str) -> str | None:
        return version if name.lower() == package.lower() else installed_version(name)

    problems = [each for each in check_environment(version_of) if each.level == "problem"]

    assert any(found in each.found and advice in each.advice for each in problems), problems


def test_a_clash_with_a_package_that_is_not_installed_is_none() -> None:
    def version_of(name: str) -> str | None:
        return {"SQLAlchemy": "2.1.9", "prefect": None}.get(name, installed_version(name))

    assert not any("no schedule fires" in each.found for each in check_environment(version_of))


def test_an_error_of_a_check_is_a_problem_and_no_traceback() -> None:
    def check() -> list[Outcome]:
        raise ValueError("http://anna:s3cret@host\n refuses")

    (outcome,) = outcomes_of("Prefect", check)

    found = "http://host refuses"
    assert (outcome.level, outcome.name, outcome.found) == ("problem", "Prefect", found)
