"""Rounds of local training and merging: federated averaging as a repeated merge."""
