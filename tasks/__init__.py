"""Thin Prefect tasks: retries, tags and tracking around one library call each."""
