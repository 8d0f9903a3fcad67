"""Evaluation of all models on test and the test shifts, which no other package opens."""
