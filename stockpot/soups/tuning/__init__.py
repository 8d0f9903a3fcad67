"""Search for merge coefficients."""

from stockpot.soups.tuning.study import Trial, TunedCoefficients, tune_coefficients

__all__ = ["Trial", "TunedCoefficients", "tune_coefficients"]
