"""Diagnostics of ingredients and soups, on train and val alone; one file per diagnostic."""
