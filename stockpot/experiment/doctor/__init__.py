"""The checks of `stockpot doctor`: whether a project can run here, and what to do if not."""
