"""Forward passes over val and train: cached predictions, val scores, metrics."""
