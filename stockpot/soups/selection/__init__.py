"""Selections: which ingredients go into a soup, decided by val scores only. One file each."""
