"""Sentences and formatted numbers of the report."""
