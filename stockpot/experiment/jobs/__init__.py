"""Jobs that worker processes run: one file per kind, with its type and what runs it."""
