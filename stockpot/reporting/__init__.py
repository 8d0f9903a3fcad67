"""What a run found: table, verdict, plots, CSV files and the HTML report.

Importing this package loads neither matplotlib nor jinja2; only writing the report does.
"""

from stockpot.reporting.csv_files import write_csv_files, write_finding_csv_files
from stockpot.reporting.diagnostics import Drawn, draw_all
from stockpot.reporting.html import render_report
from stockpot.reporting.model_card import model_card
from stockpot.reporting.results import Results
from stockpot.reporting.tables.table import Row, render_terminal, results_table
from stockpot.reporting.words.alerts import alerts, doubts
from stockpot.reporting.words.verdict import Outcome, Verdict, headline, verdicts

__all__ = [
    "Drawn",
    "Outcome",
    "Results",
    "Row",
    "Verdict",
    "alerts",
    "doubts",
    "draw_all",
    "headline",
    "model_card",
    "render_report",
    "render_terminal",
    "results_table",
    "verdicts",
    "write_csv_files",
    "write_finding_csv_files",
]
