"""Uniform soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

from stockpot.soups.selection.candidates import Candidates, Selection


def uniform(candidates: Candidates) -> Selection:
    """Merge all ingredients."""
    return Selection(sorted(candidates.order))
