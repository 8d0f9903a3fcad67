"""The page that compares several experiments."""
