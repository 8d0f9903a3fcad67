"""README's table of results, from the default experiment in this project.

    make run && python benchmarks/readme_figures.py --write

Without `--write` it prints the table.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import stockpot

README = Path(__file__).parents[1] / "README.md"
ROWS = {
    "greedy": "greedy soup",
    "uniform": "uniform soup",
    "pareto": "tuned on val and val shifts",
    "logit ensemble": "logit ensemble, at 16 times the cost",
}
HEAD = "| model | test | under shift | minus best ingredient, under shift |\n|---|---|---|---|\n"
BEGIN, END = "<!-- figures: make figures -->\n", "<!-- end of figures -->\n"


def table(results: stockpot.Results) -> str:
    """Return the table in Markdown: means in % with 95 % intervals."""
    rows = [_row(results, results.best_ingredient, "best ingredient on val")]
    ingredients = results.models.query("kind == 'ingredient'")
    mean = [f"{100 * ingredients[name].mean():.1f}" for name in _PLACES]
    rows.append(f"| mean of {len(ingredients)} ingredients | {mean[0]} | {mean[1]} | |\n")
    rows += [_row(results, name, shown) for name, shown in ROWS.items()]
    return HEAD + "".join(rows)


_PLACES = ("test/accuracy", "shift/mean/accuracy")
_DIFFERENCE = "difference/shift/mean/accuracy"


def _row(results: stockpot.Results, name: str, shown: str) -> str:
    model = results.models.loc[name]
    scores = [
        f"{100 * model[p]:.1f} [{100 * model[f'{p}_low']:.1f}, {100 * model[f'{p}_high']:.1f}]"
        for p in _PLACES
    ]
    difference = ""
    if name != results.best_ingredient:
        low, high = (100 * model[f"{_DIFFERENCE}_{end}"] for end in ("low", "high"))
        difference = f"{100 * model[_DIFFERENCE]:+.1f} [{low:.1f}, {high:.1f}] "
    return f"| {shown} | {scores[0]} | {scores[1]} | {difference}|\n"


def main() -> None:
    """Print the table, or write it into README."""
    made = table(stockpot.load_results(README.parent))
    if "--write" not in sys.argv:
        print(made, end="")
        return
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    README.write_text(pattern.sub(BEGIN + made + END, text), encoding="utf-8")


if __name__ == "__main__":
    main()
