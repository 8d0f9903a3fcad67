"""The check of ingredients before they are merged."""
